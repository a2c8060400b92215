"""Files that hold objects: refused, never run, and taken apart in a process of their own."""

import os
import pickle
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from scoring.audit.errors import HardlookError
from scoring.models import conversion
from scoring.models.checkpoint_reader import NeedsUnpickling, read_state_dict
from scoring.models.conversion import convert_checkpoint, take_apart
from scoring.models.state_dict_matching import load_into

from ..nets import Net, Settings, equal, loads, state


@pytest.fixture
def in_this_process(monkeypatch):
    """Run what the child process runs without starting one, which takes seconds; two tests start real
    ones."""
    monkeypatch.setattr(
        conversion,
        "_in_own_process",
        lambda path, partial, _folder, weights: conversion.write_converted(take_apart(path, weights), partial),
    )


class Evil:
    """Touches a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("write", ["zip", "legacy", "pickle"])
def test_a_hostile_file_is_refused_and_never_run(tmp_path, write):
    mark, path = tmp_path / "touched", tmp_path / "evil.pt"
    content = {"state_dict": state(1), "extra": Evil(mark)}
    if write == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=write == "zip")
    with pytest.raises(HardlookError, match="hardlook convert|damaged"):
        read_state_dict(path)
    with pytest.raises(HardlookError, match="--trust"):
        convert_checkpoint(path)
    assert not mark.exists()
    if write == "zip":
        loads(convert_checkpoint(path, trust=True), Net(seed=1))
    else:
        load_into(model := Net(seed=9), take_apart(path))
        assert equal(model, Net(seed=1))
    assert not mark.exists()


def test_the_refusal_names_what_the_file_asks_for(tmp_path):
    torch.save({"state_dict": state(1), "extra": Evil(tmp_path / "touched")}, tmp_path / "evil.pt")
    with pytest.raises(NeedsUnpickling, match=r"evil.pt holds more than weights \(.*system\)"):
        read_state_dict(tmp_path / "evil.pt")


def test_a_whole_pickled_model_is_converted_although_its_class_is_gone(tmp_path, in_this_process):
    source = (
        "import torch\nfrom torch import nn\nclass Gone(nn.Module):\n    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.hook, self.body, self.head = print, nn.Linear(4, 5), nn.Linear(5, 3)\n"
        "        self.norm = nn.BatchNorm1d(5)\n"
        "        self.register_buffer('position', torch.arange(4), persistent=False)\n"
    )
    (tmp_path / "gone_net.py").write_text(source)
    sys.path.insert(0, str(tmp_path))
    try:
        import gone_net

        model = gone_net.Gone()
        model.load_state_dict(state(1))
        torch.save(model, tmp_path / "bare.pt")
        torch.save({"model": model.half(), "epoch": 7, "best": np.float64(0.5)}, tmp_path / "whole.pt")
    finally:
        sys.path.remove(str(tmp_path))
        del sys.modules["gone_net"]
    (tmp_path / "gone_net.py").unlink()
    with pytest.raises(NeedsUnpickling, match="gone_net.Gone"):
        read_state_dict(tmp_path / "bare.pt")
    loads(convert_checkpoint(tmp_path / "bare.pt", trust=True), Net(seed=1))
    convert_checkpoint(tmp_path / "bare.pt", trust=True)  # its own earlier result may be written again
    converted = read_state_dict(
        convert_checkpoint(tmp_path / "whole.pt", tmp_path / "out" / "w.safetensors", trust=True)
    )
    assert "position" not in converted.tensors  # as state_dict() leaves it out
    assert converted.epoch == 7 and converted.tensors["body.weight"].dtype == torch.float16


def test_conversion_takes_objects_apart_without_building_them(tmp_path):
    inner = nn.Sequential(nn.Linear(2, 2), nn.MultiheadAttention(4, 2), nn.BatchNorm1d(3))
    traced = torch.fx.symbolic_trace(nn.Sequential(nn.Linear(2, 3)))
    tied = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    tied[1].weight = tied[0].weight
    for number, model in enumerate((inner, traced, tied)):
        torch.save({"model": model, "settings": Settings()}, tmp_path / f"{number}.pt")
        found = take_apart(tmp_path / f"{number}.pt")
        expected = model.state_dict()
        assert found.tensors.keys() == expected.keys()
        assert all(torch.equal(value, expected[name]) for name, value in found.tensors.items())
    (tmp_path / "arrays.pkl").write_bytes(pickle.dumps({"a": np.ones((2, 3), np.float32), "epoch": np.int64(4)}))
    arrays = take_apart(tmp_path / "arrays.pkl")
    assert torch.equal(arrays.tensors["a"], torch.ones(2, 3)) and arrays.epoch == 4


def test_conversion_never_overwrites_a_file_that_it_did_not_write(tmp_path):
    torch.save({"model": Net(seed=1), "epoch": 1}, tmp_path / "a.pt")
    save_file(state(2), tmp_path / "a.safetensors")
    with pytest.raises(HardlookError, match="a.safetensors already exists"):
        convert_checkpoint(tmp_path / "a.pt", trust=True)
    assert torch.equal(read_state_dict(tmp_path / "a.safetensors").tensors["head.bias"], state(2)["head.bias"])


def test_what_cannot_be_converted_leaves_no_file_and_says_why(tmp_path):
    torch.save({"settings": Settings(), "extra": Evil(tmp_path / "touched")}, tmp_path / "a.pt")
    with pytest.raises(HardlookError, match="a.pt could not be converted: .*holds no weights"):
        convert_checkpoint(tmp_path / "a.pt", trust=True)
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]
