"""Time and peak memory of the scores that read predictions, features, dynamics or one model, on Fashion-MNIST.

    OMP_NUM_THREADS=1 python tests/benchmarks/scores.py --fashion DIR --audit DIR [--train 60000] [--epochs 4] [--only
    NAMES]

``--fashion`` holds torchvision's FashionMNIST. An audit is made (or gone on with) in ``--audit``: a LeNet is trained
with the Recorder, and every score is run by `hardlook score`, which prints time and peak memory of each pass.

Measured for 61,000 images and three checkpoints, on a machine that eight others used at the same time (seconds; GB of
the whole process): predictions 34, 1.3; aum 3; data_map 5; el2n 2; forgetting 3; energy 4; gradnorm 5; uncertainty 1
(all 1.3 or less); odin 138, 1.4; intrinsic_dimension 213, 1.5; grand 241, 1.3 (head, three checkpoints).
"""

from __future__ import annotations

import argparse
from contextlib import suppress
from pathlib import Path

import numpy as np
from torchvision.datasets import FashionMNIST

TOML = """format = 1
name = "Fashion-MNIST"
classes = ["top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot"]
[[data]]
split = "train"
path = "train.npz"
[[data]]
split = "test"
path = "test.npz"
[run.main]
model = "model.py:lenet"
transform = "model.py:transform"
checkpoints = "checkpoints/main/*.pt"
[run.main.training]
epochs = {epochs}
batch_size = 128
lr = 0.002
record_test = false
"""
MODEL = """
import numpy as np
import torch
from torch import nn

def lenet():
    return nn.Sequential(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(),
                         nn.MaxPool2d(2), nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(),
                         nn.Linear(84, 10))

def transform(image):
    pixels = np.asarray(image, dtype=np.float32) / 255
    return torch.from_numpy((pixels - 0.286) / 0.353).unsqueeze(0)
"""


def make(folder: Path, fashion: str, train: int, epochs: int) -> None:
    """Write the audit's folder, once."""
    if (folder / "audit.toml").is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    for split, most in (("train", train), ("test", 1000)):
        data = FashionMNIST(fashion, train=split == "train")
        np.savez(folder / f"{split}.npz", images=data.data.numpy()[:most], labels=data.targets.numpy()[:most])
    (folder / "model.py").write_text(MODEL)
    (folder / "audit.toml").write_text(TOML.format(epochs=epochs))


def main() -> None:
    from scoring.cli import main as hardlook

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fashion", required=True)
    parser.add_argument("--audit", required=True, type=Path)
    parser.add_argument("--train", type=int, default=60_000)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument(
        "--only", default="aum,data_map,el2n,forgetting,energy,gradnorm,grand,odin,intrinsic_dimension,uncertainty"
    )
    options = parser.parse_args()
    make(options.audit, options.fashion, options.train, options.epochs)
    for command in (["train"], ["score", "--only", options.only]):
        with suppress(SystemExit):
            hardlook([command[0], str(options.audit), *command[1:]])


if __name__ == "__main__":
    main()
