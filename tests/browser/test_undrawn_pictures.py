"""A slow line on the sheet and in dialogs: a box without a picture is seen by nobody, whatever shows it."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from scoring.reviews.sessions import inspected

from ..synthetic import make_audit
from .conftest import new_page
from .test_late import Held
from .test_session import write_neighbours
from .test_slow_line import open_slowly
from .waits import CELL, DIALOG, intercept, shown, wait_saved

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # playwright's own sockets

SMALL = ("**/hardlook/thumbs", "**/hardlook/thumb?*")
EVERY = (*SMALL, "**/hardlook/image?*")


@pytest.fixture(scope="module")
def server(start, tmp_path_factory):
    audit = make_audit(tmp_path_factory.mktemp("audit"), 300, 4, thumbnails=True, wrong=0.2)
    write_neighbours(audit)
    return start(audit.root)


def open_sheet(context, server, *addresses):
    """A sheet whose answers from these addresses are kept back."""
    page = new_page(context)
    page.goto(f"{server.url}/help")
    held = [Held(page, address) for address in addresses]
    page.get_by_test_id("stSidebarUserContent").get_by_role("link", name="Grid").click()
    page.locator(CELL).first.wait_for()
    return page, held


def let_go(held):
    for one in held:
        one.let_go()


def on_screen(event):
    return event["evidence"]["on_screen"]


def test_a_cell_without_its_thumbnail_is_not_on_screen(context, server, since):
    page, held = open_sheet(context, server, *SMALL)
    cell = page.locator(CELL).first
    cell.click()
    page.wait_for_timeout(800)
    page.keyboard.press("u")
    wait_saved(page)
    assert on_screen(since(1).iloc[0]) == 0 and not inspected(since()).any()
    let_go(held)
    page.wait_for_function("document.querySelector('[data-example-id] img')?.naturalWidth > 0")
    page.wait_for_timeout(800)
    page.keyboard.press("o")
    wait_saved(page)
    assert 0.5 <= on_screen(since(2).iloc[1]) < 1.6, "from the thumbnail on"
    assert not page.errors


def test_a_cell_whose_thumbnail_never_comes_shows_why_and_that_is_on_screen(context, server, since):
    page = new_page(context)
    page.goto(f"{server.url}/help")
    for address in SMALL:
        intercept(page, address, lambda route: route.abort())
    page.get_by_test_id("stSidebarUserContent").get_by_role("link", name="Grid").click()
    page.locator(f"{CELL} .hl-missing").first.wait_for()
    page.wait_for_timeout(800)
    page.locator(CELL).first.click()
    page.keyboard.press("u")
    wait_saved(page)
    assert on_screen(since(1).iloc[0]) >= 0.5


@pytest.mark.parametrize("of", ["sheet", "session"])
def test_a_dialog_without_its_picture_holds_the_first_key_and_is_not_inspected(context, server, since, of):
    page, held = open_dialog(context, server, of)
    opened = page.locator(f"{DIALOG}[open] h2").inner_text()
    page.wait_for_timeout(800)
    page.keyboard.press("u")
    page.keyboard.press("o")
    expect(page.locator(f"{DIALOG}[open]")).to_contain_text("only the first key waits for it")
    assert len(since(0)) == 0, "nothing is decided that nobody can see"
    let_go(held)
    events = since(1)
    assert events["example_id"].tolist() == [opened] and events["verdict"].tolist() == ["unsure"]
    assert on_screen(events.iloc[0]) < 0.5
    page.wait_for_timeout(800)
    page.keyboard.press("o")
    events = since(2)
    assert events["example_id"].tolist() == [opened, opened] and on_screen(events.iloc[1]) >= 0.5
    assert not page.errors


@pytest.mark.parametrize("of", ["sheet", "session"])
def test_a_key_that_waits_in_a_dialog_goes_with_it(context, server, since, of):
    page, held = open_dialog(context, server, of)
    page.keyboard.press("u")
    expect(page.locator(f"{DIALOG}[open]")).to_contain_text("acts as soon as it is")
    page.keyboard.press("Escape")
    let_go(held)
    page.locator("[data-example-id] img, .hl-middle img.hl-full").first.wait_for()
    page.wait_for_timeout(800)
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(300)
    assert len(since(0)) == 0


def open_dialog(context, server, of):
    """The dialog of an example whose pictures are kept back."""
    if of == "sheet":
        page, held = open_sheet(context, server, *EVERY)
        page.locator(CELL).first.click()
    else:
        page, held = open_slowly(context, server, *EVERY)
    page.keyboard.press("Enter")
    page.wait_for_selector(f"{DIALOG}[open]")
    return page, held


def test_look_alikes_without_their_thumbnails_are_decided_but_not_inspected(context, server, since):
    page, held = open_slowly(context, server, *SMALL)
    page.get_by_role("button", name="look-alike suspect").first.wait_for()
    here = shown(page)
    page.keyboard.press("a")
    dialog = page.locator(".hl-lookalikes")
    dialog.locator(".hl-thumb").first.wait_for()
    empty = dialog.locator(".hl-thumb").evaluate_all(
        "all => all.filter((one) => !one.querySelector('img').naturalWidth).map((one) => one.dataset.thumbOf)"
    )
    assert empty, "some thumbnails are on their way"
    page.wait_for_timeout(900)
    expect(dialog.locator(".hl-count")).to_contain_text(f"{len(empty)} not on screen for half a second yet")
    dialog.locator(f'.hl-thumb[data-thumb-of="{empty[0]}"]').dblclick()
    page.wait_for_timeout(400)
    expect(dialog.locator(".hl-count")).to_contain_text(f"{len(empty)} not on screen")
    page.keyboard.press("w")
    page.keyboard.press("w")
    let_go(held)
    wait_saved(page)
    events = since(2)
    looked = dict(zip(events["example_id"], inspected(events), strict=True))
    assert here in looked and not any(looked[one] for one in empty)
