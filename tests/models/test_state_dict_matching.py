"""Weights into a model: all of it or nothing, and what is said where it does not fit."""

from typing import ClassVar

import pytest
import torch
from torch import nn

from scoring.audit.errors import HardlookError
from scoring.models import AuditedModel
from scoring.models.checkpoint_reader import StateDict, read_state_dict
from scoring.models.state_dict_matching import load_into

from ..nets import Net, equal, state


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


def test_a_module_that_reads_its_version_while_it_loads_gets_the_one_it_writes(tmp_path):
    """As torchvision's MNASNet does; renamed state dicts and safetensors hold no versions."""
    from safetensors.torch import save_file
    from torchvision.models import mnasnet0_5

    from scoring.models import AuditedModel, find_checkpoints

    net = mnasnet0_5(num_classes=3)
    torch.save({"state_dict": net.state_dict()}, tmp_path / "a.pt")
    save_file(net.state_dict(), tmp_path / "b.safetensors")
    for name in ("a.pt", "b.safetensors"):
        audited = AuditedModel(mnasnet0_5(num_classes=3), find_checkpoints(name, tmp_path), n_classes=3).at(0)
        assert all(torch.equal(value, net.state_dict()[key]) for key, value in audited.module.state_dict().items())


def test_a_missing_key_names_file_key_and_what_is_needed():
    said = refused(lambda t: t.update(classifier=t.pop("head.weight")))
    assert said.startswith(
        "runs/a.pt lacks 1 of the 9 keys that the model needs: 'head.weight' (3, 5); it has these keys instead: "
        "'classifier'"
    )


def test_an_unexpected_key_names_it():
    assert "runs/a.pt has 1 keys that the model does not have: 'extra.weight'" in refused(
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
        "runs/a.pt: its output layer (key 'head.weight') has 10 classes, the model built here needs 3, and "
        "audit.toml lists 3"
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
    half = {name: torch.full_like(value, 2) for name, value in tied.state_dict().items() if name != "1.weight"}
    load_into(tied, half)
    assert (tied[1].weight == 2).all()


def test_a_hugging_face_class_that_ignores_missing_layers_is_refused_all_the_same(tmp_path):
    """``_keys_to_ignore_on_load_missing`` keeps names out of the library's report, and leaves them at
    random values.
    """
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        image_size=8,
        patch_size=4,
        num_labels=3,
    )

    class Lenient(transformers.ViTForImageClassification):
        _keys_to_ignore_on_load_missing: ClassVar = [r"classifier\..*"]

    Lenient(config).save_pretrained(tmp_path)
    saved = read_state_dict(tmp_path).tensors
    load_into(Lenient(config), saved)
    lacking = {name: value for name, value in saved.items() if not name.startswith("classifier")}
    with pytest.raises(HardlookError, match="lacks 2 of the .* keys that the model needs: 'classifier"):
        load_into(Lenient(config), lacking)


class Forgetful(Net):
    """Leaves a layer out of its state dict, as models do whose backbone is frozen."""

    def state_dict(self, *arguments, **named):
        return {name: value for name, value in super().state_dict(*arguments, **named).items() if "body" not in name}


class Deaf(Net):
    """Loads in its own way, and drops one layer."""

    def load_state_dict(self, given, strict=True, assign=False):
        kept = {name: value for name, value in given.items() if "body" not in name}
        return super().load_state_dict(kept, strict=False)


def test_a_layer_that_stays_as_the_factory_made_it_is_an_error():
    with pytest.raises(
        HardlookError,
        match="cannot fill 2 parameters .*own state_dict.. leaves out: 'body.weight', 'body.bias'",
    ):
        load_into(Forgetful(), Forgetful(seed=1).state_dict())
    with pytest.raises(HardlookError, match="Deaf did not keep the weights of 'body.weight'"):
        load_into(Deaf(), Net(seed=1).state_dict())


def test_audited_models_look_that_every_layer_was_taken(tmp_path):
    torch.save(Net(seed=1).state_dict(), tmp_path / "a.pt")
    with pytest.raises(HardlookError, match="Deaf did not keep the weights of 'body.weight'"):
        AuditedModel(Deaf(), n_classes=3).at(tmp_path / "a.pt")


def test_a_mask_of_nan_is_taken_as_it_is():
    def made(value):
        module = nn.Linear(2, 2)
        module.register_buffer("mask", torch.full((2,), value))
        return module

    load_into(model := made(0.0), made(float("nan")).state_dict())
    assert model.mask.isnan().all()


def test_a_model_without_values_is_refused():
    with torch.device("meta"):
        empty = nn.Linear(4, 3)
    with pytest.raises(HardlookError, match="'weight' is on the meta device"):
        load_into(empty, nn.Linear(4, 3).state_dict())
    with pytest.raises(HardlookError, match="'weight' has no shape yet .a lazy layer."):
        load_into(nn.LazyLinear(3), nn.Linear(4, 3).state_dict())


@pytest.mark.parametrize(
    "wrap", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "model._orig_mod.module."]
)
def test_nested_wrappers_fill_every_layer(wrap):
    load_into(model := Net(seed=5), {wrap + name: value for name, value in Net(seed=1).state_dict().items()})
    assert equal(model, Net(seed=1))


def test_one_layer_with_and_without_a_wrapper_must_be_one(tmp_path):
    twice = {**Net(seed=1).state_dict(), "_orig_mod.body.weight": Net(seed=2).state_dict()["body.weight"]}
    with pytest.raises(HardlookError, match="holds 'body.weight' twice, with and without a wrapper's prefix"):
        load_into(Net(), twice)
    load_into(model := Net(), {**twice, "_orig_mod.body.weight": twice["body.weight"]})
    assert equal(model, Net(seed=1))


def test_values_that_an_integer_buffer_would_cut_are_refused():
    def made(value):
        module = nn.Linear(2, 2)
        module.register_buffer("positions", value)
        return module

    load_into(model := made(torch.arange(3)), made(torch.tensor([0.0, 2.0, 1.0])).state_dict())
    assert model.positions.tolist() == [0, 2, 1]
    with pytest.raises(HardlookError, match="'positions' holds float32 values that int64"):
        load_into(made(torch.arange(3)), made(torch.tensor([0.0, 2.5, 1.0])).state_dict())
    averaged = {**Net(seed=1).state_dict(), "norm.num_batches_tracked": torch.tensor(3.5)}
    load_into(Net(), averaged)  # averages of counters, which change no output


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_every_precision_gives_the_values_of_the_file(kind):
    given = {
        name: value.to(kind) if value.is_floating_point() else value for name, value in Net(seed=1).state_dict().items()
    }
    notes = load_into(model := Net(), given)
    assert notes == (f"{str(kind).removeprefix('torch.')} weights became float32",)
    assert all(torch.equal(value, given[name].to(value.dtype)) for name, value in model.state_dict().items())
