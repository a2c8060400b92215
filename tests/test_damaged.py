"""Files of an audit that are cut off, empty or overwritten: each command and each page says which one and what to do,
and no decision is lost."""

import shutil

import pytest
from streamlit.testing.v1 import AppTest
from streamlit.util import calc_hash

from dashboard.auth.serving import serve_this
from dashboard.queries.database import sql
from dashboard.queries.selection import source
from scoring.audit import Audit
from scoring.audit.errors import HardlookError
from scoring.audit.storage import read_json, read_metadata, read_vectors
from scoring.reviews import Event, ReviewLog

from .conftest import hardlook
from .damage import OUTCOMES, artefacts, campaign, damaged_copies
from .dashboard.test_routes import app_of
from .dashboard.test_views import APP
from .small_audits import write_small_audit

FILES = (
    "examples.parquet",
    "predictions.parquet",
    "epoch-00001.parquet",
    "uncertainty.parquet",
    "logits.arrow",
    "check.json",
    "check.png",
    "run.json",
    "part-00000.arrow",
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = write_small_audit(tmp_path_factory.mktemp("whole") / "audit")
    assert hardlook("score", folder, "--only", "uncertainty,data_map,vog") == 0
    with opened(folder) as log:
        log.append(
            [
                Event(
                    client="c",
                    seq=1,
                    example_id="train/a/0.png",
                    reviewer="ana",
                    action="decide",
                    label="a",
                    verdict="other",
                    new_label="b",
                )
            ]
        )
    return folder


def opened(folder):
    audit = Audit.open(folder)
    return ReviewLog.open(audit.log_url, audit.log_name(audit.log_url))


def shown(folder, name):
    """What a page says; an exception on it fails the test."""
    serve_this(folder)
    app = AppTest.from_file(APP, default_timeout=300)
    app._page_hash = calc_hash(name)
    app.run()
    assert not app.exception, (name, app.exception[0].stack_trace[-3:])
    return " ".join(error.value for error in app.error)


@pytest.mark.parametrize(
    "name, content", [(name, (b"", b"\x00\xffgarbage" * 20)[at % 2]) for at, name in enumerate(FILES)]
)
def test_a_damaged_file_is_named_by_commands_and_pages_and_costs_no_decision(whole, tmp_path, capsys, name, content):
    folder = shutil.copytree(whole, tmp_path / "audit")
    damaged = next(path for path in folder.rglob(name) if "thumbnails" in str(path) or not name.startswith("part"))
    damaged.write_bytes(content)
    for page in ("overview", "data-map") if name.startswith(("epoch", "check")) else ("overview", "suspects"):
        said = shown(folder, page)
        assert not said or damaged.name in said, said
    for command in (
        ("export", folder),
        ("report", folder, "-o", tmp_path / "r.html"),
        ("score", folder, "--only", "vog"),
    ):
        if hardlook(*command):
            said = capsys.readouterr().err
            assert damaged.name in said  # a traceback would have been raised here
    damaged.unlink(missing_ok=True)
    assert hardlook("score", folder, "--only", "uncertainty,data_map,vog") == 0
    with opened(folder) as log:
        assert log.decisions()["new_label"].tolist() == ["b"]


@pytest.mark.parametrize("read", [read_json, read_metadata, read_vectors])
def test_readers_name_a_damaged_file(tmp_path, read):
    path = tmp_path / "file"
    path.write_bytes(b"\xff\xfe\x00 no such thing")
    with pytest.raises(HardlookError, match=f"{path}"):
        read(path)


def test_suspects_stand_where_the_log_holds_no_decision_yet(whole, tmp_path):
    folder = shutil.copytree(whole, tmp_path / "audit")
    (folder / "reviews.sqlite").unlink()
    assert hardlook("assign", folder, "--to", "ben", "--split", "train") == 0
    assert not shown(folder, "suspects")


@pytest.mark.parametrize(
    "damage",
    [
        ["DELETE FROM hardlook_log"],
        ["DROP TRIGGER hardlook_events_no_UPDATE", "UPDATE hardlook_events SET issues = '{'"],
        ["UPDATE hardlook_log SET version = 99"],
    ],
)
def test_a_damaged_or_newer_review_log_is_told_and_left_as_it_is(whole, tmp_path, capsys, damage):
    import sqlite3

    folder = shutil.copytree(whole, tmp_path / "audit")
    with sqlite3.connect(folder / "reviews.sqlite") as connection:
        for statement in damage:
            connection.execute(statement)
    for command in (("export", folder), ("report", folder, "-o", tmp_path / "r.html"), ("rank", folder)):
        assert hardlook(*command) == 1
        assert "the review log" in capsys.readouterr().err
    assert "the review log" in shown(folder, "reviews")
    with sqlite3.connect(folder / "reviews.sqlite") as connection:
        assert connection.execute("SELECT count(*) FROM hardlook_events").fetchone() == (1,)


@pytest.mark.parametrize(
    "name, path",
    [
        ("thumbnails.arrow/part-00000.arrow", "/hardlook/thumb"),
        ("runs/main/maps.arrow/part-00000.arrow", "/hardlook/map"),
        ("examples.parquet", "/hardlook/alike"),
        ("runs/main/predictions.parquet", "/hardlook/example"),
    ],
)
def test_routes_answer_in_words_where_a_file_is_damaged(whole, tmp_path, name, path):
    folder = shutil.copytree(whole, tmp_path / "audit")
    (folder / name).write_bytes(b"\x00\xffgarbage" * 20)
    reply = app_of(Audit.open(folder)).get(path, {"id": "train/a/0.png", "run": "main"})
    assert reply.status in (200, 404) or (reply.status == 503 and "cannot be read" in reply.text)


def test_duckdb_which_opens_files_by_itself_gets_none_that_is_damaged(whole, tmp_path):
    folder = shutil.copytree(whole, tmp_path / "audit")
    path = folder / "examples.parquet"
    content = path.read_bytes()
    for copy in damaged_copies(content, 60):
        path.write_bytes(copy)
        with pytest.raises(HardlookError, match="examples.parquet"):
            sql(f"SELECT * FROM {source(path)}")
    path.write_bytes(content)
    assert sql(f"SELECT * FROM {source(path)}").num_rows == 36


@pytest.mark.parametrize("use, each", [(False, 16), (True, 1)], ids=["readers", "commands and pages"])
def test_each_flip_and_cut_of_each_artefact_is_told_and_none_ends_the_process(tmp_path, use, each):
    folder = write_small_audit(tmp_path / "audit")
    assert hardlook("score", folder, "--only", "uncertainty,data_map,vog,influence,self_influence") == 0
    assert hardlook("slice", folder, "--n-slices", "3") == 0
    files = artefacts(folder)
    found = campaign(folder, each, use=use)
    assert sum(sum(counts.values()) for counts in found.values()) == each * len(files)
    assert all(sum(counts.values()) for counts in found.values())
    assert {
        kind: (counts["ended"], counts["foreign"], counts["unseen"]) for kind, counts in found.items()
    } == dict.fromkeys(found, (0, 0, 0))
    assert sum(counts["told"] for counts in found.values()) > (0.4 if use else 0.9) * each * len(files)
    assert set(OUTCOMES) == {name for counts in found.values() for name in counts}
