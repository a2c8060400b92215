"""The manual in a real browser: links between topics stay in this tab and reach their headings; every topic stands."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from dashboard.help import address, read_topic, topic_names

from ..synthetic import make_audit
from .test_pages import stands, visit
from .waits import settled

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # playwright's own sockets

IN_VIEW = "id => (top => top >= 0 && top < innerHeight)(document.getElementById(id)?.getBoundingClientRect().top ?? -1)"
SEARCH = "Search the manual"


@pytest.fixture(scope="module")
def server(start, tmp_path_factory):
    return start(make_audit(tmp_path_factory.mktemp("audit"), 60, 3).root)


def open_topic(context, server, address="help"):
    return visit(context, server, address, "h1")


def test_a_link_opens_a_heading_of_another_topic_in_this_tab_and_back_leads_back(context, server):
    page = open_topic(context, server, "help?topic=vog")
    tabs = len(context.pages)
    page.get_by_role("link", name="suspicion", exact=True).click()
    page.wait_for_url("**/help?topic=scores#suspicion")
    page.wait_for_function(IN_VIEW, arg="suspicion")
    assert len(context.pages) == tabs and page.locator("h1").inner_text() == "The scores"
    page.go_back()
    page.wait_for_url("**/help?topic=vog")
    page.get_by_role("heading", name="VoG", exact=True).wait_for()


def test_an_address_with_a_heading_scrolls_to_it(context, server):
    page = open_topic(context, server, "help?topic=scores#odin")
    page.wait_for_function(IN_VIEW, arg="odin")
    page.get_by_role("link", name="el2n", exact=True).click()
    page.wait_for_function(IN_VIEW, arg="el2n")
    assert page.url.endswith("#el2n")


def test_a_topic_that_is_opened_from_the_foot_of_another_begins_at_its_top(context, server):
    page = open_topic(context, server, "help?topic=api")
    page.get_by_role("link", name="Changes", exact=True).last.click()
    page.wait_for_url("**/help?topic=changes")
    page.locator("h1").get_by_text("Changes").wait_for()
    page.wait_for_function("document.querySelector('[data-testid=stMain]').scrollTop === 0")


def test_a_search_is_in_the_address_and_its_hit_leaves_it(context, server):
    page = open_topic(context, server)
    page.get_by_label(SEARCH).fill("blind test")
    page.keyboard.press("Enter")
    page.wait_for_url("**search=blind+test**")
    page.get_by_role("link", name="Teams › A blind test").click()
    page.wait_for_url("**/help?topic=teams#a-blind-test")
    page.wait_for_function(IN_VIEW, arg="a-blind-test")
    expect(page.get_by_label(SEARCH)).to_have_value("")
    page.go_back()
    page.get_by_role("link", name="Teams › A blind test").wait_for()
    expect(page.get_by_label(SEARCH)).to_have_value("blind test")


def test_a_page_and_a_score_lead_to_the_manual_and_back(context, server):
    page = visit(context, server, "grid?score=AUM&split=train")
    page.get_by_role("link", name="More in the manual").first.click()
    page.wait_for_url("**/help?topic=scores#aum")
    page.wait_for_function(IN_VIEW, arg="aum")
    page.go_back()
    page.wait_for_url("**/grid?**score=AUM**")
    page.locator("[data-example-id]").first.wait_for()
    settled(page)
    page.get_by_role("link", name="Help on this page").click()
    page.wait_for_url("**/help?topic=vog")
    page.get_by_role("heading", name="How it is computed").wait_for()


WIDE = ("checkpoints", "five-minute-audit", "recipes/lightning")
"""A table with long lines of code, an image, and a long program."""
OVERFLOWS = """(() => {
  const main = document.querySelector('[data-testid="stMain"]');
  return main.scrollWidth > main.clientWidth || document.documentElement.scrollWidth > innerWidth;
})()"""


@pytest.mark.parametrize("name", WIDE)
def test_a_topic_stands_in_both_themes_on_a_telephone_and_on_a_desk(context, server, name):
    page = open_topic(context, server, f"help?topic={name}")
    for width in (390, 1440):
        page.set_viewport_size({"width": width, "height": 900})
        stands(page)


def test_no_topic_scrolls_sideways_on_a_telephone(context, server):
    page = open_topic(context, server)
    page.set_viewport_size({"width": 390, "height": 900})
    for name in topic_names()[1:]:
        page.locator(f'a[href="{address(name)}"]').last.click()
        page.locator("h1").get_by_text(read_topic(name).title, exact=True).wait_for()
        settled(page)
        assert not page.evaluate(OVERFLOWS), name
