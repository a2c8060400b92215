"""Roles: who is called what in audit.toml, and what that lets them do on a server where people are told apart."""

import asyncio

import pytest

from dashboard import jobs
from dashboard.auth import serving
from dashboard.auth.identity import (
    Access,
    Gate,
    decision_refusal,
    give_name,
    given_name,
    host_refusal,
    own_name,
    visitor,
)
from dashboard.queries import decisions
from scoring.audit import Audit, check_config
from scoring.audit.errors import HardlookError
from scoring.audit.roles import role_of
from scoring.audit.storage import read_table

from ..dashboard.test_routes import app_of, event, send
from ..synthetic import make_audit

PROXY = "10.0.0.5"
ROLES = {"lead": ["lea"], "auditor": ["ana", "Zoë"], "viewer": ["vic"]}
GOOD = {"host": "localhost:8501", "content-type": "application/json", "x-hardlook": "1"}


@pytest.fixture(scope="module")
def audit(tmp_path_factory):
    audit = make_audit(tmp_path_factory.mktemp("audit"), 12, thumbnails=True)
    config = audit.root / "audit.toml"
    roles = "\n".join(f"{role} = {names}" for role, names in ROLES.items())
    config.write_text(f"{config.read_text()}\n[roles]\n{roles}\n")
    return Audit.open(audit.root)


@pytest.fixture
def ids(audit):
    return read_table(audit.examples_path)["example_id"].to_pylist()


@pytest.fixture
def client(audit):
    """A server on loopback that believes a proxy at 127.0.0.1, where the test's requests come from."""
    client = app_of(audit, proxies=("127.0.0.1",))
    yield client
    serving.serve_this(audit.root)


def as_person(name):
    return {"x_forwarded_user": name}


def test_a_role_is_the_highest_that_names_a_person():
    roles = {"viewer": ("*",), "auditor": ("ana", "lea"), "lead": ("lea",)}
    assert [role_of(name, roles) for name in ("lea", "ana", "zed", None)] == ["lead", "auditor", "viewer", None]


@pytest.mark.parametrize("roles", [{"boss": ["ana"]}, {"lead": "ana"}, {"lead": [1]}, {"lead": [""]}, ["ana"]])
def test_what_is_no_table_of_roles_is_told(roles):
    data = [{"split": "train", "path": "x.npz"}]
    with pytest.raises(HardlookError, match="audit.toml: .*roles|role"):
        check_config({"format": 1, "classes": ["a", "b"], "data": data, "roles": roles})


def test_only_the_trusted_proxy_is_believed():
    access = Access("0.0.0.0", proxies=(PROXY, "192.168.7.0/24"))
    said = [("x-forwarded-user", "ana")]
    assert access.name_of(said, PROXY) == access.name_of(said, "::ffff:10.0.0.5") == "ana"
    assert access.name_of(said, "192.168.7.9") == "ana"
    for peer in ("10.0.0.6", "127.0.0.1", None, "nonsense"):
        assert access.name_of(said, peer) is None


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("x-forwarded-user", "")],
        [("x-forwarded-user", "ana"), ("x-forwarded-user", "lea")],
        [("x-forwarded-user", "a\x00b")],
        [("x-forwarded-user", "a\u202eb")],
        [("x-forwarded-user", "a" * 201)],
        [("x-forwarded-user", "a\nb")],
    ],
)
def test_a_header_that_names_nobody_clearly_names_nobody(headers):
    raw = [(name, value.encode().decode("latin1")) for name, value in headers]
    assert Access("0.0.0.0", proxies=(PROXY,)).name_of(raw, PROXY) is None


def test_a_name_in_utf8_is_read_as_such():
    assert (
        Access("0.0.0.0", proxies=(PROXY,)).name_of([("x-forwarded-user", "Zoë".encode().decode("latin1"))], PROXY)
        == "Zoë"
    )


def test_a_proxy_that_is_no_address_is_told():
    with pytest.raises(HardlookError, match="is not an address"):
        Access("0.0.0.0", proxies=("proxy.lan",))


def test_behind_a_proxy_the_public_name_and_origin_are_the_servers_own():
    access = Access("10.0.0.9", proxies=(PROXY,), url="https://audit.example.org")
    assert host_refusal(access, "audit.example.org") is None and host_refusal(access, "evil.example.org")
    lea, headers = access.identify("lea"), GOOD | {"host": "10.0.0.9:8501"}
    told = {"origin": "https://audit.example.org", "x-forwarded-for": "10.7.7.7"}
    assert decision_refusal(lea, headers | told, PROXY, access.url) is None
    assert decision_refusal(lea, headers | {"origin": "https://evil.example.org"}, PROXY, access.url)
    assert decision_refusal(lea, {**headers, "content-type": "text/plain"}, PROXY, access.url)


def test_without_roles_everybody_known_is_an_auditor_and_nobody_a_lead():
    assert Access("0.0.0.0", proxies=(PROXY,)).identify("ana").role == "auditor"
    assert Access("127.0.0.1").identify(None).role == "lead", "one's own machine is one's own"


def test_each_role_may_what_it_says_and_no_more(client, audit, ids):
    for name, looks, decides in (("lea", 200, 200), ("ana", 200, 200), ("vic", 200, 403), ("eve", 403, 403)):
        assert client.get("/hardlook/thumb", {"id": ids[0]}, **as_person(name)).status == looks, name
        assert client.get("/hardlook/example", {"id": ids[0]}, **as_person(name)).status == looks, name
        assert send(client, event(1, ids[0], client=name), **as_person(name)).status == decides, name
    assert client.get("/hardlook/thumb", {"id": ids[0]}).status == 403, "nobody is named"
    found = decisions.open_log(audit).events()
    assert found["reviewer"].tolist() == ["lea", "ana"], "written under the name of who sent it"


def test_an_event_names_who_sent_it_whatever_it_says_itself(client, audit, ids):
    forged = event(1, ids[1], client="forged", reviewer="lea")
    assert send(client, forged, **as_person("ana"), x_hardlook_user="lea").status == 200
    assert decisions.open_log(audit).events().iloc[-1]["reviewer"] == "ana"
    assert send(client, forged, x_hardlook_user="lea").status == 403, "the Gate's own header is taken from nobody"


def test_what_a_lead_does_is_not_taken_from_a_grid(client, ids):
    for action in ("adjudicate", "assign", "release"):
        sent = event(1, ids[2], client=action, action=action, verdict="given" if action == "adjudicate" else None)
        reply = send(client, sent, **as_person("lea"))
        assert not reply.json["saved"] and reply.json["refused"]


def test_foreign_hosts_and_origins_are_turned_away_behind_a_proxy_too(client, ids):
    for headers in ({"host": "evil.example"}, {"origin": "http://evil.example"}, {"x_hardlook": None}):
        assert send(client, event(1, ids[0], client="x"), **as_person("ana"), **headers).status == 403


def test_only_a_lead_starts_and_cancels_jobs(audit):
    serves = serving.serve_this(audit.root, proxies=("127.0.0.1",))
    for name in ("ana", "vic", None):
        token = visitor.set(serves.access.identify(name))
        try:
            with pytest.raises(HardlookError, match="Only a lead"):
                jobs.start(audit, None, "score")
            with pytest.raises(HardlookError, match="Only a lead"):
                jobs.cancel(None)
        finally:
            visitor.reset(token)
    token = visitor.set(serves.access.identify("lea"))
    assert jobs.refusal() is None
    visitor.reset(token)
    serving.serve_this(audit.root)


def test_a_role_that_is_taken_away_in_audit_toml_counts_at_once(client, audit, ids):
    config = audit.root / "audit.toml"
    text = config.read_text()
    config.write_text(text.replace("'ana'", "'ann'"))
    try:
        assert client.get("/hardlook/thumb", {"id": ids[0]}, **as_person("ana")).status == 403
    finally:
        config.write_text(text)


def test_the_name_that_is_asked_once_is_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "new"))
    assert given_name() is None
    give_name(" Ana <b> “née” ")
    assert given_name() == own_name() == "Ana <b> “née”" == Access("127.0.0.1").identify(None).reviewer
    for bad in ("", "  ", "a\x00", "a\u202e", "a" * 201):
        with pytest.raises(HardlookError, match="is not a valid name"):
            give_name(bad)


@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize(("peer", "told"), [(PROXY, ["Zo%C3%AB"]), ("10.9.9.9", [])])
def test_pages_are_told_who_it_is_by_the_gate_alone(kind, peer, told):
    """What a page reads from its connection's headers is the Gate's word, whatever else was sent under that name."""
    seen = []

    async def app(scope, _receive, _send):
        seen.extend(value.decode() for name, value in scope["headers"] if name.lower() == b"x-hardlook-user")

    access = Access("0.0.0.0", proxies=(PROXY,))
    headers = [
        (b"host", b"10.0.0.9:8501"),
        (b"X-Hardlook-User", b"lea"),
        (b"x-hardlook-user", b"lea"),
        (b"x-forwarded-user", "Zoë".encode()),
    ]
    scope = {"type": kind, "path": "/_stcore/stream", "headers": headers, "client": (peer, 5)}
    asyncio.run(Gate(app, lambda: access)(scope, None, None))
    assert seen == told
