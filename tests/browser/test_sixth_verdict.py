"""One more row in the table of verdicts is one more button, key, badge and line of the help, with no script changed."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

from ..sixth_verdict import NAME, SIXTH
from .conftest import write_audit
from .waits import CELL, wait_saved

PAGE = Path(__file__).with_name("sixth_verdict_page.py")
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # playwright's own sockets


@pytest.fixture(scope="module")
def server(start, tmp_path_factory):
    return start(write_audit(tmp_path_factory.mktemp("audit")).root, PAGE)


def test_a_sixth_verdict_has_its_button_its_key_and_its_line_in_the_help(page, server, since):
    page.goto(server.url)
    page.locator(CELL).first.click()
    page.keyboard.press(SIXTH.key)
    wait_saved(page)
    page.locator(CELL).nth(1).click()
    page.get_by_role("button", name=SIXTH.title).first.click()
    wait_saved(page)
    assert since(2)["verdict"].tolist() == [NAME, NAME]
    expect(page.locator(CELL).first).to_contain_text(SIXTH.badge)
    page.keyboard.press("?")
    expect(page.locator("dialog[open]")).to_contain_text(SIXTH.help)
