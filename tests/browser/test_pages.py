"""Each page in a real browser: it stands in light and dark, its address holds it, and names stay text."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe

from dashboard.pages import PAGES
from scoring.reviews import Event, ReviewLog

from ..synthetic import make_audit, write_dynamics
from .conftest import new_page, new_profile
from .test_session import write_neighbours
from .waits import at_rest, settled

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # playwright's own sockets

HOSTILE = '<img src=x onerror="window.hacked=1"><b>bold</b> [l](javascript:window.hacked=1)'
CLASSES = ["cat", HOSTILE, "naïve ☕", "dog"]
DRAWN = ".stMainBlockContainer :is(h1, h2, h3, [data-testid='stAlert'], [data-testid='stMarkdown'])"
"""What shows that any page is there; of those in ``READY`` it is what comes last."""
READY = {
    "overview": '[data-testid="stDataFrame"]',
    "grid": "[data-example-id]",
    "deciles": ".js-plotly-plot .bars .point",
    "suspects": '[data-testid="neighbours"], [data-testid="example-grid"] [data-example-id]',
    "slices": '[data-testid="stAlert"]',
    "reviews": '[data-testid="stDataFrame"]',
    "meeting": '[data-testid="meeting"]',
    "compare": ".js-plotly-plot .nsewdrag",
    "data-map": "[data-example-id]",
}
THEME = "getComputedStyle(document.querySelector('.stApp')).colorScheme"
GRAVE = ("serious", "critical")
PROBES = (
    "/_stcore/health",
    "/_stcore/host-config",
)  # Streamlit looks for its root below the page's address first


@pytest.fixture(scope="module")
def server(start, tmp_path_factory):
    audit = make_audit(
        tmp_path_factory.mktemp("audit"),
        400,
        CLASSES,
        thumbnails=True,
        runs=("main", "second"),
        name=HOSTILE.replace('"', "'"),
    )
    with ReviewLog.open(audit.log_url, audit=audit.log_name(audit.log_url)) as log:
        log.append(
            [
                Event(
                    client="c",
                    seq=1,
                    example_id="test/000009.png",
                    reviewer="ada",
                    action="decide",
                    verdict="none",
                    note=HOSTILE,
                )
            ]
        )
    audit.guidelines_path.write_text("## dog\nA round shape.\nGold: `train/000010.png`\n", encoding="utf8")
    write_neighbours(audit)
    write_dynamics(audit, audit.run())
    return start(audit.root)


def visit(context, server, address: str, wait: str | None = None):
    """A page of the dashboard, drawn; what went wrong is kept in ``page.errors``, foreign requests in
    ``page.foreign``.
    """
    page = new_page(context)
    page.foreign = []
    page.on("response", lambda reply: _note(page, reply))
    page.on(
        "request",
        lambda sent: sent.url.startswith((server.url, "data:", "blob:")) or page.foreign.append(sent.url),
    )
    page.goto(f"{server.url}/{address}")
    drawn(page, address, wait)
    return page


def _note(page, reply) -> None:
    if reply.status >= 400 and not reply.url.endswith(PROBES):
        page.errors.append(f"{reply.status} {reply.url}")


def drawn(page, address: str, wait: str | None = None) -> None:
    page.locator(wait or READY.get(address.split("?")[0], DRAWN)).first.wait_for()
    settled(page)


def ids(page) -> list[str]:
    return page.eval_on_selector_all("[data-example-id]", "all => all.map(one => one.dataset.exampleId)")


def press(page, group_option: str) -> None:
    """A choice among options that stand side by side."""
    page.get_by_test_id("stButtonGroup").get_by_text(group_option, exact=True).first.click()


@pytest.fixture(scope="module")
def unread(start, tmp_path_factory):
    """An audit of which nothing was read yet: its audit.toml alone."""
    audit = make_audit(tmp_path_factory.mktemp("unread"), 20, CLASSES, scores=False, predictions=False)
    audit.examples_path.unlink()
    return start(audit.root)


@pytest.mark.parametrize("name", [*(one.name for one in PAGES), "suspects?view=Sheet"])
def test_a_page_stands_without_errors_foreign_requests_or_anything_grave(context, server, name):
    """With names that would be markup, and axe over it: in the light theme, and when the system turns dark in
    mid-audit."""
    stands(visit(context, server, name))


@pytest.mark.parametrize("name", [one.name for one in PAGES])
def test_a_page_of_an_empty_audit_stands_and_says_what_to_run(context, unread, name):
    page = visit(context, unread, name, DRAWN)
    page.get_by_text("hardlook score").first.wait_for()
    stands(page)


def stands(page) -> None:
    """In both themes: no exception, nothing grave to axe, no errors, nothing from elsewhere, no markup of names, no
    scroll."""
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.wait_for_function(f"{THEME} === '{scheme}'")
        settled(page)
        assert page.locator('[data-testid="stException"]').count() == 0
        assert grave(page) == []
        assert page.errors == [] and page.foreign == []
        assert page.evaluate("window.hacked") is None
        assert page.locator('img[src="x"]').count() == 0
        assert not page.evaluate("document.documentElement.scrollWidth > window.innerWidth"), "it scrolls sideways"


def grave(page) -> list[str]:
    """What axe calls serious or critical, with the places."""
    found = Axe().run(page).response["violations"]
    return [f"{one['id']}: {node['html'][:150]}" for one in found if one["impact"] in GRAVE for node in one["nodes"]]


def test_the_root_leads_to_the_overview(context, server):
    page = context.new_page()
    page.goto(server.url)
    page.wait_for_url("**/overview")
    drawn(page, "overview")
    assert page.locator('[data-testid="stException"]').count() == 0


def test_the_address_follows_the_widgets_and_a_reload_shows_the_same(context, server):
    page = visit(context, server, "grid")
    press(page, "early")
    page.wait_for_url("**stage=early**")
    class_list = page.get_by_test_id("stSelectbox").filter(has=page.get_by_text("Class", exact=True))
    class_list.locator("input").fill("naï")
    page.keyboard.press("Enter")
    page.wait_for_url("**class=na**")
    settled(page)
    page.wait_for_function(
        "(all => all.length && all.every(one => "
        "one.innerText.includes('naïve')))([...document.querySelectorAll('[data-example-id]')])"
    )
    before = ids(page)
    page.reload()
    drawn(page, "grid")
    assert ids(page) == before


def test_a_link_shows_a_colleague_the_same_view(browser, context, server):
    steps = "stage=all&by=prediction&form=probability&scale=raw"
    address = f"grid?run=second&{steps}&split=train&filter=camera&meta.camera=north&page=2"
    mine = ids(visit(context, server, address))
    other = new_profile(browser, (1200, 700))
    try:
        assert ids(visit(other, server, address)) == mine
        assert ids(visit(other, server, "grid")) != mine
    finally:
        other.close()


def test_pages_keep_the_sidebar_and_start_with_their_own_defaults(context, server):
    page = visit(context, server, "grid?filter=camera&meta.camera=north")
    press(page, "early")
    page.wait_for_url("**stage=early**")
    settled(page)
    page.get_by_test_id("stSidebarUserContent").get_by_role("link", name="Suspects").click()
    page.wait_for_url("**/suspects**")
    page.get_by_text("Lowest area under the margin").wait_for()
    page.wait_for_url(lambda url: "stage" not in url and "meta.camera=north" in url)


def test_a_click_on_a_decile_opens_its_examples_in_the_grid(context, server):
    page = visit(context, server, "deciles?split=train&class=cat")
    at_rest(page.locator(".js-plotly-plot .nsewdrag").first)
    box = page.locator(".js-plotly-plot .bars .point").nth(0).bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_url("**/grid**decile=1**")
    drawn(page, "grid")
    assert "class=cat" in page.url and "stage=early" in page.url and "split=train" in page.url
    assert 0 < len(ids(page)) <= 12


def test_page_down_turns_the_page_and_up_turns_back(context, server):
    page = visit(context, server, "suspects?view=Sheet")
    first = ids(page)
    page.locator("[data-example-id]").first.click()
    page.keyboard.press("PageDown")
    page.wait_for_url("**page=2**")
    page.wait_for_function("id => document.querySelector('[data-example-id]').dataset.exampleId !== id", arg=first[0])
    assert not set(ids(page)) & set(first)
    page.keyboard.press("PageUp")
    page.wait_for_function("id => document.querySelector('[data-example-id]').dataset.exampleId === id", arg=first[0])
    assert ids(page) == first


def test_a_queue_keeps_its_order_while_deciding_and_its_counter_follows(context, server):
    page = visit(context, server, "suspects?view=Sheet&decision=not+decided+yet")
    before = ids(page)
    page.locator("[data-example-id]").first.click()
    page.keyboard.press("q")
    page.get_by_text("1 decided").wait_for()
    settled(page)
    assert ids(page) == before
    page.get_by_role("button", name="Apply the filter").click()
    page.wait_for_function("id => document.querySelector('[data-example-id]').dataset.exampleId !== id", arg=before[0])
    assert before[0] not in ids(page)


def test_one_example_has_an_address(context, server):
    assert ids(visit(context, server, "grid?example=train%2F000007.png&run=main")) == ["train/000007.png"]


def test_corrected_labels_are_downloaded(context, server):
    page = visit(context, server, "reviews")
    with page.expect_download() as download:
        page.get_by_role("button", name="Corrected labels as CSV").click()
    assert download.value.suggested_filename == "patches-csv.zip"


def test_back_and_forward_lead_to_each_page_as_it_was(context, server):
    page = visit(context, server, "grid?class=cat&split=train")
    page.get_by_test_id("stSidebarUserContent").get_by_role("link", name="Deciles").click()
    page.wait_for_url("**/deciles")
    page.wait_for_selector(READY["deciles"])
    few = page.get_by_text("each decile is small")  # of the test split, with which the page starts
    few.wait_for()
    page.get_by_text("train", exact=True).first.click()
    page.wait_for_url("**/deciles?split=train")
    few.wait_for(state="detached")
    settled(page)
    page.go_back()
    page.wait_for_url("**/grid?class=cat&split=train")
    page.wait_for_selector(READY["grid"])
    assert page.url.endswith("/grid?class=cat&split=train")
    page.go_forward()
    page.wait_for_url("**/deciles?split=train")
