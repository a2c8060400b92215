"""A patch and the files of other tools: written where the labels are a table, refused in one sentence elsewhere."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from scoring.audit import Audit
from scoring.audit.storage import read_table
from scoring.data.ingest import ingest
from scoring.reviews import Event, ReviewLog

from ..conftest import hardlook

FILES = Path(__file__).parents[1] / "data" / "tool_files"
CLASSES = ["dog", "cat", "Großer Panda"]


def audit_of(root, data):
    names = ", ".join(f'"{name}"' for name in CLASSES)
    (root / "audit.toml").write_text(f"format = 1\nclasses = [{names}]\n[[data]]\n{data}\n", encoding="utf8")
    found = Audit.open(root)
    ingest(found)
    return found


def relabelled(audit):
    """Decide that the first readable training example is a cat, or a dog where it is one; export → (example, label)."""
    rows = read_table(audit.examples_path).to_pandas()
    row = rows[rows["problem"].isna() & (rows["split"] == "train")].iloc[0]
    new = next(name for name in CLASSES if name != row["label"])
    with ReviewLog.open(audit.log_url, audit=audit.log_name(audit.log_url)) as log:
        log.append(
            [
                Event(
                    client="tab",
                    seq=1,
                    example_id=row["example_id"],
                    fingerprint=row["fingerprint"],
                    label=row["label"],
                    reviewer="ana",
                    action="decide",
                    verdict="other",
                    new_label=new,
                )
            ]
        )
    assert hardlook("export", str(audit.root)) == 0
    return row["example_id"], new


def content(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize(
    "name, kind, data",
    [
        ("datumaro-1.13.12/datumaro", "datumaro", "data"),
        ("datumaro-1.13.12/cvat", "cvat", "data"),
        ("datumaro-1.13.12/cvat", "cvat", "data/train.xml"),
        ("datumaro-1.13.12/imagenet_txt", "imagenet", "data"),
        ("fiftyone-1.22.1/indices", "fiftyone", "data"),
        ("fiftyone-1.22.1/samples", "fiftyone", "data"),
    ],
)
def test_what_no_patch_is_written_into_is_refused_and_left_alone(tmp_path, capsys, name, kind, data):
    shutil.copytree(FILES / name, tmp_path / "data")
    subset = 'subset = "train"\n' if kind != "fiftyone" and data == "data" else ""
    audit = audit_of(tmp_path, f'path = "{data}"\nsplit = "train"\n{subset}')
    relabelled(audit)
    before = content(tmp_path / "data")
    for more in ([], ["--audit", str(tmp_path)]):
        capsys.readouterr()
        patch = str(tmp_path / "exports/patch-train.csv")
        assert hardlook("apply", patch, str(tmp_path / data), *more) == 1
        error = capsys.readouterr().err
        assert f"is data of the kind {kind!r}, into which no patch is written; correct the labels in that tool" in error
    assert content(tmp_path / "data") == before


def test_label_studios_exports_are_refused(tmp_path, capsys):
    shutil.copytree(FILES / "label-studio-1.23.2", tmp_path / "data")
    audit = audit_of(tmp_path, 'path = "data/tasks.csv"\nsplit = "train"\nfolder = "data/media"\n')
    relabelled(audit)
    before = content(tmp_path / "data")
    for file in ("tasks.csv", "tasks.json"):
        assert hardlook("apply", str(tmp_path / "exports/patch-train.csv"), str(tmp_path / "data" / file)) == 1
        assert "is data of the kind 'label-studio'" in capsys.readouterr().err
    assert content(tmp_path / "data") == before


def pictures(folder, names):
    for at, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(at).integers(0, 255, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / name)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_metadata_table_gets_the_label_and_its_folder_says_so(tmp_path, capsys, kind):
    names = ["x.png", "sub/y.png", "z.png"]
    pictures(tmp_path / "data", names)
    table = tmp_path / "data" / f"metadata.{kind}"
    frame = pd.DataFrame({"file_name": names, "label": CLASSES, "note": ["a", "b", "c"]})
    frame.to_csv(table, index=False) if kind == "csv" else frame.to_parquet(table)
    audit = audit_of(tmp_path, 'path = "data"\nsplit = "train"\n')
    example, new = relabelled(audit)
    patch = str(tmp_path / "exports/patch-train.csv")
    assert hardlook("apply", patch, str(tmp_path / "data")) == 1
    assert f"apply it to the table {table}" in capsys.readouterr().err
    assert hardlook("apply", patch, str(table)) == 0
    after = pd.read_csv(table) if kind == "csv" else pd.read_parquet(table)
    assert after["label"].tolist() == [new, *CLASSES[1:]] and after["note"].tolist() == ["a", "b", "c"]
    ingest(audit)
    rows = read_table(audit.examples_path).to_pandas().set_index("example_id")
    assert rows.loc[example, "label"] == new
    assert hardlook("apply", "--undo", str(table)) == 0
    again = pd.read_csv(table) if kind == "csv" else pd.read_parquet(table)
    pd.testing.assert_frame_equal(again, frame)


def test_roboflows_table_gets_the_one_in_another_column(tmp_path, capsys):
    pictures(tmp_path / "data/train", ["x.png", "y.png"])
    table = tmp_path / "data/train/_classes.csv"
    table.write_text("filename, dog, cat, Großer Panda\nx.png, 1, 0, 0\ny.png, 0, 0, 1\n", encoding="utf8")
    before = table.read_bytes()
    audit = audit_of(tmp_path, 'path = "data/train"\nsplit = "train"\n')
    example, new = relabelled(audit)
    patch = str(tmp_path / "exports/patch-train.csv")
    assert hardlook("apply", patch, str(tmp_path / "data/train")) == 1
    assert f"apply it to the table {table}" in capsys.readouterr().err
    assert hardlook("apply", patch, str(table)) == 0
    ingest(audit)
    rows = read_table(audit.examples_path).to_pandas().set_index("example_id")
    assert rows.loc[example, "label"] == new == "cat" and rows["label"].tolist() == ["cat", "Großer Panda"]
    assert hardlook("apply", "--undo", str(table)) == 0 and table.read_bytes() == before
