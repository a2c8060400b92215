"""The line ``classes``: the names in the order of the model's outputs, from the command, the checkpoint or the data.

A checkpoint that states its classes is believed where the data has the same names. Data alone are sorted as the library
that usually reads them sorts. Where the number of names is not the number of outputs, the line is a question: classes
at wrong places would spoil every score.

Inputs → outputs: `FoundData`, `FoundModel`, names given → a `Line` and questions. Cost: none.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from scoring.audit.errors import HardlookError
from scoring.data.class_order import NUMBERS
from scoring.setup.findings import FoundData, FoundModel, Line


def given_classes(text: str | None) -> list[str] | None:
    """The names that ``--classes`` gives: with commas between them, or one per line of a file.

    >>> given_classes("cat, dog"), given_classes(None)
    (['cat', 'dog'], None)
    """
    if text is None:
        return None
    file = Path(text).expanduser()
    names = file.read_text(encoding="utf8").splitlines() if file.is_file() else text.split(",")
    found = [name.strip() for name in names if name.strip()]
    twice = next((name for name in found if found.count(name) > 1), None)
    if len(found) < 2 or twice is not None:
        wrong = f"{twice!r} twice" if twice is not None else f"{len(found)} name"
        raise HardlookError(f"--classes {text} holds {wrong}; needed distinct names: a,b,c or a file with one per line")
    return found


def classes_line(data: FoundData, model: FoundModel | None, given: Sequence[str] | None) -> tuple[Line, list[str]]:
    """The line, and questions on it. Raises `HardlookError` where ``--classes`` cannot be the model's outputs."""
    outputs = model.outputs if model else None
    if given is not None:
        if outputs is not None and len(given) != outputs and not (outputs == 1 and len(given) == 2):
            raise HardlookError(
                f"--classes names {len(given)} classes, and the model has {outputs} outputs; name one each"
            )
        other = model is not None and model.classes and list(given) != list(model.classes)
        says = f"; {model.classes_from} says {', '.join(model.classes)}" if model is not None and other else ""
        return Line("classes", list(given), f"as named by --classes{says}"), []
    if model is not None and model.classes:
        return _of_model(data, model)
    return _of_data(data, outputs)


def _of_model(data: FoundData, model: FoundModel) -> tuple[Line, list[str]]:
    """The checkpoint's own names; a question where the data has others."""
    line = Line("classes", list(model.classes), f"from {model.classes_from}")
    numbers = all(name.isdecimal() and int(name) < len(model.classes) for name in data.classes)
    unknown = [name for name in data.classes if name not in model.classes]
    if not unknown or numbers:
        return line, []
    shown = ", ".join(map(repr, unknown[:4])) + (", …" if len(unknown) > 4 else "")
    return line, [
        f"classes: the data has {shown}, which {model.classes_from} does not name; map each in its [[data]] table: "
        f'label_map = {{ "{unknown[0]}" = "{model.classes[0]}" }}'
    ]


def _of_data(data: FoundData, outputs: int | None) -> tuple[Line, list[str]]:
    """The data's names in their library's order; a question where their number is not that of the outputs."""
    names = list(data.classes)
    if not names:
        ask = "classes: the data has no labels; write the class names in the order of the model's outputs"
        return Line("classes", ["first", "second"], "the names, in the order of the model's outputs", asked=True), [ask]
    if len(names) == 1 and outputs is None:
        ask = (
            f"classes: the data has one class, {names[0]!r}; needed two or more: name a folder with one folder per "
            "class, or write all names in the order of the model's outputs"
        )
        return Line("classes", names, "all names, in the order of the model's outputs", asked=True), [ask]
    indices = names == [str(number) for number in range(len(names))]
    if indices and outputs is not None and len(names) < outputs and (outputs <= 10 or data.order == NUMBERS):
        # as text, "10" would stand before "2"
        names = [str(number) for number in range(outputs)]
        return Line("classes", names, f"numbers, as many as the model has outputs ({outputs})"), []
    if outputs is None or outputs == len(names) or (outputs == 1 and len(names) == 2):
        return Line("classes", names, data.order), []
    ask = (
        f"classes: the data has {len(names)} classes and the model {outputs} outputs; write all {outputs} names in the "
        "order of the outputs"
    )
    return Line("classes", names, f"{len(names)} were found, the model has {outputs} outputs", asked=True), [ask]
