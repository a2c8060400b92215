"""Which command writes a file of an audit again, by the file's name or folder.

A damaged file is told with what to do about it. Most files are remade by ``hardlook score``; the others are listed
here. Input: a path; output: half a sentence. Cost: none. Limit: a file outside the audit's layout gets the general
advice.
"""

from __future__ import annotations

from pathlib import Path

COMMANDS = {
    "second_split.parquet": "hardlook second-split",
    "irreducible.parquet": "hardlook holdout",
    "self_supervised.parquet": "hardlook self-supervise",
    "out_of_distribution.parquet": "hardlook ood",
    "refit.json": "hardlook refit",
    "rankings.json": "hardlook rank",
    "check.json": "hardlook check",
    "slices": "hardlook slice",
    "exports": "hardlook export",
}
"""File or folder → the command that writes it, where this is not ``hardlook score``."""


def remedy(path: Path) -> str:
    """Returns what to do about a damaged file.

    >>> remedy(Path("a/runs/main/slices/influence.parquet"))
    'if it is damaged, delete it and run the command that writes it again, `hardlook slice`'
    >>> remedy(Path("a/examples.parquet"))
    'if it is damaged, delete it and run the command that writes it again (in most cases `hardlook score`)'
    """
    if "dynamics" in path.parts:
        return "if it is damaged, restore it from a copy, or delete the folder and train with the Recorder again"
    if path.name == "controls.parquet":
        return "if it is damaged, restore it from a copy; without one, delete it, and new controls are drawn"
    named = next((COMMANDS[part] for part in reversed(path.parts[-3:]) if part in COMMANDS), None)
    if named is None:
        return "if it is damaged, delete it and run the command that writes it again (in most cases `hardlook score`)"
    return f"if it is damaged, delete it and run the command that writes it again, `{named}`"
