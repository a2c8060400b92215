"""``--arguments``: what the user's factory or class is called with, where no file says it, or says it wrongly.

Inputs → outputs: a `FoundModel` and the text of a TOML table → the run with these lines. Cost: none.
"""

from __future__ import annotations

from dataclasses import replace

from scoring.audit.errors import HardlookError
from scoring.setup.findings import FoundModel, Line
from scoring.setup.plain_found import WIDTHS
from scoring.setup.toml_text import inline_table


def with_arguments(run: FoundModel | None, given: str) -> FoundModel:
    """The run with the arguments that are named; questions on them are answered.

    A number of classes among them is that of the outputs. Raises `HardlookError` for what is no table, or where no
    model is named.
    """
    table = inline_table("--arguments", given, "{ width = 8 }")
    if run is None:
        raise HardlookError(f"--arguments {given}: needed a --model that takes it")
    named = {str(key): Line(str(key), value, "as named by --arguments") for key, value in table.items()}
    kept = tuple(line for line in run.arguments if line.key not in named)
    asked = tuple(text for text in run.asked if not any(f"argument {key}, " in f"{text} " for key in named))
    asked = tuple(text for text in asked if not any(f"the argument {key} is " in text for key in named))
    width = next((table[key] for key in WIDTHS if isinstance(table.get(key), int)), run.outputs)
    return replace(run, arguments=(*kept, *named.values()), asked=asked, outputs=width)
