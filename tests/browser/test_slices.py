"""/slices in a real browser: cards, an opened slice and its opponents under the keys, the map, other settings kept."""

from __future__ import annotations

import re
import shutil

import pyarrow as pa
import pytest
from playwright.sync_api import expect

from scoring.audit import Audit
from scoring.audit.storage import read_vectors, write_table
from scoring.slices.slicing_run import SliceSettings, slice_run

from .waits import CELL, at_rest

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # playwright's own sockets

WINDOW = (1440, 900)
CARD = '[data-testid="slice-cards"] [data-slice]'


@pytest.fixture(scope="module")
def server(start, scored_sample, tmp_path_factory):
    audit = Audit.open(shutil.copytree(scored_sample, tmp_path_factory.mktemp("sliced") / "audit"))
    slice_run(audit, audit.run(), SliceSettings(n_slices=4), "four")
    ids, embeddings = read_vectors(audit.run().influence_path)  # two of their axes stand for UMAP, which takes a minute
    write_table(audit.run().map_path, pa.table({"example_id": ids, "x": embeddings[:, 0], "y": embeddings[:, 1]}))
    return start(audit.root)


def test_a_card_opens_by_keyboard_and_an_opponent_is_relabelled_where_it_is_seen(page, server, since):
    page.goto(f"{server.url}/slices?slicing=four")
    expect(page.locator(CARD)).to_have_count(4)
    page.locator(CARD).first.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector(CELL)
    page.wait_for_url("**slice=**")
    panel = page.locator(".hl-panel", has=page.get_by_text("pponents", exact=False)).first
    opponent = panel.locator("[data-example-id]").first
    name = opponent.get_attribute("data-example-id")
    opponent.click()
    page.keyboard.press("w")
    event = since(1).iloc[-1]
    assert (event["example_id"], event["action"], event["verdict"]) == (name, "decide", "other")
    assert event["new_label"] != event["label"]
    assert event["evidence"]["slicing"] == "four"
    page.get_by_role("button", name="All slices").click()
    page.wait_for_selector(CARD)
    page.wait_for_url(lambda url: "slice=" not in url)


def test_a_lasso_on_the_map_shows_the_examples_and_clear_lets_them_go(page, server):
    page.goto(f"{server.url}/slices?slicing=four&show=map")
    box = at_rest(page.locator(".js-plotly-plot .nsewdrag").first)
    x, y, w, h = (box[key] for key in ("x", "y", "width", "height"))
    page.mouse.move(x + 0.02 * w, y + 0.02 * h)
    page.mouse.down()
    for across, down in ((0.98, 0.02), (0.98, 0.98), (0.02, 0.98), (0.02, 0.03)):
        page.mouse.move(x + across * w, y + down * h, steps=8)
    page.mouse.up()
    page.get_by_text(re.compile("[0-9] examples? selected")).first.wait_for()
    page.wait_for_selector(CELL)
    page.wait_for_url("**lasso=**")
    link = page.url
    page.get_by_role("button", name="Clear").click()
    page.get_by_text("examples selected").wait_for(state="detached")
    page.wait_for_url(lambda url: "lasso=" not in url)
    page.goto(link)
    page.wait_for_selector(CELL)


def test_other_settings_slice_in_place_and_are_kept_under_a_name(page, server):
    page.goto(f"{server.url}/slices?slicing=other settings&n_slices=3")
    expect(page.locator(CARD)).to_have_count(3)
    page.get_by_label("Save as").fill("three of them")
    page.keyboard.press("Enter")
    button = page.get_by_role("button", name="Save", exact=True)
    button.click()
    page.wait_for_url(re.compile("slicing=three"))
    expect(page.locator(CARD)).to_have_count(3)
    assert "three of them" in Audit.open(server.audit_path).run().slicing_names()
