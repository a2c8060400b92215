"""Real commands, killed again and again, each at another moment, then run once more to their end.

``python -m tests.kills FOLDER…`` reads ``FOLDER/plan.json`` (``campaign`` writes it). Its command runs in forked
processes, in copies of the folder ``start``: undisturbed (``0``), killed (SIGKILL) before its nth change of a file, or
at a random moment. What a kill left is copied to ``n-killed``, its temporary files are made old, and the same command
runs once more. What runs is imported once, before the forks, so that a hundred kills take seconds.

``faults`` compares: what the kill left holds old files or new ones, each whole; after the second run the folder is the
undisturbed one's, file by file, and nothing is left over.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from .corrections.kill_at import changes_files, status

LONG_AGO = 7200.0
"""Seconds by which what a kill left is made older: temporary files are kept for an hour."""
PARTIAL = (".*.partial", ".*.part", ".*.part-*", "tmp/*")
"""The names of what only a running command may leave."""


@dataclass(frozen=True)
class Kill:
    """One run: its number, the change before which it was killed (None: a random moment), how it ended, both times."""

    number: int
    at: int | None
    ended: int
    again: int
    said: str

    @property
    def killed(self) -> bool:
        """Whether it was killed before its end."""
        return self.ended == -signal.SIGKILL


@dataclass(frozen=True)
class Plan:
    """How a command is killed: ``before`` times ahead of a change of a file (of every one where there are fewer),
    ``at_random`` times at any moment. ``@`` in the command is the folder; ``warm`` is imported once."""

    command: Sequence[str]
    before: int
    at_random: int
    warm: Sequence[str] = ()


def campaign(plans: Mapping[Path, Plan]) -> dict[Path, list[Kill]]:
    """Kills commands in copies of ``root/start``, all in one process, and returns the runs of each."""
    for root, plan in plans.items():
        (root / "plan.json").write_text(json.dumps(vars(plan)))
    ended = subprocess.run(
        [sys.executable, "-m", "tests.kills", *plans],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).parents[1],
        timeout=3600,
    )
    assert ended.returncode == 0, ended.stderr
    found = (json.loads(line) for line in ended.stdout.splitlines())
    return {root: [Kill(**one) for one in kills] for root, kills in zip(plans, found, strict=True)}


def forked(command: Sequence[str], at: int | None, copy: Path, counted: Path | None = None) -> int:
    """Starts a command in a child that kills itself before its nth change of a file; returns its pid.

    counted: the file for the number of changes, of a run that ends.
    """
    child = os.fork()
    if child:
        return child
    os.setsid()
    count = 0

    def touched(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal count
        if changes_files(event, arguments):
            count += 1
            if count == at:
                os.killpg(0, signal.SIGKILL)  # and what it has started

    from scoring.cli import main

    tempfile.tempdir = os.environ["TMPDIR"] = str(copy / "tmp")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(os.open(f"{copy}.err", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    sys.addaudithook(touched)
    code = 3  # an exception
    try:
        code = main([part.replace("@", str(copy)) for part in command]) or 0
        if counted:
            counted.write_text(str(count))
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 4
    except BaseException:
        sys.excepthook(*sys.exc_info())
        raise
    finally:
        sys.stderr.flush()
        os._exit(code)


def one_kill(root: Path, command: Sequence[str], number: int, at: int | None, after: float | None) -> Kill:
    """Runs the command in a new copy, killed before a change or after some seconds, and once more."""
    copy = root / str(number)
    shutil.copytree(root / "start", copy, symlinks=True)
    child = forked(command, at, copy)
    if after is not None:
        time.sleep(after)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
    ended = status(child)
    shutil.copytree(copy, root / f"{number}-killed", symlinks=True)
    make_old(copy)
    again = status(forked(command, None, copy))
    return Kill(number, at, ended, again, Path(f"{copy}.err").read_text()[-2000:])


def make_old(folder: Path) -> None:
    """Sets the times of what a kill left back, as if hours had passed."""
    for pattern in PARTIAL:
        for path in list(folder.rglob(pattern)):
            for one in (path, *(path.parent.rglob("*") if path.is_dir() else ())):
                then = one.lstat().st_mtime - LONG_AGO
                os.utime(one, (then, then), follow_symlinks=False)


def run_plan(root: Path) -> list[Kill]:
    """Everything that ``campaign`` asked for, in this process and its forks."""
    plan = json.loads((root / "plan.json").read_text())
    for name in ("scoring.cli", *plan["warm"]):
        import_module(name)
    shutil.copytree(root / "start", root / "0", symlinks=True)
    began = time.perf_counter()
    if status(forked(plan["command"], None, root / "0", root / "changes")):
        sys.exit("undisturbed: " + (root / "0.err").read_text())
    took = time.perf_counter() - began
    changes, draw = int((root / "changes").read_text()), random.Random(0)
    points = sorted(draw.sample(range(1, changes + 1), min(plan["before"], changes)))
    kills = [one_kill(root, plan["command"], number, at, None) for number, at in enumerate(points, 1)]
    for number in range(len(kills) + 1, len(kills) + 1 + plan["at_random"]):
        kills.append(one_kill(root, plan["command"], number, None, draw.uniform(0, took)))
    return kills


# -- what is compared -------------------------------------------------------------------------------------------------

Reader = Callable[[Path], object]


def contents(folder: Path, read: Reader) -> dict[str, object]:
    """The content of every file below a folder; of what only a running command leaves, its name alone."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if (
            path.name.endswith((".lock", "__pycache__"))
            or "__pycache__/" in name
            or (path.is_dir() and not path.is_symlink())
        ):
            continue
        hidden = any(part.endswith((".partial", ".part")) or ".part-" in part for part in name.split("/"))
        found[name] = "partial" if hidden or name.startswith("tmp/") else read(path)
    return found


def faults(
    root: Path,
    kills: Sequence[Kill],
    read: Reader,
    mixed: Reader | None = None,
    *,
    grows: str = "^$",
    refuses: bool = False,
) -> list[str]:
    """Returns a sentence for each thing that a kill broke.

    read: a file's content, times apart. mixed: what a reader finds in the whole folder, which must be as before or as
    after. grows: a pattern of files that a command writes step by step, which need only be readable meanwhile.
    refuses: the command refuses a result that stands, so a second run may say so where the first was complete.
    """
    old, new = contents(root / "start", read), contents(root / "0", read)
    states = [mixed(root / "start"), mixed(root / "0")] if mixed else []
    said = []
    for one in kills:
        where = f"run {one.number} (change {one.at}, ended {one.ended})"
        left, after = contents(root / f"{one.number}-killed", read), contents(root / str(one.number), read)
        if one.ended not in (0, -signal.SIGKILL):
            said.append(f"{where} failed: {one.said}")
        for name, content in left.items():
            known = [held[name] for held in (old, new) if name in held]
            if known and content not in known and not re.search(grows, name):
                said.append(f"{where} left {name}, neither old nor new")
        if mixed and (found := mixed(root / f"{one.number}-killed")) not in states:
            said.append(f"{where} left a mixture: {found!r:.300}")
        done = {name: content for name, content in left.items() if content != "partial"} == new
        if one.again and not (refuses and one.again == 1 and done):
            said.append(f"{where}, a second time, ended with {one.again}: {one.said}")
        wrong = [name for name in sorted({*after, *new}) if after.get(name, "none") != new.get(name, "none")]
        if wrong:
            said.append(f"{where}, a second time, differs in {wrong}")
    return said


def main() -> None:
    """The process that forks: one line of JSON per folder."""
    for root in sys.argv[1:]:
        sys.stdout.write(json.dumps([vars(one) for one in run_plan(Path(root))]) + "\n")


if __name__ == "__main__":
    main()
