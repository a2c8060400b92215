"""What checksums and reads by position cost, against the same files mapped and unverified.

    python -m tests.benchmarks.checksums [EXAMPLES]

Both sides read the same files in one process, in turn; CPU times, median of rounds. A thumbnail's request runs through
the routes, as a browser's does; the bar is that the whole difference is under 10 % of it. Pages run under AppTest:
every file verified anew, and none.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from bisect import bisect_left
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc as ipc
from streamlit.testing.v1 import AppTest
from streamlit.util import calc_hash

from dashboard.auth.serving import serve_this
from scoring.audit import sealed
from scoring.audit.storage import BlobStore, VectorFile, read_table, write_vectors

from ..dashboard.test_routes import app_of
from ..synthetic import make_audit

ROUNDS = 7


def cpu(work: Callable[[], object]) -> float:
    """CPU seconds of one call."""
    start = time.process_time()
    work()
    return time.process_time() - start


def medians(*sides: Callable[[], object]) -> list[float]:
    """Median CPU seconds of each side, the sides in turn."""
    return [float(one) for one in np.median([[cpu(side) for side in sides] for _ in range(ROUNDS)], axis=0)]


def mapped_parts(folder: Path) -> list[tuple[pa.ChunkedArray, pa.ChunkedArray]]:
    """The parts of a store as they were read before: mapped."""
    tables = [ipc.open_file(pa.memory_map(str(path))).read_all() for path in sorted(folder.glob("part-*.arrow"))]
    return [(table["example_id"].combine_chunks(), table["data"].combine_chunks()) for table in tables]


def mapped_get(parts: list[tuple[pa.ChunkedArray, pa.ChunkedArray]], example_id: str) -> bytes | None:
    """A look-up in mapped parts."""
    for ids, blobs in reversed(parts):
        at = bisect_left(range(len(ids)), example_id, key=lambda row: ids[row].as_py())
        if at < len(ids) and ids[at].as_py() == example_id:
            return blobs[at].as_py()
    return None


def forget() -> None:
    """Forget which files were verified."""
    sealed._known.clear()


def show(name: str, value: float, unit: str = "") -> None:
    """One line of the table."""
    print(f"{name:58s} {value:10.2f} {unit}")


def thumbnails(audit: object, ids: list[str]) -> None:
    """A thumbnail by its look-up and by its whole request."""
    folder = audit.root / "thumbnails.arrow"
    parts, store = mapped_parts(folder), BlobStore(folder)
    some = ids[:: max(1, len(ids) // 1000)]
    client = app_of(audit)

    def requests() -> None:
        for one in some:
            assert client.get("/hardlook/thumb", {"id": one}).status == 200

    def reads(get: Callable[[str], bytes | None]) -> Callable[[], None]:
        return lambda: [get(one) for one in some] and None

    store.get(some[0])
    requests()
    asked, new, old = medians(requests, reads(store.get), reads(lambda one: mapped_get(parts, one)))
    microseconds = 1e6 / len(some)
    show("thumbnail: the whole request", asked * microseconds, "µs")
    show("thumbnail: look-up, by position and verified", new * microseconds, "µs")
    show("thumbnail: look-up, mapped and unverified", old * microseconds, "µs")
    show("difference / request (bar: below 10)", 100 * (new - old) / asked, "%")

    def first() -> None:
        forget()
        BlobStore(folder).get(some[0])

    first_new, first_old = medians(first, lambda: mapped_get(mapped_parts(folder), some[0]))
    show("first thumbnail of a store, verified / mapped", first_new / first_old)


def vectors(folder: Path, n: int) -> None:
    """One vector and all of them."""
    path = folder / "v.arrow"
    ids = [f"{at:07d}" for at in range(n)]
    write_vectors(path, ids, np.random.default_rng(0).normal(size=(n, 100)).astype(np.float32))
    os.utime(path, (1, 1))  # a file that was just written is verified at each read

    def one_mapped() -> None:
        with pa.memory_map(str(path)) as source:
            table = ipc.open_file(source).read_all()
            np.array(table["vector"][pc.index(table["example_id"], ids[-1]).as_py()].as_py())

    def all_mapped() -> float:
        with pa.memory_map(str(path)) as source:
            flat = ipc.open_file(source).read_all()["vector"].combine_chunks().flatten().to_numpy()
        return float(flat.sum())

    def one() -> None:
        file = VectorFile(path)
        file.rows(n - 1, n)

    def every() -> float:
        return float(VectorFile(path).rows(0, n).sum())

    forget()
    opened = VectorFile(path)
    blocks = range(0, n, 65_536)
    new, old, whole, mapped = medians(
        one, one_mapped, lambda: [opened.rows(at, at + 65_536).sum() for at in blocks], all_mapped
    )
    show(f"one of {n:,} vectors of 100: by position / mapped", new / old)
    show("all of them, open and verified: by position / mapped", whole / mapped)
    first, _ = medians(lambda: (forget(), every()), all_mapped)
    show("all of them: first time, verifying / mapped", first / mapped)


def pages(audit: object) -> None:
    """Page runs, with checksums and without."""
    serve_this(audit.root)

    def run(name: str) -> None:
        app = AppTest.from_file(str(Path(__file__).parents[2] / "dashboard" / "app.py"), default_timeout=300)
        app._page_hash = calc_hash(name)
        app.run()
        assert not app.exception

    for name in ("overview", "grid", "suspects"):
        run(name)

        def without(name: str = name) -> None:
            with mock.patch("dashboard.queries.selection.verify", return_value=None):
                run(name)

        checked, plain = medians(lambda name=name: (forget(), run(name)), without)
        show(f"page {name}: files verified anew / unverified", checked / plain)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("examples", type=int, nargs="?", default=60_000)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    try:
        audit = make_audit(folder / "audit", given.examples, 10, thumbnails=True)
        thumbnails(audit, read_table(audit.examples_path, ["example_id"])["example_id"].to_pylist())
        vectors(folder, given.examples)
        pages(audit)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
