"""What one reviewer has finished is not served to another: queue, locks and log, through the real routes."""

import threading
from collections import Counter
from datetime import UTC, datetime

import pytest
from streamlit.testing.v1 import AppTest
from streamlit.util import calc_hash

from dashboard.auth import serving
from dashboard.blinding import second_reader
from dashboard.queries import database, decisions
from dashboard.review_session import queue, shared_queue
from dashboard.review_session.arrangement import Arrangement
from dashboard.server import SCRIPT
from scoring.audit import Audit
from scoring.queue import locks
from scoring.queue.assignments import assignment_events
from scoring.reviews import Event

from ..audit.test_roles import as_person
from ..synthetic import make_audit
from .test_routes import app_of, event, send
from .test_views import grids, quiet, sound  # noqa: F401  pytest finds the fixture by name

ROLES = '\n[roles]\nlead = ["lea"]\nauditor = ["*"]\n'
PEOPLE, VERDICTS = ("ana", "ben", "cem", "dia"), ("given", "none", "given", "none")


def audit_of(tmp_path, second_opinions=0.0, n=60):
    made = make_audit(tmp_path / "audit", n, 3)
    config = made.root / "audit.toml"
    config.write_text(f"{config.read_text()}{ROLES}[policy]\nsecond_opinions = {second_opinions}\n")
    return Audit.open(made.root)


@pytest.fixture
def audit(tmp_path):
    return audit_of(tmp_path)


def client_of(audit):
    return app_of(audit, proxies=("127.0.0.1",), user_header="X-Forwarded-User")


def page_of(audit, name, monkeypatch, **parameters):
    """The session of a person as the page sends it: the ids in order, and the first one."""
    monkeypatch.setattr(serving, "verified_name", lambda _headers: name)
    app = AppTest.from_file(str(SCRIPT), default_timeout=300)
    app._page_hash = calc_hash("suspects")
    for key, value in {"split": "train", **parameters}.items():
        app.query_params[key] = value
    data = grids(sound(app.run()))[0]
    return [cell["id"] for cell in data["panels"][0]["cells"]], data["at"]


class Session:
    """What the session in the browser does: it goes through the window that its page sent, holds what it will show next
    and decides what it holds; what is held by others or closed it passes over."""

    def __init__(self, client, name, ids, verdict="given"):
        self.client, self.name, self.ids, self.verdict = client, name, ids, verdict
        self.holders, self.served = {}, []

    def hold(self):
        near = [one for one in self.ids if one not in self.served and self.holders.get(one, self.name) == self.name]
        near = near[: shared_queue.LOCKED_AHEAD]
        reply = self.client.post("/hardlook/hold", {"ids": near}, **as_person(self.name))
        assert reply.status == 200, reply.text
        self.holders |= reply.json
        return near

    def step(self):
        """Serves the next example and decides it; False where none is left."""
        while near := self.hold():
            mine = [one for one in near if self.holders[one] == self.name]
            if mine:
                self.served.append(mine[0])
                seq = len(self.served)
                sent = event(seq, mine[0], client=self.name, verdict=self.verdict, label="x")
                assert send(self.client, sent, **as_person(self.name)).json["saved"]
                return True
        return False


def read_twice(audit):
    found = decisions.open_log(audit).decisions()
    return sorted(one for one, n in Counter(found["example_id"]).items() if n > 1)


def disputes(audit):
    return (decisions.open_log(audit).consensus()["status"] == "disputed").sum()


def test_two_people_in_turn_are_served_nothing_twice(audit, monkeypatch):
    client = client_of(audit)
    ana = Session(client, "ana", page_of(audit, "ana", monkeypatch)[0])
    ben = Session(client, "ben", page_of(audit, "ben", monkeypatch)[0], "none")
    turns = [ana, ben, ben, ana, ana, ana, ben]  # nobody keeps the other's pace
    while sum(one.step() for one in turns):  # each has its turn
        pass
    assert not set(ana.served) & set(ben.served) and not read_twice(audit) and not disputes(audit)
    train = [one for one in page_ids(audit) if one.startswith("train/")]
    assert sorted(ana.served + ben.served) == sorted(train), "and nothing is left out"


def page_ids(audit):
    run = audit.run()
    return database.ranking(audit, run, database.score_columns(run)[0], database.Selection("train"))[
        "example_id"
    ].to_pylist()


def test_people_at_once_are_served_nothing_twice(audit):
    client = client_of(audit)
    sessions = [Session(client, name, page_ids(audit), verdict) for name, verdict in zip(PEOPLE, VERDICTS, strict=True)]
    failed = []

    def work(session):
        try:
            while session.step():
                pass
        except Exception as error:  # noqa: BLE001  a thread's failure is raised below
            failed.append(error)

    threads = [threading.Thread(target=work, args=(one,)) for one in sessions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed, failed
    assert not read_twice(audit) and not disputes(audit)
    assert sorted(one for session in sessions for one in session.served) == sorted(page_ids(audit))


def test_what_needs_two_readers_is_served_to_two_and_no_more(tmp_path, monkeypatch):
    audit = audit_of(tmp_path, second_opinions=1.0)
    client = client_of(audit)
    ana, ben, cem = (Session(client, name, page_ids(audit)) for name in ("ana", "ben", "cem"))
    while ana.step():
        pass
    assert len(ana.served) == len(page_ids(audit))
    assert set(page_of(audit, "ben", monkeypatch)[0]) == set(ana.served), "the page has them for the second reader"
    while ben.step() | ben.step() | cem.step():
        pass
    assert sorted(ben.served + cem.served) == sorted(ana.served) and ben.served and cem.served


def test_an_unsure_goes_to_one_more_person(audit):
    client = client_of(audit)
    ids = page_ids(audit)
    ana = Session(client, "ana", ids[:1], "unsure")
    assert ana.step() and not ana.step()
    ben, cem = Session(client, "ben", ids[:1]), Session(client, "cem", ids[:1])
    assert ben.step() and not cem.step()


def test_what_was_decided_since_is_told_when_the_next_examples_are_held(audit):
    client = client_of(audit)
    ids = page_ids(audit)[:6]
    held = client.post("/hardlook/hold", {"ids": ids}, **as_person("ana")).json
    assert held == dict.fromkeys(ids, "ana")
    send(client, event(1, ids[1], client="ben"), **as_person("ben"))  # from a sheet, where no lock is asked for
    send(client, event(1, ids[2], client="ana"), **as_person("ana"))
    told = client.post("/hardlook/hold", {"ids": ids}, **as_person("ana")).json
    assert told == {**dict.fromkeys(ids, "ana"), ids[1]: None, ids[2]: None}
    send(client, event(2, ids[2], client="ben"), **as_person("ben"))
    send(client, event(3, ids[1], client="ben", action="undo", verdict=None, undoes=["ben", 1]), **as_person("ben"))
    assert client.post("/hardlook/hold", {"ids": ids}, **as_person("ana")).json[ids[1]] == "ana", "open again"


def test_what_is_given_to_others_meanwhile_is_passed_over(audit):
    client = client_of(audit)
    ids = page_ids(audit)[:3]
    decisions.open_log(audit).append(assignment_events({ids[0]: "ben", ids[1]: "ana"}, "lea", "lea 1"))
    assert client.post("/hardlook/hold", {"ids": ids}, **as_person("ana")).json == {
        ids[0]: None,
        ids[1]: "ana",
        ids[2]: "ana",
    }


def test_the_log_is_read_after_the_locks_are_taken(audit, monkeypatch):
    """Somebody who decides and gives back between the two is not missed."""
    client = client_of(audit)
    ids = page_ids(audit)[:2]
    claim = locks.claim

    def claim_late(log, some, who, *more):
        log.append(
            [Event(client="ben", seq=1, example_id=ids[0], reviewer="ben", action="decide", verdict="given", label="x")]
        )
        return claim(log, some, who, *more)

    monkeypatch.setattr(locks, "claim", claim_late)
    assert client.post("/hardlook/hold", {"ids": ids}, **as_person("ana")).json == {ids[0]: None, ids[1]: "ana"}


def test_a_page_starts_at_an_example_that_its_visitor_holds(audit, monkeypatch):
    serving.serve_this(audit.root, proxies=("127.0.0.1",), user_header="X-Forwarded-User")
    log, claim, first = decisions.open_log(audit), locks.claim, []

    def taken_before(log, ids, who, *more):
        if not first:  # ben is a moment quicker
            first.append(ids[0])
            claim(log, ids[:1], "ben", *more)
        return claim(log, ids, who, *more)

    monkeypatch.setattr(locks, "claim", taken_before)
    ids, at = page_of(audit, "ana", monkeypatch)
    assert first[0] not in ids and at == ids[0]
    assert locks.held(log, datetime.now(UTC))[at] == "ana"


def test_a_frozen_queue_drops_what_others_decide_and_keeps_its_visitors_own(audit, monkeypatch):
    """Two people on servers of their own, each alone there, with one log."""
    serving.serve_this(audit.root)
    me = serving.serving().identity.reviewer
    run = audit.run()
    whole = Arrangement.of(database.ranking(audit, run, database.score_columns(run)[0], database.Selection("train")))
    log, ids = decisions.open_log(audit), whole.ids

    def decide(seq, example, who, **more):
        more = {"verdict": "given", "label": "x", "action": "decide", "evidence": {"run": run.name}} | more
        log.append([Event(client=who, seq=seq, example_id=example, reviewer=who, **more)])

    decide(1, ids[0], "zoe")
    as_of = decisions.last_position(audit)
    decide(2, ids[1], "zoe")
    decide(1, ids[2], me)
    decide(2, ids[0], me)
    assert queue.to_review(audit, run, whole, as_of).ids == ids[2:], "its own stays where it was"
    assert queue.to_review(audit, run, whole).ids == ids[3:]
    undo = {"action": "undo", "verdict": None, "label": None, "undoes": ("zoe", 2)}
    decide(3, ids[1], "zoe", **undo)
    assert queue.to_review(audit, run, whole, as_of).ids == ids[1:], "what is undone returns"


def test_who_audits_alone_is_told_what_a_colleague_on_the_same_log_decided(audit):
    serving.serve_this(audit.root)
    log, ids = decisions.open_log(audit), page_ids(audit)[:3]
    log.append(assignment_events({ids[2]: "zoe"}, "lea", "lea 1"))
    log.append([Event(client="z", seq=1, example_id=ids[0], reviewer="zoe", action="decide", verdict="given")])
    me = serving.serving().identity.reviewer
    assert not shared_queue.is_shared() and second_reader.policy(audit).second_opinions == 0
    assert shared_queue.hold(audit, ids) == {ids[0]: None, ids[1]: me, ids[2]: me}
