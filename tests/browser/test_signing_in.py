"""Signing in through OpenID Connect, in a real browser against a provider on loopback."""

import urllib.error
import urllib.request

import pytest
from playwright.sync_api import expect

from scoring.audit.storage import read_table

from .conftest import new_profile, write_audit
from .waits import until

pytest.importorskip("authlib")

SECRET = "0123456789abcdef0123456789abcdef"


@pytest.fixture(scope="module")
def provider():
    from .provider import Provider

    with Provider("hardlook") as provider:
        yield provider


@pytest.fixture(scope="module")
def server(start, provider, tmp_path_factory):
    audit = write_audit(tmp_path_factory.mktemp("audit"), 12)
    config = audit.root / "audit.toml"
    config.write_text(f'{config.read_text()}\n[roles]\nauditor = ["ana@example.org"]\n')
    (audit.root / ".streamlit").mkdir()
    (audit.root / ".streamlit" / "secrets.toml").write_text(
        f'[auth]\nredirect_uri = "http://localhost:{{port}}/oauth2callback"\ncookie_secret = "{SECRET}"\n'
        f'client_id = "hardlook"\nclient_secret = "s"\n'
        f'server_metadata_url = "{provider.url}/.well-known/openid-configuration"\n'
    )
    return start(audit.root)


@pytest.fixture
def context(browser):
    """A profile of this test's own, with cookies of its own."""
    opened = new_profile(browser)
    yield opened
    opened.close()


def thumb(server, cookies):
    """The status of a picture's route for these cookies."""
    example = read_table(server.audit_path / "examples.parquet")["example_id"][0].as_py()
    sent = "; ".join(f"{one['name']}={one['value']}" for one in cookies)
    asked = urllib.request.Request(f"{server.url}/hardlook/thumb?id={example}", headers={"Cookie": sent})
    try:
        with urllib.request.urlopen(asked) as reply:
            return reply.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def sign_in(page, server):
    page.goto(f"{server.url}/grid")
    page.get_by_role("button", name="Sign in").click()


def test_whoever_signs_in_decides_under_their_address_and_the_pictures_ask_the_same_cookie(
    context, server, provider, since
):
    provider.person = {"email": "ana@example.org", "email_verified": True}
    page = context.new_page()
    sign_in(page, server)
    expect(page.get_by_text("Reviewing as ana@example.org · auditor")).to_be_visible()
    cookies = context.cookies()
    assert thumb(server, cookies) == 200 and thumb(server, []) == 403
    signed = next(one for one in cookies if one["name"] == "_streamlit_user")
    assert signed["httpOnly"] and signed["sameSite"] == "Lax"
    forged = [{**signed, "value": signed["value"][:-2] + ("aa" if signed["value"][-2:] != "aa" else "bb")}]
    assert thumb(server, forged) == 403
    page.goto(f"{server.url}/grid")
    cell = page.get_by_test_id("example-grid").locator("[data-example-id]").first
    cell.click()
    page.keyboard.press("q")
    assert since(1)["reviewer"].tolist() == ["ana@example.org"]
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    assert thumb(server, context.cookies()) == 403


@pytest.mark.parametrize(
    ("person", "told"),
    [
        ({"email": "eve@example.org", "email_verified": True}, "eve@example.org has no role in this audit"),
        (
            {"email": "ana@example.org", "email_verified": False},
            "this server shows pages to known users only",
        ),
    ],
)
def test_who_has_no_role_or_no_verified_address_sees_nothing(context, server, provider, person, told):
    provider.person = person
    sign_in(door := context.new_page(), server)
    until(lambda: any(one["name"] == "_streamlit_user" for one in context.cookies()), door)
    page = context.new_page()  # the other one is still led back
    page.goto(f"{server.url}/grid")
    expect(page.get_by_text(told)).to_be_visible()
    expect(page.get_by_test_id("example-grid")).to_have_count(0)
    assert thumb(server, context.cookies()) == 403
