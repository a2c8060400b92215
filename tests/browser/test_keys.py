"""Keys as a hurried hand presses them: held, before a click, on a slider, after a reload. None decides twice or in
silence."""

from __future__ import annotations

import pytest

from ..synthetic import make_audit
from .test_session import queue, ready, write_neighbours
from .waits import CELL, DIALOG, SESSION, SHOWN, intercept, shown, wait_saved, wait_shown

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # playwright's own sockets

CLOCK = '[data-testid="session-clock"]'


@pytest.fixture(scope="module")
def server(start, tmp_path_factory):
    audit = make_audit(tmp_path_factory.mktemp("audit"), 400, 4, thumbnails=True, wrong=0.2)
    write_neighbours(audit)
    return start(audit.root)


def open_session(page, server, query: str = "") -> None:
    page.goto(f"{server.url}/suspects{query}")
    page.wait_for_selector(SHOWN)
    ready(page)


def hold(page, key: str, times: int = 8) -> None:
    """As a hand that rests on a key: the browser repeats it."""
    for _ in range(times):
        page.keyboard.down(key)
    page.keyboard.up(key)


def test_a_held_key_decides_one_example_and_takes_one_back(page, server, since):
    open_session(page, server)
    first, second = (ids := queue(page))[0], ids[1]
    hold(page, "u")
    wait_saved(page)
    assert since()["example_id"].tolist() == [first] and shown(page) == second
    page.keyboard.press("Control+a")
    page.get_by_text("the sheet selects many").first.wait_for()
    hold(page, "ArrowRight", 3)
    assert shown(page) == ids[4], "a held arrow goes on moving"
    hold(page, "Backspace")
    wait_shown(page, first)
    assert since(2)["action"].tolist() == ["decide", "undo"]


def test_a_held_key_confirms_no_bulk_act_and_a_held_enter_answers_once(page, server, since):
    open_session(page, server)
    page.keyboard.press("l")
    page.keyboard.type("002")
    hold(page, "Enter")
    wait_saved(page)
    assert len(since()) == 1 and page.locator("dialog[open]").count() == 0
    intercept(page, "**/hardlook/alike*", many)
    page.keyboard.press("a")
    page.locator(".hl-lookalikes").wait_for()
    hold(page, "o")
    page.get_by_text("at once?").wait_for()
    assert len(since()) == 1


def many(route) -> None:
    """Thirty look-alikes."""
    import json

    found = json.loads(route.fetch().text())
    one = found["members"][0]
    found["members"] = [one] + [{**one, "id": f"train/{at:06d}.png"} for at in range(200, 234) if at % 10 != 9]
    route.fulfill(json=found)


@pytest.mark.parametrize("opened", [False, True], ids=["in the session", "in an opened example"])
def test_a_slider_takes_the_keys_that_move_it_and_leaves_the_others(page, server, since, opened):
    open_session(page, server)
    where = DIALOG if opened else f"{SESSION} .hl-middle"
    if opened:
        page.keyboard.press("Enter")
        page.locator(f"{DIALOG}[open]").wait_for()
    here = page.locator(f"{where} [data-shows]").first.get_attribute("data-shows")
    page.keyboard.press("v")
    level = page.locator(f'{where} .hl-range input[name="level"]')
    level.wait_for()
    before = level.input_value()
    page.keyboard.press("ArrowRight")
    assert (
        level.input_value() != before
        and page.locator(f"{where} [data-shows]").first.get_attribute("data-shows") == here
    )
    page.keyboard.press("v")
    page.locator(f"{where} .hl-canvas").wait_for(state="detached")
    page.keyboard.press("v")
    page.locator(f"{where} .hl-canvas").wait_for()
    page.keyboard.press("u")  # the focus is on the slider
    wait_saved(page)
    assert since()["example_id"].tolist() == [here]
    if opened:
        page.keyboard.press("ArrowRight")  # on the slider; off it, the arrows lead on again
        page.keyboard.press("v")
        page.keyboard.press("ArrowRight")
        page.wait_for_function(
            "id => document.querySelector('[data-testid=\"example-dialog\"] [data-shows]').dataset.shows !== id",
            arg=here,
        )
        page.keyboard.press("o")
        wait_saved(page)
        assert len(since()) == 2, "the keys are heard though the slider is gone"


def test_the_first_key_on_a_grid_shows_the_focus_and_decides_nothing_unseen(page, server, since):
    page.goto(f"{server.url}/grid")
    page.locator(CELL).first.wait_for()
    page.keyboard.press("u")
    page.get_by_text("The focus is here now").first.wait_for()
    assert page.evaluate("document.activeElement.dataset.exampleId") == page.locator(CELL).first.get_attribute(
        "data-example-id"
    )
    assert len(since()) == 0
    page.keyboard.press("u")
    wait_saved(page)
    assert since()["example_id"].tolist() == [page.locator(CELL).first.get_attribute("data-example-id")]
    page.keyboard.press("PageUp")
    page.get_by_text("This is the first page.").wait_for()


def test_the_list_of_keys_is_that_of_the_page(page, server):
    open_session(page, server)
    page.keyboard.press("?")
    text = page.locator(".hl-help").inner_text()
    assert "skip to the next that is open" in text and "look-alike suspects" in text and "select a range" not in text
    page.keyboard.press("Escape")
    page.goto(f"{server.url}/grid")
    page.locator(CELL).first.wait_for()
    page.keyboard.press("?")
    text = page.locator(".hl-help").inner_text()
    assert "select a range" in text and "look-alike" not in text


def left(page) -> int:
    """What the clock says is left."""
    text = page.locator(CLOCK).inner_text()
    return int(text.split(" left")[0].split(" · ")[-1].replace(",", ""))


def test_an_undo_after_a_reload_shows_the_example_again_and_counts_right(page, server, since):
    open_session(page, server)
    start, first = left(page), shown(page)
    for key in "quo":
        page.keyboard.press(key)
    wait_saved(page)
    assert left(page) == start - 3
    third = since()["example_id"].iloc[-1]
    open_session(page, server)
    assert left(page) == start - 3 and third not in queue(page)
    page.keyboard.press("f")  # a flag decides nothing, and taking it back opens nothing
    assert since(4)["action"].iloc[-1] == "flag"
    open_session(page, server)
    page.keyboard.press("Backspace")
    assert since(5)["action"].iloc[-1] == "undo"
    assert left(page) == start - 3
    page.keyboard.press("Backspace")
    wait_shown(page, third)
    page.wait_for_function(f"document.querySelector('{CLOCK}').textContent.includes('{start - 2:,} left')")
    for _ in range(2):
        page.keyboard.press("Control+z")
    wait_shown(page, first)
    page.wait_for_function(f"document.querySelector('{CLOCK}').textContent.includes('{start:,} left')")
