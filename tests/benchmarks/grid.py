"""How quick the grid is: `python -m tests.benchmarks.grid [EXAMPLES]` prints medians, measured in the browser.

A page of 100 thumbnails out of 60,000 examples on /grid: from the key to the new cells and to their pictures decoded
and painted; from a key to its decision shown, and to the log's answer; from Enter to all scores of an example; the
server's memory and its CPU time per page. The bars are 400 ms and 700 MB on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from ..browser.conftest import ARGUMENTS, NAMES, Server
from ..synthetic import make_audit

TURNS, DECISIONS, OPENINGS = 15, 20, 7
READY = """() => { const all = [...document.querySelectorAll('[data-example-id] img')];
  return all.length === 100 && all.every((one) => one.complete && one.naturalWidth > 0); }"""
TURN = """async () => {
  const first = () => document.querySelector('[data-example-id]').dataset.exampleId;
  const frame = () => new Promise(requestAnimationFrame);
  const key = new KeyboardEvent('keydown', {key: 'PageDown', bubbles: true, cancelable: true});
  const was = first(), start = performance.now();
  document.querySelector('[data-example-id][tabindex="0"]').dispatchEvent(key);
  while (first() === was) await frame();
  const cells = performance.now() - start;
  const images = [...document.querySelectorAll('[data-example-id] img')];
  await Promise.all(images.map((one) => one.src ? one.decode() : new Promise((done) => { one.onload = done; })));
  await frame(); await frame();
  return [cells, performance.now() - start];
}"""
DECIDE = """async () => {
  const key = new KeyboardEvent('keydown', {key: 'u', bubbles: true, cancelable: true});
  const cell = document.activeElement, start = performance.now();
  cell.dispatchEvent(key);
  await new Promise(requestAnimationFrame);
  const shown = performance.now() - start;
  while (document.querySelector('[data-testid="save-status"]').textContent !== 'saved')
    await new Promise((done) => setTimeout(done, 2));
  return [shown, performance.now() - start];
}"""
OPEN = """async () => {
  const key = new KeyboardEvent('keydown', {key: 'Enter', bubbles: true, cancelable: true});
  const start = performance.now();
  document.activeElement.dispatchEvent(key);
  while (!document.querySelector('.hl-viewer .hl-bars')) await new Promise(requestAnimationFrame);
  return performance.now() - start;
}"""


def memory(process: int) -> float:
    """Resident megabytes of a process (Linux)."""
    line = next(line for line in Path(f"/proc/{process}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def cpu(process: int) -> float:
    """Milliseconds of CPU that a process has used (Linux)."""
    fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return 1000 * (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(page: Page, server: Server) -> dict[str, float]:
    """The figures, in ms and MB."""
    page.goto(f"{server.url}/grid?size=10+%C3%97+10&ends=lowest")
    page.wait_for_function(READY)
    page.locator("[data-example-id]").first.click()
    page.wait_for_timeout(2000)
    used = cpu(server.process.pid)
    turns = [page.evaluate(TURN) for _ in range(TURNS)]
    used = (cpu(server.process.pid) - used) / TURNS
    decisions = []
    for _ in range(DECISIONS):
        decisions.append(page.evaluate(DECIDE))
        page.keyboard.press("ArrowRight")
    openings = []
    for _ in range(OPENINGS):
        openings.append(page.evaluate(OPEN))
        page.keyboard.press("Escape")
        page.keyboard.press("ArrowRight")
    return {
        "page turn, cells there": statistics.median(cells for cells, _ in turns),
        "page turn, pictures painted": statistics.median(painted for _, painted in turns),
        "page turn, CPU of the server": used,
        "decision, shown": statistics.median(shown for shown, _ in decisions),
        "decision, in the log": statistics.median(saved for _, saved in decisions),
        "example opened, all scores there": statistics.median(openings),
        "memory of the server, MB": memory(server.process.pid),
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("examples", type=int, nargs="?", default=60_000)
    given = parser.parse_args()
    chromium = next(filter(None, map(shutil.which, NAMES)))
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        audit = make_audit(Path(folder) / "audit", given.examples, 10, thumbnails=True)
        server = Server(audit.root, None, Path(folder) / "output.txt")
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(120_000)
        try:
            for name, figure in measure(page, server).items():
                print(f"{name:40s} {figure:8.0f}")
        finally:
            browser.close()
            server.kill()
    print(f"{'load of the machine (1 minute)':40s} {os.getloadavg()[0]:8.1f}")


if __name__ == "__main__":
    main()
