"""The files that real tools wrote (tests/data/tool_files), and one table of audit.toml over a copy of them."""

import json
import shutil
from pathlib import Path

from scoring.audit import Audit
from scoring.data.adapters import open_sources

FILES = Path(__file__).parents[1] / "tool_files"


def kept(tmp_path, name):
    """A copy of what a tool wrote, in a folder ``data`` of an audit that is still to be written."""
    shutil.copytree(FILES / name, tmp_path / "data", symlinks=True)
    return tmp_path / "data"


def source_of(root, data, classes=(), media="image"):
    """The one source of an audit with this ``[[data]]`` table."""
    head = f"format = 1\nmedia = {json.dumps(media)}\nclasses = {json.dumps(list(classes), ensure_ascii=False)}\n"
    (root / "audit.toml").write_text(f"{head}[[data]]\n{data}\n", encoding="utf8")
    return open_sources(Audit.open(root))[0]


def labels_by_name(source):
    """Name → label of the examples that have no problem."""
    listing = source.listing()
    labels = listing.labels or [None] * len(listing)
    rows = enumerate(zip(listing.names, labels, strict=True))
    return {name: label for row, (name, label) in rows if row not in listing.problems}
