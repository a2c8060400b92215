"""The server as a process: what it prints, refuses, imports and weighs, and how it ends."""

import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from dashboard.auth.serving import serve_this
from dashboard.server import address, bind, options, serve
from dashboard.style.colours import ROLES, contrast, css_variables
from scoring.audit.errors import HardlookError

from ..synthetic import make_audit

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "torchvision", "umap", "pynndescent", "ray", "numba", "captum", "transformers")

# The server, which on SIGUSR1 tells what it has imported and how much memory it holds.
PROGRAM = """
import os, signal, sys
def tell(*_):
    status = open("/proc/self/status").read() if os.path.exists("/proc/self/status") else "VmRSS: 0 kB"
    kilobytes = next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))
    heavy = [name for name in {heavy!r} if name in sys.modules]
    sys.stderr.write("TOLD %s %s\\n" % (kilobytes, ",".join(heavy) or "-"))
    sys.stderr.flush()
if hasattr(signal, "SIGUSR1"):
    signal.signal(signal.SIGUSR1, tell)
from dashboard.server import serve
serve({audit!r}, port={port})
"""


@pytest.fixture(scope="module")
def audit(tmp_path_factory):
    return make_audit(tmp_path_factory.mktemp("audit"), 60, thumbnails=True)


def told_address(process: subprocess.Popen) -> str:
    """Where a server of ``port=0`` serves, as it prints it: a port chosen before it starts may be taken by then."""
    lines = []
    while not any("Ctrl-C" in line for line in lines):
        lines.append(process.stdout.readline())
        assert lines[-1], process.stderr.read()
    return re.search(r"http://localhost:\d+", "".join(lines)).group()


def wait_until_it_answers(process: subprocess.Popen, url: str) -> None:
    """The address is printed a moment before the server takes connections."""
    until = time.monotonic() + 300
    while True:
        try:
            return fetch(f"{url}/_stcore/health")
        except OSError:
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.1)


def fetch(url: str, **headers) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=60) as reply:
            return reply.status, reply.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


@pytest.fixture(scope="module")
def running(audit):
    """(process, url) of a served audit; a websocket has drawn the first page."""
    code = PROGRAM.format(heavy=HEAVY, audit=str(audit.root), port=0)
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    url = told_address(process)
    wait_until_it_answers(process, url)
    yield process, url
    process.kill()
    process.communicate()


def draw_page(url: str, path: str) -> list:
    """Connect as a browser does and wait for a page to be drawn; the messages that drew it, the first one first."""
    from streamlit.proto.BackMsg_pb2 import BackMsg
    from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
    from websockets.sync.client import connect

    messages = []
    with connect(url.replace("http", "ws") + "/_stcore/stream", origin=url, max_size=None, open_timeout=300) as socket_:
        ask = BackMsg()
        ask.rerun_script.query_string = ""
        ask.rerun_script.page_name = path
        socket_.send(ask.SerializeToString())
        while True:
            message = ForwardMsg()
            message.ParseFromString(socket_.recv(timeout=300))
            messages.append(message)
            if message.WhichOneof("type") == "script_finished":
                return [one for one in messages if one.WhichOneof("type") == "new_session"] + messages


def test_after_drawing_pages_nothing_heavy_is_imported(running):
    process, url = running
    for path in ("overview", "grid", "suspects"):
        assert len(draw_page(url, path)) > 4
    if not hasattr(signal, "SIGUSR1"):
        pytest.skip("no SIGUSR1 here")
    process.send_signal(signal.SIGUSR1)
    for line in process.stderr:
        if line.startswith("TOLD"):
            break
    kilobytes, heavy = line.split()[1:]
    assert heavy == "-"
    assert int(kilobytes) < 700_000


def test_pages_and_pictures_answer_only_to_this_machine(running):
    _, url = running
    assert fetch(url)[0] == 200
    for path in ("/", "/hardlook/thumb?id=train/000001.png", "/_stcore/health", "/_stcore/host-config"):
        status, said = fetch(url + path, Host="evil.example")
        assert (status, said) == (403, b"This server answers only to the name localhost, not to 'evil.example'.")


def test_a_foreign_page_cannot_open_the_socket(running):
    from websockets.exceptions import InvalidStatus
    from websockets.sync.client import connect

    _, url = running
    with pytest.raises(InvalidStatus):
        connect(url.replace("http", "ws") + "/_stcore/stream", origin="http://evil.example")


def test_the_browser_is_told_to_report_no_usage(running):
    _, url = running
    assert draw_page(url, "overview")[0].new_session.config.gather_usage_stats is False


def test_a_port_in_use_is_told_in_one_sentence(audit):
    with bind("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(HardlookError, match=f"port {port} of 127.0.0.1: another process .* --port"):
            serve(audit.root, port=port)


@pytest.mark.parametrize(("host", "port"), [("no.such.host.invalid", 8501), ("127.0.0.1", 99999), ("127.0.0.1", -1)])
def test_an_address_that_is_none_is_told(host, port):
    with pytest.raises(HardlookError, match="is not a port|cannot serve on"):
        bind(host, port)


def test_a_folder_without_an_audit_is_told(tmp_path):
    with pytest.raises(HardlookError, match="there is no audit.toml"):
        serve(tmp_path)


def test_the_address_can_be_typed_into_a_browser():
    assert address("127.0.0.1", 8501) == address("0.0.0.0", 8501) == "http://localhost:8501"
    assert address("::1", 80) == "http://[::1]:80"


def test_the_users_own_streamlit_settings_do_not_open_the_server(audit):
    settings = options(serve_this(audit.root), 8501)
    assert settings["server.allowedHosts"] == ["localhost", "127.0.0.1", "::1"]
    assert settings["browser.gatherUsageStats"] is False and settings["server.fileWatcherType"] == "none"
    assert settings["server.enableCORS"] and settings["server.enableXsrfProtection"]
    assert not settings["server.enableAgentApi"] and not settings["server.enableStaticServing"]
    from streamlit import config

    known = config._config_options_template
    assert set(settings) <= set(known), "each setting is one that this Streamlit has"


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_it_prints_its_address_and_ends_cleanly_with_control_c(audit):
    process = subprocess.Popen(
        [sys.executable, "-c", f"from dashboard.server import serve; serve({str(audit.root)!r}, port=0)"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    wait_until_it_answers(process, told_address(process))
    process.send_signal(signal.SIGINT)
    said, complaints = process.communicate(timeout=300)
    assert process.returncode == 0 and "stopped" in said and complaints == ""


def test_every_role_has_a_mark_of_its_own_and_readable_text_on_its_colour():
    assert len({role.mark for role in ROLES.values()}) == len({role.colour for role in ROLES.values()}) == len(ROLES)
    assert all(contrast(role.colour, role.on) >= 4.5 for role in ROLES.values())
    assert css_variables().count("--hl-") == 2 * len(ROLES)
