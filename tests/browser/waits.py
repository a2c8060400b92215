"""What browser tests wait for, and how they ask a page for what it shows."""

from __future__ import annotations

import time

from .conftest import WAIT

GRID = '[data-testid="example-grid"]'
CELL = f"{GRID} [data-example-id]"
DIALOG = '[data-testid="example-dialog"]'
SESSION = '[data-testid="review-session"]'
SHOWN = f"{SESSION} .hl-middle .hl-frame:first-child [data-shows]"
SETTLED = (
    "document.querySelector('[data-testid=\"stApp\"]').dataset.testScriptState !== 'running'"
    ' && !document.querySelector(\'[data-testid="stSkeleton"], [data-stale="true"]\')'
)


def wait_saved(page) -> None:
    """The log holds whatever was decided here. A key that decides at once says "saving" before this is asked; where the
    server is asked first (an undo of what another page did), wait for the event: ``since(n)``."""
    page.wait_for_function("document.querySelector('[data-testid=\"save-status\"]').textContent === 'saved'")


def settled(page) -> None:
    """The script has run to its end and everything that it sent is drawn. What a click starts has first to be seen."""
    page.wait_for_function(SETTLED)


def until(what, page=None):
    """Ask again and again; the first answer that is true. With a page, its routes and events are heard meanwhile."""
    end = time.monotonic() + WAIT / 1000
    while not (found := what()):
        assert time.monotonic() < end, "nothing happened"
        page.wait_for_timeout(50) if page else time.sleep(0.1)
    return found


def intercept(page, address: str, answer) -> None:
    """``page.route``, in force on return. Chromium lets a question pass that a page asks right after its first
    route."""
    probe = "**/hardlook/probe"
    page.route(probe, lambda route: route.fulfill(body="kept"))
    page.wait_for_function("async () => (await (await fetch('/hardlook/probe')).text()) === 'kept'")
    page.route(address, answer)
    page.unroute(probe)


def at_rest(place) -> dict:
    """The box of a place (a locator) on the screen, once it has stopped moving: what lies above it is drawn."""
    place.wait_for()
    settled(place.page)
    place.scroll_into_view_if_needed()
    place.evaluate(REST)
    return place.bounding_box()


REST = """node => new Promise((done) => {
  let before = null;
  const look = () => {
    const now = JSON.stringify(node.getBoundingClientRect());
    if (now === before) return done();
    before = now;
    setTimeout(() => requestAnimationFrame(look), 100);
  };
  look();
})"""


def shown(page) -> str:
    """The example that is large in a session."""
    page.wait_for_selector(SHOWN)
    return page.locator(SHOWN).first.get_attribute("data-shows")


def wait_shown(page, example: str) -> None:
    """That example is large in a session."""
    page.wait_for_function("id => document.querySelector('.hl-middle [data-shows]').dataset.shows === id", arg=example)
