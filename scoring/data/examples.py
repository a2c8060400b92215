"""The example table: one row per example, joined to everything else on ``example_id`` alone.

``ingest`` makes it from the audit's ``[[data]]`` tables (``scoring.data.ingest``; one of ``scoring.data.adapters``
reads each). Here: reading the table, reading originals for a model, images of full size for a page, verified
labels, exact duplicates.

Inputs → outputs: an audit with its files → data frames, originals, bytes. Cost: a read of the columns asked
for. Known limits: ``Originals`` imports code that audit.toml names; nothing else here does.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from scoring.audit import Audit
from scoring.audit.errors import HardlookError
from scoring.audit.storage import BlobStore, read_metadata, read_table
from scoring.audit.user_code import close_names
from scoring.data.adapters import hub, open_sources
from scoring.data.adapters.text_tables import read_text_table
from scoring.data.duplicates import count_duplicates, duplicates
from scoring.data.example_table import FIXED
from scoring.data.images import browser_picture, is_npy, png, vector_picture
from scoring.data.labels import Labels

__all__ = [
    "FIXED",
    "Originals",
    "count_duplicates",
    "duplicates",
    "input_columns",
    "original_picture",
    "original_text",
    "original_vector",
    "read_examples",
    "truth",
]


def read_examples(audit: Audit) -> pd.DataFrame:
    """The example table, in the order of the sources: ``FIXED`` columns, then ``meta.<name>``; null is None
    or NaN."""
    return _table(audit).to_pandas()


def input_columns(audit: Audit) -> list[str] | None:
    """The names of a vector's entries, where the data has some."""
    return read_metadata(audit.examples_path).get("columns")


def _table(audit: Audit, columns: list[str] | None = None) -> pa.Table:
    try:
        return read_table(audit.examples_path, columns)
    except FileNotFoundError as error:
        reason = f"{audit.root} has no example table yet; run `hardlook score {audit.root}`"
        raise HardlookError(reason) from error


class Originals:
    """Examples before any transform, read through their source: for the model, not for a page.

    Opened when first used; safe for threads; picklable for worker processes, each of which opens its own. The
    table says which file a row was, so a folder that has got new files since does not shift the others.
    """

    def __init__(self, audit: Audit):
        self.audit = audit

    def __getstate__(self) -> dict[str, Any]:
        return {"audit": self.audit}

    @cached_property
    def _sources(self) -> list[Any]:
        return open_sources(self.audit)

    @cached_property
    def _table(self) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        """Per source: references and labels by row."""
        frame = _table(self.audit, ["source", "row", "reference", "label"]).to_pandas()
        groups = frame.sort_values("row").groupby("source")
        return {
            int(number): (group["reference"].to_numpy(object), group["label"].to_numpy(object))
            for number, group in groups
        }

    def _row(self, source: int, row: int, which: int) -> Any:
        value = self._table[int(source)][which][int(row)]
        return value if isinstance(value, str) else None

    def read(self, source: int, row: int) -> Any:
        """One original: a Pillow image in its own mode, an array, a tensor, or text. Raises where it cannot
        be read."""
        reference = self._row(source, row, 0)
        path = str(self.audit.root / reference) if reference is not None else None
        return self._sources[source].original(int(row), path)

    def encoded(self, source: int, row: int) -> bytes | None:
        """The bytes of an example's encoded picture; None where the source holds none, or code of the user's reads
        them."""
        reading = self._sources[source]
        if reading.loader or reading.labels_from_items:
            return None
        reference = self._row(source, row, 0)
        content = reading.content(int(row), str(self.audit.root / reference) if reference is not None else None)[0]
        return content if isinstance(content, bytes) and not is_npy(content) else None

    def turns(self, source: int) -> bool:
        """Returns whether a source's images reach the transform with their EXIF orientation applied."""
        return self._sources[source].turns

    def label(self, source: int, row: int) -> str | None:
        """The class name of one example's label, None where it has none."""
        return self._row(source, row, 1)


# -------------------------------------------------------------------------------------------------- for pages


def original_picture(
    audit: Audit, example: Mapping[str, Any] | pd.Series, kept: BlobStore | None = None
) -> tuple[bytes, str]:
    """(bytes, MIME type) of one example in full size, as a browser shows it; ``example``: its row of the
    table.

    From its file, or from what ingest kept (``kept``: ``audit.originals``, where it is open already); code
    that audit.toml names is never run. Raises ``HardlookError`` with the reason where there is no picture.
    """
    if example["kind"] == "vector":
        return png(vector_picture(original_vector(audit, example, kept), 1024, 384)), "image/png"
    if example["kind"] == "text":
        return original_text(audit, example, kept).encode("utf8"), "text/plain; charset=utf-8"
    return browser_picture(_stored(audit, example, kept))


def original_text(audit: Audit, example: Mapping[str, Any] | pd.Series, kept: BlobStore | None = None) -> str:
    """The whole text of one text example."""
    return _stored(audit, example, kept).decode("utf8")


def original_vector(audit: Audit, example: Mapping[str, Any] | pd.Series, kept: BlobStore | None = None) -> np.ndarray:
    """The (d,) float32 numbers of one vector example; ``input_columns`` names them."""
    return np.frombuffer(_stored(audit, example, kept), dtype="<f4")


def _stored(audit: Audit, example: Mapping[str, Any] | pd.Series, kept: BlobStore | None) -> bytes:
    """The bytes that a page shows: the file's own, or those kept for arrays, objects and what a loader
    read."""
    reference, own = example["reference"], example["example_id"]
    file = audit.root / reference if isinstance(reference, str) else None
    if file is None or _needs_reading(audit, int(example["source"]), file):
        data = (kept or audit.originals).get(own)
        if data is None:
            problem = example["problem"]
            reason = f": {problem}" if isinstance(problem, str) else f"; run `hardlook score {audit.root}`"
            raise HardlookError(f"no original of {own!r} is kept{reason}")
        return data
    try:
        return file.read_bytes()
    except OSError as error:
        raise HardlookError(f"the file of {own!r} cannot be read: {error.strerror} ({file})") from error


def _needs_reading(audit: Audit, source: int, file: Path) -> bool:
    """Returns whether a file is shown by what ingest kept of it, because the file itself is no picture."""
    sources = audit.sources
    loader = source < len(sources) and "loader" in sources[source]
    return loader or audit.media == "vector" or file.suffix.lower() == ".npy"


# -------------------------------------------------------------------------------------------- verified labels


def truth(audit: Audit) -> pd.DataFrame | None:
    """Verified labels of ``[truth]`` → data frame example_id, true_label (class names); None where there are
    none.

    Rows without a label are left out; ids that the audit does not have do no harm. An id given twice, or a
    label that is no class, is an error. Reviewers never see this table.
    """
    config = audit.truth
    if config is None:
        return None
    path = audit.path(config["path"]) if "path" in config else None
    if path is None or not path.is_file():
        raise HardlookError(f"audit.toml: [truth] path = {config.get('path')!r}; needed a CSV or Parquet")
    table = read_table(path) if path.suffix.lower() == ".parquet" else read_text_table(path)
    ids = [str(value) for value in _truth_column(table, config, "id_column", "example_id")]
    labels = Labels(audit.classes)
    names = [labels.name(value) for value in _truth_column(table, config, "label_column", "true_label")]
    frame = pd.DataFrame({"example_id": ids, "true_label": names}).dropna().reset_index(drop=True)
    twice = frame.loc[frame["example_id"].duplicated(), "example_id"]
    if len(twice):
        raise HardlookError(f"{path} names {twice.iloc[0]!r} more than once; needed one label per example")
    return frame


def _truth_column(table: pa.Table, config: Mapping[str, Any], key: str, usual: str) -> list[Any]:
    name = config.get(key, usual)
    if name not in table.column_names:
        raise HardlookError(f"audit.toml: [truth] {key} = {name!r}; {close_names(name, table.column_names)}")
    names = hub.class_names(hub.features(table.schema).get(name))
    return [hub.named(value, names) for value in table[name].to_pylist()]
