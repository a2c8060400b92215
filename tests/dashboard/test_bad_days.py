"""A served audit whose files are cut in place, or whose audit.toml is broken, missing or moved: the server lives."""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pyarrow as pa
import pyarrow.ipc as ipc
import pytest

from dashboard.auth.identity import Access, Gate
from dashboard.auth.serving import serve_this
from dashboard.queries import database
from dashboard.routes.example_routes import all_routes
from dashboard.server import options
from scoring.audit import Audit
from scoring.audit.errors import HardlookError
from scoring.audit.storage import read_table

from ..conftest import hardlook
from ..small_audits import write_small_audit
from .test_routes import Client, app_of
from .test_server import draw_page, fetch, told_address, wait_until_it_answers

ROOT = Path(__file__).parents[2]
PROGRAM = "import sys; from dashboard.server import serve; serve(sys.argv[1], port=0)"
WARNING = b"Until it is mended, this server goes on"


@pytest.fixture
def folder(tmp_path):
    """A scored audit of this test's own."""
    folder = write_small_audit(tmp_path / "audit")
    assert hardlook("score", folder, "--only", "uncertainty,influence,self_influence") == 0
    return folder


@pytest.fixture
def start():
    """A function that serves a folder in a process of its own → (process, url)."""
    running = []

    def start(folder):
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(folder)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        running.append(process)
        url = told_address(process)
        wait_until_it_answers(process, url)
        return process, url

    yield start
    for process in running:
        process.kill()
        process.communicate()


def post(url: str, ids: list[str]) -> int:
    body = json.dumps({"ids": ids}).encode()
    asked = urllib.request.Request(url, body, {"content-type": "application/json", "x-hardlook": "1"})
    try:
        with urllib.request.urlopen(asked, timeout=60) as reply:
            return reply.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def without_seal(path: Path) -> None:
    """Write an Arrow file as earlier versions did."""
    with pa.OSFile(str(path)) as source:
        table = ipc.open_file(source).read_all()
    with ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table)


@pytest.mark.parametrize("earlier", [False, True], ids=["sealed", "earlier version"])
def test_a_server_outlives_files_that_are_cut_in_place_between_two_requests(folder, start, earlier):
    files = sorted(path for path in folder.rglob("*.arrow") if path.is_file())
    assert {path.name for path in files} >= {"part-00000.arrow", "influence.arrow", "logits.arrow"}
    if earlier:
        for path in files:
            without_seal(path)
    process, url = start(folder)
    ids = read_table(folder / "examples.parquet")["example_id"].to_pylist()

    def ask() -> dict[str, set[int]]:
        return {
            "thumb": {fetch(f"{url}/hardlook/thumb?id={one}")[0] for one in ids},
            "thumbs": {post(f"{url}/hardlook/thumbs", ids)},
            "example": {fetch(f"{url}/hardlook/example?run=main&id={ids[0]}")[0]},
            "influence": {post(f"{url}/hardlook/influence?run=main", [ids[0]])},
        }

    assert ask() == {"thumb": {200}, "thumbs": {200}, "example": {200}, "influence": {200}}
    for share in (0.5, 0):
        for path in files:
            os.truncate(path, int(path.stat().st_size * share))
        found = ask()
        assert process.poll() is None
        assert 503 in found["thumb"] and found["thumbs"] == {503}
        assert found["example"] == {503} and found["influence"] == {503}
        assert fetch(f"{url}/_stcore/health")[0] == 200
    assert draw_page(url, "overview")


def texts(url: str) -> bytes:
    return b"".join(message.SerializeToString() for message in draw_page(url, "overview"))


def test_pages_go_on_with_the_last_sound_settings_and_say_so(folder, start):
    process, url = start(folder)
    thumb = f"{url}/hardlook/thumb?id=train/a/0.png"
    assert WARNING not in texts(url)
    config = folder / "audit.toml"
    sound = config.read_text()

    def goes_on(said: bytes) -> None:
        assert fetch(f"{url}/_stcore/health")[0] == 200
        assert fetch(thumb)[0] == 200
        page = texts(url)
        assert WARNING in page and said in page and b"examples" in page

    for broken, said in (
        ("classes = [", b"not valid TOML"),
        (f"a = {'[' * 5000}", b"nested too deeply"),
        (sound.replace("format = 1", "format = 9"), b"format"),
        (f'{sound}\n[roles]\nking = ["ana"]\n', b"roles"),
    ):
        config.write_text(broken)
        goes_on(said)
    config.unlink()
    goes_on(b"no audit at")
    config.mkdir()
    goes_on(b"audit")
    config.rmdir()
    config.write_text(sound)
    assert WARNING not in texts(url) and fetch(thumb)[0] == 200
    folder.rename(folder.with_name("moved"))
    assert fetch(f"{url}/_stcore/health")[0] == 200
    assert WARNING in texts(url)
    folder.with_name("moved").rename(folder)
    assert WARNING not in texts(url) and fetch(thumb)[0] == 200
    assert process.poll() is None


def test_a_server_does_not_start_on_settings_that_are_broken(folder):
    (folder / "audit.toml").write_text("classes = [")
    with pytest.raises(HardlookError, match="not valid TOML"):
        serve_this(folder)


def test_the_audit_that_is_served_follows_its_settings(folder):
    serves = serve_this(folder)
    config = folder / "audit.toml"
    config.write_text(f'name = "one"\n{config.read_text()}')
    assert database.open_audit().name == "one" and serves.settings.problem is None
    config.write_text("classes = [")
    assert database.open_audit().name == "one" and database.audit_at(folder).name == "one"
    assert "not valid TOML" in serves.settings.problem
    with pytest.raises(HardlookError, match="not valid TOML"):
        Audit.open(folder)


POSTED = sorted(route.path for route in all_routes() if "POST" in (route.methods or ()))


@pytest.mark.parametrize("path", POSTED)
@pytest.mark.parametrize(
    "body", [b"[" * 200_000, b'{"ids":' * 100_000, b'{"ids": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"]
)
def test_json_that_is_nested_too_deeply_is_a_bad_request_of_every_route(folder, path, body):
    assert len(POSTED) >= 8
    assert app_of(Audit.open(folder)).post(path, body).status == 400


@pytest.mark.parametrize(
    "way, name, metrics, configuration",
    [
        ("proxy", None, 403, 403),
        ("proxy", "lea", 403, 200),  # known without a role: the page says so, so it must load
        ("proxy", "ana", 200, 200),
        ("alone", None, 200, 200),
    ],
)
def test_metrics_and_configuration_need_the_identity_that_pages_need(way, name, metrics, configuration):
    async def behind(scope, _receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    proxied = {"proxies": ("127.0.0.1",), "roles": {"lead": ("ana",)}}
    client = Client(Gate(behind, lambda: Access("127.0.0.1", **(proxied if way == "proxy" else {}))))
    headers = {} if name is None else {"x_forwarded_user": name}
    assert client.get("/_stcore/metrics", **headers).status == metrics
    assert client.get("/_stcore/host-config", **headers).status == configuration
    assert client.get("/_stcore/health", **headers).status == 200


def test_tables_of_free_text_offer_no_export_of_their_own(folder):
    assert options(serve_this(folder), 8501)["client.disableDataExport"] is True
