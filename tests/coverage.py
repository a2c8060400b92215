"""``python -m tests.coverage``: line coverage of the last ``pytest --cov``; modules below 90 % with their reasons.

A module below 90 % that has no reason here, or one with a reason that it no longer needs, ends the command with 1.
"""

from __future__ import annotations

import sys

import coverage

LEAST = 90.0
REASONS: dict[str, str] = {}
"""Module → why lines of it run in no test."""


def measured() -> dict[str, tuple[int, int]]:
    """Each module's lines and how many of them ran, from the data of the last run."""
    data = coverage.Coverage()
    data.load()
    found = {}
    for path in sorted(data.get_data().measured_files()):
        name, lines, _, missing, _ = data.analysis2(path)
        for top in ("scoring", "dashboard"):
            if f"/{top}/" in name:
                found[top + name.rpartition(f"/{top}")[2]] = (len(lines), len(lines) - len(missing))
    return found


def main() -> int:
    """Print the coverage of the whole and of each module below ``LEAST``."""
    found = measured()
    lines, ran = (sum(numbers) for numbers in zip(*found.values(), strict=True))
    print(f"line coverage: {100 * ran / lines:.1f} % of {lines:,} lines in {len(found)} modules")
    low = {name: 100 * ran / lines for name, (lines, ran) in found.items() if lines and 100 * ran / lines < LEAST}
    for name, share in sorted(low.items(), key=lambda each: each[1]):
        print(f"  {share:5.1f} %  {name}: {REASONS.get(name, 'NO REASON')}")
    needless = sorted(set(REASONS) - set(low))
    for name in needless:
        print(f"  {name} is no longer below {LEAST:.0f} %: take its reason out")
    return 1 if needless or set(low) - set(REASONS) else 0


if __name__ == "__main__":
    sys.exit(main())
