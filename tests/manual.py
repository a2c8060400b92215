"""README and manual as tests take them: their blocks, their links, and a page run from its first block to its last.

A block whose first line is a comment with a file name (``# my-audit/audit.toml``) is written to that file; any other
``python`` block is run as it stands, in the names of the blocks before it; of a ``bash`` block each `hardlook` command
and each script is run. What a page leaves to its reader (data, weights) lies in the folder already.
"""

from __future__ import annotations

import re
import shlex
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dashboard.help import topic_names
from scoring.audit import check_config

from .conftest import hardlook

ROOT = Path(__file__).parents[1]
HELP = ROOT / "dashboard" / "help"  # of the checkout: an installed package has neither its images nor the tests
PAPERS = {"README": ROOT / "README.md"} | {name: HELP / f"{name}.md" for name in topic_names()}
"""Every page whose commands and snippets are tested, by name."""
NOT_RUN = ("dashboard", "demo")
"""Commands that do not end by themselves, or that another test runs."""
BASE = {"format": 1, "classes": ["cat", "dog"], "data": [{"split": "train", "path": "images/train"}]}
"""What stands around a fragment of an audit.toml."""


@dataclass(frozen=True)
class Block:
    """A fenced block. ``file``: where it belongs, as its first line says, or None."""

    language: str
    text: str

    @property
    def file(self) -> str | None:
        found = re.match(r"# ([\w./-]+\.(?:py|toml|csv))\n", self.text)
        return found[1] if found else None


def blocks(page: str, *languages: str) -> list[Block]:
    """The fenced blocks of a page in some languages, or in all."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", PAPERS[page].read_text(encoding="utf8"), re.MULTILINE | re.DOTALL)
    return [Block(language, text) for language, text in found if not languages or language in languages]


def commands(page: str) -> list[str]:
    """The lines of its bash blocks, each whole and without its comment."""
    lines = "".join(block.text for block in blocks(page, "bash")).replace("\\\n", " ").splitlines()
    return [part.strip() for line in lines for part in re.sub(r"\s#.*", "", line).split("&&") if part.strip()]


def audit_of(fragment: str) -> dict[str, Any]:
    """An audit.toml, or a fragment of one with what a whole one has around it, checked."""
    given = tomllib.loads(fragment)
    run = {"main": {"model": "model.py:net"}} | given.get("run", {})
    return check_config(given if "format" in given else {**BASE, **given, "run": run})


def run_page(page: str, folder: Path, replace: dict[str, str] | None = None) -> dict[str, Any]:
    """Run a page in ``folder``, which is the working directory → the names that its snippets made.

    ``replace``: words of the page → what a test takes in their place, smaller or local; each has to occur.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    unused = set(replace or {})
    for block in blocks(page):
        text = block.text
        for old, new in (replace or {}).items():
            unused -= {old} if old in text else set()
            text = text.replace(old, new)
        if block.file is not None:
            (folder / block.file).parent.mkdir(parents=True, exist_ok=True)
            kept = text.partition("\n")[2] if block.language == "csv" else text
            (folder / block.file).write_text(kept, encoding="utf8")
        elif block.language == "python":
            exec(compile(text, f"{page}.md", "exec"), names)
        elif block.language == "bash":
            run_commands(text, folder)
    assert not unused, f"{page} does not say {unused}"
    return names


def run_commands(text: str, folder: Path) -> None:
    """Run the `hardlook` commands and the scripts of a bash block; each has to succeed."""
    for line in text.replace("\\\n", " ").splitlines():
        program, *arguments = shlex.split(line, comments=True) or [""]
        if program == "hardlook" and arguments[0] not in NOT_RUN:
            assert hardlook(*arguments) == 0, line
        elif program == "python":
            script = folder / arguments[0]
            names = {"__name__": "__main__", "__file__": str(script)}
            exec(compile(script.read_text(encoding="utf8"), str(script), "exec"), names)
