"""The papers' aircraft: `python -m tests.benchmarks.acasxu [--examples 6000] [--keep DIR]` audits a surrogate of ACAS
Xu.

The public network 1_1 (Katz et al. 2017; 5 inputs, 5 actions, the decision is the argmin of its outputs) labels points
drawn uniformly within its input bounds. A small five-action network is fitted to them, recorded, and audited as
vectors, all with hardlook's own commands. Asked is what Picard et al. (2022) show: the most influential points lie near
decision boundaries. The distance of a point is the shortest, over 200 random directions in the normalised inputs, at
which the *public* network decides otherwise (steps of 0.002); medians over the 5 % with the highest self-influence,
over as many random points, and over the rest are printed.

Inputs: acasxu_1_1.nnet. Cost: a few minutes of one core. Limits: the distance is an upper bound, being a minimum over
directions drawn at random, the same for both groups.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from scoring.audit import Audit
from scoring.audit.storage import read_table
from scoring.data.examples import read_examples

from ..conftest import hardlook
from .data import data_file

COLUMNS = ("distance (ft)", "bearing (rad)", "heading (rad)", "own speed (ft/s)", "other's speed (ft/s)")
CLASSES = ("clear of conflict", "weak left", "weak right", "strong left", "strong right")
TOP = 0.05
DIRECTIONS, STEP, FARTHEST = 200, 0.002, 0.3
SCORES = (
    ("influence", "self_influence"),
    ("self_influence", "cook"),
    ("vog", "late_label_logit"),
    ("vog", "late_label_probability"),
    ("uncertainty", "loss"),
)

TOML = """format = 1
name = "ACAS Xu 1_1, a surrogate"
media = "vector"
classes = {classes}

[[data]]
path = "points.parquet"
split_column = "split"
id_column = "id"
label_column = "label"

[run.main]
model = "model.py:surrogate"
transform = {{ mean = {mean}, std = {std} }}
checkpoints = "checkpoints/main/*.pt"

[run.main.training]
epochs = {epochs}
batch_size = 64
lr = 0.01

[run.main.scores.influence]
arnoldi_dim = 200
rank = 60
"""
MODEL = '''"""Five actions from five inputs."""
from torch import nn


def surrogate(hidden=48):
    return nn.Sequential(nn.Linear(5, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, 5))
'''


class Network:
    """A .nnet file: layers of weights and biases with ReLU between them, bounds and scales of the inputs."""

    def __init__(self, path: Path):
        lines = [line for line in path.read_text().splitlines() if line and not line.startswith("//")]
        numbers = [[float(cell) for cell in line.split(",") if cell.strip()] for line in lines]
        sizes = [int(size) for size in numbers[1]]
        self.low, self.high = np.array(numbers[3]), np.array(numbers[4])
        self.mean, self.scale = np.array(numbers[5])[: sizes[0]], np.array(numbers[6])[: sizes[0]]
        self.layers, at = [], 7
        for rows in sizes[1:]:
            weights = np.array(numbers[at : at + rows])
            biases = np.array(numbers[at + rows : at + 2 * rows]).reshape(rows)
            self.layers.append((weights, biases))
            at += 2 * rows

    def decide(self, points: np.ndarray) -> np.ndarray:
        """(n, 5) raw inputs → (n,) action: the one of the least cost."""
        return self.decide_normalised((points - self.mean) / self.scale)

    def decide_normalised(self, values: np.ndarray) -> np.ndarray:
        """(n, 5) normalised inputs → (n,) action."""
        for number, (weights, biases) in enumerate(self.layers):
            values = values @ weights.T + biases
            values = np.maximum(values, 0) if number < len(self.layers) - 1 else values
        return values.argmin(1)


def write_audit(folder: Path, network: Network, n: int, epochs: int, seed: int = 0) -> None:
    """Points with the public network's decisions as labels, a third of them test."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(network.low, network.high, size=(n, 5)).astype(np.float32)
    labels = np.array(CLASSES)[network.decide(points.astype(np.float64))]
    table = pd.DataFrame(points, columns=COLUMNS)
    table["id"], table["label"] = [f"point-{i:05d}" for i in range(n)], labels
    table["split"] = np.where(np.arange(n) % 3 == 2, "test", "train")
    table.to_parquet(folder / "points.parquet", index=False)
    lists = {"classes": list(CLASSES), "mean": network.mean.tolist(), "std": network.scale.tolist()}
    (folder / "audit.toml").write_text(TOML.format(epochs=epochs, **lists).replace("'", '"'))
    (folder / "model.py").write_text(MODEL)
    print({name: int((labels == name).sum()) for name in CLASSES})


def distances(network: Network, points: np.ndarray, seed: int = 1) -> np.ndarray:
    """(n, 5) raw points → (n,) distance to the nearest other decision, in normalised units; ``FARTHEST`` where none is
    nearer."""
    rng = np.random.default_rng(seed)
    radii = np.arange(STEP, FARTHEST, STEP)
    found = np.full(len(points), FARTHEST)
    normalised = (points - network.mean) / network.scale
    own = network.decide_normalised(normalised)
    for row, (point, decision) in enumerate(zip(normalised, own, strict=True)):
        directions = rng.normal(size=(DIRECTIONS, points.shape[1]))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        ray = point + radii[:, None, None] * directions
        other = network.decide_normalised(ray.reshape(-1, points.shape[1])).reshape(len(radii), -1) != decision
        if other.any():
            found[row] = radii[other.any(1).argmax()]
    return found


def main() -> None:
    """Write, train, score, and print the distances."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=6000)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--keep", metavar="DIR", help="where the audit is written and stays")
    options = parser.parse_args()
    network = Network(data_file("acasxu_1_1.nnet"))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(options.keep or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        write_audit(folder, network, options.examples, options.epochs)
        assert hardlook("train", folder) == 0 and hardlook("score", folder) == 0
        report(Audit.open(folder), network)


def report(audit: Audit, network: Network) -> None:
    """Median distance of the points that each score puts first, beside random ones."""
    run, examples = audit.run(), read_examples(audit).set_index("example_id")
    points = pd.read_parquet(audit.root / "points.parquet").set_index("id")
    train = examples.index[examples["split"] == "train"]
    predictions = read_table(run.predictions_path).to_pandas().set_index("example_id")
    test = predictions.loc[predictions["split"] == "test", "correct"].astype(float).mean()
    print(f"surrogate: {test:.1%} of the test points decided as the public network does")
    count, rng = round(TOP * len(train)), np.random.default_rng(2)
    columns = list(COLUMNS)
    drawn = rng.choice(train, size=count, replace=False)
    random = np.median(distances(network, points.loc[drawn, columns].to_numpy(np.float64)))
    print(f"{'score':<32}{'highest 5 %':>14}{'lowest 5 %':>14}{'random':>10}   (median distance, n = {count})")
    for scorer, column in SCORES:
        scores = read_table(run.score_path(scorer)).to_pandas().set_index("example_id")[column].reindex(train)
        ranked = scores.sort_values(kind="stable").index
        ends = [
            np.median(distances(network, points.loc[ids, columns].to_numpy(np.float64)))
            for ids in (ranked[-count:], ranked[:count])
        ]
        print(f"{scorer + '.' + column:<32}{ends[0]:>14.4f}{ends[1]:>14.4f}{random:>10.4f}")


if __name__ == "__main__":
    main()
