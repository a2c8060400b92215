"""Audits of vectors and of texts in a real browser: the same keys, the same log, and nothing in them is markup."""

from __future__ import annotations

import pytest

from ..modalities import HOSTILE, text_audit, vector_audit
from .conftest import new_page
from .waits import CELL, DIALOG, SESSION, wait_saved

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # playwright's own sockets

LONG = 90_000  # milliseconds: a command starts in a process of its own, on a busy machine


@pytest.fixture(scope="module")
def vectors(start, tmp_path_factory):
    return start(vector_audit(tmp_path_factory.mktemp("audits") / "vectors"))


@pytest.fixture(scope="module")
def texts(start, tmp_path_factory):
    return start(text_audit(tmp_path_factory.mktemp("audits") / "texts"))


def open_page(context, server, path: str, ready: str = CELL):
    page = new_page(context)
    page.goto(f"{server.url}/{path}")
    page.wait_for_selector(ready)
    return page


def decide(page, server, key: str) -> None:
    """Press a key on the first example and wait until the log has it."""
    page.locator(CELL).first.click()
    page.keyboard.press(key)
    wait_saved(page)
    page.wait_for_selector(f"{CELL}.hl-is-decided")
    assert server.events().iloc[-1]["example_id"] == page.locator(CELL).first.get_attribute("data-example-id")


def test_rows_are_shown_decided_opened_and_cut(context, vectors):
    page = open_page(context, vectors, "grid?example=row-00")
    cell = page.locator(CELL).first
    assert cell.locator("tr").first.inner_text().split()[:2] == ["age", "40"]
    assert "<b>odd</b>" in cell.inner_text() and cell.locator("b, img").count() == 0
    assert "kg" in cell.inner_text() and "cm" in cell.inner_text()
    decide(page, vectors, "q")
    page.keyboard.press("Enter")
    page.wait_for_selector(f"{DIALOG} [data-testid=whole-rows]")
    assert page.locator(f"{DIALOG} .hl-columns thead th").all_inner_texts() == ["column", "value", "robust z"]
    page.keyboard.press("m")
    assert page.locator(f"{DIALOG} .hl-columns thead th").all_inner_texts()[-1] == "VoG"
    page.locator(".hl-planepick select").nth(0).select_option("size (cm)")
    page.locator(".hl-planepick select").nth(1).select_option("<b>odd</b>")
    page.click("[data-testid=draw-cut]")
    page.wait_for_selector(f"{DIALOG} .hl-plot", timeout=LONG)
    assert page.locator(".hl-plot").count() == 2 and page.locator(".hl-plot").first.locator(".hl-point").count() > 20
    assert "<b>odd</b>" in page.locator(".hl-plot").first.inner_html().replace("&lt;", "<").replace("&gt;", ">")
    page.locator(".hl-planepick select").last.press("u")  # a letter in a list decides nothing
    assert len(vectors.events()) == 1 and page.errors == []


@pytest.mark.parametrize("name", ["markup", "direction", "nul"])
def test_hostile_texts_are_text_and_stay_in_their_cell(context, texts, name):
    page = open_page(context, texts, f"grid?example={name}")
    cell = page.locator(f"{CELL} .hl-text").first
    shown = HOSTILE[name].replace("\0", "␀").replace("\x1b", "␛")
    assert cell.text_content() == shown
    assert cell.evaluate("node => node.childElementCount") == 0
    assert cell.evaluate("node => getComputedStyle(node).unicodeBidi") in ("isolate", "plaintext")
    assert page.evaluate("window.hurt") is None and page.errors == []


def test_texts_are_decided_in_a_session_and_their_strongest_tokens_marked(context, texts):
    page = open_page(context, texts, "suspects", SESSION + " .hl-queue [data-example-id]")
    first = page.locator(f"{SESSION} .hl-queue [data-example-id]").first.get_attribute("data-example-id")
    page.wait_for_selector(f"{SESSION} [data-testid=whole-text]")
    assert page.locator(f"{SESSION} mark").count() == 0  # evidence is asked for, not pressed on anyone
    page.keyboard.press("m")
    page.wait_for_selector(f"{SESSION} mark.hl-top")
    assert page.locator(f"{SESSION} mark").count() > 3
    page.keyboard.press("u")
    wait_saved(page)
    page.wait_for_function(
        "() => !document.querySelector('[data-testid=review-session] mark')"
    )  # the next one, without
    last = texts.events().iloc[-1]
    assert (last["example_id"], last["verdict"]) == (first, "unsure") and page.errors == []


def test_a_long_text_opens_at_once_and_says_what_is_left(context, texts):
    page = open_page(context, texts, "grid?example=long")
    page.locator(CELL).first.click()
    page.keyboard.press("Enter")
    page.wait_for_selector(f"{DIALOG} [data-testid=whole-text]")
    left = len(HOSTILE["long"]) - 20_000
    assert f"{left:,} more characters" in page.locator(f"{DIALOG} .hl-whole").inner_text()
