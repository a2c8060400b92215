"""A patch whose application is killed leaves the old dataset or the new one, and the next run finishes it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scoring.corrections.apply import undo
from scoring.corrections.apply.targets import open_target

from .test_apply import content, files
from .test_apply_at_once import EXPECTED, N, halves, made, state

KINDS = ("csv", "parquet", "folder")


def campaign(root: Path, kind: str, most: int, step: int) -> tuple[int, list[Path]]:
    """Kill the application of a patch at up to ``most`` moments (``kill_at``) → how many died, where it ran."""
    start = root / "start"
    start.mkdir()
    data = made(start, kind).relative_to(start)
    one, two = halves(start)
    two.unlink()
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "tests.corrections.kill_at", root, str(most), str(step), "--"),
            *("apply", f"@/{one.name}", f"@/{data}"),
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).parents[2],
        timeout=1800,
    )
    assert ended.returncode == 0, ended.stderr
    runs = sorted(path for path in root.iterdir() if path.name.isdecimal())
    return int(ended.stdout), [run / data for run in runs]


def is_old_or_new(old: dict[str, str], new: dict[str, str], found: dict[str, str], kind: str) -> bool:
    """A manifest is one of the two whole; of a folder each file lies where it was or where it goes."""
    if kind != "folder":
        return found in (old, new)
    return found.keys() == old.keys() and all(found[name] in (old[name], new[name]) for name in old)


def check(root: Path, kind: str, runs: list[Path]) -> None:
    old = {f"cat/{number}.png": "cat" for number in range(N)}
    new = {name: "dog" if int(Path(name).stem) in range(0, 80, 2) else "cat" for name in old}
    assert {name: new[name] for name in EXPECTED} == EXPECTED
    for data in runs:
        number = data.relative_to(root).parts[0]
        killed = root / f"{number}-killed" / data.relative_to(root / number)
        assert is_old_or_new(old, new, state(killed), kind), f"run {number} left half of the patch"
        assert state(data) == new, f"run {number} was not finished by the second"
        assert open_target(data).applications == 1
        assert undo(open_target(data)) == [] and state(data) == old, f"run {number} cannot be undone"
        assert undo_of(killed, kind) == old


def undo_of(killed: Path, kind: str) -> dict[str, str]:
    """What undo makes of a killed application at once; nothing was applied where there is nothing to undo."""
    if open_target(killed).applications:
        assert undo(open_target(killed)) == []
    return state(killed)


@pytest.mark.parametrize("kind", KINDS)
def test_a_kill_before_each_change_of_a_file_leaves_old_or_new_and_the_next_run_finishes(tmp_path, kind):
    killed, runs = campaign(tmp_path, kind, 60, 1 if kind != "folder" else 5)  # of a folder's forty moves, each fifth
    assert 8 <= killed < 60, "the last run was killed no more"
    check(tmp_path, kind, runs)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("most", [4, pytest.param(100, marks=pytest.mark.soak)])
def test_a_kill_at_any_time_leaves_old_or_new_and_the_next_run_finishes(tmp_path, kind, most):
    _, runs = campaign(tmp_path, kind, most, 0)
    assert len(runs) == most + 1
    check(tmp_path, kind, runs)


def test_a_second_patch_after_a_killed_one_keeps_both_to_be_undone(tmp_path, monkeypatch):
    """Of a folder: what the killed one had moved belongs to the application that comes next."""
    from scoring.corrections.apply import apply_to, targets

    from .test_apply import dying

    data, (one, two) = made(tmp_path, "folder"), halves(tmp_path)
    before = files(data)
    with monkeypatch.context() as patched:
        patched.setattr(targets, "_move", dying(targets._move, 21))
        with pytest.raises(KeyboardInterrupt):
            apply_to(one, open_target(data))
    apply_to(two, open_target(data))
    assert sum(name.startswith("dog/") for name in files(data)) == 20
    assert undo(open_target(data)) == [] and files(data) == before
    assert content("cat/0.png") in before.values()
