"""Every artefact of an audit, damaged at many places and read again: what was told, and what passed.

``python -m tests.damage AUDIT`` prints the table of kinds and counts. Damage is a flipped bit, a cut, a stretch of
zeros or of noise, at seeded places. Each artefact is read in a process of its own, because the worst outcome is that
the process ends. An outcome is *told* (one ``HardlookError`` with the file's name), *same* (nothing was told, and the
content is what it was), *unseen* (nothing was told, and the content is another one), *foreign* (another exception) or
*ended*.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from dashboard.queries.database import sql
from dashboard.queries.selection import source
from scoring.audit.errors import HardlookError
from scoring.audit.storage import BlobStore, read_json, read_metadata, read_table, read_vectors, vectors_metadata

OUTCOMES = ("told", "same", "unseen", "foreign", "ended")
KINDS = {".parquet": "Parquet", ".arrow": "Arrow IPC", ".safetensors": "safetensors", ".json": "JSON"}


def artefacts(folder: Path) -> list[Path]:
    """All files of an audit that carry checksums."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix in KINDS)


def damaged_copies(content: bytes, each: int, seed: int = 0) -> Iterator[bytes]:
    """``each`` copies of a file with one damage: bits flipped, cuts, zeros and noise in turn."""
    draw = np.random.default_rng([seed, len(content)])
    for at in range(each):
        where, length = int(draw.integers(len(content))), int(draw.integers(1, 600))
        stretch = content[where : where + length]
        yield {
            0: content[:where] + bytes([content[where] ^ (1 << int(draw.integers(8)))]) + content[where + 1 :],
            1: content[:where],
            2: content[:where] + bytes(len(stretch)) + content[where + length :],
            3: content[:where] + draw.bytes(len(stretch)) + content[where + length :],
        }[at % 4]


def content_of(path: Path) -> list[object]:
    """What the readers of this house find in a file, as values that can be compared."""
    if path.suffix == ".json":
        return [read_json(path)]
    if path.suffix == ".safetensors":
        from scoring.influence import InfluenceFactors

        factors = InfluenceFactors.load(path)
        blocks = {name: block.numpy().tobytes() for name, block in factors.blocks.items()}
        return [factors.eigenvalues.tobytes(), blocks, factors.lengths]
    if path.suffix == ".parquet":
        return [read_table(path).to_pandas(), read_metadata(path), sql(f"SELECT * FROM {source(path)}").to_pandas()]
    if path.name.startswith("part-"):
        store = BlobStore(path.parent)
        return [{one: store.get(one) for one in sorted(store.ids())}]
    ids, values = read_vectors(path)
    some, few = read_vectors(path, ids[::3])
    return [ids.tolist(), values.tobytes(), some.tolist(), few.tobytes(), vectors_metadata(path)]


def equal(one: list[object], other: list[object]) -> bool:
    """Whether two contents are the same."""
    return all(a.equals(b) if isinstance(a, pd.DataFrame) else a == b for a, b in zip(one, other, strict=True))


def outcome(path: Path, whole: list[object]) -> str:
    """What reading a damaged file does."""
    try:
        return "same" if equal(content_of(path), whole) else "unseen"
    except HardlookError as error:
        return "told" if path.name in str(error) and "\n" not in str(error) else "foreign"
    except FileNotFoundError:
        raise
    except Exception:  # noqa: BLE001  counted: any other exception is a finding of the campaign
        return "foreign"


def outcome_of_use(folder: Path, path: Path) -> str:
    """What two commands and two pages do with a damaged file; *same* where none of them reads it."""
    from streamlit.testing.v1 import AppTest
    from streamlit.util import calc_hash

    from dashboard.auth.serving import serve_this
    from tests.conftest import hardlook

    said: list[str] = []
    try:
        for command in (("export", folder), ("report", folder, "-o", folder / "r.html")):
            with contextlib.redirect_stderr(io.StringIO()) as heard:
                failed = hardlook(*command)
            said += [heard.getvalue()] * bool(failed)
        for page in ("overview", "suspects"):
            serve_this(folder)
            app = AppTest.from_file(str(Path(__file__).parents[1] / "dashboard" / "app.py"), default_timeout=300)
            app._page_hash = calc_hash(page)
            app.run()
            if app.exception:
                return "foreign"
            said += [error.value for error in app.error]
    except Exception:  # noqa: BLE001  counted: any other exception is a finding of the campaign
        return "foreign"
    if not said:
        return "same"
    return "told" if all(path.name in sentence for sentence in said) else "foreign"


def campaign(folder: Path, each: int, seed: int = 0, *, use: bool = False) -> dict[str, Counter[str]]:
    """Damages every artefact of an audit, one process per file → outcomes by kind of file.

    use: not the readers of the house but commands and pages meet the damaged file.
    """
    found = {kind: Counter(dict.fromkeys(OUTCOMES, 0)) for kind in KINDS.values()}
    for path in artefacts(folder):
        content = path.read_bytes()
        command = [sys.executable, "-m", "tests.damage", str(path), "--each", str(each), "--seed", str(seed)]
        command += ["--audit", str(folder)] if use else []
        done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])
        path.write_bytes(content)
        told = [line for line in done.stdout.splitlines() if line in OUTCOMES]
        assert done.returncode < 0 or len(told) == each, done.stderr
        found[KINDS[path.suffix]].update(told)
        found[KINDS[path.suffix]].update(["ended"] * (done.returncode < 0))
    return found


def outcomes(path: Path, each: int, seed: int, audit: Path | None = None) -> Iterator[str]:
    """What happens with each damaged copy of one file; the file itself is overwritten."""
    content, whole = path.read_bytes(), content_of(path)
    for copy in damaged_copies(content, each, seed):
        path.write_bytes(copy)
        yield outcome(path, whole) if audit is None else outcome_of_use(audit, path)
    path.write_bytes(content)


def table(found: dict[str, Counter[str]]) -> str:
    """The counts as a Markdown table."""
    rows = [
        f"| {kind} | {sum(counts.values())} | " + " | ".join(str(counts[one]) for one in OUTCOMES) + " |"
        for kind, counts in found.items()
    ]
    return "\n".join(["| file | damaged | " + " | ".join(OUTCOMES) + " |", "|---|" + "---:|" * 6, *rows])


def main() -> None:
    """The command line of the campaign, and of the process that reads one file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("place", type=Path)
    parser.add_argument("--each", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--use", action="store_true", help="let commands and pages meet the files")
    parser.add_argument("--audit", type=Path, help="of one file: the audit that commands and pages open")
    given = parser.parse_args()
    if given.place.is_dir():
        sys.stdout.write(table(campaign(given.place, given.each, given.seed, use=given.use)) + "\n")
        return
    for one in outcomes(given.place, given.each, given.seed, given.audit):
        sys.stdout.write(one + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
