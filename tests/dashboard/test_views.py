"""Every page under AppTest: what it shows, what it says where something is missing, and what its address
holds.
"""

import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from streamlit.testing.v1 import AppTest
from streamlit.util import calc_hash

from dashboard.auth.serving import serve_this
from dashboard.pages import PAGES, find_page
from dashboard.presenters.patch_download import packed_patches
from dashboard.queries import database, decisions
from dashboard.queries.score_columns import find_column
from dashboard.queries.selection import Selection
from dashboard.server import SCRIPT
from scoring.audit.storage import read_table, write_json, write_table
from scoring.reviews import Event

from ..synthetic import AWKWARD, make_audit

ROOT = Path(__file__).parents[2]
APP = str(SCRIPT)


@pytest.fixture(autouse=True)
def quiet():
    """Widgets that follow an address get their value through the session; Streamlit remarks on it once per
    process.
    """
    from streamlit.elements.lib import policies

    policies._shown_default_value_warning = True


@pytest.fixture(scope="module")
def audit(tmp_path_factory):
    return make_audit(tmp_path_factory.mktemp("audits") / "plain", 600, 4, runs=("main", "second"))


def visit(audit):
    """A new visitor at the root address."""
    serve_this(audit.root)
    return sound(AppTest.from_file(APP, default_timeout=300).run())


def page(audit, name, **parameters):
    """A page of an audit as a new visitor sees it at an address."""
    serve_this(audit.root)
    app = AppTest.from_file(APP, default_timeout=300)
    app._page_hash = calc_hash(name)  # AppTest can open no address of an app's navigation, only switch to it later
    for key, value in parameters.items():
        app.query_params[key] = value
    return sound(app.run())


def sound(app):
    assert not app.exception, app.exception[0].stack_trace
    return app


def said(app) -> str:
    """Everything that the page says in words."""
    kinds = (
        app.title,
        app.subheader,
        app.markdown,
        app.caption,
        app.info,
        app.warning,
        app.error,
        app.code,
        app.metric,
    )
    return "\n".join(
        str(getattr(element, "label", "") or "") + str(element.value) for kind in kinds for element in kind
    )


def grids(app) -> list[dict]:
    """The data of the example grids on the page."""
    return [json.loads(element.proto.json) for element in app.get("bidi_component") if element.proto.json]


def cells(app) -> list[str]:
    return [cell["id"] for grid in grids(app) for panel in grid["panels"] for cell in panel["cells"]]


@pytest.mark.parametrize(
    "options",
    [
        {"classes": 1},
        {"classes": AWKWARD, "name": AWKWARD[0]},
        {"scores": False},
        {"memorised": True},
        {"predictions": False, "scores": False, "meta": False},
        {"splits": ("train", "test", "pool")},
        {"splits": ("pool",)},
    ],
    ids=str,
)
def test_every_page_stands(tmp_path, options):
    app = visit(make_audit(tmp_path / "audit", 60, **{"classes": 3, **options}))
    for one in PAGES:
        app.switch_page(f"views/{one.script}")
        assert said(sound(app.run())), one.name


def test_every_page_says_what_to_run_before_the_data_was_read(tmp_path):
    audit = make_audit(tmp_path / "audit", 20, 2, scores=False, predictions=False)
    audit.examples_path.unlink()
    app = visit(audit)
    for one in PAGES:
        app.switch_page(f"views/{one.script}")
        assert f"hardlook score {audit.root}" in said(sound(app.run())), one.name


def test_pages_of_scores_say_what_to_run_without_scores(tmp_path):
    audit = make_audit(tmp_path / "audit", 20, 2, scores=False)
    app = visit(audit)
    for name in ("grid", "suspects", "deciles", "compare"):
        app.switch_page(f"views/{find_page(name).script}")
        assert f"hardlook score {audit.root} --run main" in said(sound(app.run())), name


def test_the_root_leads_to_the_overview(audit):
    assert visit(audit).title[0].value == "Synthetic shapes"


def test_a_broken_audit_is_one_sentence_beside_the_last_sound_settings(tmp_path):
    audit = make_audit(tmp_path / "audit", 20, 2)
    serve_this(audit.root)
    (audit.root / "audit.toml").write_text("format = 99")
    app = sound(AppTest.from_file(APP, default_timeout=300).run())
    assert [one.value for one in app.warning if "upgrade hardlook" in one.value]
    assert "20" in said(app), "the page stands"


# -- /overview
# -------------------------------------------------------------------------------------------------------


def test_the_overview_counts_warns_and_links(audit):
    app = page(audit, "overview")
    text = said(app)
    assert "600 examples, 4 classes, image" in text
    assert "3 examples could not be read" in text
    assert {metric.label: metric.value for metric in app.metric}["test examples"] == "60"
    scores = app.dataframe[0].value
    assert len(scores) == 5 + 24
    row = scores[scores["score"] == "VoG, early, prediction, probability, z"].iloc[0]
    assert row["grid"] == "/grid?run=main&score=VoG&stage=early&by=prediction&form=probability&scale=z"
    assert scores[scores["score"] == "AUM"].iloc[0]["end"] == "lowest"
    assert "4 groups" in text
    assert "no decisions yet" in text


def test_the_overview_repeats_what_check_warned_of(tmp_path):
    audit = make_audit(tmp_path / "audit", 20, 2)
    findings = [
        {"level": "ok", "text": "fine"},
        {"level": "error", "text": "channels are in the other order"},
    ]
    write_json(audit.run().check_path, {"findings": findings, "examples": 20})
    text = said(page(audit, "overview"))
    assert "channels are in the other order" in text and "fine" not in text


def test_the_overview_shows_twenty_of_a_thousand_classes(tmp_path):
    app = page(make_audit(tmp_path / "audit", 3000, 1000), "overview")
    assert "20 of 1,000 classes" in said(app)
    assert len(app.get("plotly_chart")) == 2
    app.get("button_group")[0].set_value("lowest accuracy")
    assert "20 of 1,000 classes" in said(sound(app.run()))


# -- /grid
# -----------------------------------------------------------------------------------------------------------


def test_the_grid_shows_five_by_five_of_both_ends(audit):
    app = page(audit, "grid")
    panels = grids(app)[0]["panels"]
    assert [panel["title"].split(" · ")[0] for panel in panels] == ["Lowest", "Highest"]
    assert [len(panel["cells"]) for panel in panels] == [25, 25]
    assert grids(app)[0]["columns"] == 5
    values = [[cell["evidence"]["value"] for cell in panel["cells"]] for panel in panels]
    assert (
        values[0] == sorted(values[0])
        and values[1] == sorted(values[1], reverse=True)
        and values[0][-1] < values[1][-1]
    )


def test_the_grid_follows_its_address(audit):
    app = page(
        audit,
        "grid",
        stage="early",
        by="prediction",
        scale="raw",
        split="train",
        size="10 × 10",
        ends="lowest",
        **{"class": "class 002", "filter": "camera", "meta.camera": "north"},
    )
    grid = grids(app)[0]
    shown = grid["panels"][0]["cells"]
    assert len(grid["panels"]) == 1 and grid["columns"] == 10
    assert {cell["prediction"] for cell in shown} == {"class 002"}
    assert {cell["id"].split("/")[0] for cell in shown} == {"train"}
    assert {cell["evidence"]["score"] for cell in shown} == {"vog.early_prediction_logit"}
    north = read_table(audit.examples_path, ["example_id", "meta.camera"]).to_pandas().query("`meta.camera` == 'north'")
    assert {cell["id"] for cell in shown} <= set(north["example_id"])


def test_an_address_that_means_nothing_shows_the_default(audit):
    app = page(
        audit,
        "grid",
        stage="tomorrow",
        score="<script>",
        page="999999",
        size="7",
        run="nobody",
        **{"class": "none such"},
    )
    assert len(cells(app)) == 50


def test_both_ends_hold_each_example_once(tmp_path):
    app = page(make_audit(tmp_path / "audit", 33, 2), "grid")
    assert len(cells(app)) == len(set(cells(app))) == 30
    assert not app.get("pagination")


def test_the_grid_shows_one_example_by_its_id(audit):
    app = page(audit, "grid", example="train/000007.png")
    assert cells(app) == ["train/000007.png"]
    assert "no such example" in said(page(audit, "grid", example="<b>nobody</b>"))


def test_the_grid_shows_examples_of_equal_content(audit):
    fingerprint = grids(page(audit, "grid", example="train/000000.png"))[0]["panels"][0]["cells"][0]["fingerprint"]
    assert cells(page(audit, "grid", same=fingerprint)) == ["train/000000.png", "train/000001.png"]


def test_the_grid_says_that_a_class_is_too_small_to_rank(tmp_path):
    audit = make_audit(tmp_path / "audit", 3, ["a", "b", "c"], problems=0, meta=False)
    examples = pd.read_parquet(audit.examples_path)
    app = page(audit, "grid", **{"class": examples["label"].value_counts().index[-1]})
    assert "too small to rank" in said(app)


def test_the_grid_says_that_stages_overlap(tmp_path):
    assert "5 checkpoints. With fewer than six" in said(
        page(make_audit(tmp_path / "audit", 60, 2, checkpoints=5), "grid")
    )


def test_filters_that_leave_nothing_say_so(audit):
    assert "matches these filters" in said(page(audit, "grid", decision="decided"))


# -- /deciles
# --------------------------------------------------------------------------------------------------------


def test_deciles_are_of_test_with_early_beside_late(audit):
    app = page(audit, "deciles")
    figure = json.loads(app.get("plotly_chart")[0].proto.spec)
    assert [trace["name"] for trace in figure["data"]] == ["early", "late"]
    assert [button.value for button in app.get("button_group") if button.key == "split"] == ["test"]
    table = app.dataframe[0].value
    assert table["examples"].sum() == 2 * 59
    assert "Within each class: VoG, late, label, logit, z" in said(app)


def test_a_memorised_split_has_no_deciles(tmp_path):
    app = page(make_audit(tmp_path / "audit", 200, 3, memorised=True), "deciles", split="train")
    assert "No deciles here: the model has memorised" in said(app)
    assert not app.get("plotly_chart")


def test_a_decile_opens_its_examples_in_the_grid(audit):
    app = page(audit, "deciles", **{"class": "class 001", "split": "train"})
    sound(app.button(key="early 3").click().run())
    assert app.query_params == {"split": "train", "class": "class 001", "stage": "early", "decile": "3"}
    run = audit.run()
    column = find_column(database.score_columns(run), "vog.early_label_logit_z")
    expected = database.ranking(audit, run, column, Selection("train", "class 001", decile=3))["example_id"].to_pylist()
    assert sorted(cells(app)) == sorted(expected)


# -- /suspects
# -------------------------------------------------------------------------------------------------------


def test_the_queue_starts_with_the_lowest_aum_of_train(audit):
    app = page(audit, "suspects", view="Sheet")
    cell = grids(app)[0]["panels"][0]["cells"][0]
    assert cell["evidence"]["score"] == "aum.aum" and cell["evidence"]["rank"] == 1
    assert cell["id"].startswith("train/")
    assert cell["suggestion"] in cell["score"]
    assert "Lowest area under the margin" in said(app) and "not a probability" in said(app)


def test_the_queue_can_start_at_the_other_end(audit):
    first = grids(page(audit, "suspects", view="Sheet"))[0]["panels"][0]["cells"][0]["evidence"]["value"]
    app = page(audit, "suspects", view="Sheet", order="other end first")
    assert grids(app)[0]["panels"][0]["cells"][0]["evidence"]["value"] > first
    assert "starts at the other end" in said(app)


def test_a_queue_keeps_its_order_while_it_is_decided(tmp_path):
    audit = make_audit(tmp_path / "audit", 200, 3)
    app = page(audit, "suspects", view="Sheet", decision="not decided yet")
    before = cells(app)
    log = decisions.open_log(audit)
    log.append([Event(client="c", seq=1, example_id=before[0], reviewer="ada", action="decide", verdict="given")])
    sound(app.run())
    assert cells(app) == before
    assert "1 decided" not in said(app)
    assert app.query_params["as_of"] == "0"
    sound(app.button(key="renew_suspects").click().run())
    assert before[0] not in cells(app)
    assert app.query_params["as_of"] == "1"


def test_a_link_to_a_frozen_queue_shows_the_same_queue(tmp_path):
    audit = make_audit(tmp_path / "audit", 200, 3)
    before = cells(page(audit, "suspects", view="Sheet", decision="not decided yet"))
    log = decisions.open_log(audit)
    log.append([Event(client="c", seq=1, example_id=before[0], reviewer="ada", action="decide", verdict="given")])
    assert cells(page(audit, "suspects", view="Sheet", decision="not decided yet", as_of="0")) == before
    assert before[0] not in cells(page(audit, "suspects", view="Sheet", decision="not decided yet"))


def test_pages_of_a_queue_follow_each_other(audit):
    first, second = cells(page(audit, "suspects", view="Sheet")), cells(page(audit, "suspects", view="Sheet", page="2"))
    assert len(first) == len(second) == 24 and not set(first) & set(second)


# -- /reviews
# --------------------------------------------------------------------------------------------------------


@pytest.fixture
def reviewed(tmp_path):
    audit = make_audit(tmp_path / "audit", 60, 3)
    serve_this(audit.root)
    log = decisions.open_log(audit)
    facts = {"client": "c", "action": "decide", "label": "class 001"}
    log.append(
        [
            Event(seq=1, example_id="train/000001.png", reviewer="ada", verdict="given", seconds=2.0, **facts),
            Event(
                seq=2,
                example_id="train/000002.png",
                reviewer="bo",
                verdict="other",
                new_label="class 002",
                note="<b>=1+1</b>",
                issues=("bad image",),
                **facts,
            ),
            Event(client="c", seq=3, example_id="train/000003.png", reviewer="bo", action="flag"),
        ]
    )
    return audit


def test_the_log_is_a_table_newest_first(reviewed):
    app = page(reviewed, "reviews")
    table = app.dataframe[1].value
    assert table["action"].tolist() == ["flag", "decide", "decide"]
    assert table["example"].tolist()[0] == "/grid?example=train%2F000003.png&run=main"
    assert app.dataframe[0].value["decided"].tolist() == [1, 1]
    assert [button.label for button in app.get("download_button")] == [
        "Corrected labels as CSV",
        "Corrected labels as Parquet",
    ]


@pytest.mark.parametrize(
    ("filters", "kept"),
    [
        ({"reviewer": "bo"}, 2),
        ({"action": "flag"}, 1),
        ({"verdict": "other"}, 1),
        ({"class": "class 002"}, 1),
        ({"class": "class 001"}, 2),
        ({"since": "2001-01-01"}, 3),
        ({"until": "2001-01-01"}, 0),
    ],
)
def test_the_log_is_filtered_by_its_address(reviewed, filters, kept):
    app = page(reviewed, "reviews", **filters)
    assert len(app.dataframe[1].value if kept else []) == kept
    assert ("None of the 3 events" in said(app)) == (kept == 0)


def test_corrected_labels_are_one_patch_per_split(reviewed):
    packed = zipfile.ZipFile(io.BytesIO(packed_patches(reviewed, decisions.open_log(reviewed), "csv")))
    assert sorted(packed.namelist()) == ["patch-test.csv", "patch-train.csv"]
    assert b'"train/000002.png"' in packed.read("patch-train.csv")


# -- the process
# -----------------------------------------------------------------------------------------------------


def test_no_page_imports_what_a_review_server_must_not_hold(audit):
    code = f"""
import sys
from streamlit.testing.v1 import AppTest
from streamlit.util import calc_hash
app = AppTest.from_file({APP!r}, default_timeout=300).run()
for name in {[one.script for one in PAGES]!r}:
    app.switch_page(f"views/{{name}}")
    app.run()
    assert not app.exception
print(",".join(sorted({{"torch", "umap", "pynndescent", "ray", "numba"}} & set(sys.modules))))
"""
    environment = {**os.environ, "HARDLOOK_AUDIT": str(audit.root), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""


def test_the_queue_of_a_pool_starts_with_a_score_that_needs_no_label(tmp_path):
    audit = make_audit(tmp_path / "audit", 60, 3, splits=("pool",))
    for name in ("aum", "data_map"):  # of an example without a label these are not computed
        path = audit.run().score_path(name)
        table = read_table(path)
        for column in [one for one in table.column_names if one not in ("example_id", "fingerprint", "label")]:
            table = table.set_column(
                table.column_names.index(column), table.schema.field(column), pa.nulls(60, pa.float32())
            )
        write_table(path, table)
    app = page(audit, "suspects", view="Sheet")
    assert cells(app) and "No example is left" not in said(app)


# -- where /grid opens -------------------------------------------------------------------------------------------------


def with_directions(audit, **rho):
    """The audit with measured directions of some VoG columns; those of the others say neither end."""
    run = audit.run()
    record = run.record()
    for name, direction in record["directions"].items():
        if name.startswith("vog."):
            value = rho.get(name.removeprefix("vog."), 0.01)
            hard = None if abs(value) < 0.05 else "high" if value > 0 else "low"
            direction |= {"rho": value, "low": value, "high": value, "hard": hard, "both": False}
    write_json(run.record_path, record)


def steps(app):
    return {key: app.session_state[key] for key in ("stage", "by", "form", "scale")}


def test_the_grid_opens_on_the_stage_and_form_that_rank_where_the_usual_ones_do_not(tmp_path):
    audit = make_audit(tmp_path / "audit", 200, 3)
    usual = {"stage": "late", "by": "label", "form": "logit", "scale": "z"}
    with_directions(audit, late_label_logit_z=0.2, early_label_logit_z=-0.4)
    assert steps(page(audit, "grid")) == usual, "a direction that is measured there is enough"
    with_directions(audit, early_label_logit_z=-0.3, all_label_probability_z=0.4, all_prediction_probability_z=0.9)
    app = page(audit, "grid")
    assert steps(app) == usual | {"stage": "all", "form": "probability"}, "of the label, as z"
    assert "The grid opens with" in said(app)
    kept = {key: app.query_params[key] for key in app.query_params}
    assert kept == {"opens": "all probability"}, "what the missing controls mean stands in the address"
    assert steps(page(audit, "grid", **kept, **{"class": "class 001"})) == steps(app), "for whoever gets the link"
    back = page(audit, "grid", **kept, stage="late", form="logit")
    assert steps(back) == usual and "The grid opens with" not in said(back), "whoever chooses another one has it"
    assert steps(page(audit, "grid", **{"class": "class 001"})) == usual, "a link from before means what it meant"
    assert steps(page(audit, "grid", form="probability")) == usual | {"form": "probability"}
    assert steps(page(audit, "grid", opens="nonsense")) == usual
    with_directions(audit)
    assert steps(page(audit, "grid")) == usual, "nothing ranks: as ever"


def test_the_overview_says_what_is_left_out_and_what_scoring_found_out(audit):
    run = audit.run()
    before = run.record()
    run.add_to_record(
        skipped={"vog": "no input gradient: [cut](https://x.example)"},
        notes={"influence": ["one way was *left*: `hardlook train` <b>`` [a](https://b.example)`"]},
    )
    try:
        text = said(page(audit, "overview"))
    finally:
        run.add_to_record(skipped=before.get("skipped", {}), notes=before.get("notes", {}))
    assert r"- **vog**: not computed\: no input gradient\: \[cut\]\(https\://x\.example\)" in text
    assert r"- **influence**: one way was \*left\*\: `hardlook train` \<b\>\`\` \[a\]\(https\://b\.example\)\`" in text
