"""Two commands at once, each in a process of its own: both end well, or one says in one sentence why it did not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from scoring.audit import Audit
from scoring.corrections.label_patch import read_patch
from scoring.reviews import Event, ReviewLog
from scoring.reviews.log_copy import check_backup

from .kills_cases import SCORES, decided, value

REFUSED = ("another hardlook command", "exists already; a backup replaces nothing", "appeared meanwhile")
ONE_SCORE = ("score", "@/audit", *SCORES)
SLICE = ("slice", "@/audit", "--n-slices", "2")
BACKUP = ("backup", "@/audit", "@/b.sqlite")
PAIRS = {
    "score and score": (ONE_SCORE, ONE_SCORE),
    "score and slice": (ONE_SCORE, SLICE),
    "two backups": (BACKUP, BACKUP),
}


def started(folder: Path, command: tuple[str, ...]) -> subprocess.Popen[str]:
    """A command of hardlook in a process of its own."""
    given = [part.replace("@", str(folder)) for part in command]
    return subprocess.Popen(
        [sys.executable, "-m", "scoring.cli", *given],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).parents[1],
    )


def fault(start: Path, name: str) -> str | None:
    """Runs a pair in a copy of a scored, decided audit; what broke, or None."""
    folder = Path(shutil.copytree(start, start.with_name(f"{start.name}-at-once"), symlinks=True))
    try:
        running = [started(folder, command) for command in PAIRS[name]]
        ends = [(process.communicate(timeout=600)[1], process.returncode) for process in running]
        for said, code in ends:
            lines = [line for line in said.splitlines() if line.startswith("hardlook ")]
            if code and not (code == 1 and len(lines) == 1 and any(words in lines[0] for words in REFUSED)):
                return f"{name}: ended with {code}: {said[-500:]}"
        if all(code for _, code in ends):
            return f"{name}: neither ended well"
        if name == "two backups" and check_backup(folder / "b.sqlite").events != 12:
            return f"{name}: the backup is not whole"
        for path in folder.rglob("*"):
            if path.is_file() and path.name != ".lock":
                if path.name.endswith(".partial"):
                    return f"{name}: {path.name} is left"
                value(path)  # raises what is not whole
    finally:
        shutil.rmtree(folder)
    return None


def prefix_fault(start: Path, times: int) -> str | None:
    """Exports while another process's decisions arrive; what broke, or None: each patch is a prefix of the log."""
    folder = Path(shutil.copytree(start, start.with_name(f"{start.name}-appended"), symlinks=True))
    audit = Audit.open(folder / "audit")
    exports = started(folder, ("export", "@/audit", "--out", "@/out"))
    ids = [f"train/{name}/{at}.png" for name in "abc" for at in range(8)]
    with ReviewLog.open(audit.log_url, audit.log_name(audit.log_url)) as log:
        for seq in range(times):
            log.append([decision(seq, ids[seq % len(ids)])])
            if exports.poll() is not None:
                break
        said = exports.communicate(timeout=600)[1]
        events = log.events()
    patch = read_patch(folder / "out" / "patch-train.csv") if exports.returncode == 0 else None
    shutil.rmtree(folder)
    if patch is None:
        return f"the export ended with {exports.returncode}: {said[-500:]}"
    times_of = set(events["created_at"])
    last = patch["time"].max()
    before = set(events.loc[(events["created_at"] <= last) & (events["action"] == "decide"), "example_id"])
    missing = {one for one in before if one.startswith("train/")} - set(patch["example_id"])
    if missing or not set(patch["time"]) <= times_of:
        return f"the patch lacks decisions from before its last one: {sorted(missing)[:3]}"
    return None


def decision(seq: int, example_id: str) -> Event:
    """A decision of ben."""
    given = {"client": "ben", "seq": seq + 1, "example_id": example_id, "reviewer": "ben", "action": "decide"}
    return Event(**given, label=example_id.split("/")[1], verdict="given")


def start(folder: Path) -> Path:
    """The folder of a scored audit with twelve decisions."""
    decided(folder)
    return folder
