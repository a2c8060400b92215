"""How quick the grid is: `python -m tests.benchmarks.grid [EXAMPLES]` prints medians, measured in the browser.

A page of 100 thumbnails out of 60,000 examples on /grid: from the key to the new cells and to their pictures decoded
and painted; from a key to its decision shown, and to the log's answer; from Enter to all scores of an example; the
server's memory and its CPU time per page. The bars are 400 ms and 700 MB on a machine that does nothing else.
"""

from __future__ import annotations

import statistics

from playwright.sync_api import Page

from ..browser.conftest import Server
from .browsing import cpu, memory, report

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


if __name__ == "__main__":
    report(__doc__, measure, 1280)
