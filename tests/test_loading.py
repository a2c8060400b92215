"""Weights into a model: all of it or nothing, and what is said where it does not fit."""

import pytest
import torch
from torch import nn

from scoring.models.loading import load_into
from scoring.tables import HardlookError
from scoring.models.weights import StateDict, read_state_dict
from .nets import Net, state


def refused(change, model=None, n_classes=None):
    """The message with which a changed state dict is refused; the model is left as it was."""
    tensors = state(1)
    change(tensors)
    model = model or Net(seed=9)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(HardlookError) as error:
        load_into(model, StateDict("runs/a.pt", tensors), n_classes=n_classes)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    return str(error.value)


def test_a_missing_key_names_file_key_and_what_is_needed():
    said = refused(lambda t: t.update(classifier=t.pop("head.weight")))
    assert said.startswith(
        "runs/a.pt lacks 1 of the 9 keys that the model needs: 'head.weight' (3, 5); "
        "it has instead 'classifier'"
    )


def test_an_unexpected_key_names_it():
    assert "runs/a.pt has 1 keys that the model does not: 'extra.weight'" in refused(
        lambda t: t.update({"extra.weight": torch.ones(1)})
    )


def test_a_wrong_shape_names_found_and_needed():
    said = refused(lambda t: t.update({"body.weight": torch.ones(5, 7)}))
    assert said.startswith("runs/a.pt: key 'body.weight' has shape (5, 7), the model needs (5, 4)")


def test_a_wrong_class_count_has_its_own_message():
    def ten(tensors):
        tensors.update({"head.weight": torch.ones(10, 5), "head.bias": torch.ones(10)})

    said = refused(ten, n_classes=3)
    assert said.startswith(
        "runs/a.pt: its output layer (key 'head.weight') has 10 classes, the model built here needs "
        "3, and audit.toml lists 3"
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_name_their_key(value):
    said = refused(lambda t: t["norm.running_var"].__setitem__(2, value))
    assert said.startswith("runs/a.pt: key 'norm.running_var' holds 1 values of 5 that are NaN or infinite")


def test_large_weights_whose_sum_overflows_are_finite_all_the_same():
    tensors = state(1)
    tensors["body.weight"] = torch.full((5, 4), 3e38)
    load_into(model := Net(), tensors)
    assert (model.body.weight == 3e38).all()
    assert "NaN or infinite" in refused(
        lambda t: t.update({"body.weight": torch.full((5, 4), 1e300, dtype=torch.float64)})
    )


def test_another_models_checkpoint_is_told_as_such():
    assert "none of its keys fits the model; found 'conv1'" in refused(
        lambda t: (t.clear(), t.update(conv1=torch.ones(1)))
    )


def test_half_precision_becomes_the_models_with_a_note(tmp_path):
    torch.save(
        {name: value.half() if value.is_floating_point() else value for name, value in state(1).items()},
        tmp_path / "a.pt",
    )
    model = Net(seed=9)
    assert load_into(model, read_state_dict(tmp_path / "a.pt")) == ("float16 weights became float32",)
    assert model.body.weight.dtype == torch.float32
    torch.testing.assert_close(model.body.weight, Net(seed=1).body.weight, rtol=1e-3, atol=1e-3)


def test_counters_unsaved_buffers_and_tied_weights_may_be_absent_or_present():
    tensors = state(1)
    del tensors["norm.num_batches_tracked"]
    tensors["position"] = torch.arange(4)
    load_into(model := Net(seed=9), tensors)
    assert torch.equal(model.head.weight, Net(seed=1).head.weight)

    tied = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    tied[1].weight = tied[0].weight
    half = {
        name: torch.full_like(value, 2) for name, value in tied.state_dict().items() if name != "1.weight"
    }
    load_into(tied, half)
    assert (tied[1].weight == 2).all()
