"""/compare and /data-map in a real browser: a click on a cell, a lasso, and both pages by keyboard alone."""

from __future__ import annotations

import pytest

from ..synthetic import make_audit, write_dynamics
from .test_pages import HOSTILE, ids, visit
from .waits import at_rest, settled

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # playwright's own sockets


@pytest.fixture(scope="module")
def server(start, tmp_path_factory):
    audit = make_audit(
        tmp_path_factory.mktemp("audit"),
        300,
        ["cat", HOSTILE, "dog"],
        thumbnails=True,
        runs=("main", "second"),
    )
    for run in ("main", "second"):
        write_dynamics(audit, audit.run(run), 4)
    return start(audit.root)


def test_a_click_on_a_cell_shows_where_two_scores_disagree_and_the_address_says_which(context, server):
    page = visit(context, server, "compare")
    assert ids(page) == []
    plot = at_rest(page.locator(".js-plotly-plot .nsewdrag").first)
    m = page.evaluate("document.querySelector('.js-plotly-plot').data[0].x.length ?? 0")
    order = page.evaluate("document.querySelector('.js-plotly-plot').data[1].customdata.map(pair => pair.join(' '))")
    at = next(at for at, pair in enumerate(order) if pair == "aum.aum uncertainty.entropy")
    row, column = divmod(at, m)
    page.mouse.click(plot["x"] + (column + 0.5) * plot["width"] / m, plot["y"] + (row + 0.5) * plot["height"] / m)
    page.wait_for_url("**a=AUM&b=Entropy**")
    page.locator("[data-example-id]").first.wait_for()
    settled(page)
    before = ids(page)
    assert 2 <= len(before) <= 24
    page.reload()
    page.locator("[data-example-id]").first.wait_for()
    settled(page)
    assert ids(page) == before and page.errors == []


def test_a_pair_is_chosen_and_an_example_decided_by_keyboard_alone(context, server, since):
    page = visit(context, server, "compare")
    for key, label, title in (("a", "Score", "AUM"), ("b", "Against", "Loss")):
        picker = page.get_by_test_id("stSelectbox").filter(has=page.get_by_text(label, exact=True)).locator("input")
        picker.focus()
        page.keyboard.type(title)
        page.keyboard.press("Enter")
        page.wait_for_url(f"**{key}={title}**")
        settled(page)
    page.locator("[data-example-id]").first.wait_for()
    first = ids(page)[0]
    page.locator("[data-example-id]").first.focus()
    page.keyboard.press("q")
    page.wait_for_function("document.body.innerText.includes('✓')")
    event = since(1).iloc[-1]
    assert event["example_id"] == first and event["verdict"] == "given"
    assert event["evidence"]["scores"] == ["aum.aum", "uncertainty.loss"]


@pytest.mark.parametrize("show", ["overlap", "stability", "truth"])
def test_the_other_views_stand_with_hostile_names(context, server, show):
    page = visit(context, server, f"compare?show={show}", wait='[data-testid="stAlert"], .js-plotly-plot')
    assert page.errors == [] and page.foreign == []
    assert page.evaluate("window.hacked") is None


def test_arrow_keys_on_the_slider_walk_through_the_epochs(context, server):
    page = visit(context, server, "data-map")
    told = "document.querySelector('.js-plotly-plot').data[0].hovertext.join()"
    page.locator(".js-plotly-plot .nsewdrag").first.wait_for()
    before = page.evaluate(told)
    page.get_by_role("slider").first.focus()
    page.keyboard.press("ArrowLeft")
    page.wait_for_url("**epoch=3**")
    page.get_by_text("after epoch 3").first.wait_for()
    page.wait_for_function(f"before => {told} !== before", arg=before)


def test_drawing_around_points_shows_them_and_stands_in_the_address(context, server):
    page = visit(context, server, "data-map")
    plot = at_rest(page.locator(".js-plotly-plot .nsewdrag").first)
    corners = [(0.02, 0.02), (0.98, 0.02), (0.98, 0.6), (0.02, 0.6), (0.02, 0.02)]
    for at, (x, y) in enumerate(corners):
        page.mouse.move(plot["x"] + x * plot["width"], plot["y"] + y * plot["height"], steps=4)
        if at == 0:
            page.mouse.down()
    page.mouse.up()
    page.wait_for_url("**lasso=**")
    page.get_by_text("Selected, lowest confidence first").wait_for()
    settled(page)
    here = ids(page)
    assert here
    other = visit(context, server, page.url.removeprefix(f"{server.url}/"))
    other.get_by_text("Selected, lowest confidence first").wait_for()
    assert ids(other) == here
    page.get_by_role("button", name="Clear").click()
    page.wait_for_function("!location.search.includes('lasso')")
    page.get_by_text("Hard, lowest confidence first").wait_for()
    assert page.errors == []


def test_the_drawing_stays_while_the_epochs_pass(context, server):
    page = visit(context, server, "data-map?lasso=-0.01,-0.02;0.6,-0.02;0.6,0.9;-0.01,0.9")
    page.get_by_text("Selected, lowest confidence first").wait_for()
    page.get_by_role("slider").first.focus()
    page.keyboard.press("ArrowLeft")
    page.get_by_text("after epoch 3").first.wait_for()
    settled(page)
    assert "lasso=" in page.url and page.get_by_text("Selected, lowest confidence first").count() == 1
