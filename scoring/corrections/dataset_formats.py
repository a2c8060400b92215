"""The corrected dataset in other formats: image folder, Hugging Face dataset, cleanlab table, FiftyOne.

Each takes the same rows (``corrected_examples``): labelled examples with label_original, label and disposition; those
that the policy excludes are left out of datasets, those that wait for a second reader keep their label. One split at a
time.

    imagefolder   <out>/<split>/<class>/<file>, links or copies        torchvision's ImageFolder and others read it
    huggingface   <out>/<split>, label and label_original as ClassLabel         datasets.load_from_disk
    cleanlab      <out>/issues-<split>.csv, the columns of CleanLearning.get_label_issues
    fiftyone      <out>/fiftyone-<split>/labels.json and data.json     FiftyOneImageClassificationDataset

Inputs → outputs: an audit, its log → paths. Cost: one link or copy per image. Limits: images only, apart from
cleanlab's table. File names are those of ``file_names``, never a class or an id as it is.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scoring.audit import Audit, Run
from scoring.audit.errors import HardlookError
from scoring.audit.storage import atomic_path, read_table, write_json
from scoring.corrections.file_names import file_names
from scoring.corrections.label_patch import corrected_labels, neutralise
from scoring.corrections.whole_folders import all_or_none, new_folder, replaced
from scoring.data.adapters.image_folder import TABLE
from scoring.data.images import is_npy, is_png
from scoring.queue.order import default_order, suggestions, suspicion
from scoring.reviews import ReviewLog

if TYPE_CHECKING:
    import pyarrow as pa

FORMATS = ("imagefolder", "huggingface", "cleanlab", "fiftyone")


def corrected_examples(audit: Audit, log: ReviewLog) -> pd.DataFrame:
    """Every readable labelled example → its row of the table, with label (corrected), label_original, disposition
    (undecided where nobody decided)."""
    examples = read_table(audit.examples_path).to_pandas()
    examples = examples[examples["label"].notna() & examples["problem"].isna()]
    patch = corrected_labels(examples, log, audit.policy).set_index("example_id")
    chosen = examples["example_id"].map(patch["disposition"]).astype(object)
    chosen = chosen.where(chosen.notna(), "undecided")
    new = examples["example_id"].map(patch["new_label"])
    label = examples["label"].astype(object).where(chosen != "relabel", new)
    return examples.assign(label_original=examples["label"], label=label, disposition=chosen).reset_index(drop=True)


def export_as(fmt: str, audit: Audit, run: Run | None, log: ReviewLog, out: Path, *, copy: bool = False) -> list[Path]:
    """Write every labelled split in one of ``FORMATS`` under ``out`` → the paths made. What is there already is
    refused, apart from single files, which are replaced. Folders of images and datasets appear once all are made."""
    if fmt not in FORMATS:
        raise HardlookError(f"no format {fmt!r}; there is {', '.join(FORMATS)}")
    if audit.media != "image" and fmt != "cleanlab":
        raise HardlookError(f"this audit holds {audit.media} data, but format {fmt} holds images; use csv or parquet")
    rows = corrected_examples(audit, log)
    parts = dict(iter(rows.groupby("split", sort=False)))
    kept = {split: part[part["disposition"] != "exclude"] for split, part in parts.items()}
    if fmt == "cleanlab":
        return [cleanlab_issues(audit, run, part, Path(out) / f"issues-{split}.csv") for split, part in parts.items()]
    if fmt == "fiftyone":
        return [fiftyone(audit, part, Path(out) / f"fiftyone-{split}") for split, part in kept.items()]
    paths = [Path(out) / split for split in kept]
    with all_or_none(paths) as work:
        for split, part in kept.items():
            if fmt == "imagefolder":
                image_folder(audit, part, work / split, copy=copy)
            else:
                huggingface(audit, part, work / split)
    return paths


def _files(audit: Audit, rows: pd.DataFrame) -> Iterator[tuple[Any, Path | bytes, str]]:
    """(row, its file or its kept bytes, a file name that no other example of its class has) per example."""
    kept, wanted = audit.originals, []
    for row in rows.itertuples(index=False):
        if isinstance(row.reference, str):
            wanted.append(Path(row.reference).name)
            continue
        head = kept.get(row.example_id)
        if head is None:
            raise HardlookError(f"no original of {row.example_id!r} is kept; run `hardlook score {audit.root}`")
        wanted.append(row.example_id + (".png" if is_png(head) else ".npy" if is_npy(head) else ".jpg"))
    names = pd.Series(wanted, rows.index, dtype=object)
    for _, part in names.groupby(rows["label"]):
        names[part.index] = file_names(part.tolist())
    for row, name in zip(rows.itertuples(index=False), names, strict=True):
        data = audit.path(row.reference) if isinstance(row.reference, str) else kept.get(row.example_id)
        if data is None:
            raise HardlookError(f"no original of {row.example_id!r} is kept; run `hardlook score {audit.root}`")
        yield row, data, name


def class_folders(audit: Audit, rows: pd.DataFrame) -> dict[str, str]:
    """Returns the folder of each class, the same in every split."""
    classes = [*audit.classes, *sorted({*rows["label"]} - {*audit.classes})]
    return dict(zip(classes, file_names([TABLE, *classes])[1:], strict=True))


def image_folder(audit: Audit, rows: pd.DataFrame, path: Path, *, copy: bool = False) -> Path:
    """One folder per class with links to the originals (or copies); the class folder is the corrected label.

    A class whose name can be no folder's gets another one; ``classes.json`` then says which class each folder holds.
    """
    folders = class_folders(audit, rows)
    work = new_folder(path)
    try:
        for row, original, name in _files(audit, rows):
            target = work / folders[row.label] / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(original, bytes):
                target.write_bytes(original)
            elif copy:
                shutil.copyfile(original, target)
            else:
                target.symlink_to(original)
        if any(name != folder for name, folder in folders.items()):
            write_json(work / TABLE, {folder: name for name, folder in folders.items()})
        os.chmod(work, 0o755)
        os.rename(work, path)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return path


def huggingface(audit: Audit, rows: pd.DataFrame, path: Path) -> Path:
    """A dataset saved to disk: example_id, image, label, label_original, disposition and the metadata columns."""
    try:
        import datasets
    except ImportError as error:
        raise HardlookError("a Hugging Face dataset needs `pip install 'hardlook[huggingface]'`") from error
    classes = audit.classes or sorted({*rows["label"], *rows["label_original"]})
    images = [
        {"bytes": original if isinstance(original, bytes) else original.read_bytes(), "path": name}
        for _, original, name in _files(audit, rows)
    ]
    meta = {name.removeprefix("meta."): _without_nan(rows[name]) for name in rows if name.startswith("meta.")}
    columns = {
        "example_id": rows["example_id"].tolist(),
        "image": images,
        "label": rows["label"].tolist(),
        "label_original": rows["label_original"].tolist(),
        "disposition": rows["disposition"].tolist(),
    }
    made = datasets.Dataset.from_dict({**meta, **columns})
    made = made.cast_column("image", datasets.Image())
    for name in ("label", "label_original"):
        made = made.cast_column(name, datasets.ClassLabel(names=classes))
    work = new_folder(path)
    try:
        made.save_to_disk(work)
        os.chmod(work, 0o755)
        os.rename(work, path)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return path


def _without_nan(values: pd.Series) -> list[Any]:
    """The values of a column, None where there is none: a text column with gaps is not one of numbers."""
    return values.astype(object).where(values.notna(), None).tolist()


def cleanlab_issues(audit: Audit, run: Run | None, rows: pd.DataFrame, path: Path) -> Path:
    """The table that ``CleanLearning.fit(label_issues=…)`` takes, in the order of the examples.

    is_label_issue: reviewers relabelled or excluded it. label_quality: 0 for the most suspicious rank, 1 for the least;
    a rank, no probability. given_label, predicted_label: class indices, the latter of the corrected label, else of the
    suggestion where the label was not confirmed. Of a test split that is reviewed blind, neither is the model's.
    Further columns: example_id and both class names.
    """
    position = {name: number for number, name in enumerate(audit.classes)}
    split = rows["split"].iloc[0]
    if split == "test" and audit.policy.get("test") == "blind":
        run = None  # neither a rank nor a suggestion of a test split that is reviewed blind
    order = default_order(audit, run, split) if run is not None else None
    ranked = pd.Series(np.nan, rows["example_id"])
    if run is not None and order is not None:
        ranked = suspicion(run, order).reindex(rows["example_id"])
    quality = 1 - (ranked.rank(method="first") - 1) / max(ranked.notna().sum() - 1, 1)
    suggested = suggestions(audit, run).set_index("example_id")["suggested_label"] if run is not None else {}
    issue = rows["disposition"].isin(["relabel", "exclude"])
    best = rows["label"].where(rows["disposition"] != "exclude", rows["example_id"].map(suggested))
    best = best.fillna(rows["label_original"])
    table = pd.DataFrame(
        {
            "is_label_issue": issue.to_numpy(),
            "label_quality": quality.to_numpy(),
            "given_label": rows["label_original"].map(position).to_numpy(),
            "predicted_label": best.map(position).to_numpy(),
            **{
                name: neutralise(_texts(values)).to_pylist()
                for name, values in (
                    ("example_id", rows["example_id"]),
                    ("given_name", rows["label_original"]),
                    ("predicted_name", best),
                )
            },
        }
    )
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False)
    return path


def _texts(values: pd.Series) -> pa.Array:
    import pyarrow as pa

    return pa.array(values.astype(object).tolist(), pa.string())


def fiftyone(audit: Audit, rows: pd.DataFrame, path: Path) -> Path:
    """A FiftyOneImageClassificationDataset whose images stay where they are, or lie in ``data`` where they are no
    files.

    ``labels.json``: {"classes": [...], "labels": {key: index}}, ``labels_original.json`` the same before the review;
    ``data.json``: {key: path}. Import: ``fo.Dataset.from_dir(dataset_type=fo.types.FiftyOneImageClassificationDataset,
    labels_path="labels.json", data_path="data.json")``.
    """
    position = {name: number for number, name in enumerate(audit.classes)}
    folders = class_folders(audit, rows)
    places: dict[str, str] = {}
    labels: dict[str, int] = {}
    before: dict[str, int] = {}
    with replaced(path, ("data", "data.json", "labels.json", "labels_original.json")) as work:
        for row, original, name in _files(audit, rows):
            file = Path("data") / folders[row.label] / name
            if isinstance(original, bytes):
                (work / file).parent.mkdir(parents=True, exist_ok=True)
                (work / file).write_bytes(original)
            places[row.example_id] = str(path.resolve() / file if isinstance(original, bytes) else original)
            labels[row.example_id], before[row.example_id] = position[row.label], position[row.label_original]
        write_json(work / "data.json", places)
        write_json(work / "labels.json", {"classes": audit.classes, "labels": labels})
        write_json(work / "labels_original.json", {"classes": audit.classes, "labels": before})
    return path
