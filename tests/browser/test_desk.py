"""What a person reaches from a page: a queue from the matrix, disputes by keyboard, examples from a lasso and from
influence."""

from __future__ import annotations

import pytest

from scoring.reviews import Event, ReviewLog

from ..synthetic import make_audit
from .test_slices import CARD, server  # noqa: F401  pytest finds the fixtures by name
from .waits import CELL, DIALOG, SHOWN, at_rest, intercept, until

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # playwright's own sockets

WINDOW = (1440, 900)
SLOW = """const sent = window.fetch;
window.fetch = async (where, given) => {
  if (given?.method === "POST") await new Promise((done) => setTimeout(done, 700));
  return sent(where, given);
};"""


@pytest.fixture(scope="module")
def desk(start, tmp_path_factory):
    """Two people who differ about two examples, on a server of this machine alone, where whoever sits leads."""
    audit = make_audit(tmp_path_factory.mktemp("desk") / "audit", 400, 4, thumbnails=True, wrong=0.2)
    with ReviewLog.open(audit.log_url, audit=audit.log_name(audit.log_url)) as log:
        for number, example in enumerate(("train/000010.png", "train/000011.png")):
            for reviewer, verdict in (("ada", "given"), ("bea", "none")):
                log.append(
                    [
                        Event(
                            client=reviewer,
                            seq=number + 1,
                            example_id=example,
                            reviewer=reviewer,
                            action="decide",
                            verdict=verdict,
                            label="class 001",
                            note=f"says {reviewer}",
                        )
                    ]
                )
    return start(audit.root)


def test_a_click_on_a_square_of_the_matrix_opens_the_queue_of_its_pair(page, desk):
    page.goto(f"{desk.url}/reviews")
    matrix = page.locator(".js-plotly-plot", has=page.get_by_text("suggested label", exact=True))
    square = matrix.locator(".scatterlayer .point").first
    at_rest(matrix.locator(".nsewdrag").first)
    square.click(force=True)  # a layer that takes the mouse lies over it
    page.wait_for_url("**/suspects?**suggested=**")
    page.wait_for_selector(SHOWN)
    page.locator(".hl-answer-prediction").wait_for()
    pair = {name: page.locator(f".hl-answer-{name} strong").inner_text() for name in ("label", "prediction")}
    assert all(text[-9:].strip().replace(" ", "+") in page.url for text in pair.values()), (pair, page.url)


def lost_on_the_way(page, place):
    """A move that does not arrive takes the keys behind it with it: they were meant for the next item."""
    intercept(page, "**/hardlook/meeting", lambda route: route.abort())
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.get_by_text("nothing was recorded").wait_for()
    assert page.get_by_role("form", name="Outcome").count() == 0
    page.unroute("**/hardlook/meeting")
    assert place.inner_text() == "1 of 2"


def test_disputes_are_settled_by_keys_alone_however_slow_the_server(page, desk):
    page.add_init_script(SLOW)
    page.goto(f"{desk.url}/reviews")
    button = page.get_by_role("button", name="Adjudicate 2 disputes by keyboard")
    button.focus()
    page.keyboard.press("Enter")
    place = page.get_by_test_id("meeting-place")
    place.get_by_text("1 of 2").wait_for()
    page.get_by_text("says ada").first.wait_for()
    lost_on_the_way(page, place)
    for verdict in ("given", "none"):
        for _ in range(4):
            page.keyboard.down("Enter")  # held: it opens the outcome, and records nothing
        page.keyboard.up("Enter")
        page.get_by_role("form", name="Outcome").wait_for()
        answers = page.locator(".hl-meeting-choices label").all_inner_texts()
        want = "the label is right" if verdict == "given" else "no class fits"
        page.keyboard.press(str(1 + next(at for at, text in enumerate(answers) if want in text)))
        page.keyboard.press("Tab")
        page.keyboard.type("1 reason")
        page.keyboard.press("Control+Enter")
        page.get_by_test_id("outcome").wait_for()
        page.keyboard.press("ArrowRight")
    until(lambda: len(desk.events().query("action == 'adjudicate'")) == 2)
    ruled = desk.events().query("action == 'adjudicate'")
    assert ruled["verdict"].tolist() == ["given", "none"] and ruled["note"].tolist() == ["1 reason"] * 2
    assert sorted(ruled["example_id"]) == ["train/000010.png", "train/000011.png"]
    page.goto(f"{desk.url}/reviews")
    page.get_by_text("Reviewers", exact=True).wait_for()
    assert page.get_by_role("button", name="by keyboard").count() == 0


def test_what_was_drawn_around_is_decided_where_it_is_seen(page, server, since):
    page.goto(f"{server.url}/slices?slicing=four&show=map&lasso=-999,-999;999,-999;999,999;-999,999")
    page.wait_for_selector(CELL)
    panel = page.locator(".hl-panel", has=page.get_by_text("Selected", exact=False)).first
    first = panel.locator("[data-example-id]").first
    name = first.get_attribute("data-example-id")
    first.click()
    page.keyboard.press("u")
    event = since(1).iloc[0]
    assert (event["example_id"], event["verdict"]) == (name, "unsure") and event["evidence"]["lasso"].startswith("-999")


def test_an_opponent_opens_from_an_example_is_decided_and_leads_back(page, server, since):
    page.goto(f"{server.url}/slices?slicing=four")
    page.wait_for_selector(CARD)
    page.locator(CARD).first.click()
    page.wait_for_selector(CELL)
    member = (
        page.locator(".hl-panel", has=page.get_by_text("Members", exact=False)).first.locator("[data-example-id]").first
    )
    name = member.get_attribute("data-example-id")
    member.click()
    page.keyboard.press("Enter")
    for at, kind in enumerate(("opponents", "proponents")):
        strip = page.locator(f'{DIALOG} [data-testid="{kind}"]')
        strip.locator(".hl-thumb").first.wait_for()
        thumb = strip.locator(".hl-thumb").first
        other = thumb.get_attribute("data-thumb-of")
        thumb.click()
        page.locator(f"{DIALOG} h2", has_text=other).wait_for()
        page.keyboard.press("u")
        assert since(at + 1)["example_id"].iloc[at] == other != name
        page.get_by_role("button", name="Back").click()
        page.locator(f"{DIALOG} h2", has_text=name).wait_for()
    page.keyboard.press("o")  # the button that led back is gone, and the keys are heard all the same
    assert since(3)["example_id"].iloc[2] == name
