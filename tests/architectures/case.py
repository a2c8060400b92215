"""One architecture, scored whole: an audit of 14 examples, three checkpoints, the check and every scorer.

``score`` → ``Case``: the run's context, the findings of the check, the summary and the checkpoints' weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scoring.audit import Audit
from scoring.data.examples import Originals
from scoring.data.ingest import ingest
from scoring.models import AuditedModel
from scoring.models.outputs import OutputAsLogits
from scoring.pipeline.check import check_run
from scoring.pipeline.score_run import score_run
from scoring.pipeline.shards import Context

from .zoo import CLASSES, Architecture

TRAIN, TEST = 9, 5
N = TRAIN + TEST
SETTINGS = {
    "influence": {"arnoldi_dim": 5, "rank": 3, "batch_size": 5},
    "vog": {"batch_size": 5},
    "odin": {"batch_size": 5},
    "tta": {"views": 2, "batch_size": 5},
    "grand": {"batch_size": 5},
    "neighbours": {"k": 3},
    "intrinsic_dimension": {"k1": 3, "k2": 5},
}
AUDIT = """format = 1
media = "{media}"
classes = ["a", "b", "c", "d", "e"]
[[data]]
split = "train"
path = "train.npz"
inputs = "x"
labels = "y"
[[data]]
split = "test"
path = "test.npz"
inputs = "x"
labels = "y"
[run.main]
model = "torch.nn:Identity"
checkpoints = "*.pt"
"""


class Batches:
    """The inputs of the examples as a context reads them, all in memory; ``originals`` are those of the files."""

    transform = None

    def __init__(self, context: Context, inputs: torch.Tensor):
        self.inputs, self.ids = inputs, context.examples["example_id"].to_numpy(dtype=object)
        self.originals = Originals(context.audit)
        self.sources, self.rows = (context.examples[name].to_numpy() for name in ("source", "row"))

    def __len__(self) -> int:
        return len(self.inputs)

    def read(self, number: int) -> torch.Tensor:
        """One input."""
        return self.inputs[number].clone()

    def batch(self, numbers, _pool=None):
        """Many, all of them readable."""
        return self.inputs[np.asarray(numbers, dtype=int)].clone(), list(range(len(numbers))), {}


@dataclass
class Case:
    """What scoring gave."""

    architecture: Architecture
    context: Context
    findings: list
    summary: Any
    states: list[dict[str, torch.Tensor]]

    @property
    def inputs(self) -> torch.Tensor:
        """(n, *input) of all examples, in the table's order."""
        return self.context.inputs.inputs

    def read(self, scorer: str):
        """A score's table as a data frame, aligned with the inputs."""
        from scoring.audit.storage import read_table

        return read_table(self.context.run.score_path(scorer)).to_pandas()


def score(architecture: Architecture, folder: Path) -> Case:
    """Write, check and score the audit."""
    pictures = len(architecture.shape) == 3
    shape = (2, 2, 3) if pictures else (2,)  # of what stands in the files; the net sees inputs of its own
    drawn = np.random.default_rng(0)
    for split, n in (("train", TRAIN), ("test", TEST)):
        x = drawn.integers(0, 256, (n, *shape)).astype(np.uint8 if pictures else np.float32)
        np.savez(folder / f"{split}.npz", x=x, y=np.arange(n) % CLASSES)
    (folder / "audit.toml").write_text(AUDIT.format(media="image" if pictures else "vector"))
    net = architecture.make()
    states = checkpoints(net, folder)
    audit = Audit.open(folder)
    ingest(audit)
    context = Context(audit, audit.run(), device="cpu")
    context.__dict__["inputs"] = Batches(context, architecture.inputs(N))
    model = AuditedModel(net, context.checkpoints, n_classes=CLASSES)
    kind = model.kind_of(context.inputs.inputs, context.checkpoints[-1])
    context.__dict__["model"] = model.returns(OutputAsLogits(kind))
    findings = check_run(context)
    return Case(architecture, context, findings, score_run(context, settings=SETTINGS), states)


@torch.no_grad()
def checkpoints(net: torch.nn.Module, folder: Path) -> list[dict[str, torch.Tensor]]:
    """Three states of the net, each of slightly other weights than the one before; as files and as they are."""
    drawn, states = torch.Generator().manual_seed(3), []
    for number in range(3):
        state = {name: value.clone() for name, value in net.state_dict().items()}
        torch.save({"state_dict": state, "epoch": number}, folder / f"epoch-{number}.pt")
        states.append(state)
        for value in net.parameters():
            if value.numel() > 1:
                value.add_(torch.randn(value.shape, generator=drawn) * 0.05 * value.std())
    return states
