"""Writes the sample's data: 1,797 real handwritten digits (8×8) in splits, with 5 % of the labels made wrong.

The digits come with scikit-learn (Alpaydin and Kaynak 1998, UCI "Optical Recognition of Handwritten Digits"), so
nothing is downloaded. ``write`` makes one PNG per digit and one manifest (CSV) per split; the true labels
go to ``truth.csv``, a separate file that reviewers do not see.

Run it alone with ``python data.py``.
"""

import csv
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

WRONG = 0.05
SEED = 7
SPLITS = {"train": 1200, "test": 497, "pool": 100}


def plant(labels, seed=SEED, share=WRONG):
    """Make a fixed share of the labels wrong, each by another digit drawn at random → the new labels."""
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(labels), size=round(share * len(labels)), replace=False)
    wrong = labels.copy()
    wrong[chosen] = (labels[chosen] + rng.integers(1, 10, size=len(chosen))) % 10
    return wrong


def ink(image):
    """How much of the field is covered, as a word: a piece of metadata to filter by."""
    return ["light", "medium", "dark"][int(np.digitize(image.mean(), [4.6, 5.2]))]


def write(folder):
    """Write images/, train.csv, test.csv, pool.csv and truth.csv into ``folder``."""
    folder = Path(folder)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    digits = load_digits()
    order = np.random.default_rng(SEED).permutation(len(digits.target))
    truth = []
    start = 0
    for number, (split, size) in enumerate(SPLITS.items()):
        rows = order[start : start + size]
        start += size
        labels = digits.target[rows]
        given = plant(labels, SEED + number) if split != "pool" else labels
        with open(folder / f"{split}.csv", "w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["id", "path", "label", "ink"])
            for row, true, label in zip(rows, labels, given, strict=True):
                name = f"digit-{row:04d}"
                pixels = (digits.images[row] * 255 / 16).round().astype(np.uint8)
                Image.fromarray(pixels).save(folder / "images" / f"{name}.png")
                shown = "" if split == "pool" else label
                table.writerow([name, f"images/{name}.png", shown, ink(digits.images[row])])
                truth.append([name, true])
    with open(folder / "truth.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["example_id", "true_label"])
        table.writerows(truth)


if __name__ == "__main__":
    write(Path(__file__).parent / "data")
