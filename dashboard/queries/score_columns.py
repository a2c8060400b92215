"""Score columns as their files describe them: title, meaning, and which end is suspicious or hard.

A column is read from its Parquet field metadata alone, so a new score appears on every page without an edit. Columns of
one scorer with a stage, an index or a form (VoG) are *variants* of one score and are chosen step by step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os.path import commonprefix
from typing import Any

import pyarrow as pa

from dashboard.style.formatting import number
from scoring.audit import Run
from scoring.audit.errors import HardlookError
from scoring.audit.storage import column_facts, read_schema

FIXED = ("example_id", "fingerprint", "label")
STEPS = ("stage", "index", "form", "normalised")
STEP_WORDS = {"stage": "Stage", "index": "Of class", "form": "Form", "normalised": "Scale"}
STEP_HELP = {
    "stage": "early: the first three checkpoints. late: the last three. all: every checkpoint.",
    "index": "The class whose output is differentiated: the given label, or the prediction, which needs no label.",
    "form": "Gradient of the class's logit or of its softmax probability. These are two different scores.",
    "normalised": "z: standardised within the class. raw: not standardised; it also shows a class in which most labels "
    "are wrong.",
}
PREFERRED = {"stage": "late", "index": "label", "form": "logit", "normalised": "z"}
FEWEST_CHECKPOINTS = 6


@dataclass(frozen=True)
class ScoreColumn:
    """One column of one score file, with its metadata and its measured direction, if any."""

    scorer: str
    name: str
    title: str
    help: str = ""
    family: str = ""
    unit: str | None = None
    suspicious: str | None = None
    detects: str | None = None
    uses_label: bool | None = None
    steps: Mapping[str, str] = field(default_factory=dict, hash=False)
    direction: Mapping[str, Any] | None = field(default=None, hash=False)

    @property
    def address(self) -> str:
        """``<scorer>.<column>``."""
        return f"{self.scorer}.{self.name}"

    @property
    def hard_end(self) -> str | None:
        """ "high", "low" or None: the end to review first, declared by the score or measured on this run."""
        if self.suspicious == "measured":
            return (self.direction or {}).get("hard")
        return self.suspicious if self.suspicious in ("high", "low") else None


def read_columns(run: Run, scorer: str) -> list[ScoreColumn]:
    """Returns the score columns of one file, in its order, from its schema alone."""
    directions = run.record().get("directions") or {}
    fields = [f for f in read_schema(run.score_path(scorer)) if f.name not in FIXED]
    return [_column(scorer, f, directions) for f in fields]


def _column(scorer: str, arrow_field: pa.Field, directions: Mapping[str, Any]) -> ScoreColumn:
    facts = column_facts(arrow_field)
    steps = {step: facts[step] for step in STEPS if facts.get(step)}
    if {"stage", "index", "form"} & set(steps):
        steps["normalised"] = "z" if facts.get("normalised") else "raw"
    else:
        steps = {}
    own: dict[str, Any] = {
        key: facts[key] for key in ("title", "help", "family", "unit", "suspicious", "detects") if facts.get(key)
    }
    if facts.get("uses_label"):
        own["uses_label"] = facts["uses_label"] == "True"
    own.setdefault("title", f"{scorer} {arrow_field.name}".replace("_", " "))
    direction = directions.get(f"{scorer}.{arrow_field.name}")
    return ScoreColumn(scorer, arrow_field.name, steps=steps, direction=direction, **own)


@dataclass(frozen=True)
class Score:
    """One entry of the score list: a single column, or the variants of one score."""

    title: str
    columns: tuple[ScoreColumn, ...]

    @property
    def steps(self) -> list[str]:
        """The choices that lead to one column, in order; none for a single column."""
        return [s for s in STEPS if len({c.steps.get(s) for c in self.columns}) > 1]


def group_columns(columns: Sequence[ScoreColumn]) -> list[Score]:
    """Returns the entries of the score list: variants of one scorer and family together, with unique titles."""
    groups: dict[tuple[str, str], list[ScoreColumn]] = {}
    for column in columns:
        variant = column.family or column.scorer
        groups.setdefault((column.scorer, f"={variant}" if column.steps else column.name), []).append(column)
    titles = [_group_title(group) for group in groups.values()]
    return [
        Score(title if titles.count(title) == 1 else f"{title} ({group[0].address})", tuple(group))
        for title, group in zip(titles, groups.values(), strict=True)
    ]


def _group_title(group: Sequence[ScoreColumn]) -> str:
    """Returns the column's title; for variants the common beginning of their titles: "VoG" of "VoG late, label" and
    "VoG all, label"."""
    if len(group) == 1:
        return group[0].title
    titles = [column.title for column in group]
    return commonprefix(titles).strip(" ,:") or group[0].scorer  # noqa: RUF071  titles share characters, not folders


def find_column(columns: Sequence[ScoreColumn], address: str | None) -> ScoreColumn | None:
    """Returns the column with that address, or None."""
    return next((column for column in columns if column.address == address), None)


def first_column(columns: Sequence[ScoreColumn]) -> ScoreColumn:
    """Returns the default column of /grid: VoG in its preferred variant, else the first column. Raises
    ``HardlookError`` without columns."""
    vog = [column for column in columns if column.scorer == "vog"] or list(columns)
    if not vog:
        raise HardlookError("this run has no score to show; compute scores with `hardlook score`")
    return max(vog, key=lambda c: [c.steps.get(step) == PREFERRED[step] for step in STEPS])


def start_column(columns: Sequence[ScoreColumn]) -> ScoreColumn:
    """Returns the column with which /grid opens: ``first_column``, or if neither of its ends is hard on held-out
    examples, the stage and form of the same score with the strongest measured direction. Columns without any value
    (VoG's logit form of a model that returns probabilities) are skipped."""
    first = first_column([c for c in columns if (c.direction or {}).get("n") != 0] or columns)
    measured = dict(first.direction or {}) if first.suspicious == "measured" else {}
    if (
        measured.get("rho") is None
        or measured.get("hard")
        or measured.get("both")
        or measured.get("split", "test") != "test"
    ):
        return first
    alike = [
        c
        for c in columns
        if c.scorer == first.scorer
        and c.direction
        and c.hard_end
        and all(c.steps.get(step) == first.steps.get(step) for step in ("index", "normalised"))
    ]
    return max(alike, key=lambda column: abs((column.direction or {}).get("rho", 0.0)), default=first)


def describe_ends(column: ScoreColumn) -> tuple[bool, str]:
    """Returns which end to review first and why: (whether it is a warning, a sentence)."""
    if column.suspicious in ("high", "low"):
        return False, f"The {column.suspicious}est values are suspicious, by the definition of the score."
    if column.suspicious != "measured":
        return False, "This score does not rank suspicion: neither end is suspicious."
    direction = column.direction
    if not direction:
        return (
            True,
            "The hard end is not known for this run. Measuring it needs predictions on labelled examples.",
        )
    if direction.get("rho") is None:
        return True, f"The hard end cannot be measured: {_nothing_to_measure(direction)}."
    measured = (
        f"rank correlation of score and model error {number(direction['rho'])}, 95 % interval "
        f"{number(direction['low'])} to {number(direction['high'])}, over {direction['n']:,} "
        f"{direction.get('split', 'test')} examples"
    )
    if direction.get("both"):
        return True, f"Both ends are hard in this run ({measured}). Review both ends."
    if direction.get("hard") is None:
        return (
            True,
            f"Neither end is hard in this run, so this score does not rank difficulty here ({measured}).",
        )
    return False, f"The {direction['hard']}est values are hard in this run ({measured})."


def _nothing_to_measure(direction: Mapping[str, Any]) -> str:
    n, errors = direction.get("n", 0), direction.get("errors")
    where = f"{n:,} {direction.get('split', 'test')} examples"
    return f"the model makes no errors on {where}" if errors == 0 else f"there are too few errors among {where}"


def stages_overlap(run_record: Mapping[str, Any]) -> int | None:
    """Returns the number of checkpoints if early and late share some (fewer than six), else None."""
    found = run_record.get("checkpoints")
    n = len(found) if isinstance(found, (list, dict)) else None
    return n if n is not None and n < FEWEST_CHECKPOINTS else None
