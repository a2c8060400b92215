"""Every command that writes is killed (SIGKILL) and run again: what is there meanwhile is old or new and whole, and the
second run ends with what an undisturbed one writes, without anything left over."""

from __future__ import annotations

import os
import shutil
import time

import pytest

from scoring.audit import Audit, Run
from scoring.audit.errors import HardlookError
from scoring.audit.storage import atomic_path, read_json, write_json
from scoring.corrections.whole_folders import all_or_none

from . import kills_cases
from .kills_cases import CASES

AUDIT = 'format = 1\nclasses = ["a", "b"]\n[[data]]\nsplit = "train"\npath = "train"\n'


LIGHT = [name for name in CASES if "torch" not in CASES[name].warm and any(CASES[name].kills)]


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """The folder of a few kills of each command that needs no torch, and the runs by the command's name."""
    root = tmp_path_factory.mktemp("kills")
    return root, kills_cases.campaign(root, {name: CASES[name].kills for name in LIGHT})


@pytest.mark.parametrize("name", LIGHT)
def test_a_killed_command_leaves_old_or_new_and_ends_alike_when_run_again(killed, name):
    root, runs = killed
    assert kills_cases.faults(name, root / name, runs[name]) == []
    assert any(one.killed for one in runs[name])


@pytest.mark.soak
@pytest.mark.parametrize("name", CASES)
def test_a_hundred_kills_of_a_command_leave_old_or_new_and_it_ends_alike(tmp_path, name):
    runs = kills_cases.campaign(tmp_path, {name: (80, 20)})[name]
    assert kills_cases.faults(name, tmp_path / name, runs) == []
    assert sum(one.killed for one in runs) > 10 or len(runs) < 30


# -- what the kills had shown -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("hours", [-2, 2], ids=["long ago", "before the clock was set back"])
def test_the_next_writer_of_a_file_removes_what_a_killed_one_left(tmp_path, hours):
    old, young, other = (tmp_path / name for name in (".a.json.x.partial", ".a.json.y.partial", ".b.json.x.partial"))
    for path in (old, young, other):
        path.write_text("{")
    for path in (old, other):
        os.utime(path, (time.time() + hours * 3600,) * 2)
    write_json(tmp_path / "a.json", [1])
    assert sorted(path.name for path in tmp_path.iterdir()) == [".a.json.y.partial", ".b.json.x.partial", "a.json"]


def test_a_temporary_folder_that_is_still_filled_stays(tmp_path):
    folder = tmp_path / ".out.x.partial"
    (folder / "train").mkdir(parents=True)
    for path in (folder / "train", folder):
        os.utime(path, (time.time() - 7200,) * 2)
    (folder / "train" / "a.png").write_bytes(b"now")
    os.utime(folder, (time.time() - 7200,) * 2)
    with atomic_path(tmp_path / "out") as temporary:
        temporary.write_bytes(b"")
    assert (folder / "train" / "a.png").is_file()


def half_moved(root) -> dict:
    """An export of two folders that ended between its two renames, as a kill ends it: its hidden folder stays."""
    paths = [root / "train", root / "test"]
    with all_or_none(paths) as work:
        for path in paths:
            (work / path.name).mkdir()
            (work / path.name / "a.png").write_text("first")
        kept = root / ".train.kept"
        shutil.copytree(work, kept)
    left = root / ".train.left.partial"
    kept.rename(left)
    (root / "test").rename(left / "test-moved")
    shutil.rmtree(left / "test")
    (left / "test-moved").rename(left / "test")
    shutil.rmtree(left / "train")
    inode = (root / "train").stat()
    write_json(left / "moves.json", {"train": [inode.st_dev, inode.st_ino], "test": [0, 0]})
    return {"paths": paths, "left": left}


def test_a_half_moved_export_is_taken_back_unless_somebody_changed_it(tmp_path):
    made = half_moved(tmp_path)
    with all_or_none(made["paths"]) as work:
        for path in made["paths"]:
            (work / path.name).mkdir()
            (work / path.name / "a.png").write_text("second")
    assert {path.parent.name: path.read_text() for path in tmp_path.glob("*/a.png")} == {
        "train": "second",
        "test": "second",
    }
    assert not list(tmp_path.glob(".*"))


def test_a_half_moved_export_that_somebody_changed_is_refused(tmp_path):
    made = half_moved(tmp_path)
    (tmp_path / "train" / "a.png").write_text("mine")
    os.utime(tmp_path / "train" / "a.png", (time.time() + 5,) * 2)
    with pytest.raises(HardlookError, match="already exists; remove it"):
        with all_or_none(made["paths"]):
            pytest.fail("an export began over somebody's files")
    assert (tmp_path / "train" / "a.png").read_text() == "mine"


def test_a_run_whose_replacement_was_killed_between_its_renames_is_there_for_the_next_reader(tmp_path):
    (tmp_path / "audit.toml").write_text(AUDIT)
    run = Run("imported", tmp_path)
    write_json(run.record_path, {"name": "imported"})
    run.folder.rename(tmp_path / "runs" / ".imported.old")
    audit = Audit.open(tmp_path)
    assert audit.run_names() == ["imported"] and read_json(audit.run("imported").record_path) == {"name": "imported"}


def test_a_run_that_another_command_is_replacing_is_left_to_it(tmp_path):
    (tmp_path / "audit.toml").write_text(AUDIT)
    run = Run("imported", tmp_path)
    write_json(run.record_path, {"version": 1})
    with run.replaced() as new:
        write_json(new.record_path, {"version": 2})
        run.folder.rename(tmp_path / "runs" / ".imported.old")  # as between the two renames
        assert Audit.open(tmp_path).run_names() == []
        with pytest.raises(HardlookError, match="another hardlook command is writing run 'imported'"):
            with run.replaced():
                pytest.fail("two replaced a run at once")
    assert read_json(run.record_path) == {"version": 2}
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == [".imported.lock", "imported"]
