"""A first look at rows of numbers, with a model whose every answer is known."""

import pandas as pd
import pytest
import torch
from torch import nn

from tests.conftest import hardlook

from .test_found_audit import settings

CODE = """from torch import nn


def net(n_classes=5):
    return nn.Linear(2, n_classes)
"""


@pytest.fixture
def rows(tmp_path, monkeypatch):
    """``rows.csv``: 30 training and 10 test rows of which the net is right on all, but for two test rows."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(CODE)
    net = nn.Linear(2, 2)
    net.load_state_dict({"weight": torch.tensor([[-1.0, 0.0], [1.0, 0.0]]), "bias": torch.zeros(2)})
    torch.save(net.state_dict(), "net.pt")
    x = [1.0 + n if n % 2 else -1.0 - n for n in range(40)]
    label = ["yes" if value > 0 else "no" for value in x]
    label[30], label[31] = label[31], label[30]
    split = ["train"] * 30 + ["test"] * 10
    frame = pd.DataFrame({"x": x, "y": range(100, 140), "split": split, "label": label})
    frame.to_csv("rows.csv", index=False)
    return tmp_path


GIVEN = ("--train", "rows.csv", "--checkpoints", "net.pt", "--model", "net.py:net")


def test_the_accuracy_is_that_of_the_test_rows(rows, capsys):
    assert hardlook("new", "a", *GIVEN) == 0
    assert "10 examples of the test split went through the model: accuracy 80.0% on the 10" in capsys.readouterr().out
    run = settings(rows / "a")["run"]["main"]
    assert run["arguments"] == {"n_classes": 2} and "transform" not in run and settings(rows / "a")["media"] == "vector"


def test_swapped_classes_are_no_better_than_chance_and_that_is_said(rows, capsys):
    assert hardlook("new", "a", *GIVEN, "--classes", "yes,no") == 0
    shown = capsys.readouterr().out
    assert "accuracy 20.0%" in shown and "little more than naming one class always (50.0%)" in shown


def test_what_the_first_look_fails_on_is_said_and_the_file_stays_to_be_corrected(rows, capsys):
    (rows / "bad.py").write_text("def transform(row):\n    return row[:1]\n")
    assert hardlook("new", "a", *GIVEN, "--transform", "bad.py:transform") == 1
    told = capsys.readouterr().err
    assert "audit.toml is written, but a first look with it fails" in told and "inputs of shape (1,)" in told
    assert settings(rows / "a")["run"]["main"]["transform"] == "../bad.py:transform"


def test_the_audit_is_scored_as_it_was_written(rows):
    assert hardlook("new", "a", *GIVEN) == 0
    assert hardlook("score", "a", "--only", "uncertainty,label_quality") == 0
