"""The session in a real browser: a key decides and advances, nothing is lost, and every aid is a key away."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from scoring.audit.storage import read_table, write_table
from scoring.queue.order import suggestions
from scoring.reviews.sessions import inspected

from ..synthetic import make_audit
from .conftest import new_page, new_profile
from .waits import SESSION, SHOWN, intercept, shown, wait_saved, wait_shown

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # playwright's own sockets

GUIDELINES = "# All\nLook twice.\n## class 001\nA <b>round</b> shape.\nGold: `train/000010.png`\n"


@pytest.fixture(scope="module")
def server(start, tmp_path_factory):
    """An audit with neighbours: the lowest AUM of one label and suggestion are near each other."""
    audit = make_audit(tmp_path_factory.mktemp("audit"), 400, 4, thumbnails=True, wrong=0.2)
    audit.guidelines_path.write_text(GUIDELINES, encoding="utf8")
    write_neighbours(audit)
    return start(audit.root)


def write_neighbours(audit) -> None:
    """Every labelled training example is near the ones with its label and suggestion."""
    run = audit.run()
    found = suggestions(audit, run).set_index("example_id")["suggested_label"]
    examples = read_table(audit.examples_path, ["example_id", "split", "label"]).to_pandas()
    examples = examples[examples["split"] == "train"].assign(suggestion=lambda f: f["example_id"].map(found))
    near = {}
    for _, group in examples.groupby(["label", "suggestion"]):
        ids = group["example_id"].tolist()
        near |= {one: [other for other in ids if other != one][:50] for one in ids}
    distances = [list(np.linspace(0.01, 0.2, len(some), dtype=np.float32)) for some in near.values()]
    table = pa.table(
        {
            "example_id": pa.array(list(near), pa.string()),
            "neighbours": pa.array(list(near.values()), pa.list_(pa.string())),
            "distances": pa.array(distances, pa.list_(pa.float32())),
        }
    )
    write_table(run.neighbours_path, table)


@pytest.fixture
def page(context, server):
    return open_session(context, server)


def open_session(context, server, query: str = ""):
    page = new_page(context)
    page.goto(f"{server.url}/suspects{query}")
    page.wait_for_selector(SHOWN)
    ready(page)
    return page


def ready(page) -> None:
    """The example's facts are there."""
    page.wait_for_selector(f'{SESSION} [data-testid="neighbours"]')


def queue(page) -> list[str]:
    return page.eval_on_selector_all(
        f"{SESSION} .hl-queue [data-example-id]", "all => all.map(one => one.dataset.exampleId)"
    )


PRESS = """keys => { for (const key of keys) document.body.dispatchEvent(
    new KeyboardEvent("keydown", {key, bubbles: true, cancelable: true})); }"""
"""Faster than any machine is slow."""


def test_a_burst_of_keys_is_one_decision_per_example_in_order(page, since):
    ids = queue(page)
    assert shown(page) == ids[0]
    page.evaluate(PRESS, "quoquuoquq")
    wait_saved(page)
    events = since()
    verdicts = {"q": "given", "u": "unsure", "o": "none"}
    assert events["example_id"].tolist() == ids[:10]
    assert events["verdict"].tolist() == [verdicts[key] for key in "quoquuoquq"]
    assert events["seq"].tolist() == list(range(1, 11)) and shown(page) == ids[10]
    assert not inspected(events)[1:].any(), "a burst decides, but looks at nothing"
    assert "10 decided" in page.locator('[data-testid="session-clock"]').inner_text()
    assert not page.errors


def test_keys_record_how_long_each_was_on_screen_and_what_was_shown(page, since):
    first = shown(page)
    page.wait_for_timeout(700)  # the first is looked at; the second key follows in the same breath
    page.evaluate(PRESS, "w1")
    wait_saved(page)
    events = since()
    assert inspected(events).tolist() == [True, False]
    evidence = events["evidence"].iloc[0]
    assert evidence["suggestion"] == events["new_label"].iloc[0] and evidence["model"] == "7"
    assert evidence["on_screen"] >= 0.7 and evidence["opened"] is False and evidence["map"] is False
    assert events["example_id"].iloc[0] == first


def test_a_session_goes_on_where_it_stopped_on_any_machine(browser, page, server, since):
    page.keyboard.press("ArrowRight")  # one is skipped
    skipped = queue(page)[queue(page).index(shown(page)) - 1]
    page.keyboard.press("u")
    expected = shown(page)
    wait_saved(page)
    other = new_profile(browser, (1024, 768))
    try:
        elsewhere = open_session(other, server)
        assert shown(elsewhere) == expected
        elsewhere.get_by_text("Resumed after your last decision").first.wait_for()
        elsewhere.keyboard.press("Home")
        assert shown(elsewhere) == skipped
        elsewhere.wait_for_url(f"**at={skipped.replace('/', '%2F')}**")
    finally:
        other.close()


def test_a_link_to_a_place_shows_it(context, page, server):
    target = queue(page)[3]
    linked = open_session(context, server, f"?at={target.replace('/', '%2F')}")
    assert shown(linked) == target


def test_undo_goes_back_through_reloads_as_far_as_the_log(context, server, page, since):
    for at, keys in enumerate(("o", "qu", "o")):
        page = page if at == 0 else open_session(context, server)
        for key in keys:
            page.keyboard.press(key)
        wait_saved(page)
    for _ in range(4):
        page.keyboard.press("Control+z")
    events = since(8)
    assert events["action"].tolist() == ["decide"] * 4 + ["undo"] * 4
    made = list(zip(events["client"], events["seq"], strict=True))
    assert [tuple(one) for one in events["undoes"].dropna()] == made[:4][::-1]
    assert len({client for client, _ in made[:4]}) == 3


def test_a_few_letters_pick_a_class_and_the_session_advances(page, since):
    before = shown(page)
    page.keyboard.press("l")
    page.keyboard.type("002")
    page.keyboard.press("Enter")
    assert shown(page) != before
    event = since(1).iloc[-1]
    assert event["example_id"] == before and "class 002" in (event["new_label"], event["label"])


def test_what_helps_to_decide_is_beside_the_picture(page):
    side = page.locator(f"{SESSION} .hl-desk .hl-side")
    page.locator('[data-testid="class-label"]').wait_for()
    text = side.inner_text()
    for word in ("Label", "Suggested", "Nearest neighbours", "Typical class", "Scores", "Metadata"):
        assert word in text
    assert page.locator('[data-testid="typical"] .hl-thumb').count() >= 4
    assert page.locator(f"{SESSION} b").count() == 0, "guidelines stay text"


def test_guidelines_and_gold_examples_of_a_class(context, server):
    page = open_session(context, server, "?class=class+001")
    page.get_by_text("A <b>round</b> shape.").wait_for()
    page.keyboard.press("g")
    assert page.locator(".hl-caption").inner_text() == "gold class 001"
    assert page.locator(".hl-frame [data-shows]").nth(1).get_attribute("data-shows") == "train/000010.png"
    page.keyboard.press("Escape")
    assert page.locator(".hl-caption").count() == 0


def test_the_picture_zooms_pans_and_is_windowed_by_keys_and_wheel(page):
    layers = page.locator(f"{SESSION} .hl-middle .hl-layers").first
    transform = lambda: layers.evaluate("node => node.style.transform")
    assert transform() == ""
    box = page.locator(f"{SESSION} .hl-desk .hl-stage").bounding_box()
    page.mouse.move(box["x"] + 50, box["y"] + 50)
    page.mouse.wheel(0, -300)
    page.wait_for_function("document.querySelector('.hl-middle .hl-layers').style.transform !== ''")
    zoomed = transform()
    page.mouse.down()
    page.mouse.move(box["x"] + 20, box["y"] + 30)
    page.mouse.up()
    assert transform() != zoomed
    page.keyboard.press("z")
    assert transform() == ""
    page.keyboard.press("v")
    page.locator(".hl-canvas").wait_for()
    level = page.locator('.hl-range input[name="level"]')
    level.fill("40")
    page.locator('.hl-range input[name="window"]').fill("4")
    dark = page.locator(".hl-canvas").evaluate(
        "node => [...node.getContext('2d').getImageData(0, 0, node.width, node.height).data].filter((_, at) => at "
        "% 4 < 3)"
    )
    assert np.isin(dark, (0, 255)).mean() > 0.7, "outside the window there is only black and white"
    page.keyboard.press("ArrowRight")  # a field has the focus, and keeps the key
    assert page.locator(".hl-canvas").count() == 1


def test_the_map_is_off_on_every_new_example(context, server, page):
    page.keyboard.press("m")
    page.get_by_text("No VoG map is kept").first.wait_for()
    page.keyboard.press("ArrowRight")
    assert page.locator(".hl-nomap").count() == 0


def test_look_alikes_are_previewed_and_settled_as_one_act(page, since):
    page.get_by_role("button", name="look-alike suspect").first.wait_for()
    here = shown(page)
    page.keyboard.press("a")
    dialog = page.locator(".hl-lookalikes")
    dialog.wait_for()
    members = dialog.locator(".hl-thumb").evaluate_all("all => all.map(one => one.dataset.thumbOf)")
    assert members[0] == here and len(members) >= 2
    dialog.get_by_text("all were on screen").wait_for()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")  # takes the second out
    page.keyboard.press("w")
    if len(members) - 1 > 25:
        page.get_by_text("at once?").wait_for()
        page.keyboard.press("w")
    dialog.wait_for(state="detached")
    wait_saved(page)
    events = since()
    assert events["example_id"].tolist() == [one for at, one in enumerate(members) if at != 1]
    assert events["batch"].nunique() == 1 and events["verdict"].eq("other").all()
    assert inspected(events)[0] and {row["bulk"] for row in events["evidence"]} == {len(members) - 1}
    assert shown(page) != here
    page.keyboard.press("Backspace")
    assert since(len(members))["action"].iloc[-1] == "undo" and shown(page) == here


def test_more_than_25_look_alikes_ask_once_more(page, since, server):
    def many(route):
        import json

        reply = route.fetch()
        found = json.loads(reply.text())
        first = found["members"][0]
        found["members"] = [first] + [{**first, "id": f"train/{at:06d}.png"} for at in range(200, 226) if at % 10 != 9]
        found["members"] += [{**first, "id": f"train/{at:06d}.png"} for at in range(230, 234)]
        route.fulfill(json=found)

    intercept(page, "**/hardlook/alike*", many)
    page.keyboard.press("a")
    page.locator(".hl-lookalikes").wait_for()
    page.keyboard.press("o")
    page.get_by_text("at once?").wait_for()
    assert len(since()) == 0
    page.keyboard.press("x")  # any other key goes back
    page.keyboard.press("o")
    page.get_by_text("at once?").wait_for()
    page.keyboard.press("Escape")
    assert len(since()) == 0


def test_a_blind_example_shows_no_opinion_until_the_first_verdict(context, server, since):
    page = new_page(context)
    page.goto(f"{server.url}/suspects?controls=mixed+in&class=class+003")
    page.get_by_text("Blind: scores and suggestion are hidden").wait_for()
    page.locator('[data-testid="class-label"]').wait_for()
    here = shown(page)
    side = page.locator(f"{SESSION} .hl-desk .hl-side")
    assert "Suggested" not in side.inner_text() and "Scores" not in side.inner_text()
    assert page.locator('[data-testid="class-suggestion"]').count() == 0
    page.keyboard.press("w")
    page.get_by_text("There is no suggestion here.").first.wait_for()
    page.keyboard.press("u")
    wait_saved(page)
    event = since().iloc[-1]
    assert (
        event["example_id"] == here and event["evidence"]["blind"] is True and event["evidence"]["suggestion"] is None
    )
    assert 0 < event["evidence"]["probability"] <= 1
    page.keyboard.press("ArrowLeft")
    page.locator('[data-testid="neighbours"]').wait_for()
    assert "Suggested" in side.inner_text()


def test_what_somebody_else_looks_at_is_passed_over(context, server, since):
    from datetime import UTC, datetime

    from scoring.audit import Audit
    from scoring.queue import locks
    from scoring.reviews import ReviewLog

    page = new_page(context)
    with page.expect_response("**/hardlook/hold"):
        page.goto(f"{server.url}/suspects?class=class+000")
    ready(page)
    ids = queue(page)
    ids = ids[ids.index(shown(page)) :]
    page.close()
    audit = Audit.open(server.audit_path)
    with ReviewLog.open(audit.log_url, audit=audit.log_name(audit.log_url)) as log:
        locks.let_go(log, locks.held(log, datetime.now(UTC)).get(ids[1]) or "root")
        locks.claim(log, [ids[1]], "somebody else", datetime.now(UTC), 5)
    page = open_session(context, server, f"?class=class+000&at={ids[0].replace('/', '%2F')}")
    page.keyboard.press("u")
    wait_shown(page, ids[2])  # the second is looked at by somebody else
    assert since(1)["example_id"].tolist() == [ids[0]]
