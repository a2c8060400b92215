"""What the model says is hidden by the server: of a blind test from everybody, of blind rows until the first verdict,
of what waits for a second reader from everybody but the first. Every route and every page, as an attacker would ask."""

import io
import shutil
import zipfile

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from dashboard.auth import serving
from dashboard.blinding import model_output, second_reader
from dashboard.pages import BLIND_RULES, PAGES
from dashboard.panels.label_pairs import pairs
from dashboard.presenters import corrected_metrics
from dashboard.presenters.patch_download import packed_patches
from dashboard.queries import database, decisions
from dashboard.queries.selection import MetaFilter, Selection
from dashboard.review_session import queue
from dashboard.review_session.arrangement import Arrangement
from dashboard.widgets import grouping
from scoring.audit import Audit
from scoring.audit.storage import read_table, write_json, write_table, write_vectors
from scoring.data.column_statistics import cut_key
from scoring.queue.random_controls import blind_rows
from scoring.reviews import Event, meetings
from scoring.reviews.meeting_agenda import agenda
from scoring.slices.slicing_run import SliceSettings, slice_run

from ..audit.test_roles import as_person
from ..synthetic import make_audit, write_dynamics
from .test_routes import app_of, event, send
from .test_views import cells, grids, page, quiet, said  # noqa: F401  pytest finds the fixtures by name

ROLES = '[roles]\nlead = ["lea"]\nauditor = ["*"]\n'
OPINIONS = ("prediction", "suggestion", "suggestion_source", "score")


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """400 examples with everything that a model can say about one of them."""
    audit = make_audit(
        tmp_path_factory.mktemp("hidden") / "audit", 400, 4, thumbnails=True, wrong=0.2, runs=("main", "second")
    )
    run, rng = audit.run(), np.random.default_rng(0)
    write_dynamics(audit, run)
    examples = read_table(audit.examples_path, ["example_id", "split", "label"])
    predicted = read_table(run.predictions_path)
    write_table(
        run.predictions_path,
        predicted.append_column("split", examples["split"]).append_column("label", examples["label"]),
    )
    ids = examples["example_id"].to_pylist()
    write_vectors(run.influence_path, ids, rng.normal(size=(len(ids), 6)).astype(np.float32))
    for split in ("train", "test"):
        slice_run(audit, run, SliceSettings(split=split, n_slices=4), split)
    write_table(run.map_path, pa.table({"example_id": ids, "x": rng.normal(size=400), "y": rng.normal(size=400)}))
    write_table(
        run.neighbours_path,
        pa.table(
            {
                "example_id": ids,
                "neighbours": pa.array([ids[:12]] * 400, pa.list_(pa.string())),
                "distances": pa.array([[0.1 * (k + 1) for k in range(12)]] * 400, pa.list_(pa.float32())),
            }
        ),
    )
    return audit


def copied(scored, folder, more):
    shutil.copytree(scored.root, folder)
    (folder / "audit.toml").write_text(f"{(folder / 'audit.toml').read_text()}\n{more}")
    serving.serve_this(folder)
    return Audit.open(folder)


@pytest.fixture(autouse=True)
def nobody_asks(monkeypatch):
    """Who asked for controls in one test has not asked for them in the next: a process remembers it as long as it
    lives."""
    monkeypatch.setattr(model_output, "_readers_with_controls", set())


@pytest.fixture
def blind_test(scored, tmp_path):
    return copied(scored, tmp_path / "blind", '[policy]\ntest = "blind"\nsecond_opinions = 0.0\n' + ROLES)


@pytest.fixture
def with_goal(scored, tmp_path):
    """An audit with a goal: 30 controls, and as many suspects, are reviewed blind."""
    return copied(
        scored, tmp_path / "goal", "[goal]\nerror_rate = 0.05\ncontrols = 30\n[policy]\nsecond_opinions = 0.0\n" + ROLES
    )


def team_of(audit):
    """Routes behind a proxy that says who asks."""
    return app_of(audit, proxies=("127.0.0.1",), user_header="X-Forwarded-User")


def of_split(audit, split):
    frame = read_table(audit.examples_path).to_pandas()
    return frame.loc[(frame["split"] == split) & frame["problem"].isna(), "example_id"].tolist()


def fresh(audit):
    """One blind row that nobody has decided, a train example."""
    serving.serve_this(audit.root)
    return next(one for one in of_split(audit, "train") if one in blind_rows(audit, audit.run()))


def write_plane(audit, of, points):
    run, row = audit.run(), database.details(audit, None, [of]).iloc[0]
    last = run.record()["checkpoints"][-1]["sha256"]
    write_json(
        run.cut_path(cut_key(of, "x", "y")),
        {
            "checkpoint": last,
            "fingerprint": row["fingerprint"],
            "points": {"example_id": points, "prediction": ["class 001"] * len(points)},
        },
    )


# -- every route ------------------------------------------------------------------------------------------------------


def asked(client, audit, example, who, other):
    """All that the routes tell about an example to somebody."""
    me = as_person(who)
    write_plane(audit, example, [example, other])
    write_plane(audit, other, [example, other])
    audit.run().maps.write_part([(example, audit.thumbnails.get(example))])
    query = {"id": example, "run": "main"}
    return {
        "example": client.get("/hardlook/example", query, **me).json,
        "dossiers": client.post("/hardlook/dossiers", {"ids": [example]}, **me).json[example],
        "alike": client.get("/hardlook/alike", query, **me).json,
        "influence": client.post("/hardlook/influence", {"ids": [other, example]}, **me).json,
        "map": client.get("/hardlook/map", query, **me),
        "cut": client.get("/hardlook/cut", {**query, "x": "x", "y": "y"}, **me).json,
        "near cut": client.get("/hardlook/cut", {"id": other, "run": "main", "x": "x", "y": "y"}, **me).json,
        "start cut": client.post("/hardlook/cut", {**query, "x": "x", "y": "y"}, **me),
    }


def tells_nothing(found, example, other):
    reason = found["example"]["hidden"]
    assert (
        reason in (model_output.TEST, model_output.FIRST, model_output.SECOND) and found["dossiers"]["hidden"] == reason
    )
    for name in ("example", "dossiers"):
        assert not found[name]["scores"] and not found[name]["probabilities"], name
    assert not found["dossiers"]["neighbours"] and not any(found["dossiers"]["opinion"].values())
    assert found["alike"]["members"] == [] and found["alike"]["note"].startswith(reason)
    assert found["influence"] == {"opponents": [], "proponents": [], "used": 0, "note": reason, "command": None}
    assert found["map"].status == 404 and found["map"].text == reason
    assert found["cut"]["state"] == "none" and found["cut"]["refusal"] == reason
    assert found["near cut"]["cut"]["points"] == {"example_id": [other], "prediction": ["class 001"]}
    assert found["start cut"].status == 403
    return reason


def tells_all(found):
    assert found["example"]["hidden"] is None and found["dossiers"]["hidden"] is None
    assert found["example"]["scores"] and found["dossiers"]["neighbours"] and found["dossiers"]["opinion"]["suggestion"]
    assert found["influence"]["opponents"] and found["cut"]["state"] == "ready"


@pytest.mark.parametrize("who", ["ana", "lea"])
def test_no_route_tells_what_the_model_says_of_a_blind_test_example_not_even_to_a_lead(blind_test, who):
    client = team_of(blind_test)
    example, other = of_split(blind_test, "test")[0], of_split(blind_test, "train")[0]
    assert tells_nothing(asked(client, blind_test, example, who, other), example, other) == model_output.TEST
    for seq, name in enumerate(("ana", "ben"), 1):
        send(client, event(seq, example, client=name), **as_person(name))
    assert tells_nothing(asked(client, blind_test, example, who, other), example, other) == model_output.TEST, (
        "for ever"
    )
    tells_all(asked(client, blind_test, other, who, of_split(blind_test, "train")[1]))


def test_no_route_tells_what_the_model_says_of_a_blind_row_before_the_first_verdict(with_goal):
    client, example = team_of(with_goal), fresh(with_goal)
    other = next(one for one in of_split(with_goal, "train") if one not in blind_rows(with_goal, with_goal.run()))
    assert tells_nothing(asked(client, with_goal, example, "ana", other), example, other) == model_output.FIRST
    written = send(client, event(1, example, evidence={"blind": True, "run": "main"}), **as_person("ana"))
    assert written.json["saved"] and not written.json["refused"]
    tells_all(asked(client, with_goal, example, "ana", other))
    kept = decisions.open_log(with_goal).events()["evidence"].iloc[-1]
    assert (
        kept["probability"] == kept["draw_probability"] == model_output.draw_probabilities(with_goal).get(example, 1.0)
    )
    again = send(client, event(1, example, evidence={"blind": True, "run": "main"}), **as_person("ana"))
    assert again.json["saved"] and not again.json["refused"], "sent twice is written once"


def test_an_unsure_example_is_blind_for_all_but_its_reader(blind_test):
    client, (example, other) = team_of(blind_test), of_split(blind_test, "train")[:2]
    send(client, event(1, example, verdict="unsure"), **as_person("ana"))
    assert tells_nothing(asked(client, blind_test, example, "ben", other), example, other) == model_output.SECOND
    tells_all(asked(client, blind_test, example, "ana", other))
    send(client, event(1, example, client="ben"), **as_person("ben"))
    tells_all(asked(client, blind_test, example, "lea", other))


def test_what_is_hidden_is_no_opponent_no_look_alike_and_no_typical_example(with_goal):
    client, rows = team_of(with_goal), blind_rows(with_goal, with_goal.run())
    open_ones = [one for one in of_split(with_goal, "train") if one not in rows][:4]
    seen = set()
    for one in open_ones:
        found = client.post("/hardlook/influence", {"ids": [one]}, **as_person("ana")).json
        seen |= {cell["id"] for name in ("opponents", "proponents") for cell in found[name]}
        seen |= {cell["id"] for cell in client.get("/hardlook/alike", {"id": one}, **as_person("ana")).json["members"]}
    for name in with_goal.classes:
        seen |= {
            cell["id"] for cell in client.get("/hardlook/class", {"name": name}, **as_person("ana")).json["typical"]
        }
    assert seen and not seen & rows


def test_the_meeting_reads_out_no_answer_that_waits_for_a_second_reader(blind_test):
    client, example = team_of(blind_test), of_split(blind_test, "train")[0]
    send(
        client,
        event(1, example, verdict="unsure", note="secret"),
        event(2, example, action="flag", verdict=None),
        **as_person("ana"),
    )
    log = decisions.open_log(blind_test)
    meetings.start(log, agenda(log), "lea")
    told = [client.get("/hardlook/meeting", **as_person(name)).json["item"]["said"] for name in ("ben", "ana")]
    assert told[0] == [{"reviewer": "ana", "answer": second_reader.HIDDEN_ANSWER}] and "secret" in told[1][0]["answer"]


# -- every page -------------------------------------------------------------------------------------------------------


def shown(app):
    return [cell for grid in grids(app) for panel in grid.get("panels", ()) for cell in panel["cells"]]


def drawn_ids(app) -> str:
    """Everything that the page sends to the browser besides its words."""
    kinds = ("bidi_component", "plotly_chart", "arrow_data_frame")
    return "\n".join(str(element.proto) for kind in kinds for element in app.get(kind))


ADDRESSES = [
    ("grid", {}),
    ("grid", {"split": "test"}),
    ("grid", {"split": "test", "decile": "1"}),
    ("grid", {"class": "class 001"}),
    ("grid", {"score": "AUM", "split": "test"}),
    ("suspects", {"view": "Sheet", "split": "test", "suggested": "class 001"}),
    ("suspects", {"split": "test", "suggested": "class 001"}),
    ("data-map", {"split": "test"}),
    ("slices", {"slicing": "test"}),
    ("slices", {"slicing": "test", "slice": "0"}),
    ("slices", {"slicing": "test", "show": "map", "on_map": "test"}),
    ("slices", {"slicing": "train", "show": "map", "on_map": "all"}),
    ("slices", {"slicing": "train", "show": "map", "on_map": "all", "lasso": "-9,-9;9,-9;9,9;-9,9"}),
    ("compare", {"split": "test", "a": "AUM", "b": "Entropy"}),
    ("compare", {"split": "test", "show": "stability"}),
    ("reviews", {"split": "test"}),
]


@pytest.mark.parametrize(("name", "parameters"), ADDRESSES, ids=str)
def test_no_page_lists_blind_test_examples_in_an_order_or_a_set_that_the_model_made(blind_test, name, parameters):
    app = page(blind_test, name, **parameters)
    assert "test/" not in drawn_ids(app), "the place of a test example tells what the model says of it"
    reasons = ("The test split is reviewed blind", "in the blind test split")
    assert any(reason in said(app) for reason in reasons) or name == "slices" or not parameters.get("split")


def test_without_the_policy_the_same_pages_do_list_them(scored):
    for name, parameters in [
        ADDRESSES[0],
        ("data-map", {"split": "test"}),
        ("compare", {"split": "test", "show": "stability"}),
    ]:
        assert "test/" in drawn_ids(page(scored, name, **parameters)), name


ASKED = [
    {},
    {"split": "test"},
    {"split": "train"},
    {"slicing": "test"},
    {"class": "class 001"},
    {"view": "Sheet", "split": "test"},
    {"filter": ["camera"], "meta.camera": ["north"]},
    {"grouped": "camera"},
]
"""Parameters that every page is asked with; one that a page does not know changes nothing."""


@pytest.mark.parametrize("one", PAGES, ids=lambda one: one.name)
def test_every_page_keeps_its_duty_to_blind_examples(blind_test, one):
    for parameters in ASKED:
        app = page(blind_test, one.name, **parameters)
        if one.blind == "random order":
            found = [cell for cell in shown(app) if cell["id"].startswith("test/")]
            assert all(cell["blind"] and not any(cell[name] for name in OPINIONS) for cell in found), parameters
        else:
            assert "test/" not in drawn_ids(app), (BLIND_RULES[one.blind], parameters)
        if one.blind == "not counted" and "filter" in parameters:
            assert "test accuracy" not in [metric.label for metric in app.metric]


@pytest.mark.parametrize("one", [one for one in PAGES if one.blind != "random order"], ids=lambda one: one.name)
def test_every_page_that_lists_no_blind_row_keeps_to_it(with_goal, one):
    rows = blind_rows(with_goal, with_goal.run())
    for parameters in ASKED:
        told = drawn_ids(page(with_goal, one.name, **parameters))
        assert not [example for example in rows if example in told], (BLIND_RULES[one.blind], parameters)


@pytest.mark.parametrize("view", ["Session", "Sheet"])
def test_the_queue_of_a_blind_test_is_by_lot_and_without_the_model(blind_test, view):
    app = page(blind_test, "suspects", split="test", view=view)
    found = shown(app)
    assert found and all(cell["id"].startswith("test/") and cell["blind"] for cell in found)
    assert not any(cell[name] for cell in found for name in OPINIONS) and not any(cell["wrong"] for cell in found)
    assert all(set(cell["evidence"]) <= {"run", "url", "blind", "model"} for cell in found)
    other = page(blind_test, "suspects", split="test", view=view, score="AUM", order="other end first")
    assert [cell["id"] for cell in shown(other)] == [cell["id"] for cell in found], "no score moves anything"


def test_who_is_in_the_queue_of_a_blind_test_does_not_follow_the_filters(blind_test):
    run = blind_test.run()
    everyone = pa.table({"example_id": of_split(blind_test, "test")})
    ids = everyone["example_id"].to_pylist()
    whole = {ids[at] for at in model_output.blind_test_order(blind_test, run, ids, "test")}
    for one in everyone["example_id"].to_pylist():
        alone = model_output.blind_test_order(blind_test, run, [one], "test")
        assert (alone == [0]) == (one in whole)


def test_a_blind_test_shows_numbers_of_whole_classes_alone(blind_test):
    narrow = {"filter": ["camera"], "meta.camera": ["north"]}
    for name, parameters in (("deciles", {}), ("compare", {"split": "test"}), ("compare", {"split": "all"})):
        assert model_output.SUBSET_REFUSED in said(page(blind_test, name, **parameters, **narrow))
    known = pd.DataFrame({"split": ["train", "test", "test"], "n": [2, 40, 4], "right": [1, 30, 4]})
    assert model_output.drop_revealing_accuracy(blind_test, known, Selection()).index.tolist() == [0, 1]
    meta = Selection(meta=(MetaFilter("meta.camera", ("north",)),))
    assert model_output.drop_revealing_accuracy(blind_test, known, meta).index.tolist() == [0]
    assert "test accuracy" in said(page(blind_test, "overview")) and "test accuracy" not in said(
        page(blind_test, "overview", **narrow)
    )


def test_numbers_of_a_part_are_counted_without_blind_rows(with_goal):
    """One blind row alone, and two parts that differ by one: neither tells whether the model is right on it."""
    run, example = with_goal.run(), fresh(with_goal)
    width = float(read_table(with_goal.examples_path).to_pandas().set_index("example_id").loc[example, "meta.width"])
    alone = Selection("train", meta=(MetaFilter("meta.width", low=width, high=width),))
    assert example in database.matching(with_goal, alone.meta)
    part, told = model_output.exclude_hidden(with_goal, alone)
    assert example in part.left_out and "until the first verdict" in told
    everyone = Selection("train")
    assert model_output.exclude_hidden(with_goal, everyone) == (everyone, None), "numbers of the whole split stay"
    below = {"filter": ["width"], "meta.width.from": str(width), "meta.width.to": str(width)}
    app = page(with_goal, "overview", **below)
    assert told in said(app) and "train accuracy" not in [metric.label for metric in app.metric]
    for name in ("deciles", "compare"):
        assert told in said(page(with_goal, name, split="train", **below))
    rows = model_output.all_hidden(with_goal)
    wide = Selection("train", meta=(MetaFilter("meta.width", low=0.0),))
    counted = database.accuracy(with_goal, run, model_output.exclude_hidden(with_goal, wide)[0], ["split"])["n"].sum()
    labelled = [one for one in of_split(with_goal, "train") if one not in rows]
    assert counted == len(labelled) > 0
    grouped = grouping.groups_of_column(with_goal, "camera")
    assert grouping.accuracy(with_goal, run, everyone, grouped)["n"].sum() == len(labelled)
    both = corrected_metrics.corrected_examples(with_goal, run, part)
    assert both is None or example not in set(both["example_id"])


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("grid", {"split": "train", "size": "10 × 10"}),
        ("suspects", {"view": "Sheet", "size": "100"}),
        ("suspects", {"controls": "none"}),
        ("suspects", {"suggested": "class 001"}),
        ("suspects", {"order": "other end first"}),
        ("data-map", {}),
        ("slices", {"slicing": "train", "slice": "0"}),
        ("slices", {"slicing": "train"}),
        ("slices", {"slicing": "train", "show": "map"}),
        ("compare", {"a": "AUM", "b": "Entropy"}),
        ("compare", {"show": "stability"}),
    ],
    ids=str,
)
def test_no_list_whose_order_the_model_made_holds_a_blind_row(with_goal, name, parameters):
    rows = blind_rows(with_goal, with_goal.run())
    app = page(with_goal, name, **parameters)
    told = drawn_ids(app)
    assert not [one for one in rows if one in told] and ("train/" in told or parameters.get("show") == "map")
    assert "until the first verdict" in said(app) or name == "slices"


def test_a_session_mixes_blind_rows_in_and_a_fixed_address_is_no_way_around(with_goal):
    rows = blind_rows(with_goal, with_goal.run())
    app = page(with_goal, "suspects")
    found = shown(app)
    blind_ones = [cell for cell in found if cell.get("blind")]
    assert {cell["id"] for cell in blind_ones} == {cell["id"] for cell in found} & rows and len(blind_ones) > 10
    chances = model_output.draw_probabilities(with_goal)
    assert len({str(sorted(cell["evidence"])) for cell in blind_ones}) == 1, "controls look like blind suspects"
    assert {cell["id"] in chances for cell in blind_ones} == {True, False}
    for address in ("grid", "suspects"):
        (cell,) = shown(page(with_goal, "grid", example=blind_ones[0]["id"])) if address == "grid" else blind_ones[:1]
        assert cell["blind"] and not any(cell[name] for name in OPINIONS)
    decisions.open_log(with_goal).append(
        [
            Event(
                client="c",
                seq=1,
                example_id=cell["id"],
                reviewer=serving.serving().identity.reviewer,
                action="decide",
                verdict="given",
            )
        ]
    )
    (cell,) = shown(page(with_goal, "grid", example=cell["id"]))
    assert cell["prediction"] and cell["evidence"]["prediction"]


def test_blind_rows_are_the_same_from_every_run_and_order(with_goal):
    serving.serve_this(with_goal.root)
    first = model_output.visitor_blind_rows(with_goal)
    shown_in = {
        run: {c["id"] for c in shown(page(with_goal, "suspects", run=run, score=score)) if c.get("blind")}
        for run, score in (("main", "AUM"), ("second", "Loss"))
    }
    assert all(found and found <= first for found in shown_in.values())


def test_what_others_said_is_no_filter_before_the_second_reading(blind_test):
    client, example = team_of(blind_test), of_split(blind_test, "train")[0]
    send(client, event(1, example, verdict="unsure"), **as_person("ana"))
    states = decisions.state_at(blind_test)
    assert example in states["unsure"]
    assert not any(example in ids for ids in second_reader.visible_states(blind_test, states, "ben").values())
    assert second_reader.visible_states(blind_test, states, "ana") == states
    app = page(blind_test, "suspects", view="Sheet", decision="unsure")
    assert not shown(app)


def test_a_downloaded_patch_holds_no_answer_that_waits_for_a_second_reader(blind_test):
    client, (one, two) = team_of(blind_test), of_split(blind_test, "train")[:2]
    send(client, event(1, one, verdict="unsure"), event(2, two), **as_person("ana"))
    serving.serve_this(blind_test.root)
    packed = packed_patches(blind_test, decisions.open_log(blind_test), "csv")
    text = "".join(
        zipfile.ZipFile(io.BytesIO(packed)).read(name).decode()
        for name in zipfile.ZipFile(io.BytesIO(packed)).namelist()
    )
    assert two in text and one not in text


def test_pairs_and_agenda_leave_out_what_is_hidden(with_goal, blind_test):
    titles = [item["why"] for item in agenda(decisions.open_log(blind_test), blind_test.run(), blind=["test"])]
    assert len(titles) == 4, "the four slices of train; those of test would tell"
    serving.serve_this(with_goal.root)
    run, rows, log = with_goal.run(), blind_rows(with_goal, with_goal.run()), decisions.open_log(with_goal)
    named = [
        {example for item in agenda(log, run, slices=8, hidden=hidden) for example in item["examples"]}
        for hidden in ((), rows)
    ]
    assert named[0] & rows and named[1] and not named[1] & rows
    told = set(page(with_goal, "meeting", slices="10").dataframe[0].value["example"])
    assert told and told <= named[1]
    before = pairs(with_goal, with_goal.run(), "train")["suspects"].sum()
    (with_goal.root / "audit.toml").write_text(
        (with_goal.root / "audit.toml").read_text().replace("[goal]\nerror_rate = 0.05\ncontrols = 30\n", "")
    )
    assert before < pairs(Audit.open(with_goal.root), with_goal.run(), "train")["suspects"].sum()


def test_nothing_is_hidden_where_nothing_asks_for_it(scored):
    serving.serve_this(scored.root)
    assert model_output.all_hidden(scored) == {} and model_output.hidden_reasons(scored, of_split(scored, "test")) == {}
    assert len(queue.to_review(scored, scored.run(), Arrangement.of(pa.table({"example_id": ["a"]})))) == 1
