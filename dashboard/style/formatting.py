"""Formats for numbers and for untrusted names.

Numbers have a unit and at most three significant digits; counts are exact. Class names, file names, metadata and notes
are untrusted text: in Markdown they become inline code, in Plotly their markup is escaped.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Sequence

from scoring.audit import Audit

LONGEST = 60


def count(n: int, what: str = "", many: str | None = None) -> str:
    """Returns a whole number with grouped thousands, and the word for what is counted.

    >>> count(60000, "example"), count(1, "class", "classes")
    ('60,000 examples', '1 class')
    """
    word = what if n == 1 else (many or f"{what}s")
    return f"{n:,} {word}" if what else f"{n:,}"


def number(value: float | None, unit: str | None = None) -> str:
    """Returns a measured number with at most three significant digits and its unit; an en dash where there is none.

    >>> number(0.0123456), number(12345.6, "nats"), number(None), number(-0.00001234)
    ('0.0123', '12,300 nats', '–', '-1.23e-05')
    """
    if value is None or math.isnan(value):
        return "–"
    if value != 0 and math.isfinite(value) and abs(value) >= 999.5:
        digits = max(0, math.floor(math.log10(abs(value))) - 2)
        text = f"{round(value / 10**digits) * 10**digits:,}" if digits else f"{value:,.0f}"
        text = f"{value:.2e}" if abs(value) >= 1e9 else text
    else:
        text = f"{value:.3g}"
    return f"{text} {unit}" if unit else text


def percent(value: float | None) -> str:
    """Returns a share as percent with at most three significant digits.

    >>> percent(0.9876), percent(1.0), percent(0.00123)
    ('98.8 %', '100 %', '0.123 %')
    """
    return "–" if value is None or math.isnan(value) else f"{100 * value:.3g} %"


def percent_interval(low: float | None, high: float | None) -> str:
    """Returns an interval of shares.

    >>> percent_interval(0.1, 0.25)
    '10 to 25 %'
    """
    if low is None or high is None or math.isnan(low) or math.isnan(high):
        return "–"
    return f"{100 * low:.3g} to {100 * high:.3g} %"


def shorten(text: str, longest: int = LONGEST) -> str:
    """Returns a name cut in its middle, so that the ends of two long paths still differ.

    >>> shorten("a" * 50 + "b" * 50, 11)
    'aaaaa…bbbbb'
    """
    if len(text) <= longest:
        return text
    head = (longest - 1) // 2
    return f"{text[:head]}…{text[-(longest - 1 - head) :]}"


def quoted(text: str, longest: int = LONGEST) -> str:
    """Returns an untrusted name inside Markdown: inline code, in which nothing else is markup.

    >>> quoted("a*b*"), quoted("tick ` tock")
    ('`a*b*`', '`` tick ` tock ``')
    """
    flat = shorten(re.sub(r"\s+", " ", text), longest) or " "
    fence = "`" * (max((len(run) for run in re.findall("`+", flat)), default=0) + 1)
    padding = " " if "`" in flat or flat != flat.strip() else ""
    return f"{fence}{padding}{flat}{padding}{fence}"


def plain(text: str) -> str:
    """Returns an untrusted name with Markdown escaped, for places where inline code cannot be used (labels of widgets).

    >>> plain("a*b*:red[c]")
    'a\\\\*b\\\\*\\\\:red\\\\[c\\\\]'
    """
    return re.sub(r"([\\`*_{}\[\]()#+.!|~$:<>&-])", r"\\\1", re.sub(r"\s+", " ", text))


def sentence(text: str) -> str:
    """Returns a sentence with untrusted parts for Markdown: text between two single backticks, a command or a key, is
    code; all other markup is escaped.

    >>> sentence("run `hardlook train` *again*"), sentence("one ` tick and ``two``")
    ('run `hardlook train` \\\\*again\\\\*', 'one \\\\` tick and \\\\`\\\\`two\\\\`\\\\`')
    """
    parts = re.split(r"(?<!`)`([^`]+)`(?!`)", text)
    return "".join(quoted(part, len(part)) if at % 2 else plain(part) for at, part in enumerate(parts))


def escaped(text: str, longest: int = LONGEST) -> str:
    """Returns an untrusted name for a Plotly label, with ``<b>`` and ``<a href>`` escaped.

    >>> escaped("<b>R&D</b>")
    '&lt;b&gt;R&amp;D&lt;/b&gt;'
    """
    text = shorten(text, longest)
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def listed(names: Sequence[str], most: int = 8) -> str:
    """Returns untrusted names as one Markdown phrase; the rest beyond ``most`` is counted.

    >>> listed(["a", "b", "c"], most=2)
    '`a`, `b` and 1 more'
    """
    shown = ", ".join(quoted(name) for name in names[:most])
    rest = len(names) - most
    return f"{shown} and {rest:,} more" if rest > 0 else shown


def command_line(name: str, audit: Audit, *more: str) -> str:
    """Returns a command that a reader can copy.

    >>> from pathlib import Path
    >>> command_line("score", Audit(Path("/data/my digits"), {}), "--only", "vog")
    "hardlook score '/data/my digits' --only vog"
    """
    return shlex.join(["hardlook", name, str(audit.root), *more])
