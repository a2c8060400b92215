"""``hardlook new``: create the folder of a new audit."""

from __future__ import annotations

import argparse
import re
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from scoring.audit import CONFIG
from scoring.audit.errors import HardlookError
from scoring.commands.console import add_command

if TYPE_CHECKING:
    from scoring.commands.console import Commands

SAMPLES = {
    "digits": "images",
    "cancer": "vectors: rows of a table",
    "docstrings": "texts",
    "blobs": "vectors with two columns: the toy problem of the VoG paper",
}
"""Name of each sample project → what its examples are."""

EXPLAINED = """
# Optional settings (the README lists all of them):
#   [run.main] expected_accuracy = 0.93    the test accuracy that you measured; `hardlook check` compares it
#   [run.main.scores.influence]            settings of a score; `hardlook score --help` lists them with their defaults
#   [truth] path = "truth.csv"             verified labels by id: only for evaluation, never shown to reviewers
"""
"""What takes the place of the sample's own settings in an audit of one's own data."""


def add(commands: Commands, given: Collection[str] = ()) -> None:
    """Declare the command."""
    command = add_command(
        commands,
        "new",
        new,
        "Create the folder of a new audit, with an audit.toml to fill in and an example model file.",
    )
    command.add_argument("audit", metavar="DIR", help="the folder to create")
    descriptions = "; ".join(f"{name} ({what})" for name, what in SAMPLES.items())
    command.add_argument(
        "--sample",
        choices=list(SAMPLES),
        help=f"copy a complete sample project, with its own score settings and true labels: {descriptions} (default: "
        "the digits sample without these)",
    )


def new(options: argparse.Namespace) -> int:
    """Start an audit: the sample's files, to be edited."""
    folder = Path(options.audit)
    if (folder / CONFIG).exists():
        raise HardlookError(f"{folder} already has an audit.toml; edit that file, or give another folder")
    sample = options.sample or "digits"
    copy_sample(folder, sample, own=options.sample is None)
    made = ", ".join(path.name for path in sorted(folder.iterdir()) if path.is_file())
    drop = (
        ""
        if options.sample is None
        else (
            ", and remove what applies only to the sample ([truth], [run.main.scores.…], expected_accuracy, "
            "guidelines.md)"
        )
    )
    print(
        f"created {folder} with {made}: a working audit of the {sample} sample, to edit for your own data.\n"
        f"1. in audit.toml, set your data, classes, model, transform and checkpoints{drop}\n"
        f"2. hardlook train {folder}      (only if you have no checkpoints of several epochs)\n"
        f"3. hardlook check {folder}\n"
        f"4. hardlook score {folder}\n"
        f"5. hardlook dashboard {folder}\n"
        f"For a model that is not a PyTorch model: remove [run.main], then run hardlook import-predictions {folder} "
        "predictions.csv\n"
        f"To try the sample unchanged: python {folder}/data.py, then hardlook train {folder}"
    )
    return 0


def without_sample_settings(config: str) -> str:
    """An ``audit.toml`` of a sample without what holds for the sample alone: its title, its accuracy, [truth], settings
    of scores that are small for its few examples. Scores then have their documented defaults.

    >>> shipped = 'format = 1\\nname = "Toy"\\n\\n# known\\n[truth]\\npath = "a.csv"\\n'
    >>> print(without_sample_settings(shipped).split("\\n\\n")[0])
    format = 1
    """
    paragraphs = [
        paragraph
        for paragraph in config.split("\n\n")
        if not re.search(r"^\[(truth|run\.main\.scores\.\w+)\]", paragraph, re.MULTILINE)
    ]
    kept = re.sub(r"^(name|expected_accuracy) = .*\n?", "", "\n\n".join(paragraphs), flags=re.MULTILINE)
    return kept.rstrip("\n") + "\n" + EXPLAINED


def copy_sample(folder: Path, name: str = "digits", *, own: bool = False) -> bool:
    """Copy a sample project's files into ``folder``; files that are there are kept. Returns whether any was new.

    ``own``: for data of one's own, without what is true of the sample alone (``without_sample_settings``, guidelines).
    """
    from importlib.resources import files

    if folder.exists() and not folder.is_dir():
        raise HardlookError(f"{folder} is a file; give a folder for the audit")
    folder.mkdir(parents=True, exist_ok=True)
    new_one = False
    home = files("sample_data")
    for source in (home if name == "digits" else home / name).iterdir():
        if source.name.endswith((".py", ".toml", ".md")) and source.name != "__init__.py":
            target = folder / source.name
            if own and source.name.endswith(".md"):
                continue
            if not target.exists():
                content = source.read_text(encoding="utf8")
                own_config = own and source.name == CONFIG
                target.write_text(without_sample_settings(content) if own_config else content, encoding="utf8")
                new_one = True
    return new_one
