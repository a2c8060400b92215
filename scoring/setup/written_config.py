"""``audit.toml`` as it is written from what was found: tidy, each line with its reason, questions commented out.

``config_text`` joins the two halves; ``write_config`` writes them atomically and never over a file. Inputs → outputs:
`FoundData` and `FoundModel` → TOML text. Cost: none to speak of. Known limits: what TOML cannot hold (null, objects)
never arrives here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from scoring.audit import CONFIG
from scoring.audit.atomic import atomic_path
from scoring.audit.errors import HardlookError
from scoring.setup.findings import FoundData, FoundModel, Line, Value
from scoring.setup.toml_text import toml_key, toml_value

WIDTH = 110
"""Longer values are broken into lines; longer reasons stand above their line."""

SETTINGS = """# More settings, each with its default:
#   expected_accuracy = 0.93          in [run.main]: the test accuracy that you measured; `hardlook check` compares it
#   [run.main.scores.influence]       settings of a score; `hardlook score --help` lists them
#   [truth] path = "truth.csv"        verified labels by id: only for evaluation, never shown to reviewers
"""


def config_text(data: FoundData, model: FoundModel | None, classes: Line) -> str:
    """The whole file. ``classes``: the line of class names, of data or model. Without a model, its table is a question.

    >>> data = FoundData(media="image", tables=((Line("split", "train"), Line("path", "x")),))
    >>> print(config_text(data, None, Line("classes", ["a", "b"], "from the folders")).splitlines()[3])
    classes = ["a", "b"]    # from the folders
    """
    parts = [
        "# Written by `hardlook new` from what it found. Paths start at this file's folder; edit whatever is wrong."
    ]
    parts += ["format = 1", *([] if data.media == "image" else _lines([Line("media", data.media)]))]
    parts += ["# The class names, in the order of the model's outputs.", *_lines([classes]), ""]
    for table in data.tables:
        parts += ["[[data]]", *_lines(table), ""]
    return "\n".join([*parts, *_run(model), "", SETTINGS])


def write_config(folder: Path, text: str) -> Path:
    """Write ``audit.toml`` into a folder, which is made; raises ``HardlookError`` where there is one already."""
    refuse_existing(folder)
    with atomic_path(folder / CONFIG) as partial:
        partial.write_text(text, encoding="utf8")
    return folder / CONFIG


def refuse_existing(folder: Path) -> None:
    """Raises ``HardlookError`` where the folder is a file, or holds an ``audit.toml``."""
    if folder.exists() and not folder.is_dir():
        raise HardlookError(f"{folder} is a file; give a folder for the audit")
    if (folder / CONFIG).exists():
        raise HardlookError(f"{folder} already has an audit.toml; edit that file, or give another folder")


def _run(model: FoundModel | None) -> list[str]:
    """The table of the run; without a model its lines are commented out."""
    if model is None:
        return [
            "# The model is not known yet; without one, import its predictions: hardlook import-predictions",
            *UNKNOWN,
        ]
    lines = ["# One [run.<name>] table per model.", "[run.main]", *_lines([model.model])]
    transform = (model.transform,) if isinstance(model.transform, Line) else model.transform
    inline = _inline("arguments", model.arguments)
    lines += inline or []
    lines += _lines([*([model.checkpoints] if model.checkpoints else []), *model.settings])
    if model.checkpoints is None:
        lines.append("# checkpoints: those of `hardlook train` or of a Recorder, checkpoints/main/*.pt")
    if isinstance(model.transform, Line):
        lines += _lines(transform)
    if model.arguments and inline is None:
        lines += ["", "[run.main.arguments]", *_lines(model.arguments)]
    if transform and not isinstance(model.transform, Line):
        head = "# [run.main.transform]" if all(line.asked for line in transform) else "[run.main.transform]"
        lines += ["", "# The evaluation transform.", head, *_lines(transform)]
    return lines


def _inline(key: str, lines: tuple[Line, ...]) -> list[str] | None:
    """``key = { … }`` in one line, with the one reason of all; None where there are several, questions, or too much."""
    reasons = {line.reason for line in lines}
    if any(line.asked for line in lines) or len(reasons) > 1:
        return None
    value = {line.key: line.value for line in lines}
    if not value or len(toml_value(value)) > WIDTH - 30:
        return None if value else []
    return _lines([Line(key, value, reasons.pop())])


UNKNOWN = (
    "# [run.main]",
    '# model = "model.py:net"                  # a factory in a file beside this one, or a name such as "resnet18"',
    "# arguments = { num_classes = 2 }         # what the factory is called with",
    '# checkpoints = "checkpoints/*.pt"        # a pattern, or a list of them',
    '# transform = { mode = "RGB", resize = 256, crop = 224 }    # the evaluation transform',
)
"""The table of a run that is to be filled in."""


def _lines(lines: Iterable[Line]) -> list[str]:
    """``key = value  # reason``; the reason stands above where both do not fit into one line."""
    found: list[str] = []
    for line in lines:
        body = f"{toml_key(line.key)} = {toml_value(line.value)}"
        if len(body) > WIDTH:
            body = f"{toml_key(line.key)} = {broken(line.value)}"
        reason = "".join(letter for letter in " ".join(line.reason.split()) if letter.isprintable())
        beside = "\n" not in body and len(body) + len(reason) + 6 <= WIDTH
        text = f"{body}    # {reason}" if reason and beside else f"# {reason}\n{body}" if reason else body
        found += [f"# {each}" if line.asked and not each.startswith("#") else each for each in text.split("\n")]
    return found


def broken(value: Value) -> str:
    """A long list over several lines; anything else in one, since inline tables of TOML have no line breaks."""
    if isinstance(value, (str, bool, int, float, Mapping)):
        return toml_value(value)
    rows, row = [], ""
    for item in map(toml_value, value):
        if row and len(row) + len(item) + 2 > WIDTH - 4:
            rows.append(row)
            row = ""
        row += f"{item}, "
    return "[\n" + "\n".join(f"    {each.rstrip()}" for each in [*rows, row]) + "\n]"
