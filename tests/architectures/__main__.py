"""``python -m tests.architectures [--all] [PART …]``: score the architectures of the suite, or all, and write
README.md's table of what is equal and what is left out; of those whose names hold a PART alone, the table is
printed."""

from __future__ import annotations

import sys
import tempfile
import warnings
from pathlib import Path

import torch

from .case import score
from .comparison import COMPARISONS, MOST, Row, rows
from .zoo import FAST, ZOO

HERE = Path(__file__).parent / "README.md"
START = """# Architectures

Predictions and {k} scores of {n} architectures ({names}) beside the same formula by
naive autograd in float64, one example at a time (`python -m tests.architectures`; `pytest tests/architectures` runs
the smaller ones, `pytest -m architectures` the others). Every other scorer runs too and is not compared here: it
derives from the predictions, the features or the recorded training. Not compared either, and marked in the last column:
odin of token nets, and self_influence of heads above {most} parameters.
A number is the largest error over all examples, relative to the largest value; – means left out, for the reason in the
last column. Nets are small or have few layers, their weights are seeded and moved away from what initialisation makes
trivial; 14 examples, three checkpoints, influence of the last block and the head.

"""


def main(parts: list[str]) -> None:
    """Score, and write or print the table."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    whole = "--all" in parts
    parts = [part for part in parts if part != "--all"]
    names = [name for name in (ZOO if whole or parts else FAST) if not parts or any(part in name for part in parts)]
    scores = ["predictions", *COMPARISONS]
    lines = [f"| architecture | {' | '.join(scores)} | left out because |", "| --- |" + " --- |" * (len(scores) + 1)]
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            found = {row.score: row for row in rows(score(ZOO[name], Path(folder)))}
        lines.append(f"| {name} | {' | '.join(_cell(found[one]) for one in scores)} | {_reasons(found)} |")
        print(lines[-1], flush=True)
    if not parts:
        HERE.write_text(
            START.format(n=len(names), k=len(COMPARISONS), names=", ".join(COMPARISONS), most=MOST)
            + "\n".join(lines)
            + "\n",
            encoding="utf8",
        )


def _cell(row: Row) -> str:
    return "–" if row.error is None else f"{row.error:.0e}"


def _reasons(found: dict[str, Row]) -> str:
    """Each reason once, with the scores that it is of."""
    by: dict[str, list[str]] = {}
    for row in found.values():
        if row.reason:
            by.setdefault(row.reason.removeprefix(f"{row.score} ").replace("|", "/"), []).append(row.score)
    return "; ".join(f"{', '.join(names)}: {reason}" for reason, names in by.items())


if __name__ == "__main__":
    main(sys.argv[1:])
