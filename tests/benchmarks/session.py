"""How quick a session is: `python -m tests.benchmarks.session [EXAMPLES]` prints medians, measured in the browser.

From the key that decides to the next example's original decoded and painted (the bar is 150 ms), to the event in the
log, and to all facts beside the picture, out of 60,000 examples; with a pause of a second between keys, as a person has
it, and without one. Pictures of 512 pixels, so that reading ahead has something to do.
"""

from __future__ import annotations

import io
import statistics

import numpy as np
import pyarrow as pa
from PIL import Image
from playwright.sync_api import Page

from scoring.audit.storage import read_table, write_table

from ..browser.conftest import Server
from .browsing import cpu, memory, report

DECISIONS = 30
SIDE = 512
READY = "document.querySelector('.hl-desk [data-shows]') && document.querySelector('[data-testid=\"neighbours\"]')"
DECIDE = """async () => {
  const frame = () => new Promise(requestAnimationFrame);
  const shown = () => document.querySelector('.hl-middle .hl-frame [data-shows]');
  const was = shown().dataset.shows, start = performance.now();
  document.body.dispatchEvent(new KeyboardEvent('keydown', {key: 'u', bubbles: true, cancelable: true}));
  while (shown().dataset.shows === was || !shown().complete || !shown().naturalWidth) await frame();
  await shown().decode();
  await frame(); await frame();
  const painted = performance.now() - start;
  while (!document.querySelector('.hl-desk .hl-side .hl-bars')) await frame();
  const facts = performance.now() - start;
  while (document.querySelector('[data-testid="save-status"]').textContent !== 'saved')
    await new Promise((done) => setTimeout(done, 2));
  return [painted, facts, performance.now() - start];
}"""


def write_originals(audit, n: int) -> None:
    """Originals for the first examples of the queue; the others keep their thumbnail."""
    scores = read_table(audit.run().score_path("aum"), ["example_id", "aum"]).to_pandas().dropna()
    first = scores.sort_values("aum")["example_id"].head(n)
    rng = np.random.default_rng(0)

    def picture():
        small = Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8))
        buffer = io.BytesIO()
        small.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(buffer, "PNG")
        return buffer.getvalue()

    audit.originals.write_part([(one, picture()) for one in first])
    near = [list(np.roll(first.to_numpy(), -at)[1:51]) for at in range(len(first))]
    table = pa.table(
        {
            "example_id": pa.array(first.tolist(), pa.string()),
            "neighbours": pa.array(near, pa.list_(pa.string())),
            "distances": pa.array([[0.1] * 50] * len(first), pa.list_(pa.float32())),
        }
    )
    write_table(audit.run().neighbours_path, table)


def measure(page: Page, server: Server) -> dict[str, float]:
    """The figures, in ms and MB."""
    page.goto(f"{server.url}/suspects?split=train")
    page.wait_for_function(READY)
    page.wait_for_timeout(3000)
    figures = {}
    for what, pause in (("a second between keys", 1000), ("no pause", 0)):
        used, rows = cpu(server.process.pid), []
        for _ in range(DECISIONS):
            rows.append(page.evaluate(DECIDE))
            page.wait_for_timeout(pause)
        used = (cpu(server.process.pid) - used) / DECISIONS
        for name, some in zip(
            ("next picture painted", "all facts there", "in the log"), zip(*rows, strict=True), strict=True
        ):
            figures[f"{what}: {name}"] = statistics.median(some)
        figures[f"{what}: slowest picture"] = max(row[0] for row in rows)
        figures[f"{what}: CPU of the server"] = used
    figures["memory of the server, MB"] = memory(server.process.pid)
    return figures


if __name__ == "__main__":
    report(__doc__, measure, 1440, lambda audit: write_originals(audit, 4 * DECISIONS))
