"""Meetings: the agenda, one item for all, hands, outcomes as adjudications, precedents, classes, minutes."""

import threading

import pytest

from dashboard.auth import serving
from dashboard.queries import decisions, live_status
from scoring.audit import Audit
from scoring.audit.errors import HardlookError
from scoring.audit.storage import read_json, read_table
from scoring.reviews import Event, EventRefused, ReviewLog, meeting_agenda, meeting_minutes, meeting_outcomes, meetings

from ..audit.test_roles import as_person
from ..conftest import hardlook
from ..dashboard.test_routes import app_of
from ..databases import log_url, postgres, postgres_server  # noqa: F401  pytest finds the fixtures by name
from ..synthetic import make_audit

HOSTILE = "<img src=x onerror=alert(1)>\n# *not* a heading [x](http://evil.example) \u202eRTL"


@pytest.fixture
def log(log_url):
    with ReviewLog.open(log_url, "digits") as log:
        yield log


def said(log, example, reviewer, verdict, note=None, **fields):
    seq = 1 + max(log.acknowledged([reviewer]).values(), default=0)
    log.append(
        [
            Event(
                client=reviewer,
                seq=seq,
                example_id=example,
                reviewer=reviewer,
                action=fields.pop("action", "decide"),
                verdict=verdict,
                label="3",
                note=note,
                **fields,
            )
        ]
    )


@pytest.fixture
def disputed(log):
    """a: ana says 5, ben that 3 is right; b: both unsure; c: flagged by ana with hostile words; d: agreed."""
    said(log, "a", "ana", "other", "looks like a 5", new_label="5")
    said(log, "a", "ben", "given", "closed loop")
    for reviewer in ("ana", "ben"):
        said(log, "b", reviewer, "unsure")
        said(log, "d", reviewer, "given")
    said(log, "c", "ana", None, HOSTILE, action="flag")
    said(log, "a", "ana", None, action="flag")
    return log


def test_the_agenda_holds_disputes_then_flags_each_example_once(disputed):
    found = meeting_agenda.agenda(disputed)
    assert [(one["kind"], one["example_id"]) for one in found] == [("dispute", "a"), ("dispute", "b"), ("flag", "c")]
    assert "ana, ben differ" in found[0]["why"] and HOSTILE in found[2]["why"]
    assert [one["example_id"] for one in meeting_agenda.agenda(disputed, among=["c"])] == ["c"]


def test_everybody_is_at_the_item_where_the_lead_is_and_it_stays_on_the_agenda(disputed):
    meetings.start(disputed, meeting_agenda.agenda(disputed), "lea")
    assert meetings.go_to(disputed, 2)["at"] == 2 == meetings.current(disputed)["at"]
    assert meetings.move(disputed, -1)["at"] == 1 and meetings.move(disputed, 7)["at"] == 2
    assert meetings.go_to(disputed, 99)["at"] == 2 and meetings.go_to(disputed, -1)["at"] == 0
    with pytest.raises(HardlookError, match="has been open since"):
        meetings.start(disputed, meeting_agenda.agenda(disputed), "lea")
    meetings.end(disputed)
    assert meetings.current(disputed) is None and meetings.latest(disputed)["ended"]
    with pytest.raises(HardlookError, match="no meeting is open"):
        meetings.go_to(disputed, 1)
    assert meetings.start(disputed, meeting_agenda.agenda(disputed), "lea")["number"] == 2


def test_an_empty_agenda_opens_no_meeting(log):
    with pytest.raises(HardlookError, match="the agenda is empty"):
        meetings.start(log, meeting_agenda.agenda(log), "lea")


def test_an_outcome_is_an_adjudication_with_who_was_there_and_the_log_keeps_all_three(disputed):
    meetings.start(disputed, meeting_agenda.agenda(disputed), "lea")
    meetings.be_present(disputed, ["lea", "ana", "ben", "ana", " "])
    meetings.count_votes(disputed, 0, "it is 5", 3)
    outcome = {
        "at": 0,
        "verdict": "other",
        "new_label": "5",
        "note": "the loop is a smear",
        "precedent": "smears are 5",
    }
    state = meetings.record(disputed, "lea", outcome, {"label": "3", "fingerprint": "f"})
    assert state["recorded"] == {"0": 1}
    row = disputed.consensus().set_index("example_id").loc["a"]
    assert (row["status"], row["new_label"], row["reviewers"]) == ("adjudicated", "5", ("ana", "ben", "lea"))
    events = disputed.events(example_id="a")
    assert events["action"].tolist() == ["decide", "decide", "flag", "adjudicate"], "nothing is lost"
    evidence = events["evidence"].iloc[-1]
    assert (evidence["meeting"], evidence["present"], evidence["tally"]) == (1, ["lea", "ana", "ben"], {"it is 5": 3})
    assert [one["example_id"] for one in meeting_agenda.agenda(disputed)] == ["b", "c", "a"], (
        "its flag is another matter"
    )


def test_a_flag_is_taken_down_when_it_is_settled_and_a_slice_is_commented(disputed):
    items = [
        *meeting_agenda.agenda(disputed)[2:],
        meeting_agenda._item("slice", "s1", "Slice 0 of kmeans", "bad", ["s1", "s2"]),
    ]
    meetings.start(disputed, items, "lea")
    meetings.record(disputed, "lea", {"at": 0, "verdict": "given"}, {})
    assert "c" not in set(disputed.flags()["example_id"])
    meetings.record(disputed, "lea", {"at": 1, "note": "all blurred"}, {})
    assert disputed.comments()["example_id"].tolist() == ["s1"]
    with pytest.raises(HardlookError, match="needs a verdict, an issue or a note"):
        meetings.record(disputed, "lea", {"at": 1}, {})
    with pytest.raises(HardlookError, match="not on the agenda"):
        meetings.record(disputed, "lea", {"at": 7, "note": "x"}, {})


def test_an_outcome_whose_number_others_keep_taking_is_refused_and_not_called_recorded(disputed, monkeypatch):
    meetings.start(disputed, meeting_agenda.agenda(disputed), "lea")

    def taken(events):
        raise EventRefused(events[0].client, events[0].seq, "is in the log with other content (note)")

    monkeypatch.setattr(disputed, "append", taken)
    with pytest.raises(HardlookError, match="twenty times in a row; record the outcome again"):
        meetings.record(disputed, "lea", {"at": 0, "note": "blurred"}, {})
    assert meetings.current(disputed)["recorded"] == {}


def test_precedents_come_back_beside_look_alikes_and_go_with_their_undo(disputed):
    meetings.start(disputed, meeting_agenda.agenda(disputed), "lea")
    meetings.record(
        disputed, "lea", {"at": 0, "verdict": "other", "new_label": "5", "precedent": "smears are 5"}, {"label": "3"}
    )
    known = meeting_outcomes.precedents(disputed)
    texts = lambda *asked, **more: [one["text"] for one in meeting_outcomes.precedents_for(known, *asked, **more)]
    assert texts("a") == texts("z", ["y", "a"]) == texts("z", label="3", suggestion="5") == ["smears are 5"]
    assert texts("z", ["y"]) == texts("z", label="5", suggestion="3") == []
    disputed.append(
        [Event(client="lea", seq=1, example_id="a", reviewer="lea", action="undo", undoes=("meeting 1", 1))]
    )
    assert meeting_outcomes.precedents(disputed) == [] and len(disputed.consensus().query("status == 'disputed'")) == 1


def test_merges_and_splits_are_a_mapping_that_follows_their_order(disputed):
    meetings.start(disputed, meeting_agenda.agenda(disputed), "lea")
    for at, change in enumerate(
        [
            {"kind": "merge", "from": ["1", "7"], "to": ["stroke"]},
            {"kind": "split", "from": ["stroke"], "to": ["thin", "thick"]},
        ]
    ):
        meetings.record(disputed, "lea", {"at": at, "verdict": "given", "classes": change}, {})
    found = meeting_outcomes.class_mapping(disputed, ["1", "3", "7"])
    assert found["mapping"] == {"1": ["thin", "thick"], "3": ["3"], "7": ["thin", "thick"]}
    assert [one["kind"] for one in found["changes"]] == ["merge", "split"]
    for wrong in (
        {"kind": "merge", "from": ["1"], "to": ["x"]},
        {"kind": "split", "from": ["1"], "to": ["x"]},
        {"kind": "x"},
    ):
        with pytest.raises(HardlookError, match="change of classes"):
            meetings.record(disputed, "lea", {"at": 2, "verdict": "given", "classes": wrong}, {})


def test_minutes_tell_all_and_nothing_in_them_is_markup(disputed):
    meetings.start(disputed, meeting_agenda.agenda(disputed), "lea")
    meetings.count_votes(disputed, 0, "it is 5", 2)
    meetings.record(disputed, "lea", {"at": 0, "verdict": "other", "new_label": "5", "note": "smear"}, {"label": "3"})
    text = meeting_minutes.minutes(disputed, meetings.end(disputed), "Digits <b>")
    for words in (
        "meeting 1",
        "led by lea",
        "1 of 3 items decided",
        "votes: it is 5 2",
        "**decided by lea**: it is 5",
        "ana: it is 5; “looks like a 5”",
        "nothing was decided",
    ):
        assert words in text
    assert "<img" not in text and "<b>" not in text and "\n# \\*" not in text and "[x](" not in text


def test_acts_at_once_are_all_kept(disputed):
    meetings.start(disputed, meeting_agenda.agenda(disputed), "lea")

    def act(number):
        for by in (3, -2):
            meetings.count_votes(disputed, 0, f"answer {number % 2}", by)

    threads = [threading.Thread(target=act, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    state = meetings.current(disputed)
    assert state["tally"]["0"] == {"answer 0": 4, "answer 1": 4} and state["version"] == 17


def test_a_mapping_of_classes_is_exported_and_one_assigns_in_a_terminal(tmp_path, capsys):
    audit = make_audit(tmp_path / "audit", 12, ["cat", "dog"])
    example = read_table(audit.examples_path)["example_id"][0].as_py()
    with ReviewLog.open(audit.log_url, audit=audit.log_name(audit.log_url)) as log:
        said(log, example, "ana", None, action="flag")
        meetings.start(log, meeting_agenda.agenda(log), "lea")
        change = {"kind": "merge", "from": ["cat", "dog"], "to": ["pet"]}
        meetings.record(log, "lea", {"at": 0, "verdict": "given", "classes": change}, {})
    assert hardlook("export", audit.root, "--out", tmp_path / "out") == 0
    assert read_json(tmp_path / "out" / "class-mapping.json")["mapping"] == {"cat": ["pet"], "dog": ["pet"]}
    assert hardlook("assign", audit.root, "--to", "ana,ben=3", "--split", "train", "--class", "cat", "--by", "lea") == 0
    shown = capsys.readouterr().out
    assert "ana" in shown and f"next: hardlook dashboard {audit.root}" in shown
    labels = read_table(audit.examples_path).to_pandas().set_index("example_id")
    with ReviewLog.open(audit.log_url, audit="audit") as log:
        given = log.assignments()
        assert set(given["assignee"]) <= {"ana", "ben"} and set(given["reviewer"]) == {"lea"}
        expected = labels.index[(labels["label"] == "cat") & (labels["split"] == "train")]
        assert set(given["example_id"]) == set(expected) and len(expected)
    assert hardlook("assign", audit.root, "--release", "--split", "train") == 0
    with ReviewLog.open(audit.log_url, audit="audit") as log:
        assert log.assignments().empty
    for wrong in (
        ["--to", "ana", "--slice", "x"],
        ["--to", "ana", "--where", "no=1"],
        ["--split", "train"],
        ["--to", "ana=x"],
    ):
        assert hardlook("assign", audit.root, *wrong) != 0


# -- the routes ------------------------------------------------------------------------------------------------------


@pytest.fixture
def team(tmp_path):
    audit = make_audit(tmp_path / "audit", 12, ["cat", "dog"], thumbnails=True)
    config = audit.root / "audit.toml"
    config.write_text(f'{config.read_text()}\n[roles]\nlead = ["lea"]\nauditor = ["ana", "ben"]\nviewer = ["vic"]\n')
    client = app_of(Audit.open(audit.root), proxies=("127.0.0.1",))
    yield client, Audit.open(audit.root)
    serving.serve_this(audit.root)


def act(client, name, **body):
    return client.post("/hardlook/meeting", {"audit": serving.serving().token, **body}, **as_person(name))


def test_a_lead_leads_and_all_others_follow(team):
    client, audit = team
    log = decisions.open_log(audit)
    row = read_table(audit.examples_path).to_pylist()[0]
    for reviewer, verdict, new_label in (
        ("ana", "given", None),
        ("ben", "other", "dog" if row["label"] == "cat" else "cat"),
    ):
        log.append(
            [
                Event(
                    client=reviewer,
                    seq=1,
                    example_id=row["example_id"],
                    reviewer=reviewer,
                    action="decide",
                    verdict=verdict,
                    new_label=new_label,
                    label=row["label"],
                    note=f"<b>{reviewer}</b>",
                )
            ]
        )
    assert client.get("/hardlook/meeting", **as_person("ana")).json["open"] is False
    meetings.start(log, meeting_agenda.agenda(log), "lea")
    seen = client.get("/hardlook/meeting", **as_person("vic")).json
    assert seen["of"] == 1 and [one["reviewer"] for one in seen["item"]["said"]] == ["ana", "ben"]
    assert "“<b>ana</b>”" in seen["item"]["said"][0]["answer"], "as given; the page shows it as text"
    assert client.get("/hardlook/meeting", {"known": seen["known"]}, **as_person("vic")).json == {"same": True}
    followed = client.get("/hardlook/meeting", {"known": seen["known"]}, **as_person("ana")).json
    assert followed["present"] == ["lea", "vic", "ana"], "who follows is present, before anything is recorded"
    meetings.be_present(log, ["lea", "ana", "a guest"])
    assert client.get("/hardlook/meeting", **as_person("vic")).json["present"] == ["lea", "ana", "a guest"]
    meetings.be_present(log, ["lea", "ana", "vic"])
    for name in ("ana", "vic", "eve"):
        assert act(client, name, act="go", at=0).status == 403
        assert act(client, name, act="record", at=0, verdict="given").status == 403
    assert client.get("/hardlook/meeting", **as_person("eve")).status == 403
    assert act(client, "lea", act="record", at=0, verdict="other", new_label="elephant").status == 400
    assert act(client, "lea", act="hands", at=0, answer="unsure", by=2).json["item"]["tally"] == {"unsure": 2}
    reply = act(client, "lea", act="record", at=0, verdict="given", note="fine")
    assert reply.status == 200 and reply.json["item"]["outcome"].startswith("the label is right")
    event = log.events().iloc[-1]
    assert (event["reviewer"], event["action"], event["label"]) == ("lea", "adjudicate", row["label"])
    assert set(event["evidence"]["present"]) >= {"lea", "vic", "ana"}, "who followed was there"
    for wrong in (
        {"act": "dance", "at": 0},
        {"act": "go", "at": "x"},
        {"act": "hands", "at": 5, "by": 1},
        {"act": "hands", "at": 0},
    ):
        assert act(client, "lea", **wrong).status == 400
    assert client.post("/hardlook/meeting", {"audit": "0" * 16, "act": "go", "at": 0}, **as_person("lea")).status == 409


def test_what_a_second_reader_must_not_see_is_not_sent(team, monkeypatch):
    monkeypatch.setattr(live_status, "LOOK_SECONDS", 0)
    client, audit = team
    log = decisions.open_log(audit)
    ids = read_table(audit.examples_path)["example_id"].to_pylist()
    log.append(
        [
            Event(
                client="ana", seq=1, example_id=ids[0], reviewer="ana", action="decide", verdict="unsure", note="secret"
            )
        ]
    )

    def shown(name):
        states = client.post("/hardlook/decisions", {"ids": ids[:1]}, **as_person(name)).json["examples"]
        history = client.get("/hardlook/example", {"id": ids[0]}, **as_person(name)).json["history"]
        news = client.get("/hardlook/decisions", {"after": 0}, **as_person(name)).json["examples"]
        return len(states[ids[0]]["decisions"]), "secret" in str(history), str(news).count("unsure")

    assert shown("ana")[:2] == (1, True)
    assert shown("ben") == (0, False, 0)
    log.append([Event(client="ben", seq=1, example_id=ids[0], reviewer="ben", action="decide", verdict="given")])
    assert shown("ben")[:2] == (2, True), "with two answers there is nothing left to be blind to"


def test_a_blind_test_split_shows_no_model(team):
    client, audit = team
    config = audit.root / "audit.toml"
    config.write_text(f'{config.read_text()}\n[policy]\ntest = "blind"\n')
    table = read_table(audit.examples_path).to_pandas().set_index("example_id")
    test = table.index[table["split"] == "test"]
    train = table.index[table["split"] == "train"]
    assert len(test) and len(train)
    for example, blind in ((test[0], True), (train[0], False)):
        found = client.get("/hardlook/example", {"id": example}, **as_person("lea")).json
        assert (found["scores"] == []) == blind
        assert not (blind and found["probabilities"])
