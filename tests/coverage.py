"""``python -m tests.coverage``: line coverage of the last ``pytest --cov``; modules below 90 % with their reasons.

A module more than five points below 90 % that has no reason here ends the command with 1; within the five points it is
named, because machines differ in what they can run.
"""

from __future__ import annotations

import sys

import coverage

LEAST = 90.0
MARGIN = 5.0
SERVER = "the browser tests run it in the server's process, which is not measured"
CHILD = "it runs in a process of its own, which is not measured"
SCREEN = "Streamlit's page tests do not click or draw; the functions that it calls have tests of their own"
REASONS: dict[str, str] = {
    "dashboard/auth/oidc.py": SERVER,
    "dashboard/auth/serving.py": SERVER,
    "dashboard/charts/slice_charts.py": SERVER,
    "dashboard/jobs.py": CHILD,
    "dashboard/panels/embedding_map.py": SERVER,
    "dashboard/panels/jobs.py": SCREEN,
    "dashboard/panels/team.py": SERVER,
    "dashboard/presenters/class_reference.py": SERVER,
    "dashboard/presenters/deep_pixels.py": "what is left are refusals of depths that Pillow does not open here",
    "dashboard/presenters/precedents.py": SERVER,
    "dashboard/routes/session_routes.py": SERVER,
    "dashboard/routes/meeting_routes.py": SERVER,
    "dashboard/server.py": CHILD,
    "dashboard/views/meeting.py": SERVER,
    "dashboard/views/slices.py": SERVER,
    "dashboard/widgets/lasso_select.py": SERVER,
    "dashboard/widgets/visitor.py": SERVER,
    "scoring/cli.py": "restarts under another locale and interruptions: in processes of their own",
    "scoring/commands/dashboard.py": CHILD,
    "scoring/corrections/apply/target_lock.py": "file systems without locks, and waits: in processes of their own",
    "scoring/data/exif_orientation.py": "a few lines: an image without orientation is given back",
    "scoring/models/described_pickles.py": CHILD,
    "scoring/models/named_models.py": "fastai's models, and packages that are not installed",
    "scoring/models/unpickling.py": CHILD,
    "scoring/pipeline/peak_memory.py": "other operating systems, and devices that this machine lacks",
    "scoring/pipeline/ray_workers.py": CHILD,
    "scoring/pipeline/retraining/second_split.py": "what a kill leaves, which processes of their own test",
    "scoring/setup/converted_found.py": "files of fastai and Ultralytics, whose tests run where these are installed",
}
"""Module → why lines of it run in no measured test."""


def measured() -> dict[str, tuple[int, int]]:
    """Each module's lines and how many of them ran, from the data of the last run."""
    data = coverage.Coverage()
    data.load()
    found = {}
    for path in sorted(data.get_data().measured_files()):
        top = next((top for top in ("scoring", "dashboard") if f"/{top}/" in path), None)
        if top is None:  # a user's file that a test wrote, and that is gone by now
            continue
        name, lines, _, missing, _ = data.analysis2(path)
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
    for name in sorted(set(REASONS) - set(low)):
        print(f"  {name} is no longer below {LEAST:.0f} %: its reason can go")
    return 1 if any(share < LEAST - MARGIN and name not in REASONS for name, share in low.items()) else 0


if __name__ == "__main__":
    sys.exit(main())
