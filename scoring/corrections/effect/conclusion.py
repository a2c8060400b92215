"""What a refit has shown, in one sentence, and how many test examples would show it.

    (n' gain)² = z² (n' q + 1 − (n' gain)² / (n' + 2)),    q = Σd²/n

is solved for n', the number of test examples at which the 95 % interval of a gain of this size just excludes 0, if the
differences d vary there as here (for large n': z² (q − gain²) / gain²). q follows from the interval itself, the
adjusted Wald interval of ``head_refit.paired_interval``, so that results that were written before have the sentence
too. At that number every second sample would show the gain, at twice as many four of five.

Inputs → outputs: a row of a refit's groups → a number, a sentence. Cost: none. Known limit: the gain is itself
uncertain, so the number is a rough one and is rounded to two digits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from scoring.corrections.effect.head_refit import Z

MOST = 10_000_000
ROUNDS = 100
"""Of the fixed point, of which each halves the distance."""


def needed_examples(gain: float, low: float, high: float, n: int) -> int | None:
    """How many test examples would show a gain of this size; None where there is no gain, or no interval.

    >>> needed_examples(0.01, -0.02, 0.04, 100), needed_examples(0.0, -0.1, 0.1, 50)
    (626, None)
    """
    if not n or not gain or not all(map(math.isfinite, (gain, low, high))):
        return None
    mean = n * gain / (n + 2)
    half = max(high - mean, mean - low)  # an end may have been cut off at ±1
    variance = (half / Z) ** 2 * (n + 2)
    q = ((variance + mean**2) * (n + 2) - 1) / n
    size = Z**2 * max(q - gain**2, 0) / gain**2
    for _ in range(ROUNDS):
        size = Z * math.sqrt(max(size * q + 1 - (size * gain) ** 2 / (size + 2), 0)) / abs(gain)
    return math.ceil(size)


def rounded(number: int) -> str:
    """A number to two digits, for a sentence.

    >>> rounded(8_967), rounded(12_345), rounded(7), rounded(10**9)
    ('about 9,000', 'about 12,000', 'about 7', 'more than 10,000,000')
    """
    if number > MOST:
        return f"more than {MOST:,}"
    digits = max(0, len(str(number)) - 2)
    return f"about {round(number / 10**digits) * 10**digits:,}"


def wanting(row: Mapping[str, float], name: str = "gain") -> str:
    """What would be needed to show a change, as the end of a sentence; name: gain or over_placebo."""
    number = needed_examples(row[name], row[f"{name}_low"], row[f"{name}_high"], int(row["n"]))
    if number is None:
        return "no number of examples shows a change of 0"
    return f"{rounded(number)} would be needed"


def conclusion(row: Mapping[str, float]) -> str:
    """The sentence about one group: shown, shown to harm, or not shown and what would be needed.

    >>> row = {"n": 267, "gain": 0.00375, "gain_low": -0.0218, "gain_high": 0.0293}
    >>> conclusion(row | {"over_placebo": 0.0, "over_placebo_low": -0.02, "over_placebo_high": 0.02})
    'not shown: +0.4 %, −2.2 to 2.9 on 267 test examples; about 12,000 would be needed'
    """
    n = int(row["n"])
    if not n:
        return "not measured: there is no test example in this group"
    said = (
        f"{percent(row['gain'], sign=True)} %, {percent(row['gain_low'])} to {percent(row['gain_high'])} on {n:,} test "
    )
    said += "example" if n == 1 else "examples"
    if row["gain_high"] < 0:
        return f"shown to harm: {said}; check the corrections again before you use them"
    if row["gain_low"] <= 0:
        return f"not shown: {said}; {wanting(row)}"
    if row["over_placebo_low"] > 0:
        return f"shown: {said}, and more than as many random edits gain"
    return f"not shown to be more than random edits gain: {said}; {wanting(row, 'over_placebo')}"


def percent(value: float, *, sign: bool = False) -> str:
    """A share in percent, with a minus sign that is one.

    >>> percent(-0.0218), percent(0.004, sign=True), percent(-0.0001)
    ('−2.2', '+0.4', '0.0')
    """
    text = f"{100 * value:+.1f}" if sign else f"{100 * value:.1f}"
    return ("+0.0" if sign else "0.0") if text in ("-0.0",) else text.replace("-", "−")
