"""What the routes answer: pictures, facts, how examples stand, and events that are durable or refused."""

import asyncio
import base64
import io
import json
import threading
from urllib.parse import urlencode

import numpy as np
import pytest
import sqlalchemy
from PIL import Image
from starlette.applications import Starlette
from starlette.middleware import Middleware

from dashboard.auth import serving
from dashboard.auth.identity import Gate
from dashboard.grid.scripts import scripts, scripts_version
from dashboard.queries import decisions, live_status
from dashboard.queries.vog_maps import overlay
from dashboard.routes.example_routes import all_routes
from dashboard.routes.http import picture_url
from scoring.audit import Audit
from scoring.audit.errors import HardlookError
from scoring.audit.storage import read_table, write_table
from scoring.reviews import LogUnavailable

from ..synthetic import make_audit

CLASSES = ["cat", "dog", "<b>bold</b>"]
ODD = 'a/../b "c" <d>/ü #?&%.png'


class Reply:
    """Status, headers and body of one answer."""

    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def text(self):
        return self.body.decode()


class Client:
    """Talks to an ASGI app as a browser on this machine would."""

    def __init__(self, app):
        self.app = app

    def get(self, path, query=None, **headers):
        return asyncio.run(self._call("GET", path, query, b"", headers))

    def post(self, path, body, **headers):
        sent = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"content-type": "application/json", "x-hardlook": "1"} | headers
        return asyncio.run(self._call("POST", path, None, sent, headers))

    async def _call(self, method, path, query, body, headers):
        headers = {"host": "localhost:8501"} | {name.replace("_", "-"): value for name, value in headers.items()}
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": urlencode(query or {}).encode(),
            "root_path": "",
            "scheme": "http",
            "client": ("127.0.0.1", 5),
            "server": ("localhost", 8501),
            "headers": [(name.encode(), value.encode()) for name, value in headers.items() if value is not None],
        }
        found = {"body": b""}

        async def receive():
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message):
            if message["type"] == "http.response.start":
                found["status"], found["headers"] = message["status"], dict(message["headers"])
            found["body"] += message.get("body", b"")

        await self.app(scope, receive, send)
        headers = {name.decode(): value.decode() for name, value in found["headers"].items()}
        return Reply(found["status"], headers, found["body"])


def app_of(audit, host="127.0.0.1", **access):
    serves = serving.serve_this(audit.root, host=host, **access)
    return Client(Starlette(routes=all_routes(), middleware=[Middleware(Gate, access=lambda: serves.access)]))


@pytest.fixture(scope="module")
def audit(tmp_path_factory):
    """40 examples; the first has an awkward id, a 16-bit original of its own and a map."""
    audit = make_audit(tmp_path_factory.mktemp("audit"), 40, CLASSES, thumbnails=True)
    config = audit.root / "audit.toml"
    config.write_text(f'id = "routes"\n{config.read_text()}')  # each test has a log elsewhere, which asks for one
    table = read_table(audit.examples_path)
    ids = table["example_id"].to_pylist()
    original = audit.root / "original.png"
    Image.fromarray(np.arange(16, dtype=np.uint16).reshape(4, 4) * 4000).save(original)
    table = table.set_column(0, "example_id", [[ODD, *ids[1:]]])
    references = [["original.png", *[None] * 39]]
    table = table.set_column(table.column_names.index("reference"), "reference", references)
    write_table(audit.examples_path, table)
    audit.thumbnails.write_part([(ODD, audit.thumbnails.get(ids[0]))])
    audit.originals.write_part([(ids[1], audit.thumbnails.get(ids[1]))])
    grey = io.BytesIO()
    Image.fromarray(np.array([[0, 255]], dtype=np.uint8)).save(grey, "PNG")
    audit.run().maps.write_part([(ODD, grey.getvalue())])
    return Audit.open(audit.root)


@pytest.fixture
def client(audit, tmp_path):
    """The routes over a log of this test's own."""
    app = app_of(audit)
    serving.serve_this(audit.root, f"sqlite:///{tmp_path / 'reviews.sqlite'}")
    return app


@pytest.fixture
def ids(audit):
    return read_table(audit.examples_path)["example_id"].to_pylist()


def event(seq, example_id, **fields):
    return {"client": "tab", "seq": seq, "example_id": example_id, "action": "decide", "verdict": "given", **fields}


def send(client, *events, **headers):
    return client.post("/hardlook/events", {"audit": serving.serving().token, "events": list(events)}, **headers)


# -- pictures --------------------------------------------------------------------------------------------------------


def test_a_thumbnail_is_found_by_any_id_and_kept_for_ever_under_its_fingerprint(client, ids):
    for example_id in (ODD, ids[1]):
        reply = client.get("/hardlook/thumb", {"id": example_id, "v": "f00"})
        assert reply.status == 200 and reply.headers["content-type"] == "image/png"
        assert "immutable" in reply.headers["cache-control"] and reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["cross-origin-resource-policy"] == "same-origin"
    assert "immutable" not in client.get("/hardlook/thumb", {"id": ODD}).headers["cache-control"]
    assert picture_url("thumb", ODD, "f00").startswith("/hardlook/thumb?id=a%2F..%2Fb+%22c%22")


def test_a_page_of_thumbnails_comes_in_one_answer(client, audit, ids):
    found = client.post("/hardlook/thumbs", {"ids": [ODD, ids[1], "nobody.png"]}).json
    assert list(found) == [ODD, ids[1]]
    head, _, data = found[ids[1]].partition(",")
    assert head == "data:image/png;base64" and base64.b64decode(data) == audit.thumbnails.get(ids[1])
    assert client.post("/hardlook/thumbs", {"ids": 5}).status == 400


@pytest.mark.parametrize("what", ["thumb", "image", "map", "example"])
@pytest.mark.parametrize("example_id", ["nobody.png", "", "../audit.toml", "x" * 5000, "\0"])
def test_an_unknown_id_is_not_found(client, what, example_id):
    assert client.get(f"/hardlook/{what}", {"id": example_id}).status == 404


def test_a_sixteen_bit_original_comes_as_a_picture_that_a_browser_shows(client):
    reply = client.get("/hardlook/image", {"id": ODD})
    image = Image.open(io.BytesIO(reply.body))
    assert reply.status == 200 and image.mode == "L" and image.size == (4, 4)


def test_an_original_that_is_no_file_comes_from_the_audit_and_else_the_thumbnail(client, ids, audit):
    assert client.get("/hardlook/image", {"id": ids[1]}).body == audit.originals.get(ids[1])
    assert client.get("/hardlook/image", {"id": ids[2]}).body == audit.thumbnails.get(ids[2])


def test_an_unreadable_example_says_why_it_has_no_picture(client, ids):
    reply = client.get("/hardlook/image", {"id": ids[-1]})
    assert reply.status == 404 and reply.text == "cannot identify image file"


def test_a_map_is_faint_where_it_is_low_and_strong_where_it_is_high(client):
    reply = client.get("/hardlook/map", {"id": ODD, "run": "main"})
    pixels = np.asarray(Image.open(io.BytesIO(reply.body)))
    assert reply.status == 200 and pixels.shape == (1, 2, 4)
    assert pixels[0, 0, 3] < 40 and pixels[0, 1, 3] > 200 and overlay(None) is None
    assert client.get("/hardlook/map", {"id": ODD, "run": "../.."}).status == 404


# -- facts -----------------------------------------------------------------------------------------------------------


def test_an_examples_facts_are_those_of_the_tables(client, audit, ids):
    facts = client.get("/hardlook/example", {"id": ids[5], "run": "main"}).json
    table = read_table(audit.run().score_path("uncertainty")).to_pandas().set_index("example_id")
    split = read_table(audit.examples_path).to_pandas().set_index("example_id")["split"]
    loss = next(score for score in facts["scores"] if score["name"] == "uncertainty.loss")
    same = table.loc[table.index.isin(split[split == split[ids[5]]].index), "loss"].dropna()
    assert loss["value"] == pytest.approx(table.loc[ids[5], "loss"])
    assert loss["percentile"] == pytest.approx(100 * ((same < loss["value"]).sum() + 0.5) / len(same))
    assert (loss["title"], loss["unit"], loss["suspicious"]) == ("Loss", "nats", "high") and loss["help"]
    assert sum(p for _, p in facts["probabilities"]) == pytest.approx(1, abs=1e-5)
    assert dict(facts["metadata"])["camera"] in ("north", "south", None) and facts["history"] == []


def test_scores_of_an_unreadable_example_are_null_and_not_numbers(client, ids):
    facts = client.get("/hardlook/example", {"id": ids[-1]}).json
    assert facts["problem"] and all(score["value"] is None and score["percentile"] is None for score in facts["scores"])


def test_the_history_tells_what_still_stands(client, ids):
    send(
        client, event(1, ids[3], verdict="unsure"), event(2, ids[3], action="comment", verdict=None, note="<i>look</i>")
    )
    send(client, event(3, ids[3], verdict="none"))
    history = client.get("/hardlook/example", {"id": ids[3]}).json["history"]
    assert [(one["verdict"], one["note"], one["stands"]) for one in history] == [
        ("none", None, True),
        (None, "<i>look</i>", True),
        ("unsure", None, False),
    ]


# -- events ----------------------------------------------------------------------------------------------------------


def test_an_event_is_in_the_log_when_it_is_acknowledged_under_the_name_of_the_system_user(client, audit, ids):
    reply = send(client, event(1, ids[0], reviewer="somebody else", created_at="2001-01-01"), event(2, ids[1]))
    assert reply.status == 200 and reply.json["acked"] == {"tab": 2} and reply.json["refused"] == []
    rows = decisions.open_log(audit).events()
    assert rows["seq"].tolist() == [1, 2] and set(rows["reviewer"]) == {serving.serving().identity.reviewer}
    assert reply.json["position"] == rows["position"].max()


def test_sending_again_changes_nothing_and_is_acknowledged_again(client, audit, ids):
    for _ in range(3):
        assert send(client, event(1, ids[0])).json["saved"] == [{"client": "tab", "seq": 1}]
    assert len(decisions.open_log(audit).events()) == 1


def test_a_bad_event_is_refused_with_its_reason_and_the_others_are_written(client, audit, ids):
    bad = [
        event(2, "nowhere.png"),
        event(3, ids[0], verdict="other", new_label="no such class"),
        event(4, ids[0], verdict="perhaps"),
        event(5, ids[0], action="adjudicate"),
        event("6", ids[0]),
        event(7, ids[0], undoes=["tab", 1]),
        event(8, ids[0], note="nul \0"),
        event(9, ids[0], action="undo", verdict=None, undoes=["ghost", 1]),
        {"client": "tab"},
    ]
    reply = send(client, event(1, ids[0]), *bad, event(10, ids[1]))
    assert [one["seq"] for one in reply.json["saved"]] == [1, 10]
    reasons = {one["seq"]: one["reason"] for one in reply.json["refused"]}
    assert len(reply.json["refused"]) == len(bad) and all(reasons.values())
    assert (
        "no such example" in reasons[2] and "not a class" in reasons[3] and "cannot be sent from a grid" in reasons[5]
    )
    assert decisions.open_log(audit).events()["seq"].tolist() == [1, 10]


def test_each_kind_of_bad_event_gets_its_own_answer_and_spoils_no_other(client, audit, ids):
    nested = {}
    for _ in range(400):
        nested = {"in": nested}
    send(client, event(1, ids[0]))
    bad = {
        2: (event(2, "\ud800"), "unpaired surrogate"),
        3: (event(3, ids[0], note="\udfff"), "unpaired surrogate"),
        4: (event(4, ids[0], issues=["no such issue"]), "no issue of this audit"),
        1: (event(1, ids[0], verdict="none"), "other content"),
        5: (event(5, ids[0], evidence=nested), "nested deeper than 50"),
        6: (event(6, ids[0], evidence={"a": "\ud800"}), "unpaired surrogate"),
    }
    reply = send(client, *(one for one, _ in bad.values()), event(7, ids[1]), event(8, ids[2], issues=["bad image"]))
    reasons = {one["seq"]: one["reason"] for one in reply.json["refused"]}
    assert reply.status == 200 and set(reasons) == set(bad)
    assert [one["seq"] for one in reply.json["saved"]] == [7, 8]
    assert {seq: reason in reasons[seq] for seq, (_, reason) in bad.items()} == dict.fromkeys(bad, True)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('"client": "\\ud800"', "client has an unpaired surrogate"),
        ('"client": "tab", "seq": NaN', "seq is nan"),
        ('"client": "tab", "seq": -Infinity', "seq is -inf"),
        (f'"client": "tab", "seq": 1{"0" * 400}', "seq is 1000"),
        (f'"client": {"[" * 900}{"]" * 900}', "client is [[["),
        (f'"seconds": 1{"0" * 400}', "needs to be a number from 0"),
        (f'"seconds": 1{"0" * 5000}', "needs to be a number from 0"),
    ],
    ids=["surrogate", "nan", "infinity", "long seq", "nested", "long seconds", "longer than Python reads"],
)
def test_an_event_that_cannot_be_repeated_is_answered_and_spoils_no_other(client, ids, text, reason):
    odd = json.dumps(event(2, ids[0]))[:-1] + f", {text}}}"
    sent = f"{json.dumps(event(1, ids[0]))}, {odd}, {json.dumps(event(3, ids[1]))}"
    body = f'{{"audit": "{serving.serving().token}", "events": [{sent}]}}'
    reply = client.post("/hardlook/events", body.encode())
    assert reply.status == 200 and [one["seq"] for one in reply.json["saved"]] == [1, 3]
    assert [reason in one["reason"] for one in reply.json["refused"]] == [True]


def test_refused_events_cost_no_more_than_accepted_ones(client, audit, ids, monkeypatch):
    """Counted in statements of the database: time would depend on the machine."""
    statements = []
    engine = decisions.open_log(audit).engine
    sqlalchemy.event.listen(engine, "before_cursor_execute", lambda *given: statements.append(given[2]))

    def statements_for(*events):
        statements.clear()
        assert send(client, *events).status == 200
        return len(statements)

    accepted = statements_for(*(event(seq, ids[1]) for seq in range(1, 1001)))
    used_twice = statements_for(*(event(seq, ids[1], verdict="none") for seq in range(1, 1001)))
    undo = {"action": "undo", "verdict": None}
    of_nothing = statements_for(*(event(seq, ids[1], **undo, undoes=["no one", seq]) for seq in range(2001, 3001)))
    assert len(decisions.open_log(audit).events()) == 1000
    assert used_twice <= accepted and of_nothing <= 2 * accepted < 40


def test_a_client_belongs_to_the_reviewer_of_its_first_event(audit, ids, tmp_path):
    people = {"proxies": ("127.0.0.1",), "user_header": "X-User"}
    log_url = f"sqlite:///{tmp_path / 'reviews.sqlite'}"
    client = app_of(audit, log_url=log_url, **people)
    assert send(client, event(1, ids[0]), x_user="ana").json["saved"] == [{"client": "tab", "seq": 1}]
    reply = send(client, event(2, ids[0], verdict="none"), event(1, ids[1], client="own"), x_user="ben").json
    assert "another reviewer uses this client" in reply["refused"][0]["reason"]
    assert reply["saved"] == [{"client": "own", "seq": 1}]
    assert send(client, event(2, ids[0]), x_user="ana").json["saved"] == [{"client": "tab", "seq": 2}]


def test_a_sequence_number_used_twice_for_different_things_is_refused(client, audit, ids):
    send(client, event(1, ids[0]))
    reply = send(client, event(1, ids[0], verdict="none"), event(2, ids[0], verdict="unsure"))
    assert [one["seq"] for one in reply.json["saved"]] == [2] and "other content" in reply.json["refused"][0]["reason"]


def test_a_page_of_another_audit_cannot_write_here(client, audit, ids):
    reply = client.post("/hardlook/events", {"audit": "0" * 16, "events": [event(1, ids[0])]})
    assert reply.status == 409 and len(decisions.open_log(audit).events()) == 0


@pytest.mark.parametrize(
    "headers",
    [
        {"x_hardlook": None},
        {"content_type": "text/plain"},
        {"origin": "http://evil.example"},
        {"host": "evil.example"},
        {"x_forwarded_for": "10.1.1.1"},
    ],
)
def test_what_a_foreign_page_could_send_writes_nothing(client, audit, ids, headers):
    assert send(client, event(1, ids[0]), **headers).status == 403
    assert len(decisions.open_log(audit).events()) == 0


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"events": 1}', b'{"events": [1]}', b"\xff", b" " * 4_100_000])
def test_a_body_that_is_no_list_of_events_is_told_so(client, body):
    assert client.post("/hardlook/events", body).status == 400


def test_an_open_server_shows_and_refuses(audit, ids, client):
    client = app_of(audit, host="0.0.0.0")
    assert client.get("/hardlook/thumb", {"id": ids[1]}, host="192.168.1.5:80").status == 200
    reply = send(client, event(1, ids[0]), host="192.168.1.5:80")
    assert reply.status == 403 and reply.text.startswith("Read-only:")
    assert client.get("/hardlook/thumb", {"id": ids[1]}, host="evil.example").status == 403


def test_a_log_that_cannot_be_written_now_is_told_as_such_and_nothing_is_acknowledged(client, ids, monkeypatch):
    def unavailable(*_, **__):
        raise LogUnavailable("the disk is full")

    monkeypatch.setattr("scoring.reviews.ReviewLog.append_valid", unavailable)
    reply = send(client, event(1, ids[0]))
    assert reply.status == 503 and "disk is full" in reply.text


# -- how examples stand ----------------------------------------------------------------------------------------------


def test_news_since_a_position_names_what_changed_and_nothing_else(client, ids, monkeypatch):
    monkeypatch.setattr(live_status, "LOOK_SECONDS", 0)
    start = client.post("/hardlook/decisions", {"ids": ids[:3]}).json
    assert start["examples"][ids[0]] == {"decisions": [], "flags": [], "notes": 0}
    send(client, event(1, ids[0], verdict="several", labels=["cat", "dog"], issues=["bad image"]))
    send(
        client,
        event(2, ids[1], action="flag", verdict=None),
        event(3, ids[1], action="comment", verdict=None, note="?"),
    )
    news = client.get("/hardlook/decisions", {"after": start["position"]}).json
    me = serving.serving().identity.reviewer
    said = {"reviewer": me, "verdict": "several", "new_label": None, "labels": ["cat", "dog"], "issues": ["bad image"]}
    assert news["examples"] == {
        ids[0]: {"decisions": [said], "flags": [], "notes": 0},
        ids[1]: {"decisions": [], "flags": [me], "notes": 1},
    }
    again = client.get("/hardlook/decisions", {"after": news["position"]}).json
    assert again == {"position": news["position"], "examples": {}, "again": False}


def test_after_an_undo_everything_on_screen_is_asked_for_again(client, ids, monkeypatch):
    monkeypatch.setattr(live_status, "LOOK_SECONDS", 0)
    position = send(client, event(1, ids[0], batch="b"), event(2, ids[1], batch="b")).json["position"]
    send(client, event(3, ids[0], action="undo", verdict=None, undoes=["tab", 1]))
    assert client.get("/hardlook/decisions", {"after": position}).json["again"]
    examples = client.post("/hardlook/decisions", {"ids": ids[:2]}).json["examples"]
    assert [examples[one]["decisions"] for one in ids[:2]] == [[], []], "a bulk act is undone as one"


def test_a_browser_that_was_away_too_long_or_saw_another_log_asks_again(client, ids, monkeypatch):
    monkeypatch.setattr(live_status, "LOOK_SECONDS", 0)
    monkeypatch.setattr(live_status, "REMEMBERED", 3)
    start = client.post("/hardlook/decisions", {"ids": []}).json["position"]
    for seq in range(1, 7):
        last = send(client, event(seq, ids[0])).json["position"]
    assert client.get("/hardlook/decisions", {"after": start}).json["again"]
    assert not client.get("/hardlook/decisions", {"after": last}).json["again"]
    assert client.get("/hardlook/decisions", {"after": last + 50}).json["again"]


def test_many_readers_and_writers_at_once_agree_in_the_end(client, ids):
    def work(number):
        for seq in range(1, 9):
            sent = event(seq, ids[number]) | {"client": f"tab {number}", "verdict": "unsure"}
            assert send(client, sent).json["saved"]
            client.get("/hardlook/decisions", {"after": 0})

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = client.post("/hardlook/decisions", {"ids": ids[:4]}).json
    assert all(found["examples"][one]["decisions"][0]["verdict"] == "unsure" for one in ids[:4])
    assert client.get("/hardlook/decisions", {"after": found["position"]}).json["examples"] == {}


@pytest.mark.parametrize("body", [{"ids": "x"}, {"ids": [1]}, {"ids": ["x"] * 2001}, {}, []])
def test_a_request_for_states_needs_a_list_of_ids(client, body):
    assert client.post("/hardlook/decisions", body).status == 400
    assert client.get("/hardlook/decisions", {"after": "x"}).status == 400


def test_the_last_act_is_what_an_undo_would_take_back(client, ids):
    assert client.get("/hardlook/last-act").json == {"act": None}
    send(client, event(1, ids[0]), event(2, ids[1], action="unflag", verdict=None))
    assert client.get("/hardlook/last-act").json["act"]["example_id"] == ids[1]
    send(client, event(3, ids[1], action="undo", verdict=None, undoes=["tab", 2]))
    act = client.get("/hardlook/last-act").json["act"]
    assert (act["client"], act["seq"], act["example_id"]) == ("tab", 1, ids[0])
    assert act["before"] == {ids[0]: {"decision": None, "flag": False, "notes": 0}} and act["opens"] == [ids[0]]
    send(client, event(4, ids[0], verdict="unsure"))
    act = client.get("/hardlook/last-act").json["act"]
    assert act["before"][ids[0]]["decision"]["verdict"] == "given" and act["opens"] == [], (
        "the earlier verdict stands again"
    )
    send(client, event(1, ids[1], client="another"))
    assert client.get("/hardlook/last-act").json["act"]["client"] == "another"
    assert client.get("/hardlook/last-act", {"but": "another"}).json["act"]["seq"] == 4, "a page knows its own"


# -- the grid's scripts ----------------------------------------------------------------------------------------------


def test_scripts_are_served_under_an_address_that_changes_with_them(client):
    assert {"main.js", "event_queue.js", "grid.js"} <= set(scripts())
    reply = client.get(f"/hardlook/grid/{scripts_version()}/main.js")
    assert reply.status == 200 and reply.headers["content-type"].startswith("text/javascript")
    assert client.get(f"/hardlook/grid/{scripts_version()}/__init__.py").status == 404


def test_no_script_writes_markup():
    for name, data in scripts().items():
        text = data.decode()
        for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"):
            assert word not in text, f"{name} uses {word}"


@pytest.mark.parametrize("data", [b"", b"no picture", b"\x89PNG\r\n\x1a\n" + bytes(20)])
def test_a_map_that_is_no_picture_is_one_sentence(data):
    with pytest.raises(HardlookError, match="is no picture"):
        overlay(data)
