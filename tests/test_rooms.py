"""Imports point down: from the command line to the audit, from the pages to the style. Read from the source."""

import re
import subprocess
import sys
import warnings
from importlib import import_module
from pathlib import Path

import pytest

from .imports import ROOT, drawing, floors, is_door, modules, room, ties

SCORING = [
    "cli",
    "hardlook",
    "commands",
    "dashboard",
    "setup",
    "report",
    "corrections",
    "pipeline",
    "scorers",
    "queue",
    "slices",
    "reviews",
    "evaluation",
    "influence",
    "curvature",
    "gradients",
    "training",
    "models",
    "data",
    "audit",
]
DASHBOARD = [
    "app",
    "server",
    "views",
    "panels",
    "routes",
    "review_session",
    "widgets",
    "grid",
    "meeting",
    "presenters",
    "charts",
    "blinding",
    "queries",
    "jobs",
    "help",
    "auth",
    "style",
    "pages",
]

MOVED = {
    "scoring.text": "scoring.models.text",
    "scoring.callbacks": "scoring.training.callbacks",
    "scoring.scorer": "scoring.scorers",
    "scoring.estimates.effort": "scoring.queue.estimates.effort",
    "scoring.sittings": "scoring.reviews.sessions",
}
"""What users' files may name: audit.toml, training scripts, scores of their own, notebooks."""

FIXED = (
    "gradients.input_gradients",
    "scorers.vog.vog_from_maps",
    "evaluation.normalize_by_class",
    "influence.InfluenceFactors",
    "curvature.head_hessian",
    "influence.self_influence",
    "slices.find_slices",
    "slices.find_slices_by_rule",
    "slices.slice_opponents",
    "scorers.data_map.data_map",
    "scorers.forgetting.forgetting_events",
    "scorers.second_split.second_split_forgetting_time",
    "evaluation.error_by_decile",
    "reviews.ReviewLog",
    "reviews.Event",
    "training.Recorder",
)


@pytest.mark.parametrize(("inside", "order"), [("scoring", SCORING), ("dashboard", DASHBOARD)])
def test_imports_point_down_alone(inside, order):
    found = ties(inside)
    assert {name for pair in found for name in pair} == set(order)
    up = {pair: found[pair] for pair in found if order.index(pair[0]) >= order.index(pair[1])}
    assert not up


def test_the_house_is_no_larger_than_was_planned():
    found = ties()
    height = floors(found)
    assert len(height) <= 20 and max(height.values()) <= 11 and len(found) <= 90


def test_nothing_lies_flat_beside_the_rooms_but_doors():
    flat = {path for path in (ROOT / "scoring").glob("*.py") if not is_door(path)}
    assert {path.name for path in flat} == {"__init__.py", "cli.py"}
    assert {path.name for path in (ROOT / "dashboard").glob("*.py")} == {
        "__init__.py",
        "app.py",
        "jobs.py",
        "pages.py",
        "server.py",
    }


def test_a_ring_of_rooms_is_found():
    with pytest.raises(ValueError, match="ring: a, b"):
        floors([("a", "b"), ("b", "a"), ("c", "a")])


def test_a_tie_that_follows_from_others_is_not_drawn():
    assert "a --> c" not in drawing([("a", "b"), ("b", "c"), ("a", "c")])


def test_contributing_draws_the_house_as_it_is_and_names_every_room():
    text = (ROOT / ".github" / "CONTRIBUTING.md").read_text(encoding="utf8")
    assert drawing(ties()) in text, "run `python -m tests.imports` and copy its last lines"
    named = set(re.findall(r"`(\w+)(?:/|\.py)`", text))
    assert set(SCORING) - {"dashboard"} <= named and set(DASHBOARD) <= named


@pytest.mark.parametrize(("old", "new"), MOVED.items())
def test_names_that_users_files_hold_lead_to_the_new_place_and_say_so(old, new):
    code = f"import warnings; warnings.simplefilter('error'); import {old}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert f"DeprecationWarning: {old} is now {new}" in done.stderr
    sys.modules.pop(old, None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        assert import_module(old) is import_module(new)


@pytest.mark.parametrize("name", FIXED)
def test_fixed_names_stand_where_others_call_them(name):
    place, _, function = f"scoring.{name}".rpartition(".")
    assert callable(getattr(import_module(place), function))


def test_no_file_names_a_module_that_is_not_there():
    """In docstrings, comments, texts and manuals alike: ``scoring.a.b`` is a module or a name in one."""
    known = {**modules("scoring"), **modules("dashboard")}
    gone = {}
    for path in [*known.values(), *ROOT.glob("dashboard/help/**/*.md"), ROOT / "README.md"]:
        for name in re.findall(
            r"(?<![\w./-])((?:scoring|dashboard)(?:\.[a-z][a-z_0-9]*)+)", path.read_text(encoding="utf8")
        ):
            head, _, last = name.rpartition(".")
            if name not in known and name not in MOVED and not _holds(known.get(head), last) and not _is_file(name):
                gone.setdefault(str(path.relative_to(ROOT)), set()).add(name)
    assert not gone


def _holds(path: Path | None, name: str) -> bool:
    return path is not None and re.search(rf"\b{re.escape(name)}\b", path.read_text(encoding="utf8")) is not None


def _is_file(name: str) -> bool:
    return name.rpartition(".")[2] in ("py", "js", "css", "md", "toml")


def test_rooms_of_the_house_and_of_one_package():
    assert room("scoring") is None and room("scoring.cli") == "cli" and room("sample_data.data") is None
