"""A session on a slow line: a verdict counts only for what is on screen, and every message is a sentence."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from scoring.reviews.sessions import inspected

from ..synthetic import make_audit
from .conftest import new_page
from .test_late import Held
from .test_session import open_session, queue, write_neighbours
from .waits import SESSION, SHOWN, intercept, shown, wait_saved, wait_shown

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # playwright's own sockets

PREVIEW = f"{SESSION} .hl-middle .hl-preview"


@pytest.fixture(scope="module")
def server(start, tmp_path_factory):
    audit = make_audit(tmp_path_factory.mktemp("audit"), 300, 4, thumbnails=True, wrong=0.2)
    write_neighbours(audit)
    return start(audit.root)


def open_slowly(context, server, *addresses):
    """A session whose answers from these addresses are kept back."""
    page = new_page(context)
    page.goto(f"{server.url}/help")
    held = [Held(page, address) for address in addresses]
    page.get_by_test_id("stSidebarUserContent").get_by_role("link", name="Suspects").click()
    page.wait_for_selector(SHOWN)
    return page, held


def test_a_verdict_on_an_empty_box_waits_for_the_picture_and_is_not_inspected(context, server, since):
    page, held = open_slowly(context, server, "**/hardlook/thumbs", "**/hardlook/thumb?*", "**/hardlook/image?*")
    first = shown(page)
    page.wait_for_timeout(1200)
    for _ in range(3):
        page.keyboard.press("u")
    expect(page.locator(SESSION)).to_contain_text("only the first key waits for it")
    assert shown(page) == first and len(since(0)) == 0, "nothing is decided that nobody can see"
    for one in held:
        one.let_go()
    page.wait_for_function("id => document.querySelector('.hl-middle [data-shows]').dataset.shows !== id", arg=first)
    wait_saved(page)
    events = since()
    assert events["example_id"].tolist() == [first]
    assert events["evidence"].iloc[0]["on_screen"] < 0.5 and not inspected(events).any()


def test_the_enlarged_thumbnail_is_shown_and_judged_while_the_original_is_on_its_way(context, server, since):
    page, (held,) = open_slowly(context, server, "**/hardlook/image?*")
    first = shown(page)
    page.wait_for_selector(PREVIEW)
    size = page.locator(PREVIEW).evaluate("node => [node.clientWidth, node.naturalWidth]")
    assert size[0] > 3 * size[1], "as large as the original will be"
    page.wait_for_timeout(700)
    page.keyboard.press("u")
    wait_saved(page)
    events = since()
    assert events["example_id"].tolist() == [first] and inspected(events).all()
    held.let_go()
    page.wait_for_function("document.querySelectorAll('.hl-middle .hl-preview').length === 0")
    assert not page.errors


def test_whoever_moves_on_takes_no_key_along(context, server, since):
    page, held = open_slowly(context, server, "**/hardlook/thumbs", "**/hardlook/thumb?*", "**/hardlook/image?*")
    first = shown(page)
    page.keyboard.press("u")
    page.keyboard.press("ArrowRight")
    page.wait_for_function("id => document.querySelector('.hl-middle [data-shows]').dataset.shows !== id", arg=first)
    for one in held:
        one.let_go()
    page.wait_for_function("document.querySelector('.hl-middle img.hl-full').complete")
    page.wait_for_timeout(300)
    assert len(since(0)) == 0


def test_a_session_takes_the_keys_after_a_click_in_the_menu_and_after_back(context, server):
    page, _ = open_slowly(context, server)
    first = shown(page)
    page.keyboard.press("Space")
    page.wait_for_function("id => document.querySelector('.hl-middle [data-shows]').dataset.shows !== id", arg=first)
    page.keyboard.press("Enter")
    page.wait_for_selector('[data-testid="example-dialog"][open]')
    page.keyboard.press("Escape")
    here = shown(page)
    page.get_by_test_id("stSidebarUserContent").get_by_role("link", name="Reviews").click()
    page.wait_for_selector("text=Corrected labels")
    page.go_back()
    page.wait_for_selector(SHOWN)
    wait_shown(page, here)
    page.keyboard.press("Space")
    page.wait_for_function("id => document.querySelector('.hl-middle [data-shows]').dataset.shows !== id", arg=here)


def test_an_undo_after_a_reload_shows_its_example_before_a_key_acts(context, server, since):
    page = open_session(context, server)
    decided = queue(page)[:3]
    for _ in decided:
        page.keyboard.press("u")
    wait_saved(page)
    since(3)
    page.reload()
    page.wait_for_selector(SHOWN)
    assert shown(page) not in decided
    held = Held(page, "**/hardlook/last-act?*")
    page.keyboard.press("Backspace")
    held.came()
    page.keyboard.press("o")
    expect(page.locator(SESSION)).to_contain_text("The undone example is not on screen yet")
    held.let_go()
    events = since(5)
    assert events["action"].tolist()[3:] == ["undo", "decide"]
    assert events["example_id"].tolist()[3:] == [decided[-1], decided[-1]]


def test_a_line_that_is_cut_is_told_in_a_sentence(context, server, since):
    page = open_session(context, server)
    intercept(page, "**/hardlook/events", lambda route: route.abort())
    page.keyboard.press("u")
    status = page.locator('[data-testid="save-status"]')
    expect(status).to_have_attribute("title", "The server cannot be reached.", timeout=20_000)
    assert "fetch" not in page.locator(SESSION).inner_text()
    page.unroute("**/hardlook/events")
    wait_saved(page)
    since(1)
