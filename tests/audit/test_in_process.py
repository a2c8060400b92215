"""References to objects of this process: found here, named nowhere else, and told apart by their code."""

import subprocess
import sys

import pytest
import torch
from torch import nn
from torchvision.transforms import v2

from scoring.audit.errors import HardlookError
from scoring.audit.in_process import keep_in_process, object_digest
from scoring.audit.user_code import load_callable


def test_this_process_finds_what_it_kept_by_folder_and_name(tmp_path):
    first, second = tmp_path / "one", tmp_path / "two"
    reference = keep_in_process(first, "model", len)
    keep_in_process(second, "model", sum)
    assert load_callable(reference, first) is len
    assert load_callable(reference, second) is sum
    with pytest.raises(HardlookError, match="this audit's transform lives in the notebook"):
        load_callable("in-process:transform", first)


def test_another_process_is_told_what_it_lacks(tmp_path):
    keep_in_process(tmp_path, "model", len)
    code = f"from scoring.audit.user_code import load_callable; load_callable('in-process:model', {str(tmp_path)!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "in-process:model: this audit's model lives in the notebook or script" in done.stderr


class Block(nn.Module):
    """A layer of one's own."""

    def forward(self, values):
        return values * 2


class OtherBlock(nn.Module):
    """A layer that prints itself alike and computes another thing."""

    def forward(self, values):
        return values * 3


OtherBlock.__qualname__ = OtherBlock.__name__ = "Block"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (nn.Linear(2, 3), nn.Linear(2, 4)),
        (nn.Sequential(Block()), nn.Sequential(OtherBlock())),
        (v2.Resize(32), v2.Resize(33)),
        (v2.Compose([v2.Normalize([0.5], [0.5])]), v2.Compose([v2.Normalize([0.5], [0.25])])),
        (lambda value: value + 1, lambda value: value + 2),
        (torch.relu, torch.sigmoid),
    ],
)
def test_other_code_or_settings_have_another_digest(one, other):
    assert object_digest(one) != object_digest(other)
    assert object_digest(one) == object_digest(one)


def test_the_same_model_made_again_has_the_same_digest():
    assert object_digest(nn.Sequential(nn.Linear(2, 3), Block())) == object_digest(
        nn.Sequential(nn.Linear(2, 3), Block())
    )


@pytest.mark.parametrize("value", [1.0, -1.0])
def test_what_a_function_closes_over_counts(value):
    def scaled_by(factor):
        return lambda number: number * factor

    assert object_digest(scaled_by(value)) == object_digest(scaled_by(value))
    assert object_digest(scaled_by(value)) != object_digest(scaled_by(2.0))
