"""A frozen queue is worked through without reading the log again: an event costs its own row, however long the log."""

import pytest

from dashboard.auth import serving
from dashboard.queries import decisions
from scoring.audit import Audit
from scoring.reviews import Event, event_store

from ..synthetic import make_audit
from .test_views import page, quiet, sound  # noqa: F401  pytest finds the fixture by name

EVENTS = 300


def event(seq, example, reviewer, verdict="given"):
    return Event(
        client=reviewer,
        seq=seq,
        example_id=example,
        reviewer=reviewer,
        action="decide",
        verdict=verdict,
        label="class 001",
        evidence={"run": "main"},
    )


@pytest.fixture
def audit(tmp_path):
    made = make_audit(tmp_path / "audit", 400, 4)
    config = made.root / "audit.toml"
    config.write_text(f'{config.read_text()}\n[roles]\nlead = ["lea"]\nauditor = ["*"]\n')
    return Audit.open(made.root)


@pytest.fixture
def rows_read(monkeypatch):
    """The number of events that each reading of a log has returned."""
    found, read = [], event_store.read_events

    def counted(*given):
        frame = read(*given)
        found.append(len(frame))
        return frame

    monkeypatch.setattr(event_store, "read_events", counted)
    return found


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("suspects", {"split": "train"}),
        ("suspects", {"split": "train", "decision": "undecided"}),
        ("suspects", {"split": "train", "view": "Sheet"}),
        ("suspects", {"split": "train", "controls": "mixed in"}),
        ("grid", {"split": "train", "decision": "undecided"}),
    ],
    ids=str,
)
@pytest.mark.parametrize("team", [False, True])
def test_an_event_costs_one_row_and_not_the_whole_log(audit, rows_read, monkeypatch, name, parameters, team):
    if team:
        monkeypatch.setattr(serving, "verified_name", lambda _headers: "ana")
        access = {"proxies": ("127.0.0.1",), "user_header": "X-Forwarded-User"}
        monkeypatch.setattr("tests.dashboard.test_views.serve_this", lambda root: serving.serve_this(root, **access))
    serving.serve_this(audit.root)
    log = decisions.open_log(audit)
    verdicts = ("given", "unsure")
    log.append([event(n, f"train/{n:06d}.png", "ben", verdicts[n % 2]) for n in range(1, EVENTS + 1)])
    app = page(audit, name, **parameters)
    assert sum(rows_read) >= EVENTS, "the first look reads all"
    for seq in (EVENTS + 1, EVENTS + 2):
        log.append([event(seq, f"train/{seq:06d}.png", "ben")])
        rows_read.clear()
        sound(app.run())
        assert sum(rows_read) == 1, rows_read
    rows_read.clear()
    sound(app.run())
    assert sum(rows_read) == 0
