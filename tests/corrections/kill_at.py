"""Runs a command again and again in forked processes, each killed at another moment, then once to its end.

``python -m tests.corrections.kill_at FOLDER MOST STEP -- COMMAND…``: for each number n up to MOST there is a copy ``n``
of ``FOLDER/start``. The command, in which ``@`` is the copy, is killed (SIGKILL) before the (n · STEP)th change that it
makes to files, or at a random moment where STEP is 0. What it left is copied to ``n-killed``; then it runs to its end.
The last n is the first that is not reached. What runs is imported once, so that a hundred runs take seconds.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from scoring.cli import main

FIRST = [import_module(f"scoring.corrections.apply{part}") for part in ("", ".targets")]
"""What the command imports, before the fork."""

CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.chmod", "os.truncate", "os.link", "os.symlink")


def changes_files(event: str, arguments: tuple[object, ...]) -> bool:
    """Whether an event of Python's audit hooks is about to change a file or folder."""
    if event == "open":
        flags = arguments[2]
        return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR))
    return event in CHANGES


def forked(command: Sequence[str], at: int | None) -> tuple[int, int]:
    """Run a command in a child that kills itself before its nth change of a file → its status, the child's pid."""
    child = os.fork()
    if child == 0:
        count = 0

        def touched(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal count
            if changes_files(event, arguments):
                count += 1
                if count == at:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(touched)
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, 1)
        os._exit(main(list(command)) or 0)
    return 0, child


def status(child: int) -> int:
    """Wait for a child → its exit status, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def campaign(folder: Path, most: int, step: int, command: Sequence[str]) -> int:
    """Run it → how many were killed."""
    took, killed = 0.0, 0
    rng = random.Random(most)
    for number in range(most + 1):  # 0: undisturbed, for its time
        copy = folder / str(number)
        shutil.copytree(folder / "start", copy, symlinks=True)
        own = [part.replace("@", str(copy)) for part in command]
        start = time.perf_counter()
        _, child = forked(own, number * step or None)
        if number and not step:
            time.sleep(rng.uniform(0, took))
            os.kill(child, signal.SIGKILL)
        ended = status(child)
        took = took or time.perf_counter() - start
        if ended not in (0, -signal.SIGKILL):
            sys.exit(f"run {number} ended with status {ended}")
        killed += ended != 0
        shutil.copytree(copy, folder / f"{number}-killed", symlinks=True)
        if (again := status(forked(own, None)[1])) != 0:
            sys.exit(f"run {number}, a second time, ended with status {again}")
        if number and not ended and step:
            break
    return killed


if __name__ == "__main__":
    where, most, step, _, *command = sys.argv[1:]
    sys.stdout.write(str(campaign(Path(where), int(most), int(step), command)))
