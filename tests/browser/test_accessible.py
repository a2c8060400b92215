"""axe finds nothing serious on any page, light and dark; the session is usable by touch on a tablet and at 1280 pixels."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe

from scoring.reviews import Event, ReviewLog

from ..synthetic import make_audit
from .test_session import SESSION, SHOWN, shown, wait_saved, write_neighbours

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # playwright's own sockets

READY = {
    "overview": '[data-testid="stDataFrame"]',
    "grid": "[data-example-id]",
    "deciles": ".js-plotly-plot",
    "suspects": '[data-testid="neighbours"]',
    "suspects?view=Sheet": "[data-example-id]",
    "slices": '[data-testid="stAlert"]',
    "reviews": ".js-plotly-plot",
    "meeting": '[data-testid="meeting"]',
    "compare": '[data-testid="stMainBlockContainer"] p',
    "data-map": '[data-testid="stMainBlockContainer"] p',
}
SETTLED = (
    "document.querySelector('[data-testid=\"stApp\"]').dataset.testScriptState !== 'running'"
    ' && !document.querySelector(\'[data-testid="stSkeleton"], [data-stale="true"]\')'
)
GRAVE = ("serious", "critical")


@pytest.fixture(scope="module")
def server(start, tmp_path_factory):
    audit = make_audit(tmp_path_factory.mktemp("audit"), 400, 4, thumbnails=True, wrong=0.2)
    audit.guidelines_path.write_text("## class 001\nA round shape.\nGold: `train/000010.png`\n", encoding="utf8")
    write_neighbours(audit)
    said = {"client": "c", "seq": 1, "reviewer": "ada", "action": "decide", "verdict": "given"}
    with ReviewLog.open(audit.log_url, audit=audit.log_name(audit.log_url)) as log:
        log.append([Event(example_id="train/000010.png", **said)])
    return start(audit.root)


def grave(page) -> list[str]:
    """What axe calls serious or critical, with the places."""
    found = Axe().run(page).response["violations"]
    return [f"{one['id']}: {node['html'][:150]}" for one in found if one["impact"] in GRAVE for node in one["nodes"]]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_on_any_page(browser, server, scheme):
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme=scheme)
    context.set_default_timeout(30_000)
    try:
        page = context.new_page()
        for name, sign in READY.items():
            page.goto(f"{server.url}/{name}")
            page.locator(sign).first.wait_for()
            page.wait_for_function(SETTLED)
            assert grave(page) == [], name
            assert not page.evaluate("document.documentElement.scrollWidth > window.innerWidth"), f"{name} scrolls sideways"
    finally:
        context.close()


@pytest.mark.parametrize("key", ["Enter", "a", "l", "?"])
def test_axe_finds_nothing_serious_in_the_dialogs_of_a_session(context, server, key):
    page = context.new_page()
    page.goto(f"{server.url}/suspects")
    page.locator('[data-testid="neighbours"]').wait_for()
    page.keyboard.press(key)
    page.locator("dialog[open]").wait_for()
    page.wait_for_timeout(400)
    assert grave(page) == []
    page.close()


def test_a_tablet_decides_compares_and_zooms_by_touch(browser, server):
    context = browser.new_context(viewport={"width": 820, "height": 1180}, has_touch=True, is_mobile=True)
    context.set_default_timeout(30_000)
    try:
        page = context.new_page()
        page.goto(f"{server.url}/suspects")
        page.wait_for_selector(SHOWN)
        page.locator('[data-testid="neighbours"] .hl-thumb').first.tap()
        page.locator(".hl-caption").wait_for()
        page.locator(f"{SESSION} .hl-viewtools").get_by_role("button", name="Zoom").tap()
        page.wait_for_function("document.querySelector('.hl-middle .hl-layers').style.transform !== ''")
        before = shown(page)
        page.locator(".hl-answer-label").tap()
        page.wait_for_function("id => document.querySelector('.hl-middle [data-shows]').dataset.shows !== id", arg=before)
        wait_saved(page)
        assert server.events()["example_id"].iloc[-1] == before
        small = page.eval_on_selector_all(f"{SESSION} .hl-answer", "all => all.filter(one => one.offsetHeight < 40).length")
        assert small == 0 and not page.evaluate("document.documentElement.scrollWidth > window.innerWidth")
    finally:
        context.close()


def test_the_session_moves_and_decides_with_a_visible_focus_by_keys_alone(context, server):
    page = context.new_page()
    page.goto(f"{server.url}/suspects")
    page.locator('[data-testid="neighbours"]').wait_for()
    page.locator(f"{SESSION} .hl-desk .hl-stage").focus()
    for _ in range(3):
        page.keyboard.press("Tab")
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle + getComputedStyle(document.activeElement).outlineWidth")
    assert outline.startswith("solid") and not outline.endswith("0px")
    assert page.evaluate("(document.activeElement.getAttribute('aria-label') ?? document.activeElement.innerText).length > 0")
    page.close()
