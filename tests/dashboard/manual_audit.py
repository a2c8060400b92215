"""The audit that the manual's pages are run on: striped pictures of three classes, some labels wrong, in image folders.

Small enough that every command takes seconds. ``write_images`` makes the data, ``write_audit`` an audit of it with a
network of some hundred parameters, ``decide`` what reviewers answered: 24 labels are wrong and 24 are right.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from scoring.audit import Audit
from scoring.audit.storage import read_table
from scoring.reviews import Event, ReviewLog

CLASSES = ("cat", "dog", "bird")
TRAIN, TEST, POOL, WRONG = 40, 15, 12, 8
"""Pictures of each class, in the pool of all; wrong labels of each class of train."""
MODEL = """import torch
from torch import nn


def net(classes=3):
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(4),
                         nn.Flatten(), nn.Linear(64, classes))
"""
AUDIT = """format = 1
classes = ["cat", "dog", "bird"]

[[data]]
split = "train"
path = "images/train"

[[data]]
split = "test"
path = "images/test"

[[data]]
split = "pool"
path = "images/pool"

[run.main]
model = "model.py:net"
transform = { mode = "RGB", resize = 12, crop = 12 }

[run.main.training]
epochs = 6

[run.main.scores.influence]
arnoldi_dim = 20
rank = 8
"""


def striped(number: int, seed: int) -> Image.Image:
    """A picture of 12 × 12 with a bright stripe whose place is the class."""
    picture = np.random.default_rng(seed).integers(0, 70, (12, 12, 3)).astype(np.uint8)
    picture[4 * number : 4 * number + 4, :, number] += 150
    return Image.fromarray(picture)


def write_images(root: Path) -> None:
    """``images/train`` and ``images/test`` with a folder per class, ``images/pool`` with files alone; the first
    ``WRONG`` of each training class lie in the folder of the next class."""
    for split, count, start in (("train", TRAIN, 0), ("test", TEST, 1000)):
        for number in range(len(CLASSES)):
            for at in range(count):
                wrong = split == "train" and at < WRONG
                folder = root / "images" / split / CLASSES[(number + wrong) % len(CLASSES)]
                folder.mkdir(parents=True, exist_ok=True)
                striped(number, 100 * number + at + start).save(folder / f"{CLASSES[number]}-{at}.png")
    (root / "images" / "pool").mkdir()
    for at in range(POOL):
        striped(at % len(CLASSES), 2000 + at).save(root / "images" / "pool" / f"{at}.png")


def write_audit(root: Path) -> Path:
    """An audit of these pictures; nothing is trained yet."""
    root.mkdir(parents=True)
    write_images(root)
    (root / "model.py").write_text(MODEL)
    (root / "audit.toml").write_text(AUDIT)
    return root


def decide(root: Path) -> None:
    """The wrong labels are corrected, and as many right ones confirmed."""
    audit = Audit.open(root)
    examples = read_table(audit.examples_path, ["example_id", "split", "label", "fingerprint"]).to_pandas()
    train = examples[examples["split"] == "train"]
    true = train["example_id"].str.extract(r"(\w+)-\d+\.png$")[0]
    wrong, right = train[true != train["label"]], train[true == train["label"]]
    answered = [
        *wrong.assign(true=true[wrong.index]).itertuples(),
        *right.head(len(wrong)).assign(true=None).itertuples(),
    ]
    events = [
        Event(
            client="test",
            seq=number,
            example_id=row.example_id,
            fingerprint=row.fingerprint,
            reviewer="ana",
            action="decide",
            label=row.label,
            verdict="given" if row.true is None else "other",
            new_label=row.true,
        )
        for number, row in enumerate(answered, 1)
    ]
    with ReviewLog.open(audit.log_url, audit=audit.log_name(audit.log_url)) as log:
        log.append(events)


def copied(root: Path, folder: Path) -> Path:
    """A copy of an audit as ``folder/my-audit``."""
    return Path(shutil.copytree(root, folder / "my-audit"))
