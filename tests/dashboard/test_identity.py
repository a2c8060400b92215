"""Who decides, and whose requests are turned away."""

import os

import pytest

from dashboard.auth.identity import decision_refusal, host_refusal, identify, is_loopback, origin_refusal, system_user
from scoring.audit.errors import HardlookError

LOCAL, OPEN = identify("127.0.0.1"), identify("0.0.0.0")
GOOD = {"host": "localhost:8501", "content-type": "application/json", "x-hardlook": "1"}


def test_the_reviewer_is_the_operating_systems_user_whatever_the_environment_says(monkeypatch):
    pwd = pytest.importorskip("pwd")
    monkeypatch.setenv("USER", "somebody else")
    monkeypatch.setenv("LOGNAME", "somebody else")
    assert LOCAL.reviewer == system_user() == pwd.getpwuid(os.getuid()).pw_name


def test_a_user_without_an_account_still_has_a_name(monkeypatch):
    pwd = pytest.importorskip("pwd")

    def no_account(_uid):
        raise KeyError("no such user")

    monkeypatch.setattr(pwd, "getpwuid", no_account)
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    assert system_user() == f"uid {os.getuid()}"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.9", "::1", "[::1]", "localhost", "LOCALHOST"])
def test_loopback_addresses_serve_only_this_machine(host):
    assert is_loopback(host) and identify(host).reviewer


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", ""])
def test_on_any_other_address_nobody_decides_and_the_reason_is_told(host):
    identity = identify(host)
    assert identity.reviewer is None and identity.read_only.startswith("Read-only:")


@pytest.mark.parametrize("header", ["localhost", "localhost:8501", "127.0.0.1:1", "[::1]:8501"])
def test_a_local_server_answers_under_its_own_names(header):
    assert host_refusal(LOCAL, header) is None


@pytest.mark.parametrize(
    "header", ["evil.example", "localhost.evil.example", "192.168.1.5:8501", "", None, "[::1", "0.0.0.0"]
)
def test_a_local_server_answers_to_no_other_name(header):
    assert host_refusal(LOCAL, header)


def test_an_open_server_answers_to_addresses_and_its_own_name_but_not_to_foreign_names():
    assert host_refusal(OPEN, "192.168.1.5:8501") is None
    assert host_refusal(identify("audit.lan"), "AUDIT.lan:80") is None
    assert "does not have the name" in host_refusal(OPEN, "evil.example")


def test_a_page_of_another_origin_is_refused():
    assert origin_refusal(None, "localhost:1") is None
    assert origin_refusal("http://localhost:1", "localhost:1") is None
    assert origin_refusal("http://localhost:2", "localhost:1")
    assert origin_refusal("http://evil.example", "localhost:1")
    assert origin_refusal("null", "localhost:1")


def test_a_sound_request_may_decide():
    assert decision_refusal(LOCAL, GOOD, "127.0.0.1") is None
    assert decision_refusal(LOCAL, GOOD | {"content-type": "application/json; charset=utf-8"}, None) is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"content-type": "text/plain"}, "application/json"),
        ({"content-type": "application/x-www-form-urlencoded"}, "application/json"),
        ({"origin": "http://evil.example"}, "comes from a page"),
        ({"x-forwarded-for": "10.0.0.1"}, "proxy"),
        ({"forwarded": "for=10.0.0.1"}, "proxy"),
    ],
)
def test_requests_that_a_foreign_page_or_a_proxy_could_send_may_not_decide(change, words):
    assert words in decision_refusal(LOCAL, GOOD | change, "127.0.0.1")


def test_the_header_that_no_form_can_send_is_needed():
    without = {name: value for name, value in GOOD.items() if name != "x-hardlook"}
    assert "x-hardlook" in decision_refusal(LOCAL, without, "127.0.0.1")


def test_a_peer_from_elsewhere_may_not_decide():
    assert "10.0.0.7" in decision_refusal(LOCAL, GOOD, "10.0.0.7")


def test_on_an_open_server_no_request_may_decide():
    assert decision_refusal(OPEN, GOOD, "127.0.0.1") == OPEN.read_only


def test_a_name_is_given_where_somebody_is_known_and_else_the_reason():
    assert identify("127.0.0.1").name() == identify("127.0.0.1").reviewer
    with pytest.raises(HardlookError, match="Read-only: this server is bound to"):
        identify("192.0.2.1").name()
