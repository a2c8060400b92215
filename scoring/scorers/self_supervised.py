"""Difficulty in self-supervised training (Khoroshavtsev et al. 2024), also for examples without a label.

Means over the epochs of a training without labels (`hardlook self-supervise`,
``scoring.pipeline.retraining.self_supervised``): the example's own loss, the length of the loss's input gradient, and
the mean squared displacement of its features from one epoch to the next. High: hard, rare or out of the ordinary for a
model that only looks.

Cost: none here; this score reads what the command wrote. Limits: float inputs; one training.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scoring.audit.storage import read_table
from scoring.scorers import Column, Columns, RunContext, Scorer, Shard
from scoring.scorers._commands import command


@dataclass(frozen=True, kw_only=True)
class SelfSupervised(Scorer):
    """The results of `hardlook self-supervise`."""

    name = "self_supervised"
    needs = ()
    columns = (
        Column(
            name="loss",
            family="self-supervised",
            title="Self-supervised loss",
            suspicious="high",
            detects="difficulty",
            uses_label=False,
            help="The example's loss in a training without labels, mean over epochs: high for unusual examples.",
        ),
        Column(
            name="gradient",
            family="self-supervised",
            title="Input gradient of that loss",
            suspicious="high",
            detects="difficulty",
            uses_label=False,
            help="Norm of the gradient of the self-supervised loss with respect to the input, mean over epochs: high "
            "if a small change of the input changes the loss much.",
        ),
        Column(
            name="displacement",
            family="self-supervised",
            title="Displacement of features",
            suspicious="high",
            detects="difficulty",
            uses_label=False,
            help="Mean squared distance between the example's features after consecutive epochs of that training: "
            "high if its representation does not settle.",
        ),
    )

    def lacks(self, context: RunContext) -> str | None:
        """The command that makes the file, where it is not there."""
        if not context.run.self_supervised_path.is_file():
            return f"self_supervised needs a training without labels; run `{command(context, 'self-supervise')}`"
        return None

    def depends(self, context: RunContext) -> int:
        """The file that it reads."""
        return context.run.self_supervised_path.stat().st_mtime_ns

    def fit(self, context: RunContext, workdir: Path) -> dict[str, np.ndarray]:
        """example_id → the three numbers, where the example is still the one that was measured."""
        table = read_table(context.run.self_supervised_path).to_pandas()
        now = context.examples.set_index("example_id")["fingerprint"].reindex(table["example_id"]).to_numpy()
        same = now == table["fingerprint"].to_numpy()
        rows = table[[column.name for column in self.columns]].to_numpy(dtype=float)
        return dict(zip(table["example_id"][same], rows[same], strict=True))

    def score(self, shard: Shard, state: dict[str, np.ndarray]) -> Columns:
        """Look the shard's examples up; null where one was not measured."""
        nothing = np.full(len(self.columns), np.nan)
        values = np.reshape([state.get(name, nothing) for name in shard.example_id], (len(shard), len(self.columns)))
        return {column.name: values[:, at] for at, column in enumerate(self.columns)}
