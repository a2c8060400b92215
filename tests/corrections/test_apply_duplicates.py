"""One of two equal examples is excluded: however often the patch is applied and the data read, the other one stays."""

from __future__ import annotations

import io
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from scoring.audit import Audit
from scoring.commands.console import read_data
from scoring.data.examples import read_examples
from scoring.reviews import Event, ReviewLog

from ..conftest import hardlook

KINDS = ("folder", "paths", "path twice", "own ids", "text", "vector", "bytes")


def png(seed: int) -> bytes:
    """A picture of its own per seed."""
    to = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (6, 6), dtype=np.uint8)).save(to, "png")
    return to.getvalue()


def write(root, kind):
    """Four examples, of which the first two are equal; returns what a patch is applied to."""
    media = kind if kind in ("text", "vector") else "image"
    name = "train" if kind == "folder" else "data.parquet" if kind == "bytes" else "data.csv"
    (root / "audit.toml").write_text(
        f'format = 1\nmedia = "{media}"\nclasses = ["a", "b"]\n\n[[data]]\npath = "{name}"\nsplit = "train"\n'
    )
    for at, file in enumerate(("train/a/0.png", "train/a/1.png", "train/b/2.png", "train/b/3.png")):
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(png(max(at, 1)))
    tables = {
        "paths": "path,label\ntrain/a/0.png,a\ntrain/a/1.png,a\ntrain/b/2.png,b\ntrain/b/3.png,b\n",
        "path twice": "path,label\ntrain/a/0.png,a\ntrain/a/0.png,a\ntrain/b/2.png,b\ntrain/b/3.png,b\n",
        "own ids": "example_id,path,label\nw,train/a/0.png,a\nx,train/a/1.png,a\ny,train/b/2.png,b\n"
        "z,train/b/3.png,b\n",
        "text": "text,label\nok,a\nok,a\nno,b\nwhy,b\n",
        "vector": "x,y,label\n1,2,a\n1,2,a\n3,4,b\n5,6,b\n",
    }
    if kind == "bytes":
        frame = pd.DataFrame({"image": [png(max(at, 1)) for at in range(4)], "label": list("aabb")})
        frame.to_parquet(root / name)
    elif kind in tables:
        (root / name).write_text(tables[kind])
    return root / name


def rows(data):
    """What is left of the dataset."""
    if data.is_dir():
        return sorted(path.relative_to(data).as_posix() for path in data.glob("[!.]*/*.png"))
    frame = pd.read_parquet(data) if data.suffix == ".parquet" else pd.read_csv(data)
    return frame.to_csv(index=False).splitlines()[1:]


@pytest.fixture(params=KINDS)
def decided(tmp_path, request):
    """An audit whose first example is outside the classes; the dataset; the ids of all four."""
    data = write(tmp_path, request.param)
    audit = Audit.open(tmp_path)
    read_data(audit)
    examples = read_examples(audit)
    first = examples.iloc[0]
    with ReviewLog.open(audit.log_url, audit=audit.log_name(audit.log_url)) as log:
        says = {"reviewer": "ada", "action": "decide", "verdict": "none"}
        log.append(
            [
                Event(
                    client="c",
                    seq=1,
                    example_id=first["example_id"],
                    fingerprint=first["fingerprint"],
                    label=first["label"],
                    **says,
                )
            ]
        )
    assert examples["fingerprint"].nunique() == 3 and hardlook("export", tmp_path) == 0
    return audit, data, list(examples["example_id"])


def applied(audit, data):
    return hardlook("apply", audit.exports_folder / "patch-train.csv", data)


def test_the_same_patch_applied_twice_takes_no_second_one(decided, capsys):
    audit, data, _ = decided
    before = rows(data)
    for _ in range(2):
        assert applied(audit, data) == 0 and rows(data) == before[1:]
        assert "1 excluded" in capsys.readouterr().out
    hardlook("apply", "--undo", data)
    assert rows(data) == before


@pytest.mark.parametrize("anew", [False, True])
def test_what_is_left_keeps_its_id_and_is_never_taken_for_what_went(decided, anew):
    audit, data, ids = decided
    before = rows(data)
    for _ in range(3):
        assert applied(audit, data) == 0 and rows(data) == before[1:]
        if anew:
            audit.examples_path.unlink()
            shutil.rmtree(audit.ingest_folder)
        read_data(audit)
        assert ids[0] not in list(read_examples(audit)["example_id"])
        assert anew or list(read_examples(audit)["example_id"]) == ids[1:]
        assert hardlook("export", audit.root) == 0


def test_a_dataset_that_was_written_anew_loses_the_example_again(decided):
    audit, data, _ = decided
    before = rows(data)
    whole = None if data.is_dir() else data.read_bytes()
    assert applied(audit, data) == 0
    if whole is None:
        (data / "a/0.png").write_bytes((data / ".hardlook-excluded/a/0.png").read_bytes())
        (data / ".hardlook-excluded/a/0.png").unlink()
    else:
        data.write_bytes(whole)
    assert rows(data) == before
    assert applied(audit, data) == 0 and rows(data) == before[1:]


@pytest.mark.parametrize("kind", ["folder", "paths"])
def test_a_file_removed_by_hand_is_not_replaced_by_its_twin(tmp_path, kind):
    data = write(tmp_path, kind)
    audit = Audit.open(tmp_path)
    read_data(audit)
    first = read_examples(audit).iloc[0]
    with ReviewLog.open(audit.log_url, audit=audit.log_name(audit.log_url)) as log:
        about = {"example_id": first["example_id"], "fingerprint": first["fingerprint"], "label": "a"}
        log.append([Event(client="c", seq=1, reviewer="ada", action="decide", verdict="none", **about)])
    assert hardlook("export", tmp_path) == 0
    if kind == "folder":
        (data / "a/0.png").unlink()
    else:
        data.write_text(data.read_text().replace("train/a/0.png,a\n", ""))
    left = rows(data)
    assert applied(audit, data) == 1 and rows(data) == left
