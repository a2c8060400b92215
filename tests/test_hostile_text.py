"""Names, notes, class names and ids with markup, quotes, right-to-left marks, 10,000 characters and NUL: kept as given,
or refused with a reason; in the log on both databases, in locks, assignments, minutes and patches."""

from datetime import UTC, datetime

import pandas as pd
import pytest

from dashboard.auth import serving
from dashboard.blinding import model_output, second_reader
from dashboard.queries import decisions
from scoring.audit import Audit
from scoring.audit.storage import read_table
from scoring.corrections.label_patch import corrected_labels, read_patch, write_patch
from scoring.queue import locks
from scoring.queue.assignments import assignees, assignment_events, for_reviewer
from scoring.reviews import Event, ReviewLog, meeting_agenda, meeting_minutes, meeting_outcomes, meetings
from scoring.reviews.event import EventRefused

from .audit.test_roles import as_person
from .dashboard.test_routes import app_of, event, send
from .databases import log_url, postgres, postgres_server  # noqa: F401  pytest finds the fixtures by name
from .synthetic import make_audit

NOW = datetime(2030, 1, 1, tzinfo=UTC)
TEXTS = {
    "markup": "<img src=x onerror=alert(1)> **b** [l](javascript:x) $x^2$ :material/home:",
    "quotes": "'; DROP TABLE hardlook_events; -- \"`\\ %s {0} :name",
    "right to left": "\u202egnp.exe\u202c \u200f\u061c אבג",
    "long": "ж" * 10_000,
    "lines": "a\r\nb\tc\u2028d\x85e",
    "formula": "=1+cmd|' /C calc'!A0",
}


@pytest.fixture
def log(log_url):
    with ReviewLog.open(log_url, "digits") as log:
        yield log


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_what_people_write_is_kept_as_given_everywhere(log, tmp_path, text):
    name = text[:150]
    log.append(
        [
            Event(
                client="c",
                seq=1,
                example_id=text,
                reviewer=name,
                action="decide",
                verdict="other",
                new_label=text,
                label="3",
                fingerprint="f",
                note=text,
                issues=[text],
                evidence={"page": text},
            ),
            Event(
                client="d",
                seq=1,
                example_id=text,
                reviewer="ben",
                action="decide",
                verdict="several",
                labels=[text, "3"],
                label="3",
                fingerprint="f",
                note=text,
            ),
            *assignment_events({text: name}, "lea", "e"),
        ]
    )
    first = log.events().iloc[0]
    assert (first["example_id"], first["reviewer"], first["new_label"], first["note"]) == (text, name, text, text)
    assert first["issues"] == (text,) and first["evidence"] == {"page": text}
    assert assignees(log) == {text: (name,)} and locks.claim(log, [text], name, NOW, 1) == {text: name}
    assert for_reviewer(pd.DataFrame({"example_id": [text]}), log, "cem", NOW).empty
    (item,) = meeting_agenda.agenda(log)
    meetings.start(log, [item], name)
    meetings.record(
        log, name, {"verdict": "other", "new_label": text, "note": text, "precedent": text[:9000]}, {"label": "3"}
    )
    minutes = meeting_minutes.minutes(log, meetings.end(log), text)
    assert "<img" not in minutes and "[l](" not in minutes
    assert all(
        line.startswith(("#", "-")) or not line or line == meeting_minutes.escaped(item["why"])
        for line in minutes.split("\n")
    )
    assert meeting_outcomes.precedents(log)[0]["text"] == text[:9000].strip()
    examples = pd.DataFrame({"example_id": [text], "split": ["train"], "label": ["3"], "fingerprint": ["f"]})
    patch = corrected_labels(examples, log)
    for path in (tmp_path / "p.csv", tmp_path / "p.parquet"):
        write_patch(path, patch)
        row = read_patch(path).iloc[0]
        assert (row["example_id"], row["new_label"], row["note"]) == (text, text, text)


@pytest.mark.parametrize(
    "field", ["example_id", "reviewer", "note", "new_label", "client", "assignee", "label", "batch"]
)
@pytest.mark.parametrize("text", ["a\0b", "half \ud800"])
def test_what_no_database_keeps_is_refused_with_a_reason(field, text):
    fields = {"client": "c", "seq": 1, "example_id": "a", "reviewer": "ana", "action": "assign", "assignee": "ben"}
    if field in ("new_label", "label"):
        fields |= {"action": "decide", "verdict": "other", "new_label": "5", "assignee": None}
    with pytest.raises(EventRefused, match=f"{field} has (a NUL|an unpaired surrogate)"):
        Event(**{**fields, field: text})


@pytest.fixture
def team(tmp_path):
    audit = make_audit(tmp_path / "audit", 60, ["cat", "<b>dog</b>"], thumbnails=True)
    config = audit.root / "audit.toml"
    config.write_text(
        f'{config.read_text()}\n[roles]\nlead = ["lea"]\nauditor = ["*"]\n[policy]\nsecond_opinions = 0.0\n'
    )
    yield app_of(Audit.open(audit.root), proxies=("127.0.0.1",)), Audit.open(audit.root)
    serving.serve_this(audit.root)


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_note_comes_back_as_it_was_sent(team, text):
    client, audit = team
    example = read_table(audit.examples_path)["example_id"][0].as_py()
    sent = event(1, example, client="t", note=text)
    assert send(client, sent, **as_person("ana")).json["refused"] == []
    found = client.get("/hardlook/example", {"id": example}, **as_person("ana"))
    assert found.json["history"][0]["note"] == text and found.headers["content-type"] == "application/json"
    assert send(client, event(2, example, client="t", note="a\0"), **as_person("ana")).json["refused"][0]["reason"]


# -- what is hidden --------------------------------------------------------------------------------------------------


def test_a_blind_queue_mixes_in_as_many_that_the_model_agrees_with_and_its_order_tells_nothing(team):
    _, audit = team
    config = audit.root / "audit.toml"
    config.write_text(config.read_text().replace("[policy]", '[policy]\ntest = "blind"'))
    audit = Audit.open(audit.root)
    run = audit.run()
    table = read_table(run.predictions_path, ["example_id", "correct"])
    frame = table.to_pandas()
    test = frame[frame["example_id"].str.startswith("test/")]
    queue = [one for one in table["example_id"].to_pylist() if one in set(test["example_id"])]

    def found_in(ids):
        return [ids[at] for at in model_output.blind_test_order(audit, run, ids, "test")]

    found = found_in(queue)
    wrong = set(test.loc[~test["correct"].astype(bool), "example_id"])
    assert wrong <= set(found) <= set(test["example_id"]) and len(found) > len(wrong)
    assert found == found_in(queue[::-1])
    assert model_output.blind_test_order(audit, run, queue, "train") is None, "train is as ever"


def test_a_blind_cell_tells_nothing_of_the_model():
    cell = {
        "id": "a",
        "label": "cat",
        "prediction": "dog",
        "wrong": True,
        "score": "1.2",
        "score_help": "AUM",
        "suggestion": "dog",
        "suggestion_source": "x",
        "evidence": {"run": "main", "prediction": "dog", "value": 1.2, "rank": 3, "url": "u"},
    }
    shown = model_output.blind_cell(cell)
    assert "dog" not in str(shown) and "1.2" not in str(shown) and shown["label"] == "cat"
    assert shown["evidence"] == {"run": "main", "url": "u", "blind": True}


def test_the_log_table_blanks_what_a_second_reader_must_not_see(team):
    client, audit = team
    example = read_table(audit.examples_path)["example_id"][0].as_py()
    send(client, event(1, example, client="t", verdict="unsure", note="secret"), **as_person("ana"))
    events = decisions.open_log(audit).events()
    hers, own = second_reader.visible_events(audit, events, "ben"), second_reader.visible_events(audit, events, "ana")
    assert hers["note"].iloc[0] == second_reader.HIDDEN_ANSWER and pd.isna(hers["verdict"].iloc[0])
    assert hers["reviewer"].iloc[0] == "ana" and own["note"].iloc[0] == "secret"
