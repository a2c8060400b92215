"""Within how many seconds everybody is where a meeting's lead is: five browsers, measured by the browsers' own clocks.

    python -m tests.benchmarks.meeting [MOVES]

From the lead's key to the item on each follower's screen: the server writes the move, a follower asks every 0.7
seconds, and draws. The bar is 2,000 ms. Limit: five browsers and the server share this machine; on five machines
drawing is quicker.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from scoring.audit.storage import read_table
from scoring.reviews import Event, ReviewLog, meeting_agenda, meetings

from ..browser.conftest import ARGUMENTS, NAMES, Server
from ..browser.team import WATCH, PersonProxy, delays
from ..synthetic import make_audit

ROLES = '\n[roles]\nlead = ["lea"]\nauditor = ["ana", "ben", "cem"]\nviewer = ["vic"]\n'
PEOPLE = ("lea", "ana", "ben", "cem", "vic")
BAR = 2000


def main() -> None:
    """Print the delays of every follower beside the bar."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("moves", type=int, nargs="?", default=20)
    moves = parser.parse_args().moves
    chromium = next(filter(None, map(shutil.which, NAMES)))
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        audit = make_audit(Path(folder) / "audit", 200, 4, thumbnails=True)
        (audit.root / "audit.toml").write_text((audit.root / "audit.toml").read_text() + ROLES)
        ids = read_table(audit.examples_path, ["example_id"])["example_id"].to_pylist()[: moves + 1]
        with ReviewLog.open(audit.log_url, audit=audit.log_name(audit.log_url)) as log:
            log.append(
                [
                    Event(client="c", seq=at, example_id=one, reviewer="ana", action="flag")
                    for at, one in enumerate(ids, 1)
                ]
            )
            meetings.start(log, meeting_agenda.agenda(log), "lea")
        server = Server(audit.root, None, Path(folder) / "output.txt", proxies=("127.0.0.1",))
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        pages, proxies = {}, [PersonProxy(name, server.port) for name in PEOPLE]
        for name, proxy in zip(PEOPLE, proxies, strict=True):
            pages[name] = browser.new_context(base_url=proxy.url).new_page()
            pages[name].goto("/meeting")
            pages[name].get_by_test_id("meeting-place").wait_for(timeout=60_000)
            pages[name].evaluate(WATCH)
        lead = pages.pop("lea")
        found = delays(lead, pages, moves)
        browser.close()
        server.kill()
    every = sorted(value for some in found.values() for value in some)
    for name, some in found.items():
        print(f"{name}: median {statistics.median(some):.0f} ms, longest {max(some):.0f} ms")
    late = sum(value > BAR for value in every)
    print(
        f"all {len(every)}: median {statistics.median(every):.0f} ms, 95 % below "
        f"{every[int(0.95 * (len(every) - 1))]:.0f} ms, longest {every[-1]:.0f} ms; {late} later than {BAR:,} ms (load "
        f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores)"
    )


if __name__ == "__main__":
    main()
