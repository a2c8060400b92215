"""Commands that compute with torch, killed a few times and run again; ``tests/test_kills.py`` kills the others."""

from __future__ import annotations

import pytest

from . import kills_cases
from .kills_cases import CASES
from .test_kills import LIGHT

HEAVY = [name for name in CASES if name not in LIGHT and any(CASES[name].kills)]


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """The folder of a few kills of each command, and the runs by the command's name."""
    root = tmp_path_factory.mktemp("kills")
    return root, kills_cases.campaign(root, {name: CASES[name].kills for name in HEAVY})


@pytest.mark.parametrize("name", HEAVY)
def test_a_killed_command_goes_on_where_it_was_and_ends_alike(killed, name):
    root, runs = killed
    assert kills_cases.faults(name, root / name, runs[name]) == []
    assert any(one.killed for one in runs[name])
