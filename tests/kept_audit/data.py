"""Make the toy problem's data: two Gaussian blobs in the plane. Run it with ``python data.py``."""

import csv
from pathlib import Path

import numpy as np

SEED = 0
EACH = 24
APART = 2.0


def points(each=EACH, apart=APART, seed=SEED):
    """(2·each, 2) points around (−apart, 0) and (apart, 0), of deviation 1, and the class of each, 0 or 1.

    The best boundary is the line x = 0, so |x| is a point's distance to it.
    """
    rng = np.random.default_rng(seed)
    classes = np.repeat([0, 1], each)
    return rng.normal(size=(2 * each, 2)) + np.stack([apart * (2 * classes - 1), 0 * classes], 1), classes


def write(folder):
    """Write blobs.csv into ``folder``."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    values, classes = points()
    with open(folder / "blobs.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["id", "split", "label", "x", "y"])
        for number, ((x, y), own) in enumerate(zip(values, classes, strict=True)):
            split = "test" if number % 4 == 3 else "train"
            table.writerow([f"point-{number:03d}", split, ("left", "right")[own], f"{x:.5f}", f"{y:.5f}"])


if __name__ == "__main__":
    write(Path(__file__).parent / "data")
