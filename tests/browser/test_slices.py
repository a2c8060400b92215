"""/slices in a real browser: cards, an opened slice and its opponents under the keys, the map, other settings kept."""

from __future__ import annotations

import re
import shutil
import time

import pyarrow as pa
import pytest

from scoring.audit import Audit
from scoring.slicing import SliceSettings, slice_run
from scoring.tables import read_vectors, write_table

from .test_grid import CELL, GRID

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # playwright's own sockets

CARD = '[data-testid="slice-cards"] [data-slice]'


@pytest.fixture(scope="module")
def server(start, scored_sample, tmp_path_factory):
    audit = Audit.open(shutil.copytree(scored_sample, tmp_path_factory.mktemp("sliced") / "audit"))
    slice_run(audit, audit.run(), SliceSettings(n_slices=4), "four")
    ids, embeddings = read_vectors(audit.run().influence_path)  # two of their axes stand for UMAP, which takes a minute
    write_table(audit.run().map_path, pa.table({"example_id": ids, "x": embeddings[:, 0], "y": embeddings[:, 1]}))
    return start(audit.root)


@pytest.fixture(scope="module")
def context(browser):
    """One profile for these tests: a new one compiles all of Streamlit's scripts anew."""
    opened = browser.new_context(viewport={"width": 1440, "height": 900})
    opened.set_default_timeout(30_000)
    yield opened
    opened.close()


@pytest.fixture
def page(context):
    opened = context.new_page()
    opened.errors = []
    opened.on("pageerror", lambda error: opened.errors.append(str(error)))
    yield opened
    assert opened.errors == []
    opened.close()


def test_a_card_opens_by_keyboard_and_an_opponent_is_relabelled_where_it_is_seen(page, server):
    page.goto(f"{server.url}/slices?slicing=four")
    page.wait_for_selector(CARD)
    assert page.locator(CARD).count() == 4
    page.locator(CARD).first.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector(f"{GRID} [data-example-id]")
    assert "slice=" in page.url
    panel = page.locator(".hl-panel", has=page.get_by_text("pponents", exact=False)).first
    opponent = panel.locator("[data-example-id]").first
    name = opponent.get_attribute("data-example-id")
    opponent.click()
    page.keyboard.press("w")
    page.get_by_test_id("save-status").get_by_text("saved", exact=True).wait_for()
    until = time.monotonic() + 20
    while not len(server.events()) and time.monotonic() < until:
        time.sleep(0.1)
    event = server.events().iloc[-1]
    assert (event["example_id"], event["action"], event["verdict"]) == (name, "decide", "other")
    assert event["new_label"] != event["label"]
    assert event["evidence"]["slicing"] == "four"
    page.get_by_role("button", name="All slices").click()
    page.wait_for_selector(CARD)
    assert "slice=" not in page.url


def test_a_lasso_on_the_map_shows_the_examples_and_clear_lets_them_go(page, server):
    page.goto(f"{server.url}/slices?slicing=four&show=map")
    plot = page.locator(".js-plotly-plot .nsewdrag").first
    plot.wait_for()
    page.wait_for_timeout(1500)
    box = plot.bounding_box()
    x, y, w, h = (box[key] for key in ("x", "y", "width", "height"))
    page.mouse.move(x + 0.02 * w, y + 0.02 * h)
    page.mouse.down()
    for across, down in ((0.98, 0.02), (0.98, 0.98), (0.02, 0.98), (0.02, 0.03)):
        page.mouse.move(x + across * w, y + down * h, steps=8)
    page.mouse.up()
    page.get_by_text("drawn around").first.wait_for()
    page.wait_for_selector(CELL)
    assert "lasso=" in page.url
    link = page.url
    page.get_by_role("button", name="Clear").click()
    page.get_by_text("examples drawn around").wait_for(state="detached")
    assert "lasso=" not in page.url
    page.goto(link)
    page.wait_for_selector(CELL)


def test_other_settings_slice_in_place_and_are_kept_under_a_name(page, server):
    page.goto(f"{server.url}/slices?slicing=other settings&n_slices=3")
    page.wait_for_selector(CARD)
    assert page.locator(CARD).count() == 3
    page.get_by_label("Keep it as").fill("three of them")
    page.keyboard.press("Enter")
    button = page.get_by_role("button", name="Keep", exact=True)
    button.click()
    page.wait_for_url(re.compile("slicing=three"))
    page.wait_for_selector(CARD)
    assert page.locator(CARD).count() == 3
    assert "three of them" in Audit.open(server.audit_path).run().slicing_names()
