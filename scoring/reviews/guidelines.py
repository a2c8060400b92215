"""The labelling guidelines: sections of ``guidelines.md`` per class, with their gold examples.

A section belongs to the class whose name is its heading, at any level and in any case; text before the first such
heading belongs to all classes. Gold examples are ids that the team agreed on, on lines of their own:

    ## cat
    A cat is shown, in whole or in part; drawings count.
    Gold: `train/0004.png`, `train/0017.png`

Input → output: Markdown → {class: ``Section``}. The text stays text: nobody renders it as markup. Cost: one pass.
Limit: a heading that names no class is part of the section above it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

HEADING = re.compile(r"^#{1,6}\s+(.*?)\s*#*\s*$")
GOLD = re.compile(r"^\s*[-*]?\s*gold(?: examples)?\s*:\s*(.*)$", re.IGNORECASE)
QUOTED = re.compile(r"`([^`]+)`")


@dataclass(frozen=True)
class Section:
    """What the guidelines say of one class, and its gold examples in the order in which they are listed."""

    text: str = ""
    gold: tuple[str, ...] = ()


def sections(markdown: str, classes: Sequence[str]) -> dict[str, Section]:
    """The section of each class that has one.

    >>> sections("# All\\nLook twice.\\n## 3\\nOpen on the left.\\nGold: `a`, `b`\\n", ["3", "8"])
    {'3': Section(text='Open on the left.', gold=('a', 'b'))}
    """
    named = {" ".join(name.split()).casefold(): name for name in classes}
    lines: dict[str, list[str]] = {}
    here = None
    for line in markdown.splitlines():
        heading = HEADING.match(line)
        name = named.get(" ".join(heading[1].strip("`").split()).casefold()) if heading else None
        if name is not None:
            here = name
            lines.setdefault(here, [])
        elif here is not None:
            lines[here].append(line)
    return {name: _section(some) for name, some in lines.items()}


def _section(lines: list[str]) -> Section:
    gold: list[str] = []
    text = []
    for line in lines:
        listed = GOLD.match(line)
        if listed:
            gold += gold_ids(listed[1])
        else:
            text.append(line)
    return Section("\n".join(text).strip(), tuple(dict.fromkeys(gold)))


def gold_ids(listed: str) -> list[str]:
    """The ids of a gold line: those in backticks, else those between commas.

    >>> gold_ids("`a, b.png` and `c`"), gold_ids("a.png, c")
    (['a, b.png', 'c'], ['a.png', 'c'])
    """
    quoted = QUOTED.findall(listed)
    return quoted or [one.strip() for one in listed.split(",") if one.strip()]
