"""Who may only look is shown no key and no button that would not obey them."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from ..synthetic import make_audit
from .team import PersonProxy

ROLES = '\n[roles]\nlead = ["lea"]\nauditor = ["ana"]\nviewer = ["vic"]\n'
WINDOW = (1440, 900)
SAYS = ("Q", "W", "L", "B", "O", "U", "X", "F", "N", "0 to 9", "Ctrl Z", "Backspace")


@pytest.fixture(scope="module")
def server(start, tmp_path_factory):
    audit = make_audit(tmp_path_factory.mktemp("audit"), 60, 3, thumbnails=True)
    config = audit.root / "audit.toml"
    config.write_text(f"{config.read_text()}{ROLES}")
    return start(audit.root, proxies=("127.0.0.1",))


@pytest.fixture(params=["vic", "ana"])
def person(context, server, request):
    """(their name, their page, their address)."""
    proxy = PersonProxy(request.param, server.port)
    yield request.param, context.new_page(), proxy.url
    proxy.close()


def caps(where) -> set[str]:
    """The keys that are drawn there."""
    return set(where.locator("kbd").all_text_contents())


def test_only_those_who_decide_are_shown_the_keys_that_decide(person):
    name, page, url = person
    decides = name == "ana"
    page.goto(f"{url}/grid")
    page.locator("[data-example-id]").first.click()
    assert bool(caps(page.get_by_role("toolbar", name="Decide")) & set(SAYS)) == decides
    page.keyboard.press("?")
    listed = page.get_by_role("dialog")
    expect(listed.get_by_text("move in reading order")).to_be_visible()
    assert (set(SAYS) <= caps(listed)) == decides and bool(set(SAYS) & caps(listed)) == decides
    expect(listed.get_by_text("vic is a viewer of this audit")).to_have_count(0 if decides else 1)
    page.keyboard.press("Escape")
    page.keyboard.press("Enter")
    opened = page.get_by_test_id("example-dialog")
    expect(opened).to_be_visible()
    assert bool(caps(opened) & set(SAYS)) == decides
    page.keyboard.press("Escape")
    page.goto(f"{url}/suspects")
    session = page.get_by_test_id("review-session")
    expect(session.get_by_role("button", name="Label").first).to_be_visible()
    assert bool(caps(session) & {*SAYS, "A"}) == decides
    page.goto(f"{url}/suspects?view=Sheet")
    expect(page.locator("[data-example-id]").first).to_be_visible()
    expect(page.get_by_text("W →").first).to_be_visible() if decides else expect(page.get_by_text("W →")).to_have_count(
        0
    )
