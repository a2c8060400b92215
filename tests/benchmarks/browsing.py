"""What the benchmarks of pages share: a dashboard over a synthetic audit, a headless browser before it, a table of
figures.

``report`` starts both, hands them to ``measure(page, server)`` → figures by name, and prints these. ``memory`` and
``cpu`` ask Linux about the server's process. Limit: the load of the machine is printed, not accounted for.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from scoring.audit import Audit

from ..browser.conftest import ARGUMENTS, NAMES, Server
from ..synthetic import make_audit


def memory(process: int) -> float:
    """Resident megabytes of a process (Linux)."""
    line = next(line for line in Path(f"/proc/{process}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def cpu(process: int) -> float:
    """Milliseconds of CPU that a process has used (Linux)."""
    fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return 1000 * (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def report(
    description: str | None,
    measure: Callable[[Page, Server], dict[str, float]],
    width: int,
    prepare: Callable[[Audit], None] = lambda audit: None,
) -> None:
    """Print the figures of ``measure`` for as many EXAMPLES as the command line says, in a window ``width`` pixels
    wide."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("examples", type=int, nargs="?", default=60_000)
    given = parser.parse_args()
    chromium = next(filter(None, map(shutil.which, NAMES)))
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        audit = make_audit(Path(folder) / "audit", given.examples, 10, thumbnails=True)
        prepare(audit)
        server = Server(audit.root, None, Path(folder) / "output.txt")
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.set_default_timeout(120_000)
        try:
            for name, figure in measure(page, server).items():
                print(f"{name:45s} {figure:8.0f}")
        finally:
            browser.close()
            server.kill()
    print(f"{'load of the machine (1 minute)':45s} {os.getloadavg()[0]:8.1f}")
