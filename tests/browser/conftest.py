"""A real browser against a real server: fixtures for every browser test.

``audit`` is a small audit with real files, ``start`` serves it in a process of its own (which can be killed),
``browser`` is Debian's chromium, or whichever HARDLOOK_BROWSER names. Without one the tests are skipped;
with HARDLOOK_REQUIRE_BROWSER=1 that is a failure.
"""

from __future__ import annotations

import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scoring.reviews import ReviewLog
from scoring.tables import read_table
from ..synthetic import make_audit

ROOT = Path(__file__).parents[2]
PAGE = Path(__file__).with_name("grid_page.py")
CLASSES = ["0", "1", "<b>bold</b><img src=x onerror=alert(1)>", "cat's \"paw\"", "naïve ☕ 中文"]
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
             "--disable-sync", "--no-first-run"]  # fmt: skip
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
START = 60  # seconds until a server answers, on a busy machine


@pytest.fixture(scope="package")
def browser():
    """One browser for the tests of this folder; each test opens contexts of its own, so storage is never shared.

    It is closed before other tests run: playwright keeps an event loop going in this thread.
    """
    found = os.environ.get("HARDLOOK_BROWSER") or next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        reason = "no chromium on this machine: apt-get install chromium"
        (pytest.fail if os.environ.get("HARDLOOK_REQUIRE_BROWSER") == "1" else pytest.skip)(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=found, args=ARGUMENTS)
        yield launched
        launched.close()


class Server:
    """`hardlook dashboard` in a process of its own, on a port that stays the same through restarts."""

    def __init__(self, audit_path: Path, script: Path | None, output: Path, **access):
        self.audit_path, self.script, self.output, self.access = audit_path, script, output, access
        self.port = free_port()
        self.url = f"http://localhost:{self.port}"
        self.start()

    def start(self) -> None:
        """Start and wait until it answers."""
        script = "" if self.script is None else f", script={str(self.script)!r}"
        given = f"port={self.port}{script}, **{self.access!r}"
        code = f"from dashboard.server import serve; serve({str(self.audit_path)!r}, {given})"
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-c", code], cwd=ROOT, stdout=output, stderr=output,
                env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
            )  # fmt: skip
        until = time.monotonic() + START
        while not self.answers():
            assert self.process.poll() is None and time.monotonic() < until, self.output.read_text()
            time.sleep(0.1)

    def answers(self) -> bool:
        """Whether it serves."""
        try:
            with urllib.request.urlopen(f"{self.url}/_stcore/health", timeout=1) as reply:
                return reply.status == 200
        except OSError:
            return False

    def kill(self) -> None:
        """As a power cut would."""
        self.process.kill()
        self.process.wait()

    def interrupt(self) -> int:
        """Ctrl-C; the exit status."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=20)

    def events(self):
        """What its log holds, oldest first."""
        with ReviewLog.open(f"sqlite:///{self.audit_path / 'reviews.sqlite'}") as log:
            return log.events()


def free_port() -> int:
    """A port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def write_audit(path: Path, n: int = 120, classes=CLASSES):
    """An audit with small pictures, and VoG maps of its first examples; no model is run."""
    audit = make_audit(path, n, classes, thumbnails=True)
    ids = read_table(audit.examples_path, ["example_id"])["example_id"].to_pylist()
    buffer = io.BytesIO()
    Image.fromarray(np.tile(np.arange(32, dtype=np.uint8) * 8, (32, 1))).save(buffer, "PNG")
    audit.run().maps.write_part([(example, buffer.getvalue()) for example in ids])
    return audit


@pytest.fixture(scope="package")
def start(tmp_path_factory):
    """start(audit_path, script=None, **access) → a running ``Server``; all are killed at the end."""
    servers = []

    def start_server(audit_path: Path, script: Path | None = None, **access) -> Server:
        output = tmp_path_factory.mktemp("server") / "output.txt"
        servers.append(Server(Path(audit_path), script, output, **access))
        return servers[-1]

    yield start_server
    for server in servers:
        server.kill()


@pytest.fixture(scope="module")
def server(start, tmp_path_factory) -> Server:
    """A server of the grid alone: two panels of six examples in three columns, and a button that turns the page."""
    return start(write_audit(tmp_path_factory.mktemp("audit")).root, PAGE)


@pytest.fixture
def context(browser):
    """A browser profile of this test's own."""
    opened = browser.new_context(viewport={"width": 1280, "height": 900})
    opened.set_default_timeout(20_000)
    yield opened
    opened.close()
