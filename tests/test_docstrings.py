"""The examples in docstrings hold, in every module that has one."""

import doctest
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for package in ("scoring", "dashboard", "sample_data")
    for path in (ROOT / package).rglob("*.py")
    if ">>> " in path.read_text(encoding="utf8")
)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_in_the_docstrings_hold(name):
    found = doctest.testmod(import_module(name))
    assert found.failed == 0 and found.attempted > 0


def test_most_rooms_have_an_example():
    assert len(MODULES) > 60
