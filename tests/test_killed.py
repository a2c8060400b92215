"""Commands that are killed, and run again: the numbers of an undisturbed run, and nothing left over."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scoring.audit import Audit
from scoring.audit.storage import ABANDONED, read_table

from .conftest import hardlook
from .small_audits import write_small_audit

SCORES = ("--only", "vog,uncertainty,influence", "--influence-arnoldi-dim", "12", "--influence-rank", "4")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = write_small_audit(tmp_path_factory.mktemp("whole") / "audit")
    assert hardlook("score", folder, *SCORES) == 0
    return folder


def numbers(folder: Path) -> dict:
    run = Audit.open(folder).run()
    return {name: read_table(run.score_path(name)).to_pandas() for name in run.score_names()}


def killed_when(appears: str, sent: int, *command: object) -> int:
    """Run a command in a process of its own, which gets a signal the moment that a file of that name is renamed into
    place → its exit status. The process sends it to itself: no machine is too slow or too fast for that."""
    # What was started in a shell's background ignores Ctrl-C, and so would this process; a user's does not.
    code = (
        "import os, sys, pathlib, signal; rename, (appears, sent, *command) = os.replace, sys.argv[1:]\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "def watched(old, new, **given):\n"
        "    rename(old, new, **given)\n"
        "    if pathlib.PurePath(new).match(appears): os.kill(os.getpid(), int(sent))\n"
        "os.replace = watched\n"
        "from scoring.cli import main; sys.exit(main(command))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, appears, str(int(sent)), *map(str, command)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).parents[1],
        timeout=600,
    )
    assert "Traceback" not in ended.stderr
    return ended.returncode


@pytest.mark.parametrize(
    "appears, sent, status",
    [
        ("factors.safetensors", signal.SIGKILL, -9),
        ("logits.arrow", signal.SIGINT, 130),
    ],
)
def test_a_killed_score_continues_to_the_same_numbers_and_leaves_nothing(undisturbed, tmp_path, appears, sent, status):
    folder = write_small_audit(tmp_path / "audit")
    assert killed_when(appears, sent, "score", folder, *SCORES) == status
    assert hardlook("score", folder, *SCORES) == 0
    whole, again = numbers(undisturbed), numbers(folder)
    assert whole.keys() == again.keys()
    for name, frame in whole.items():
        assert frame.equals(again[name]), name
    assert not [path for path in folder.glob("runs/main/parts/**/*") if path.is_file()]


def test_shards_of_a_command_killed_at_its_very_end_go_and_so_do_old_temporary_files(undisturbed):
    run = Audit.open(undisturbed).run()
    parts = run.parts_folder("vog") / "shards"
    parts.mkdir(parents=True)
    (parts / "shard-00000.parquet").write_bytes(b"left behind")
    old, young = (run.folder / f".{name}.partial" for name in ("old", "young"))
    for path in (old, young):
        path.write_bytes(b"")
    os.utime(old, (time.time() - ABANDONED - 60,) * 2)
    assert hardlook("score", undisturbed, *SCORES) == 0
    assert not parts.exists() and not old.exists()
    assert young.exists()  # a command that needs no lock may be writing it
    young.unlink()
