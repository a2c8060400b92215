"""The grid in a real browser: keys, mouse, and that nothing decided is lost, doubled or out of order."""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import expect

from .conftest import new_page, new_profile
from .waits import CELL, GRID, intercept, settled, until, wait_saved

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # playwright's own sockets


@pytest.fixture
def page(context, server):
    """The grid's page, drawn."""
    return open_page(context, server)


def open_page(context, server, query: str = ""):
    page = new_page(context)
    page.goto(f"{server.url}/{query}")
    page.wait_for_selector(CELL)
    page.wait_for_function("document.querySelectorAll('[data-example-id]').length >= 12")
    settled(page)
    return page


def cell(page, at: int):
    return page.locator(CELL).nth(at)


def id_of(page, at: int) -> str:
    return cell(page, at).get_attribute("data-example-id")


def focused(page) -> str | None:
    return page.evaluate("document.activeElement.dataset.exampleId ?? null")


def status(page):
    return page.locator('[data-testid="save-status"]')


def selected(page) -> list[str]:
    return page.eval_on_selector_all(f'{CELL}[aria-selected="true"]', "all => all.map(one => one.dataset.exampleId)")


# -- moving and selecting --------------------------------------------------------------------------------------------


def test_arrows_move_in_reading_order_through_both_panels(page):
    ids = page.eval_on_selector_all(CELL, "all => all.map(one => one.dataset.exampleId)")
    cell(page, 0).click()
    for at in range(1, 12):
        page.keyboard.press("ArrowRight")
        assert focused(page) == ids[at]
    page.keyboard.press("ArrowRight")
    assert focused(page) == ids[11], "there is nothing after the last one"
    page.keyboard.press("Home")
    for at in (3, 6, 9):
        page.keyboard.press("ArrowDown")
        assert focused(page) == ids[at]
    page.keyboard.press("ArrowUp")
    assert focused(page) == ids[6]
    assert page.locator(f'{CELL}[tabindex="0"]').count() == 1
    assert not page.errors


def test_clicks_space_and_control_a_select_and_escape_lets_go(page):
    cell(page, 1).click()
    assert selected(page) == [] and focused(page) == id_of(page, 1)
    cell(page, 2).click(modifiers=["Control"])
    cell(page, 5).click(modifiers=["Shift"])
    assert selected(page) == [id_of(page, at) for at in range(2, 6)]
    page.keyboard.press("Space")
    assert selected(page) == [id_of(page, at) for at in range(2, 5)]
    page.keyboard.press("Control+a")
    assert len(selected(page)) == 12
    page.keyboard.press("Escape")
    assert selected(page) == []
    page.keyboard.press("Shift+ArrowRight")
    assert selected(page) == [id_of(page, 5), id_of(page, 6)]


def test_selecting_moving_opening_and_deciding_do_not_run_the_page(page):
    before = page.get_by_text("runs: ").inner_text()
    cell(page, 0).click()
    for key in ("ArrowRight", "Space", "q", "Enter", "ArrowRight", "u", "Escape"):
        page.keyboard.press(key)
    wait_saved(page)
    page.wait_for_timeout(1500)  # a page that wants to be told is told after such a pause
    assert page.get_by_text("runs: ").inner_text() == before


def test_the_focus_and_the_selection_survive_a_rerun(page):
    cell(page, 4).click(modifiers=["Control"])
    page.get_by_role("button", name="rerun").click()
    page.wait_for_function("document.body.innerText.includes('runs: 2')")
    assert selected(page) == [id_of(page, 4)]
    page.keyboard.press("ArrowRight")  # the button has the focus, the grid takes the key
    assert focused(page) == id_of(page, 5)


def test_the_focus_survives_when_the_page_moves_the_grid(page, server, since):
    cell(page, 4).click()
    page.evaluate("document.querySelector('[role=\"switch\"]').click()")
    page.wait_for_function("document.body.innerText.includes('Something stands above')")
    settled(page)
    page.wait_for_function("document.activeElement.dataset.exampleId !== undefined")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("u")
    wait_saved(page)
    assert since()["example_id"].tolist() == [id_of(page, 5)]


def test_page_down_turns_the_page_and_the_keys_go_on_working(page, server, since):
    first = id_of(page, 0)
    cell(page, 3).click()
    page.keyboard.press("PageDown")
    page.wait_for_function("id => document.querySelector('[data-example-id]').dataset.exampleId !== id", arg=first)
    page.wait_for_function("document.activeElement.dataset.exampleId !== undefined")
    assert focused(page) == id_of(page, 0)
    page.keyboard.press("u")
    wait_saved(page)
    assert since()["example_id"].tolist() == [id_of(page, 0)]
    page.keyboard.press("PageUp")
    page.wait_for_function("id => document.querySelector('[data-example-id]').dataset.exampleId === id", arg=first)


# -- deciding --------------------------------------------------------------------------------------------------------


def test_ten_keys_without_a_pause_are_ten_events_in_order(page, server, since):
    cell(page, 0).click()
    page.evaluate(
        """() => { for (const key of "quoququuqo") document.activeElement.dispatchEvent(
            new KeyboardEvent("keydown", {key, bubbles: true, cancelable: true})); }"""
    )
    wait_saved(page)
    events = since()
    verdicts = {"q": "given", "u": "unsure", "o": "none"}
    assert events["verdict"].tolist() == [verdicts[key] for key in "quoququuqo"]
    assert events["seq"].tolist() == list(range(1, 11)) and events["client"].nunique() == 1
    assert set(events["example_id"]) == {id_of(page, 0)}


def test_ten_real_keys_in_a_row_over_ten_examples(page, server, since):
    cell(page, 0).click()
    for _ in range(10):
        page.keyboard.press("q", delay=0)
        page.keyboard.press("ArrowRight", delay=0)
    wait_saved(page)
    events = since()
    assert events["example_id"].tolist() == [id_of(page, at) for at in range(10)]
    assert set(events["verdict"]) == {"given"}


def test_each_key_says_what_it_should(page, server, since):
    cell(page, 7).click()
    label = server_row(server, id_of(page, 7))["label"]
    page.keyboard.press("q")
    page.keyboard.press("w")
    page.keyboard.press("1" if label != "1" else "0")
    page.keyboard.press("o")
    page.keyboard.press("u")
    page.keyboard.press("f")
    page.keyboard.press("f")
    wait_saved(page)
    events = since()
    assert events["action"].tolist() == ["decide"] * 5 + ["flag", "unflag"]
    assert events["verdict"].tolist()[:5] == ["given", "other", "other", "none", "unsure"]
    first = events.iloc[0]
    assert first["label"] == label and first["fingerprint"] == server_row(server, first["example_id"])["fingerprint"]
    assert first["evidence"]["rank"] == 7 and first["evidence"]["run"] == "main"
    assert events["new_label"].iloc[1] == first["evidence"]["suggestion"]
    assert first["evidence"]["suggestion_source"] == "the last checkpoint" and first["seconds"] >= 0


def server_row(server, example_id: str) -> dict:
    from scoring.audit.storage import read_table

    rows = read_table(server.audit_path / "examples.parquet").to_pylist()
    return next(row for row in rows if row["example_id"] == example_id)


def test_choosing_the_given_label_confirms_it(page, server, since):
    at = next(at for at in range(12) if server_row(server, id_of(page, at))["label"] in ("0", "1"))
    cell(page, at).click()
    page.keyboard.press(server_row(server, id_of(page, at))["label"])
    wait_saved(page)
    event = since().iloc[-1]
    assert event["verdict"] == "given" and event["new_label"] != event["new_label"]  # null


def test_the_list_finds_a_class_by_its_letters_and_enter_takes_it(page, server, since):
    at = next(at for at in range(12) if server_row(server, id_of(page, at))["label"] != 'cat\'s "paw"')
    cell(page, at).click()
    page.keyboard.press("l")
    page.keyboard.type("PAW")
    page.keyboard.press("Enter")
    wait_saved(page)
    event = since().iloc[-1]
    assert (event["verdict"], event["new_label"]) == ("other", 'cat\'s "paw"')
    assert focused(page) == id_of(page, at), "the focus comes back to the example"


def test_keys_in_a_field_or_a_dialog_do_not_decide(page, server, since):
    cell(page, 2).click()
    page.get_by_label("field").click()
    page.keyboard.type("quof")
    cell(page, 2).click()
    page.keyboard.press("n")
    page.keyboard.type("quite unsure of this one: <b>?</b>")
    page.keyboard.press("Enter")
    wait_saved(page)
    events = since()
    assert events["action"].tolist() == ["comment"]
    assert events["note"].tolist() == ["quite unsure of this one: <b>?</b>"]


def test_several_labels_and_issues_are_chosen_from_lists(page, server, since):
    cell(page, 3).click()
    page.keyboard.press("b")
    page.get_by_role("option", name="0", exact=True).click()
    page.get_by_role("option", name="naïve").click()
    page.keyboard.press("Control+Enter")
    page.keyboard.press("x")
    page.keyboard.type("bad")
    page.keyboard.press("Enter")
    page.keyboard.press("Control+Enter")
    page.keyboard.press("q")
    wait_saved(page)
    events = since()
    assert events["labels"].tolist() == [("0", "naïve ☕ 中文"), ("0", "naïve ☕ 中文"), ()]
    assert events["verdict"].tolist() == ["several", "several", "given"], "an issue keeps the verdict"
    assert events["issues"].tolist() == [(), ("bad image",), ("bad image",)], "a verdict keeps the issues"


def test_a_bulk_act_is_undone_as_one(page, server, since):
    cell(page, 0).click()
    page.keyboard.press("u")
    cell(page, 0).click(modifiers=["Control"])
    cell(page, 4).click(modifiers=["Shift"])
    page.keyboard.press("o")
    wait_saved(page)
    acts = since()
    bulk = acts.iloc[1:]
    assert len(bulk) == 5 and bulk["batch"].nunique() == 1
    page.keyboard.press("Control+z")
    wait_saved(page)
    assert since()["action"].tolist()[-1] == "undo"
    for at in range(5):
        expect(cell(page, at)).not_to_contain_text("∅")
    page.reload()
    expect(cell(page, 0)).to_contain_text("? unsure")
    assert not any("∅" in text for text in page.locator(CELL).all_inner_texts()[:5])


def test_undo_goes_on_after_a_reload(page, server, since):
    cell(page, 8).click()
    page.keyboard.press("o")
    wait_saved(page)
    page.reload()
    expect(cell(page, 8)).to_contain_text("∅ none fits")
    cell(page, 0).click()
    page.keyboard.press("Backspace")
    expect(cell(page, 8)).not_to_contain_text("∅ none fits")
    events = since(2)
    assert events["action"].tolist() == ["decide", "undo"]
    assert set(events["example_id"]) == {id_of(page, 8)}


def test_buttons_do_what_the_keys_do(page, server, since):
    cell(page, 9).click()
    page.get_by_role("button", name="Unsure").first.click()
    page.get_by_role("button", name="Flag").first.click()
    page.get_by_role("button", name="Undo").click()
    wait_saved(page)
    assert since()["action"].tolist() == ["decide", "flag", "undo"]
    assert focused(page) == id_of(page, 9)


# -- losing nothing --------------------------------------------------------------------------------------------------


KEPT = """Object.entries(localStorage).filter(([key]) => key.startsWith("hardlook|"))
  .map(([, text]) => JSON.parse(text)).sort((one, other) => one.seq - other.seq)"""


def test_a_killed_server_loses_and_doubles_nothing(page, server, since):
    cell(page, 0).click()
    for at in range(30):
        page.keyboard.press("qou"[at % 3])
        if at == 9:
            server.kill()
        page.keyboard.press("ArrowRight" if at % 11 else "Home")
    page.wait_for_function("document.querySelector('[data-testid=\"save-status\"]').textContent.includes('kept here')")
    kept = page.evaluate(KEPT)
    server.start()
    wait_saved(page)
    events = since()
    assert events["seq"].tolist() == list(range(1, kept[-1]["seq"] + 1)) and events["client"].nunique() == 1
    for name in ("seq", "example_id", "verdict"):
        assert events[name].tolist()[-len(kept) :] == [event[name] for event in kept]
    assert kept[-1]["seq"] >= 29  # a key that only shows where the focus is decides nothing


def test_what_a_closed_tab_could_not_send_the_next_one_sends(context, server, since):
    page = open_page(context, server)
    context.set_offline(True)
    cell(page, 1).click()
    page.keyboard.press("u")
    page.keyboard.press("o")
    page.wait_for_function("document.querySelector('[data-testid=\"save-status\"]').textContent.includes('offline, 2')")
    assert len(since()) == 0
    page.close()
    context.set_offline(False)
    # A request of a closing tab outlives it (keepalive), and with the tab ends its being offline: where a try was under
    # way, the log has both already, and the next tab sends them once more, which counts once.
    page = open_page(context, server)
    expect(cell(page, 1)).to_contain_text("∅ none fits")
    wait_saved(page)
    assert since()["verdict"].tolist() == ["unsure", "none"]


def test_saved_is_shown_only_after_the_log_has_it(page, server, since):
    held = []
    intercept(page, "**/hardlook/events", lambda route: held.append(route))
    cell(page, 2).click()
    page.keyboard.press("u")
    page.wait_for_function("document.querySelector('[data-testid=\"save-status\"]').textContent === '1 saving…'")
    assert "hl-is-saving" in cell(page, 2).get_attribute("class")
    until(lambda: held, page)[0].continue_()
    wait_saved(page)
    assert len(since()) == 1
    assert "hl-is-saving" not in cell(page, 2).get_attribute("class")


def test_an_answer_that_was_lost_does_not_double_an_event(page, server, since):
    lost = []

    def lose_first(route):
        if lost:
            return route.continue_()
        lost.append(route.fetch())  # the server has written it
        return route.abort()

    intercept(page, "**/hardlook/events", lose_first)
    cell(page, 2).click()
    page.keyboard.press("o")
    wait_saved(page)
    assert lost and len(since()) == 1


def test_two_browsers_see_each_other_within_two_seconds(browser, context, server):
    """Every page asks once a second: what one saved, the other one shows with its second question at the latest."""
    other = new_profile(browser)
    one, two = open_page(context, server), open_page(other, server)
    two.evaluate(COUNT)
    cell(one, 5).click()
    one.keyboard.press("f")
    for key, words in (("o", "∅ none fits"), ("u", "? unsure"), ("Control+z", "∅ none fits")):
        two.evaluate("window.seen = {}")
        one.keyboard.press(key)
        wait_saved(one)
        asked = two.evaluate("window.asked")
        two.wait_for_function("words => words in window.seen", arg=words)
        assert two.evaluate("window.seen")[words] - asked <= 2, words
    other.close()


COUNT = """() => {
  window.asked = 0;
  window.seen = {};
  const ask = window.fetch;
  window.fetch = (what, ...rest) => {
    if (String(what).includes("decisions?after=")) window.asked += 1;
    return ask(what, ...rest);
  };
  const cell = document.querySelectorAll("[data-example-id]")[5];
  const look = () => {
    for (const words of ["∅ none fits", "? unsure"])
      if (cell.innerText.includes(words)) window.seen[words] ??= window.asked;
  };
  new MutationObserver(look).observe(cell, { childList: true, subtree: true });
}"""
"""Count the questions of this page for news, and note at which one the sixth example begins to show a verdict."""


def test_two_tabs_of_one_browser_send_their_own_events(context, server, since):
    one, two = open_page(context, server), open_page(context, server)
    cell(one, 0).click()
    cell(two, 1).click()
    for _ in range(4):
        one.keyboard.press("u")
        two.keyboard.press("o")
    wait_saved(one)
    wait_saved(two)
    events = since()
    assert len(events) == 8 and events["client"].nunique() == 2
    assert events.groupby("client")["seq"].apply(list).tolist() == [[1, 2, 3, 4]] * 2


def test_an_event_that_the_log_refuses_is_told_and_holds_up_nothing(page, server, since):
    intercept(page, "**/hardlook/events", lambda route: route.continue_(post_data=forged(route.request.post_data)))
    cell(page, 0).click()
    page.keyboard.press("u")
    page.keyboard.press("o")
    page.wait_for_function("document.querySelector('[data-testid=\"save-status\"]').textContent === '1 not saved'")
    assert since()["verdict"].tolist() == ["none"]
    assert "no such example" in status(page).get_attribute("title")


def forged(body: str) -> str:
    sent = json.loads(body)
    for event in sent["events"]:
        if event["verdict"] == "unsure":
            event["example_id"] = "nowhere.png"
    return json.dumps(sent)


# -- showing ---------------------------------------------------------------------------------------------------------


def test_markup_in_names_is_shown_as_text(page):
    assert page.locator(f"{GRID} b, {GRID} .hl-facts img").count() == 0
    assert "<b>bold</b><img src=x onerror=alert(1)>" in page.locator(GRID).inner_text()
    cell(page, 0).click()
    page.keyboard.press("l")
    assert page.get_by_role("option", name="<b>bold</b>").count() == 1
    page.keyboard.press("Escape")
    page.keyboard.press("Enter")
    page.wait_for_selector(".hl-viewer .hl-bars")
    assert page.locator(".hl-viewer b").count() == 0
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    assert page.locator(".hl-guidelines").text_content() == "# Guidelines\n<b>Look</b> twice."
    assert not page.errors


def test_an_opened_example_shows_everything_and_takes_the_keys(page, server, since):
    cell(page, 0).dblclick()
    dialog = page.locator('[data-testid="example-dialog"]')
    dialog.get_by_text("Data map confidence").wait_for()
    said = dialog.inner_text()
    assert "Class probabilities" in said and "camera" in said and "%" in said
    assert dialog.locator(".hl-map").count() == 0, "the map is off by default"
    page.keyboard.press("m")
    dialog.locator(".hl-map").wait_for()
    page.keyboard.press("u")
    page.keyboard.press("ArrowRight")
    assert dialog.locator("h2").inner_text() == id_of(page, 1)
    page.keyboard.press("o")
    page.keyboard.press("Escape")
    wait_saved(page)
    assert focused(page) == id_of(page, 1)
    events = since()
    assert events["example_id"].tolist() == [id_of(page, 0), id_of(page, 1)]
    assert events["verdict"].tolist() == ["unsure", "none"]
    assert events["evidence"].iloc[0]["opened"] is True and events["evidence"].iloc[0]["map"] is True


def test_small_pictures_are_enlarged_without_blur_and_missing_ones_say_why(context, server):
    page = open_page(context, server, "?page=9")
    image = page.locator(f"{CELL} img").first
    page.wait_for_function("document.querySelector('[data-example-id] img').naturalWidth === 32")
    assert image.evaluate("e => getComputedStyle(e).imageRendering") == "pixelated"
    assert image.evaluate("e => e.clientWidth") > 64
    assert page.locator(CELL).get_by_text("cannot identify image file").count() == 3


def test_a_screen_reader_finds_a_grid_with_named_cells(page, server):
    assert page.get_by_role("grid", name="Lowest").count() == 1
    assert page.get_by_role("gridcell").count() == 12
    label = server_row(server, id_of(page, 0))["label"]
    assert page.get_by_role("gridcell", name=f"label {label}").count() >= 1
    cell(page, 0).click()
    page.keyboard.press("u")
    wait_saved(page)
    assert page.locator('[role="status"][aria-live="polite"]').first.text_content() == "saved"


def test_a_page_that_asks_for_it_runs_once_after_a_pause(context, server):
    page = open_page(context, server, "?notify=1")
    before = int(page.get_by_text("runs: ").inner_text().split()[1])
    cell(page, 0).click()
    for _ in range(5):
        page.keyboard.press("u")
    wait_saved(page)
    page.wait_for_function(f"document.body.innerText.includes('runs: {before + 1}')")
    assert focused(page) == id_of(page, 0)
