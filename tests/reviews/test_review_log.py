import json
import subprocess
import sys
import threading

import pandas as pd
import pytest

from scoring.audit.errors import HardlookError
from scoring.reviews import Event, EventRefused, ReviewLog

from ..databases import log_url, postgres, postgres_server  # noqa: F401  pytest finds the fixtures by name

AWKWARD = [
    "<script>alert('x')</script> & \"quotes\" 'n' `ticks`",
    "\u202eright to left\u202c שלום مرحبا",
    "=cmd|' /C calc'!A0",
    "\ttab\r\nline\u2028 \x1b \x7f",
    "x" * 12_000,
    "'; DROP TABLE hardlook_events; -- %s :name ? {}",
    "👩‍⚕️ e\u0301 \ufeff",
    "\\u0000 \\",
]


def decision(seq, client="tab", example_id="a", reviewer="ana", **fields):
    base = {"action": "decide", "verdict": "given", **fields}
    return Event(client=client, seq=seq, example_id=example_id, reviewer=reviewer, **base)


@pytest.fixture
def log(log_url):
    with ReviewLog.open(log_url, "digits") as log:
        yield log


# -- appending --------------------------------------------------------------------------------------


def test_an_event_comes_back_as_it_was_sent(log):
    sent = decision(
        7,
        label="3",
        fingerprint="f00",
        verdict="several",
        labels=["3", "5"],
        issues=["duplicate"],
        note="two",
        batch="bulk",
        evidence={"scores": {"aum": -0.1}, "page": "/grid", "loss": None},
        seconds=0.1,
        round=2,
    )
    before = pd.Timestamp.now("UTC")
    log.append([sent])
    row = log.events().iloc[0].to_dict()
    assert before - pd.Timedelta("1s") <= row.pop("created_at") <= pd.Timestamp.now("UTC")
    assert (row.pop("audit"), row.pop("position")) == ("digits", 1) and pd.isna(row.pop("undoes_position"))
    assert Event(**row) == sent


@pytest.mark.parametrize("text", AWKWARD)
def test_awkward_text_is_stored_as_given(log, text):
    log.append(
        [
            decision(
                1,
                example_id=text,
                reviewer=text,
                label=text,
                note=text,
                issues=[text],
                batch=text,
                verdict="other",
                new_label=text + "!",
                evidence={text: text},
            )
        ]
    )
    row = log.events(example_id=text).iloc[0]
    assert {row.example_id, row.reviewer, row.label, row.note, row.batch, *row.issues, *row.evidence} == {text}
    assert log.consensus().new_label[0] == text + "!"


def test_sending_again_writes_nothing(log):
    events = [decision(1, evidence={"p": 0.1}), decision(2, action="undo", verdict=None, undoes=("tab", 1))]
    assert log.append(events) == {"tab": 2}
    assert log.append([*events, decision(3), decision(3)]) == {"tab": 3}
    assert log.events().seq.tolist() == [1, 2, 3]


@pytest.mark.parametrize("change", [{"verdict": "none"}, {"note": "x"}, {"evidence": {"p": 1}}, {"example_id": "b"}])
def test_other_content_under_a_used_number_is_refused_and_nothing_is_written(log, change):
    log.append([decision(1)])
    with pytest.raises(EventRefused, match=f"event 'tab' 1: .* other content .*{next(iter(change))}"):
        log.append([decision(2), decision(1, **change)])
    assert log.events().seq.tolist() == [1]
    assert log.append([decision(2)]) == {"tab": 2}


def test_one_batch_cannot_contradict_itself(log):
    with pytest.raises(EventRefused, match="other content"):
        log.append([decision(1), decision(1, note="x")])
    assert log.events().empty


def test_acknowledged_means_that_nothing_before_is_missing(log):
    assert log.append([decision(1), decision(2), decision(5), decision(1, client="other")]) == {
        "tab": 2,
        "other": 1,
    }
    assert log.append([decision(4)]) == {"tab": 2}
    assert log.append([decision(3)]) == {"tab": 5}
    assert log.acknowledged(["tab", "other", "nobody"]) == {"tab": 5, "other": 1}
    assert log.append([]) == {}


def test_a_second_process_acknowledges_the_same(log, log_url):
    log.append([decision(seq) for seq in (10, 11, 12, 15)])
    with ReviewLog.open(log_url, "digits") as other:
        assert other.append([decision(10)]) == log.acknowledged(["tab"]) == {"tab": 12}


def test_an_undo_must_name_an_act_of_the_same_reviewer(log):
    log.append([decision(1)])
    with pytest.raises(EventRefused, match="undoes 'tab' 9, which is not in this audit's log"):
        log.append([decision(2, action="undo", verdict=None, undoes=("tab", 9))])
    with pytest.raises(EventRefused, match="undoes an event of 'ana'; record a decision"):
        log.append([decision(2, reviewer="ben", action="undo", verdict=None, undoes=("tab", 1))])
    both = [decision(2), decision(3, action="undo", verdict=None, undoes=("tab", 2))]
    assert log.append(both) == {"tab": 3}, "an act of the same append can be undone"
    assert log.events().undoes_position.tolist() == [pd.NA, pd.NA, 2]


def test_a_new_label_must_be_a_class(log_url):
    with ReviewLog.open(log_url, "digits", classes=["3", "5"]) as log:
        with pytest.raises(EventRefused, match="'7' is not a class of this audit; it has 2"):
            log.append([decision(1), decision(2, verdict="other", new_label="7")])
        assert log.events().empty


# -- reading ----------------------------------------------------------------------------------------


def test_events_go_on_after_a_position(log):
    log.append([decision(seq, example_id=f"{seq % 2}") for seq in range(1, 7)])
    first = log.events(limit=4)
    rest = log.events(after=int(first.position.iloc[-1]))
    assert first.seq.tolist() + rest.seq.tolist() == [1, 2, 3, 4, 5, 6]
    assert log.events(example_id="1", after=2).seq.tolist() == [3, 5]


def test_a_database_holds_many_audits_and_one_log_sees_its_own(log, log_url):
    log.append([decision(1)])
    with ReviewLog.open(log_url, "letters") as letters, ReviewLog.open(log_url) as everything:
        letters.append([decision(1, verdict="none")])
        log.append([decision(2)])
        assert letters.decisions().verdict.tolist() == ["none"] and log.decisions().verdict.tolist() == ["given"]
        assert everything.events().audit.tolist() == ["digits", "letters", "digits"]
        assert everything.events().position.tolist() == [1, 2, 3]
        assert everything.decisions().audit.tolist() == ["letters", "digits"]
        assert everything.audits().to_dict("list") == {"audit": ["digits", "letters"], "events": [2, 1]}
        with pytest.raises(HardlookError, match="opened for all audits, read-only"):
            everything.acknowledged(["tab"])
        with pytest.raises(HardlookError, match="opened for all audits, read-only"):
            everything.append([decision(1)])


def test_derived_tables_follow_what_others_append(log, log_url):
    assert log.decisions().empty
    with ReviewLog.open(log_url, "digits") as other:
        other.append([decision(1)])
        assert log.decisions().verdict.tolist() == ["given"]
        other.append([decision(2, verdict="none"), decision(1, client="x", reviewer="ben", verdict="none")])
    assert log.decisions().verdict.tolist() == ["none", "none"]


def test_a_reader_that_follows_many_writers_skips_nothing(log, log_url):
    writers, each = 8, 12
    done = threading.Event()
    seen = []

    def write(name):
        with ReviewLog.open(log_url, "digits") as own:
            for seq in range(1, each + 1):
                own.append([decision(seq, client=name, reviewer=name)])

    def follow():
        position = 0
        while True:
            last_round = done.is_set()
            fresh = log.events(after=position)
            seen.extend(zip(fresh.client, fresh.seq, strict=True))
            position = int(fresh.position.iloc[-1]) if len(fresh) else position
            if last_round:
                return

    threads = [threading.Thread(target=write, args=(f"w{n}",)) for n in range(writers)]
    reader = threading.Thread(target=follow)
    for thread in [*threads, reader]:
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    reader.join()
    stored = log.events()
    assert seen == list(zip(stored.client, stored.seq, strict=True))
    assert stored.position.tolist() == list(range(1, writers * each + 1))
    assert all(group.seq.is_monotonic_increasing for _, group in stored.groupby("client"))


def test_one_log_may_be_shared_among_threads(log):
    def write(name):
        for seq in range(1, 11):
            log.append([decision(seq, client=name, reviewer=name)])
            log.decisions()

    threads = [threading.Thread(target=write, args=(f"w{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(log.events()) == 40 and len(log.decisions()) == 4


def test_importing_the_log_needs_neither_torch_nor_a_browser():
    code = "import scoring.reviews, scoring.corrections.label_patch, sys, json; print(json.dumps(sorted(sys.modules)))"
    loaded = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
    assert not {"torch", "ray", "streamlit", "sklearn", "psycopg"} & set(loaded)


def test_without_an_act_the_acts_of_other_tabs_with_its_number_still_stand(log):
    log.append(
        [
            decision(1, client="one"),
            decision(1, client="two", reviewer="ben"),
            decision(2, client="one", example_id="b"),
        ]
    )
    events, stands = log.without({"client": "one", "seq": 1, "batch": None})
    assert dict(zip(events["client"], stands, strict=True)) == {"one": False, "two": True}
    assert events["example_id"].tolist() == ["a", "a"]
