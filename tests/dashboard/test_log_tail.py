"""How far a log has come: one reading of what is new, for whoever follows it."""

from dashboard.queries.live_status import LiveStatus
from dashboard.queries.log_tail import Tail
from scoring.reviews import Event, ReviewLog


def flag(seq):
    return Event(client="tab", seq=seq, example_id=f"{seq}", reviewer="ana", action="flag")


def test_a_tail_starts_at_the_logs_end_and_tells_only_what_came_since(tmp_path):
    with ReviewLog.open(f"sqlite:///{tmp_path / 'r.sqlite'}", audit="x") as log:
        assert len(Tail(log).look()) == 0
        log.append([flag(1), flag(2)])
        tail = Tail(log)
        assert tail.position == -1 and len(tail.look()) == 0 and tail.position == tail.began == 2
        log.append([flag(3)])
        assert tail.look()["example_id"].tolist() == ["3"]
        assert (tail.position, tail.began) == (3, 2) and len(tail.look()) == 0


def test_standings_remember_what_came_after_the_first_look(tmp_path):
    with ReviewLog.open(f"sqlite:///{tmp_path / 'r.sqlite'}", audit="x") as log:
        log.append([flag(1)])
        standings = LiveStatus(log)
        assert standings.now(at_once=True) == 1
        log.append([flag(2)])
        assert standings.now(at_once=True) == 2
        assert set(standings.changed(1)["examples"]) == {"2"} and not standings.changed(1)["again"]
        assert standings.changed(0)["again"], "what came before the first look was never kept"
