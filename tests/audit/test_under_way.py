"""What is under way is told as long as the command lives, and not a moment longer."""

import os
import signal
import subprocess
import sys

from scoring.audit import Run
from scoring.audit.progress import silent
from scoring.audit.under_way import file_of, under_way, what_is_under_way


def test_a_step_and_how_far_it_is_until_the_end(tmp_path):
    run = Run("main", tmp_path)
    assert what_is_under_way(run) is None
    with under_way(run) as shown:
        shown.step("vog", 3, 12)
        assert what_is_under_way(run) == "under way: vog, 3 of 12"
        shown._written = -1e9
        with shown.over(silent)("vog", 60_000) as advance:
            advance(1024)
            assert what_is_under_way(run) == "under way: vog, 3 of 12 (1,024 of 60,000 examples)"
        shown.step("influence", 4, 12)
        assert what_is_under_way(run) == "under way: influence, 4 of 12"
    assert what_is_under_way(run) is None and not file_of(run).exists()


def test_an_error_leaves_nothing(tmp_path):
    run = Run("main", tmp_path)
    try:
        with under_way(run) as shown:
            shown.step("vog", 1, 2)
            raise KeyError
    except KeyError:
        assert what_is_under_way(run) is None


def test_a_killed_command_is_not_taken_for_alive(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from scoring.audit import Run\n"
        "from scoring.audit.under_way import under_way\n"
        "with under_way(Run('main', Path(sys.argv[1]))) as shown:\n"
        "    shown.step('vog', 1, 2); print('there', flush=True); time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout.readline() == "there\n"
        run = Run("main", tmp_path)
        assert what_is_under_way(run) == "under way: vog, 1 of 2"
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        child.stdout.close()
    assert file_of(run).is_file() and what_is_under_way(run) is None
    with under_way(run):
        pass
    assert not file_of(run).exists()
