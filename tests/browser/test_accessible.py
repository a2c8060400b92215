"""axe finds nothing serious in a session's dialogs, which is usable by touch on a tablet. Of pages: ``test_pages``."""

from __future__ import annotations

import pytest

from scoring.reviews import Event, ReviewLog

from ..synthetic import make_audit
from .conftest import new_page, new_profile
from .test_pages import grave
from .test_session import write_neighbours
from .waits import DIALOG, SESSION, SHOWN, settled, shown

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # playwright's own sockets


@pytest.fixture(scope="module")
def server(start, tmp_path_factory):
    audit = make_audit(tmp_path_factory.mktemp("audit"), 400, 4, thumbnails=True, wrong=0.2)
    audit.guidelines_path.write_text("## class 001\nA round shape.\nGold: `train/000010.png`\n", encoding="utf8")
    write_neighbours(audit)
    said = {"client": "c", "seq": 1, "reviewer": "ada", "action": "decide", "verdict": "given"}
    with ReviewLog.open(audit.log_url, audit=audit.log_name(audit.log_url)) as log:
        log.append([Event(example_id="train/000010.png", **said)])
    return start(audit.root)


@pytest.mark.parametrize("key", ["Enter", "a", "l", "?"])
def test_axe_finds_nothing_serious_in_the_dialogs_of_a_session(page, server, key):
    page.goto(f"{server.url}/suspects")
    page.locator('[data-testid="neighbours"]').wait_for()
    page.keyboard.press(key)
    page.locator("dialog[open]:not(.hl-reading)").wait_for()
    if key == "Enter":
        page.locator(DIALOG).get_by_text("Metadata", exact=True).wait_for()
    settled(page)
    page.wait_for_function("document.getAnimations().every(one => one.playState !== 'running')")
    assert grave(page) == []


TOUCHABLE = "where => [...document.querySelectorAll(where)].every(one => one.offsetHeight >= 40)"
"""Waited for: while a part of the page is drawn anew, React may hide what stands beside it."""


def test_a_tablet_decides_compares_and_zooms_by_touch(browser, server, since):
    context = new_profile(browser, (820, 1180), has_touch=True, is_mobile=True)
    try:
        page = new_page(context)
        page.goto(f"{server.url}/suspects")
        page.wait_for_selector(SHOWN)
        page.locator('[data-testid="neighbours"] .hl-thumb').first.tap()
        page.locator(".hl-caption").wait_for()
        page.locator(f"{SESSION} .hl-viewtools").get_by_role("button", name="Zoom").tap()
        page.wait_for_function("document.querySelector('.hl-middle .hl-layers').style.transform !== ''")
        before = shown(page)
        page.locator(".hl-answer-label").tap()
        page.wait_for_function(
            "id => document.querySelector('.hl-middle [data-shows]').dataset.shows !== id", arg=before
        )
        assert since(1)["example_id"].iloc[-1] == before
        page.wait_for_function(TOUCHABLE, arg=f"{SESSION} .hl-answer")
        assert not page.evaluate("document.documentElement.scrollWidth > window.innerWidth")
    finally:
        context.close()


def test_the_session_moves_and_decides_with_a_visible_focus_by_keys_alone(page, server):
    page.goto(f"{server.url}/suspects")
    page.locator('[data-testid="neighbours"]').wait_for()
    page.locator(f"{SESSION} .hl-desk .hl-stage").focus()
    for _ in range(3):
        page.keyboard.press("Tab")
    outline = page.evaluate(
        "getComputedStyle(document.activeElement).outlineStyle + getComputedStyle(document.activeElement).outlineWidth"
    )
    assert outline.startswith("solid") and not outline.endswith("0px")
    assert page.evaluate(
        "(document.activeElement.getAttribute('aria-label') ?? document.activeElement.innerText).length > 0"
    )
