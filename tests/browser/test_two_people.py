"""Two people at one queue, in real browsers: what one has finished is not served to the other."""

from __future__ import annotations

from urllib.parse import urljoin

import pytest

from scoring.audit.storage import read_table
from scoring.reviews import Event, ReviewLog

from ..synthetic import make_audit
from .team import PersonProxy
from .waits import SESSION, shown, until, wait_saved

WINDOW = (1440, 900)
STEPS = 12
KEYS = {"ana": "q", "ben": "o"}
"""ana finds every label right, ben finds that no class fits: what both decide is disputed."""
WORK = """async ([key, steps, pause]) => {
  const shown = () => document.querySelector('.hl-middle .hl-frame [data-shows]').dataset.shows;
  window.served = [];
  for (let step = 0; step < steps; step += 1) {
    const example = shown();
    window.served.push(example);
    document.body.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true, cancelable: true}));
    for (const until = Date.now() + 5000; shown() === example && Date.now() < until;)
      await new Promise((done) => setTimeout(done, 5));
    await new Promise((done) => setTimeout(done, pause));
  }
  window.finished = true;
}"""


@pytest.fixture
def server(start, tmp_path):
    audit = make_audit(tmp_path / "audit", 80, 3, thumbnails=True)
    config = audit.root / "audit.toml"
    config.write_text(f'{config.read_text()}\n[roles]\nauditor = ["*"]\n[policy]\nsecond_opinions = 0.0\n')
    return start(audit.root, proxies=("127.0.0.1",))


@pytest.fixture
def people(context, server):
    """people(name) → that person's session. One profile serves all: each has an origin of their own."""
    proxies = []

    def person(name, address="/suspects?split=train"):
        proxies.append(PersonProxy(name, server.port))
        page = context.new_page()
        page.goto(urljoin(proxies[-1].url, address))
        page.wait_for_selector(SESSION)
        shown(page)
        return page

    yield person
    for proxy in proxies:
        proxy.close()


def decided_twice(server):
    events = server.events()
    decided = events[events["action"] == "decide"]
    readers = decided.groupby("example_id")["reviewer"].nunique()
    return readers[readers > 1].index.tolist()


def decide(page, name):
    """One step of a person: a key, and the next example. Returns what was decided."""
    example = shown(page)
    page.keyboard.press(KEYS[name])
    until(lambda: shown(page) != example)
    return example


def test_two_people_in_turn_decide_nothing_twice(people, server):
    ana, ben = people("ana"), people("ben")
    served = {"ana": [], "ben": []}
    for step in range(STEPS):
        for name, page in (("ana", ana), ("ben", ben)):
            for _ in range(1 + step % 3):  # at a pace of their own
                served[name].append(decide(page, name))
    for page in (ana, ben):
        wait_saved(page)
    assert not set(served["ana"]) & set(served["ben"]) and not decided_twice(server)
    assert len(server.events()) == len(served["ana"]) + len(served["ben"]) >= 4 * STEPS


@pytest.mark.parametrize("pause", [150, 0])
def test_two_people_at_once_decide_nothing_twice(people, server, pause):
    pages = {name: people(name) for name in KEYS}
    for name, page in pages.items():
        page.evaluate(f"(given) => {{ ({WORK})(given); }}", [KEYS[name], 2 * STEPS, pause])
    for page in pages.values():
        page.wait_for_function("window.finished")
        wait_saved(page)
    served = {name: page.evaluate("window.served") for name, page in pages.items()}
    assert not set(served["ana"]) & set(served["ben"]) and not decided_twice(server)
    assert len(server.events()) == 4 * STEPS


def test_what_a_colleague_decides_elsewhere_is_passed_over_at_the_next_step(people, server):
    """ben decides on a sheet, where nothing is locked, while ana looks at the example before."""
    ana = people("ana")
    run_order = ana.evaluate("[...document.querySelectorAll('.hl-session [data-strip]')].map(n => n.dataset.strip)")
    table = read_table(server.audit_path / "runs" / "main" / "scores" / "aum.parquet", ["example_id", "aum"])
    frame = table.to_pandas().dropna()
    frame = frame[frame["example_id"].str.startswith("train/")].sort_values(["aum", "example_id"])
    order = run_order or frame["example_id"].tolist()
    for seq in range(1, 6):
        here = shown(ana)
        following = order[order.index(here) + 1]
        with ReviewLog.open(f"sqlite:///{server.audit_path / 'reviews.sqlite'}", audit="audit") as log:
            log.append(
                [
                    Event(
                        client="ben",
                        seq=seq,
                        example_id=following,
                        reviewer="ben",
                        action="decide",
                        verdict="none",
                        label="x",
                    )
                ]
            )
        ana.keyboard.press(KEYS["ana"])
        until(lambda here=here, following=following: shown(ana) not in (here, following))
        ana.wait_for_timeout(300)
    wait_saved(ana)
    assert not decided_twice(server)
