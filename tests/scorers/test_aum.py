"""Area under the margin, against a loop that keeps it by hand."""

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset, TensorDataset

from scoring.audit import Run
from scoring.scorers import Shard
from scoring.scorers.aum import AUM, area_under_margin
from scoring.training import Recorder
from scoring.training.dynamics import read_dynamics

N, C, EPOCHS = 40, 3, 4


def shard(train_margin, margin):
    n = margin.shape[1]
    return Shard(
        example_id=np.arange(n).astype(str),
        split=np.full(n, "train"),
        labels=np.zeros(n, int),
        classes=["a", "b"],
        dynamics={"train_margin": train_margin, "margin": margin},
    )


class Augmented(Dataset):
    """Gives each example with noise, and its row."""

    def __init__(self, plain):
        self.plain = plain

    def __len__(self):
        return N

    def __getitem__(self, row):
        x, y = self.plain[row]
        return x + 0.3 * torch.randn(2), y, row


def test_aum_is_the_mean_over_epochs_of_a_manual_loops_training_margins(tmp_path):
    torch.manual_seed(0)
    labels = torch.arange(N) % C
    plain = TensorDataset(torch.randn(N, 2) + labels[:, None], labels)
    model = nn.Sequential(nn.Linear(2, 8), nn.Dropout(0.4), nn.Linear(8, C))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    kept = np.full((EPOCHS, N), np.nan)
    ids = [str(number) for number in range(N)]
    with Recorder(tmp_path, model, examples=plain, ids=ids) as recorder:
        for epoch in range(EPOCHS):
            for x, y, rows in recorder.watch(DataLoader(Augmented(plain), 8, shuffle=True)):
                z = model.train()(x)
                for row, logits, label in zip(rows.tolist(), z.tolist(), y.tolist(), strict=True):
                    kept[epoch, row] = logits[label] - max(logits[:label] + logits[label + 1 :])
                optimizer.zero_grad()
                cross_entropy(z, y).backward()
                optimizer.step()
    dynamics = read_dynamics(Run("main", tmp_path).dynamics_files(), ids)
    found = AUM().score(shard(dynamics["train_margin"], dynamics["margin"]), None)
    np.testing.assert_allclose(found["aum"], kept.mean(0), rtol=1e-5, atol=1e-6)
    assert not np.allclose(found["aum"], found["eval"], atol=1e-2)
    assert found["from_training"].tolist() == [1.0] * N


def test_the_mean_is_over_the_epochs_in_which_the_forward_was_seen():
    margins = np.array([[-2.0, np.nan], [np.nan, np.nan], [1.0, np.nan]])
    np.testing.assert_array_equal(area_under_margin(margins), [-0.5, np.nan])


def test_where_no_training_forward_was_seen_the_unaugmented_margin_stands_in_and_says_so():
    seen = np.array([[1.0, np.nan, np.nan], [3.0, np.nan, np.nan]], dtype=np.float32)
    unaugmented = np.array([[5.0, -1.0, np.nan], [5.0, -3.0, np.nan]], dtype=np.float32)
    found = AUM().score(shard(seen, unaugmented), None)
    np.testing.assert_array_equal(found["aum"], [2.0, -2.0, np.nan])
    np.testing.assert_array_equal(found["eval"], [5.0, -2.0, np.nan])
    np.testing.assert_array_equal(found["from_training"], [1.0, 0.0, np.nan])


def test_low_is_the_suspicious_end_and_one_family_holds_both_margins():
    columns = {column.name: column for column in AUM.columns}
    assert columns["aum"].suspicious == columns["eval"].suspicious == "low"
    assert columns["aum"].family == columns["eval"].family and columns["from_training"].suspicious is None
