"""Answers that come late or overtake each other: what is on screen stays true, and no key acts on what it was not meant
for."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from ..synthetic import make_audit
from .test_session import open_session, queue, write_neighbours
from .waits import CELL, SESSION, intercept, shown, until

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # playwright's own sockets


@pytest.fixture(scope="module")
def server(start, tmp_path_factory):
    audit = make_audit(tmp_path_factory.mktemp("audit"), 400, 4, thumbnails=True, wrong=0.2)
    write_neighbours(audit)
    return start(audit.root)


class Held:
    """The answers of one address, kept back until ``let_go``; ``asked`` already where ``early``."""

    def __init__(self, page, address: str, *, early: bool = False, which=lambda request: True):
        self.page, self.early, self.which = page, early, which
        self.routes = []
        intercept(page, address, self.keep)

    def keep(self, route) -> None:
        """Called by the page for each of its questions."""
        if not self.which(route.request):
            return route.continue_()
        return self.routes.append((route, route.fetch() if self.early else None))

    def came(self) -> None:
        """A question is kept."""
        until(lambda: self.routes, self.page)

    def let_go(self) -> None:
        """Answer all that is kept, and what comes from now on."""
        self.which = lambda request: False
        for route, reply in self.routes:
            route.fulfill(response=reply) if reply else route.continue_()


def test_an_older_answer_does_not_undo_what_a_newer_one_showed(page, server, since):
    page.goto(f"{server.url}/suspects?view=Sheet")
    page.wait_for_selector(CELL)
    first = page.locator(CELL).first.get_attribute("data-example-id")
    held = Held(page, "**/hardlook/decisions", early=True, which=lambda request: request.method == "POST")
    page.locator(CELL).first.click()
    page.keyboard.press("PageDown")
    page.wait_for_function("id => document.querySelector('[data-example-id]').dataset.exampleId !== id", arg=first)
    held.came()  # how the examples of this page stood when it was turned to
    cell = page.locator(CELL).first
    cell.click()
    with page.expect_response(lambda reply: "decisions?after=" in reply.url and bool(reply.json()["examples"])):
        page.keyboard.press("u")
    since(1)
    with page.expect_response("**/hardlook/decisions"):
        held.let_go()
    with page.expect_response("**/hardlook/decisions?after=*"):
        pass
    expect(cell).to_contain_text("? unsure")


def test_an_issue_keeps_a_verdict_that_the_page_has_not_read_yet(page, server, since):
    page.goto(f"{server.url}/suspects?view=Sheet")
    page.locator(CELL).first.click()
    page.keyboard.press("o")
    since(1)
    held = Held(page, "**/hardlook/decisions", which=lambda request: request.method == "POST")
    page.reload()
    page.locator(CELL).first.click()
    page.keyboard.press("x")
    held.came()
    assert page.locator("dialog[open]").count() == 0
    held.let_go()
    page.locator("dialog[open]").wait_for()
    page.keyboard.type("bad")
    page.keyboard.press("Enter")
    page.keyboard.press("Control+Enter")
    events = since(2)
    assert events["verdict"].tolist() == ["none", "none"] and events["issues"].tolist() == [(), ("bad image",)]


def test_what_comes_late_beside_a_picture_does_not_hide_what_is_decided_in_an_opened_example(context, server):
    page = open_session(context, server)
    assert page.evaluate(FOLLOWED) == [True, True]


FOLLOWED = """() => {
  const hub = globalThis[Symbol.for("hardlook.hub")];
  const session = [...hub.grids].find((one) => one.follow && one.sidePanel);
  session.follow([{ id: "train/000001.png" }]); // an opened example's
  session.follow([{ id: "train/000002.png" }], "side"); // what comes late beside the picture
  return ["train/000001.png", "train/000002.png"].map((id) => hub.decisions.watched.has(id));
}"""


def test_keys_pressed_before_the_look_alikes_are_there_decide_nothing(context, server, since):
    page = open_session(context, server)
    page.get_by_role("button", name="look-alike suspect").first.wait_for()
    here, held = shown(page), Held(page, "**/hardlook/alike*")
    for key in ("a", "w", "u", "a", "Enter", "ArrowRight"):
        page.keyboard.press(key)
    held.came()
    assert shown(page) == here and page.locator("dialog[open]").count() == 1
    held.let_go()
    page.locator(".hl-lookalikes .hl-thumb").first.wait_for()
    assert len(since()) == 0
    page.keyboard.press("Escape")
    page.locator(".hl-lookalikes").wait_for(state="detached")
    page.keyboard.press("u")
    assert since(1)["example_id"].tolist() == [here]


def test_an_undo_that_asks_the_log_shows_its_example_before_the_next_key_acts(context, server, since):
    page = open_session(context, server)
    page.keyboard.press("o")
    earlier = since(1).iloc[0]
    page = open_session(context, server)
    held = Held(page, "**/hardlook/last-act*")
    page.keyboard.press("Backspace")
    held.came()
    page.keyboard.press("u")
    page.get_by_text("The undone example is not on screen yet").first.wait_for()
    held.let_go()
    undo, later = (since(3).iloc[at] for at in (1, 2))
    assert undo["action"] == "undo" and tuple(undo["undoes"]) == (earlier["client"], earlier["seq"])
    assert (later["example_id"], later["verdict"]) == (earlier["example_id"], "unsure")
    page.keyboard.press("Backspace")
    assert tuple(since(4)["undoes"].iloc[3]) == (later["client"], later["seq"])


def test_a_window_that_was_asked_for_an_example_that_was_left_does_not_close_that_of_the_next(page, server):
    page.route("**/hardlook/dossiers*", deeper)
    page.goto(f"{server.url}/suspects")
    page.locator(f'{SESSION} [data-testid="neighbours"]').wait_for()
    first, held = shown(page), Held(page, "**/hardlook/deep*")
    page.keyboard.press("v")
    held.came()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("v")
    until(lambda: len(held.routes) == 2, page)
    with page.expect_response("**/hardlook/deep*"):
        held.routes.pop(0)[0].continue_()
    page.wait_for_function("1")  # its scripts have had their turn
    held.let_go()
    page.locator(f"{SESSION} .hl-canvas").wait_for()
    assert shown(page) != first


def deeper(route) -> None:
    """As if every picture had more than eight bits, so that the server is asked for its values."""
    found = route.fetch().json()
    route.fulfill(json={example: {**dossier, "deep": True} for example, dossier in found.items()})


def test_the_focus_stays_on_a_button_that_was_pressed_and_a_held_one_presses_once(context, server, since):
    page = open_session(context, server)
    zoom = page.locator(f"{SESSION} .hl-viewtools").get_by_role("button", name="Zoom")
    zoom.focus()
    for pressed in ("true", "false"):
        page.keyboard.press("Enter")
        expect(zoom).to_have_attribute("aria-pressed", pressed)
        expect(zoom).to_be_focused()
    for place in (".hl-answer-label", '[data-act="unsure"]'):
        before, here = len(since()), queue(page)
        at = here.index(shown(page))
        page.locator(f"{SESSION} {place}").focus()
        for _ in range(5):
            page.keyboard.down("Enter")
        page.keyboard.up("Enter")
        assert shown(page) == here[at + 1] and len(since(before + 1)) == before + 1
        expect(page.locator(f"{SESSION} {place}")).to_be_focused()
