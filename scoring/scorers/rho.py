"""RHO loss (Mindermann et al. 2022, eq. 3): the loss that further training could still reduce.

    RHO(x, y) = L(y | x; training) − L(y | x; hold-out)

the training loss minus the irreducible loss of a model that was not trained on the example. High: worth learning and
not yet learned. Near zero or below: learned already, or noise that no other data supports; a wrong label that was
memorised has no training loss left and a high irreducible one, so it stands at the low end.

Inputs (epochs, n) recorded losses and (n,) irreducible ones → (n,). Cost: none here; `hardlook holdout` makes the
irreducible losses (``scoring.pipeline.retraining.holdout``). Limits: labelled training examples; losses of the
un-augmented example in eval mode.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scoring.audit.storage import read_table
from scoring.scorers import Column, Columns, RunContext, Scorer, Shard, needed
from scoring.scorers._commands import command
from scoring.scorers.data_map import mean_over_epochs
from scoring.scorers.second_split import measured


def rho_loss(losses: np.ndarray, irreducible: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(epochs, n) training losses, NaN where not recorded, and (n,) irreducible losses, in nats → (n,) mean over the
    epochs, and (n,) at the last one.

    >>> [values.tolist() for values in rho_loss(np.array([[3.0], [1.0]]), np.array([1.5]))]
    [[0.5], [-0.5]]
    """
    losses, irreducible = np.asarray(losses, dtype=np.float64), np.asarray(irreducible, dtype=np.float64)
    return mean_over_epochs(losses) - irreducible, losses[-1] - irreducible


@dataclass(frozen=True, kw_only=True)
class RHO(Scorer):
    """RHO loss over the recorded epochs and at the last one, and the irreducible loss itself."""

    name = "rho"
    needs = ("dynamics", "labels")
    columns = (
        Column(
            name="mean",
            family="reducible loss",
            title="RHO loss, mean over epochs",
            unit="nats",
            suspicious="measured",
            detects="difficulty",
            help="Training loss minus the loss of a model that was not trained on the example, mean over the epochs: "
            "high if the example can still be learned, low if it is already learned or noise.",
        ),
        Column(
            name="last",
            family="reducible loss",
            title="RHO loss, last epoch",
            unit="nats",
            suspicious="low",
            detects="label error",
            help="The same at the last epoch: very low if the label was memorised although other data contradicts it.",
        ),
        Column(
            name="irreducible",
            family="loss",
            title="Irreducible loss",
            unit="nats",
            suspicious="high",
            detects="label error",
            help="−log p(label) of a model that was not trained on the example: high if other data contradicts the "
            "label.",
        ),
    )

    def lacks(self, context: RunContext) -> str | None:
        """The command that makes the file, where it is not there."""
        if not context.run.irreducible_path.is_file():
            return f"rho needs the losses of a hold-out model; run `{command(context, 'holdout')}`"
        return None

    def depends(self, context: RunContext) -> int:
        """The file that it reads."""
        return context.run.irreducible_path.stat().st_mtime_ns

    def fit(self, context: RunContext, workdir: Path) -> dict[tuple[str, str | None], np.ndarray]:
        """(example_id, label) → irreducible loss, in the place of its column."""
        table = read_table(context.run.irreducible_path).to_pandas()
        rows = np.full((len(table), len(self.columns)), np.nan)
        rows[:, -1] = table["loss"]
        return dict(zip(zip(table["example_id"], table["label"], strict=True), rows, strict=True))

    def score(self, shard: Shard, state: dict[tuple[str, str | None], np.ndarray]) -> Columns:
        """Returns null for examples that the hold-out model did not predict, or predicted under another label."""
        irreducible = measured(self, shard, state)["irreducible"]
        mean, last = rho_loss(needed(shard.dynamics, "dynamics")["loss"], irreducible)
        return {"mean": mean, "last": last, "irreducible": irreducible}
