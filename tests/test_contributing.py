"""The code in CONTRIBUTING is run: its score scores, its adapter is found and lists examples."""

import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from scoring.data import adapters
from scoring.scorers import Shard

TEXT = (Path(__file__).parents[1] / ".github" / "CONTRIBUTING.md").read_text(encoding="utf8")


def block(word):
    """The Python block of CONTRIBUTING that defines a class."""
    return next(code for code in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL) if f"class {word}" in code)


@pytest.fixture
def module(monkeypatch):
    """A module in which a block runs; dataclasses look their module up."""
    made = ModuleType("contributed")
    monkeypatch.setitem(sys.modules, "contributed", made)
    return made


def test_its_score_scores(module):
    exec(block("Brightness"), vars(module))
    shard = Shard(
        example_id=np.array(["a"]),
        split=np.array(["test"]),
        labels=np.array([0]),
        classes=["x"],
        inputs=torch.tensor([[[[1.0, 3.0]]]]),
    )
    assert module.Brightness(scale=2.0).score(shard, None)["mean"].tolist() == [4.0]


def test_its_adapter_keeps_the_contract_and_lists_the_lines_of_a_file(module, tmp_path):
    exec(block("JsonLines"), vars(module))
    adapters.check_adapter(module.JsonLines, adapters.known_adapters().values())
    (tmp_path / "a.jsonl").write_text('{"path": "b/1.png", "label": "cat"}\n{"path": "2.png"}\n')
    source = module.JsonLines(
        root=tmp_path, number=0, media="image", classes=["cat"], adapter="jsonl", path="a.jsonl", split="train"
    )
    listing = source.listing()
    assert listing.names == ["b/1.png", "2.png"] and listing.labels == ["cat", None]
    assert listing.paths == [str(tmp_path / "b/1.png"), str(tmp_path / "2.png")] and listing.splits == ["train"] * 2
