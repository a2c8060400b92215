"""A real browser against a real server: fixtures for every browser test.

``audit`` is a small audit with real files, ``start`` serves it in a process of its own (which can be killed),
``browser`` is Debian's chromium, or whichever HARDLOOK_BROWSER names. Without one the tests are skipped; with
HARDLOOK_REQUIRE_BROWSER=1 that is a failure. ``context`` is a profile that all tests with windows of one size share,
that of their module's ``WINDOW``; each finds it empty. ``page`` is a page of it whose scripts must raise no error,
``since`` what the log got during the test.

Nothing waits for a time: every wait is for what is seen, at most ``WAIT``. HARDLOOK_SLOW=800 (milliseconds) makes
answers late and lets them overtake each other, in a browser of a third of its speed: how a race is found before it is
met.
"""

from __future__ import annotations

import functools
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scoring.audit.storage import read_table
from scoring.reviews import ReviewLog

from ..synthetic import make_audit

ROOT = Path(__file__).parents[2]
PAGE = Path(__file__).with_name("grid_page.py")
CLASSES = ["0", "1", "<b>bold</b><img src=x onerror=alert(1)>", 'cat\'s "paw"', "naïve ☕ 中文"]
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--process-per-site",
]
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
START = 120  # seconds until a server answers, on a busy machine
WAIT = 60_000  # milliseconds until what a test waits for is there, on a busy machine
WINDOW = (1280, 900)


@pytest.fixture(scope="package")
def browser():
    """One browser for the tests of this folder; each test opens contexts of its own, so storage is never shared.

    It is closed before other tests run: playwright keeps an event loop going in this thread.
    """
    found = os.environ.get("HARDLOOK_BROWSER") or next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        reason = "no chromium on this machine: apt-get install chromium"
        (pytest.fail if os.environ.get("HARDLOOK_REQUIRE_BROWSER") == "1" else pytest.skip)(reason)
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=WAIT)
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=found, args=ARGUMENTS)
        if os.environ.get("HARDLOOK_SLOW"):
            slowed(launched, int(os.environ["HARDLOOK_SLOW"]))
        yield launched
        launched.close()


SLOW = """(() => {
  const late = () => new Promise((done) => setTimeout(done, %d * (0.2 + 1.6 * Math.random())));
  const ask = window.fetch;
  window.fetch = async (what, options) => {
    if (!String(what?.url ?? what).includes("/hardlook/")) return ask(what, options);
    await late();
    const reply = await ask(what, options);
    await late();
    return reply;
  };
  window.WebSocket = class extends WebSocket {
    lines = { send: Promise.resolve(), message: Promise.resolve() };
    queue(line, act) {
      this.lines[line] = Promise.all([this.lines[line], late()]).then(act);
    }
    send(data) {
      this.queue("send", () => super.send(data));
    }
    addEventListener(name, heard, ...rest) {
      const later = (event) => this.queue("message", () => heard.call(this, event));
      return super.addEventListener(name, name === "message" ? later : heard, ...rest);
    }
    set onmessage(heard) {
      this.addEventListener("message", heard);
    }
  };
})()"""
"""Every answer to the pages' scripts comes late and out of order; what Streamlit sends comes late, in its order."""


def slowed(browser, milliseconds: int, cpu: float = 3) -> None:
    """Let every page of a browser be that slow: on a machine with other work, over a line with others on it."""
    opened = browser.new_context

    def new_context(**given):
        context = opened(**given)
        context.add_init_script(SLOW % (milliseconds / 2))
        made = context.new_page

        def new_page():
            page = made()
            context.new_cdp_session(page).send("Emulation.setCPUThrottlingRate", {"rate": cpu})
            return page

        context.new_page = new_page
        return context

    browser.new_context = new_context


class Server:
    """`hardlook dashboard` in a process of its own, on a port that was free and stays the same through restarts."""

    def __init__(self, audit_path: Path, script: Path | None, output: Path, **access):
        self.audit_path, self.script, self.output, self.access = audit_path, script, output, access
        self.port = 0
        self.start()

    def start(self) -> None:
        """Start and wait until it answers."""
        script = "" if self.script is None else f", script={str(self.script)!r}"
        given = f"port={self.port}{script}, **{self.access!r}"
        code = f"from dashboard.server import serve; serve({str(self.audit_path)!r}, {given})"
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-c", code],
                cwd=ROOT,
                stdout=output,
                stderr=output,
                env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
            )
        until = time.monotonic() + START
        while not self.answers():
            assert self.process.poll() is None and time.monotonic() < until, self.output.read_text()
            time.sleep(0.1)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://localhost:{self.port}"

    def answers(self) -> bool:
        """Whether it serves, where it said that it does."""
        told = re.search(r"http://localhost:(\d+)", self.output.read_text())
        if told is None:
            return False
        self.port = int(told[1])
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


@pytest.fixture(scope="package")
def profiles(browser):
    """profiles(window) → the browser profile of that size: in a new one everything is fetched and compiled anew."""
    return functools.cache(functools.partial(new_profile, browser))


def new_profile(browser, window: tuple[int, int] = WINDOW, **more):
    """A browser profile, as large as ``window``, which waits as long as all tests do. To be closed."""
    opened = browser.new_context(viewport=dict(zip(("width", "height"), window, strict=True)), **more)
    opened.set_default_timeout(WAIT)
    return opened


@pytest.fixture
def context(profiles, request):
    """The profile of the module's size. Nothing unsent in the browser's storage is left to the next test, and no page
    but an empty one: it keeps the process of its site alive, with Streamlit's scripts compiled: half of what every page
    costs."""
    profile = profiles(getattr(request.module, "WINDOW", WINDOW))
    yield profile
    profile.set_offline(False)
    for page in profile.pages[1:]:
        page.close()
    if profile.pages:
        profile.pages[0].evaluate("localStorage.clear(); location.replace('about:blank')")
        profile.pages[0].wait_for_url("about:blank")


def new_page(context):
    """A page, with errors of its scripts kept in ``page.errors``."""
    page = context.new_page()
    page.errors = []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    return page


@pytest.fixture
def page(context):
    """A page whose scripts must raise no error."""
    page = new_page(context)
    yield page
    assert not page.errors


@pytest.fixture
def since(server):
    """since(n=0) → the events of the test so far, once there are n of them."""
    events = server.events()
    before = int(events["position"].max()) if len(events) else 0

    def found(n: int = 0):
        until = time.monotonic() + WAIT / 1000
        while True:
            events = server.events()
            events = events[events["position"] > before]
            if len(events) >= n:
                return events
            assert time.monotonic() < until, f"{len(events)} of {n} events in the log"
            time.sleep(0.1)

    return found
