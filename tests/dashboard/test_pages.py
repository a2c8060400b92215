"""The table of pages: each line has its file, each file its line, and each page a duty that exists."""

from pathlib import Path

import pytest

import dashboard
from dashboard.pages import BLIND_RULES, PAGES, Page, find_page, groups
from scoring.audit.errors import HardlookError

VIEWS = Path(dashboard.__file__).parent / "views"


def test_every_page_is_one_file_and_one_line():
    files = {path.name for path in VIEWS.glob("*.py")} - {"__init__.py"}
    assert sorted(one.script for one in PAGES) == sorted(files)
    assert len({one.name for one in PAGES}) == len({one.title for one in PAGES}) == len(PAGES)


def test_every_page_declares_how_it_treats_blind_examples():
    assert {one.blind for one in PAGES} == set(BLIND_RULES)


def test_the_navigation_holds_every_page_once_and_their_order():
    assert [one for some in groups().values() for one in some] == list(PAGES)
    assert list(groups()) == ["Look", "Decide", "Team", "Lab", "Help"]
    with pytest.raises(StopIteration):
        find_page("nowhere")


def test_a_page_with_an_unknown_rule_for_blind_examples_is_refused():
    with pytest.raises(HardlookError, match=r"page 'recent': blind = 'left-out'; did you mean left out"):
        Page("Look", "recent", "Recent", "", "left-out")
