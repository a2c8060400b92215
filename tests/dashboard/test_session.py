"""What stands beside an example in a session: percentiles, neighbours, classes, look-alikes, deep pixels, the queue."""

import gzip
import io
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from PIL import Image
from scipy.stats import percentileofscore
from starlette.applications import Starlette
from starlette.testclient import TestClient

from dashboard.auth.serving import serve_this, serving
from dashboard.blinding import hidden_controls, model_output, second_reader
from dashboard.panels.label_pairs import pairs
from dashboard.presenters import cells, class_reference, deep_pixels, lookalikes, session_facts
from dashboard.queries import database, decisions
from dashboard.review_session import queue, shared_queue
from dashboard.review_session.arrangement import Arrangement
from dashboard.routes import example_routes, session_routes
from scoring.audit.storage import read_table, write_table
from scoring.queue import locks
from scoring.queue.order import suggestions
from scoring.reviews import Event, ReviewLog

from ..synthetic import make_audit


@pytest.fixture
def audit(tmp_path):
    made = make_audit(tmp_path / "audit", 400, 4, thumbnails=True, wrong=0.2)
    serve_this(made.root)
    return made


def decide(audit, example_id, verdict="given", seq=1, reviewer="ada", **more):
    decisions.open_log(audit).append(
        [
            Event(
                client=reviewer,
                seq=seq,
                example_id=example_id,
                reviewer=reviewer,
                action="decide",
                verdict=verdict,
                **more,
            )
        ]
    )


def near(audit, lists: dict[str, list[str]]) -> None:
    """neighbours.parquet as the scorer writes it."""
    table = {
        "example_id": pa.array(list(lists), pa.string()),
        "neighbours": pa.array(list(lists.values()), pa.list_(pa.string())),
        "distances": pa.array([[0.1 * (k + 1) for k in range(len(v))] for v in lists.values()], pa.list_(pa.float32())),
    }
    write_table(audit.run().neighbours_path, pa.table(table))


def examples(audit):
    return read_table(audit.examples_path, ["example_id", "split", "label", "problem"]).to_pandas()


def test_a_percentile_is_the_place_within_split_and_label(audit):
    rows = examples(audit)
    one = rows[(rows["split"] == "train") & rows["problem"].isna()].iloc[5]
    told = session_facts.session_facts(audit, audit.run(), [one["example_id"]])[one["example_id"]]
    aum = next(score for score in told["scores"] if score["name"] == "aum.aum")
    values = read_table(audit.run().score_path("aum"), ["example_id", "aum"]).to_pandas().set_index("example_id")["aum"]
    alike_ones = rows[(rows["split"] == "train") & (rows["label"] == one["label"])]["example_id"]
    expected = percentileofscore(values.reindex(alike_ones).dropna(), values[one["example_id"]], kind="mean")
    assert aum["percentile"] == pytest.approx(expected, abs=1e-6)
    assert len(told["probabilities"]) == 4 and told["metadata"][0] == ("split", "train")


def test_neighbours_come_nearest_first_with_their_labels(audit):
    ids = examples(audit)["example_id"].tolist()
    near(audit, {ids[0]: [ids[3], "gone", ids[1]]})
    found = session_facts.session_facts(audit, audit.run(), ids[:2])
    cells = found[ids[0]]["neighbours"]
    assert [cell["id"] for cell in cells] == [ids[3], ids[1]] and cells[0]["top"] == "0.1"
    assert cells[1]["evidence"]["rank"] == 3 and found[ids[1]]["neighbours"] == []
    label = examples(audit).set_index("example_id").loc[ids[3], "label"]
    assert cells[0]["label"] == label


def test_typical_examples_are_sure_ones_of_the_class_and_never_found_wrong(audit):
    found = class_reference.describe_class(audit, audit.run(), "class 002")
    ids = [cell["id"] for cell in found["typical"]]
    assert len(ids) == class_reference.MOST and {cell["label"] for cell in found["typical"]} == {"class 002"}
    aum = read_table(audit.run().score_path("aum"), ["example_id", "aum"]).to_pandas().set_index("example_id")["aum"]
    assert aum[ids].min() > aum.median()
    decide(audit, ids[0], "other", new_label="class 001", label="class 002")
    assert ids[0] not in [
        cell["id"] for cell in class_reference.describe_class(audit, audit.run(), "class 002")["typical"]
    ]


def test_gold_examples_that_are_gone_are_named_not_shown(audit):
    audit.guidelines_path.write_text("## class 001\nround\nGold: `train/000010.png`, `gone.png`\n")
    found = class_reference.describe_class(audit, audit.run(), "class 001")
    assert found["text"] == "round" and [cell["id"] for cell in found["gold"]] == ["train/000010.png"]
    assert found["missing"] == ["gone.png"]


def test_look_alikes_share_label_and_suggestion_and_are_suspects_not_decided(audit):
    run = audit.run()
    rows = examples(audit)
    rows = rows[(rows["split"] == "train") & rows["problem"].isna()]
    rows["suggestion"] = rows["example_id"].map(suggestions(audit, run).set_index("example_id")["suggested_label"])
    aum = read_table(run.score_path("aum"), ["example_id", "aum"]).to_pandas().set_index("example_id")["aum"]
    rows["aum"] = rows["example_id"].map(aum)
    limit = rows["aum"].quantile(lookalikes.SUSPECT)
    group = max(
        (g.sort_values("aum") for _, g in rows.groupby(["label", "suggestion"])),
        key=lambda g: (g["aum"] <= limit).sum(),
    )
    suspects = group.loc[group["aum"] <= limit - 1e-6, "example_id"].tolist()
    sure = group.loc[group["aum"] > rows["aum"].median(), "example_id"].tolist()
    others = rows.loc[rows["label"] != group["label"].iloc[0], "example_id"].tolist()
    first, second, third, decided = suspects[:4]
    near(audit, {first: [others[0], second, sure[0], decided], second: [third, first], third: [first]})
    decide(audit, decided)
    assert lookalikes.members(audit, run, first) == [first, second, third]
    near(audit, {first: others[:5]})
    assert lookalikes.find_lookalikes(audit, run, first)["note"].startswith("No look-alikes: no other suspect")


def test_pixels_keep_sixteen_bits_and_are_refused_for_eight(audit):
    deep = np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000 + 7
    buffer = io.BytesIO()
    Image.fromarray(deep).save(buffer, "PNG")
    audit.originals.write_part([("train/000000.png", buffer.getvalue())])
    with TestClient(Starlette(routes=example_routes.all_routes())) as client:
        reply = client.get("/hardlook/deep", params={"id": "train/000000.png"})
        assert reply.status_code == 200 and reply.headers["x-kind"] == "uint16"
        shape = int(reply.headers["x-height"]), int(reply.headers["x-width"])
        assert np.array_equal(np.frombuffer(reply.content, "<u2").reshape(shape), deep)
        assert client.get("/hardlook/deep", params={"id": "train/000001.png"}).status_code == 404
        assert client.get("/hardlook/class", params={"name": "no such"}).status_code == 404
        assert client.post("/hardlook/dossiers", json={"ids": ["x"] * 100}).status_code == 400
        told = client.post("/hardlook/dossiers", json={"ids": ["train/000000.png"]}).json()
        assert told["train/000000.png"]["deep"] is True
    assert gzip.decompress(gzip.compress(deep_pixels.Values(deep).content())) == deep.tobytes()


def test_floats_are_given_as_floats(audit):
    values = np.linspace(-3, 9, 6, dtype=np.float32).reshape(2, 3)
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "TIFF")
    audit.originals.write_part([("train/000000.png", buffer.getvalue())])
    row = {"example_id": "train/000000.png", "kind": "image", "reference": None, "problem": None}
    found = deep_pixels.values_of(audit, row)
    assert found.headers["x-kind"] == "float32" and np.array_equal(found.array, values)


def test_a_queue_holds_what_is_open_and_goes_on_after_the_last_decision(audit):
    run = audit.run()
    whole = database.ranking(audit, run, database.score_columns(run)[0], database.Selection("train"))
    ids = whole["example_id"].to_pylist()
    decide(audit, ids[4], seq=1)
    decide(audit, ids[2], seq=2)
    left = queue.to_review(audit, run, Arrangement.of(whole)).ids
    assert left == [one for at, one in enumerate(ids) if at not in (2, 4)]
    everything = Arrangement.of(whole)
    rows = queue.to_review(audit, run, everything)

    def resumed(at, last):
        found = queue.resume(rows, everything, at, last)
        return found.ids[found.start], found.reason

    assert queue.last_decided(audit, everything) is None, "ada is somebody else here"
    example, reason = resumed(None, ids[2])
    assert example == ids[3] and "you skipped 2 before it" in reason
    assert resumed(None, None) == (ids[0], "")
    assert resumed(ids[7], ids[2])[0] == ids[7]
    assert resumed(ids[4], ids[2])[0] == ids[5], "a link to a decided example leads to the next open one"
    for seq, one in enumerate((ids[9], ids[6]), 3):
        decide(audit, one, seq=seq, reviewer=serving().identity.reviewer)
    assert queue.last_decided(audit, everything) == ids[6]
    assert queue.last_decided(audit, everything.without([ids[6]])) == ids[9]
    me = serving().identity.reviewer
    decide(audit, ids[10], seq=5, reviewer=me, evidence={"panel": "Session"})
    decide(audit, ids[30], seq=6, reviewer=me, evidence={"panel": "Queue"})
    decide(audit, ids[31], seq=7, reviewer=me, evidence={"panel": None})
    decide(audit, ids[32], seq=8, reviewer=me, batch="me:8")
    assert queue.last_decided(audit, everything) == ids[10], "decisions elsewhere pass over no suspects"


def test_a_decided_example_returns_where_another_run_contradicts_it(tmp_path):
    audit = make_audit(tmp_path / "audit", 200, 4, runs=("main", "second"))
    serve_this(audit.root)
    from scoring.queue.order import opinions

    second = audit.run("second")
    ids = [one for one in examples(audit)["example_id"] if one.startswith("train")]
    said = opinions(audit, second, ids)
    agreeing, contradicted = ids[0], ids[1]
    other = next(name for name in audit.classes if name != said[contradicted])
    decide(audit, agreeing, seq=1, label=said[agreeing], evidence={"run": "main"})
    decide(audit, contradicted, seq=2, label=other, evidence={"run": "main"})
    assert queue.reopened(audit, second) == {contradicted}
    assert queue.reopened(audit, audit.run("main")) == set()


def test_members_of_a_group_follow_each_other(audit):
    run = audit.run()
    table = database.ranking(audit, run, database.score_columns(run)[0], database.Selection("train"))
    named = queue.groups(audit, "camera")
    ids = queue.keep_groups_together(Arrangement.of(table), named).ids
    north = [at for at, one in enumerate(ids) if named.get(one) == "north"]
    assert north == list(range(north[0], north[0] + len(north))) and sorted(ids) == sorted(
        table["example_id"].to_pylist()
    )


def test_pairs_count_the_suspects_of_each_label_and_suggestion(audit):
    run = audit.run()
    found = pairs(audit, run, "train")
    rows = examples(audit)
    rows = rows[(rows["split"] == "train") & rows["label"].notna()].set_index("example_id")
    aum = read_table(run.score_path("aum"), ["example_id", "aum"]).to_pandas().set_index("example_id")["aum"]
    ranked = aum.reindex(rows.index).dropna().sort_values()
    first = ranked.index[: int(np.ceil(0.2 * len(ranked)))]
    suggested = suggestions(audit, run).set_index("example_id")["suggested_label"]
    expected = rows.loc[first].assign(s=suggested.reindex(first)).groupby(["label", "s"]).size()
    assert found["suspects"].sum() == len(first) and not found["decided"].any()
    assert {(r.label, r.suggestion): r.suspects for r in found.itertuples()} == expected.to_dict()
    decide(audit, first[0], reviewer=serving().identity.reviewer)
    assert pairs(audit, run, "train")["decided"].sum() == 1


def test_controls_are_mixed_in_and_blind_cells_carry_no_opinion(audit):
    run, me = audit.run(), serving().identity.reviewer
    table = database.ranking(audit, run, database.score_columns(run)[0], database.Selection("train"))
    order, drawn = hidden_controls.mix_controls(audit, run, table["example_id"].to_pylist(), "train")
    mixed = table.take(order)
    assert sorted(mixed["example_id"].to_pylist()) == sorted(table["example_id"].to_pylist()) == sorted(drawn)
    assert not model_output.visitor_blind_rows(audit), "nobody asked for controls yet"
    model_output.remember_controls(me, True)
    rows, chances = model_output.visitor_blind_rows(audit), model_output.draw_probabilities(audit)
    controls = {one for one in drawn if chances.get(one, 1) < 1}
    assert controls and controls <= rows
    first = next(one for one in mixed["example_id"].to_pylist() if one in controls)
    own = mixed.filter(pc.equal(mixed["example_id"], first))
    cell = hidden_controls.with_draw_evidence(
        cells.make_cells(audit, run, own, database.score_columns(run)[0])[0], drawn
    )
    assert cell["blind"] and cell["label"] and cell["evidence"]["blind"] is True
    assert not any(cell[name] for name in (*model_output.MODEL_FIELDS, "score", "score_help", "wrong"))
    assert set(cell["evidence"]) <= {"run", "url", "blind"}, "neither a score nor what tells controls from suspects"
    written = hidden_controls.with_draw_probability(audit, first, cell["evidence"])
    assert written["probability"] == written["draw_probability"] == chances[first]
    decide(audit, first, reviewer=me)
    seen = hidden_controls.with_draw_evidence(
        cells.make_cells(audit, run, own, database.score_columns(run)[0])[0], drawn
    )
    assert seen["suggestion"] and seen["evidence"]["blind"] is False and not seen.get("blind")
    model_output.remember_controls(me, False)


def test_an_unsure_example_goes_blind_to_a_second_reader(audit):
    run = audit.run()
    table = database.ranking(audit, run, database.score_columns(run)[0], database.Selection("train"))
    ids = table["example_id"].to_pylist()
    decide(audit, ids[3], "unsure", seq=1, reviewer="somebody else")
    decide(audit, ids[5], "given", seq=2, reviewer="somebody else")
    left = queue.to_review(audit, run, Arrangement.of(table)).ids
    assert ids[3] in left and ids[5] not in left
    kept = second_reader.hidden_from(audit, "ada")
    assert ids[3] in kept


def test_a_log_of_flags_alone_reopens_nothing_and_hides_nothing(tmp_path):
    audit = make_audit(tmp_path / "audit", 60, 3)
    serve_this(audit.root)
    ids = examples(audit)["example_id"].tolist()
    with ReviewLog.open(audit.log_url, audit=audit.log_name(audit.log_url)) as log:
        log.append([Event(client="c", seq=1, example_id=ids[0], reviewer="ada", action="flag")])
    run = audit.run()
    whole = database.ranking(audit, run, database.score_columns(run)[0], database.Selection("train"))
    assert queue.reopened(audit, run) == set()
    assert len(queue.to_review(audit, run, Arrangement.of(whole))) == whole.num_rows


def test_the_page_and_the_session_keep_the_same_examples_from_others(audit):
    me, log = serving().identity.reviewer, decisions.open_log(audit)
    ids = examples(audit)["example_id"].tolist()[:12]
    locks.claim(log, [ids[5]], "ben", datetime.now(UTC), 5)
    assert set(shared_queue.lock_examples(audit, ids[: shared_queue.LOCKED_AHEAD]).values()) == {
        me,
        "ben",
    }  # as the page is drawn
    holders = session_routes._hold([*ids[4:], "no such example"])  # as the session goes on
    assert holders == dict.fromkeys(ids[4:], me) | {ids[5]: "ben"}
    assert locks.held(log, datetime.now(UTC)) == holders, "what lies behind is given back"
    here = Path(shared_queue.__file__).parents[1] / "grid" / "session.js"
    assert f"const LOCKED = {shared_queue.LOCKED_AHEAD};" in here.read_text()
