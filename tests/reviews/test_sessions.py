"""What the log says of a sitting, of what was looked at, and of what a later model brings back."""

import numpy as np
import pandas as pd

from scoring.queue.order import together
from scoring.reviews import Event, ReviewLog
from scoring.reviews.sessions import ReviewSession, inspected, reopened, review_session


def decided(*seconds):
    times = pd.to_datetime(list(seconds), unit="s", utc=True)
    return pd.DataFrame({"created_at": times, "example_id": [f"e{at}" for at in range(len(seconds))]})


def at(second):
    return pd.Timestamp(second, unit="s", tz="UTC")


def test_a_pause_begins_a_new_sitting():
    frame = decided(0, 10, 20, 5000, 5010)
    assert review_session(frame, at(5020)) == ReviewSession(2, 5000.0, 10.0)
    assert review_session(frame, at(9000)) == ReviewSession()
    assert review_session(frame[:0], at(0)) == ReviewSession()


def test_a_long_look_counts_at_most_a_minute():
    assert review_session(decided(0, 10, 310, 320), at(321)).active == 10 + 60 + 10


def test_the_order_of_the_rows_is_of_no_matter():
    frame = decided(0, 10, 20)
    assert review_session(frame, at(30)) == review_session(frame.iloc[::-1], at(30))


def test_inspected_is_opened_or_half_a_second_on_screen():
    evidence = [{"opened": True, "on_screen": 0}, {"on_screen": 0.5}, {"on_screen": 0.49}, {}, None, None]
    frame = pd.DataFrame({"evidence": evidence, "seconds": [None, None, 60, 0.6, 0.4, None]})
    assert inspected(frame).tolist() == [True, True, False, True, False, False]


def test_inspected_follows_from_the_log(tmp_path):
    with ReviewLog.open(f"sqlite:///{tmp_path / 'r.sqlite'}", audit="a") as log:
        shared = {"client": "c", "reviewer": "ada", "action": "decide", "verdict": "given", "label": "cat"}
        shown = [{"on_screen": 2.5, "opened": False}, {"on_screen": 0.1, "opened": False, "bulk": 30}]
        log.append([Event(seq=at, example_id=f"e{at}", evidence=one, **shared) for at, one in enumerate(shown, 1)])
        assert inspected(log.events()).tolist() == [True, False]


def events(*rows):
    base = {
        "verdict": "given",
        "label": "cat",
        "new_label": None,
        "labels": (),
        "evidence": {"run": "old", "model": "m1"},
    }
    return pd.DataFrame([{**base, **row} for row in rows])


def test_a_decided_example_returns_only_where_the_new_model_contradicts_it():
    frame = events(
        {"example_id": "right"},
        {"example_id": "contradicted"},
        {"example_id": "relabelled", "verdict": "other", "new_label": "dog"},
        {"example_id": "several", "verdict": "several", "labels": ("cat", "dog")},
        {"example_id": "none", "verdict": "none"},
        {"example_id": "unsure", "verdict": "unsure"},
        {"example_id": "no opinion"},
    )
    opinions = dict.fromkeys(frame["example_id"], "dog") | {"right": "cat"}
    del opinions["no opinion"]
    assert reopened(frame, opinions, "new", "m2") == {"contradicted"}


def test_a_model_that_was_on_screen_contradicts_nothing():
    frame = events({"example_id": "a"}, {"example_id": "b", "evidence": {"run": "new", "model": "m2"}})
    opinions = {"a": "dog", "b": "dog"}
    assert reopened(frame, opinions, "old", "m1") == {"b"}
    assert reopened(frame, opinions, "new", "m2") == {"a"}
    seen = events({"example_id": "a"}, {"example_id": "a", "evidence": {"run": "new", "model": "m2"}})
    assert reopened(seen, opinions, "new", "m2") == set()


def test_the_same_run_name_with_new_weights_is_a_later_model():
    frame = events({"example_id": "a"})
    assert reopened(frame, {"a": "dog"}, "old", "m2") == {"a"}
    assert reopened(frame, {"a": "dog"}, "old", None) == set()


def test_members_of_a_group_stand_where_its_first_member_stands():
    rng = np.random.default_rng(0)
    groups = [None if g == 9 else f"g{g}" for g in rng.integers(0, 10, 60)]
    order = together(groups)
    assert sorted(order) == list(range(60))
    arranged = [groups[at] for at in order]
    for name in set(groups) - {None}:
        places = [at for at, one in enumerate(arranged) if one == name]
        assert places == list(range(places[0], places[0] + len(places)))
    firsts = [at for at, place in enumerate(order) if groups[place] is None or groups.index(groups[place]) == place]
    assert [order[at] for at in firsts] == sorted(order[at] for at in firsts)
