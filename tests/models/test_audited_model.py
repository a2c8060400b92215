"""The audited model: built, run at each checkpoint, and given back as it was."""

import copy
import types

import numpy as np
import pytest
import torch
from torch import nn

from scoring.audit.errors import HardlookError
from scoring.models import AuditedModel, build_model
from scoring.models.checkpoints import (
    find_checkpoints,
)
from scoring.models.eval_mode import choose_device, evaluating, logits_of

from ..nets import small_cnn, write


def test_torchvision_models_are_built_by_name_without_weights(monkeypatch):
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *a, **k: pytest.fail("it downloads"))
    assert build_model("resnet18", {"num_classes": 4}).fc.out_features == 4
    assert build_model("squeezenet1_0", {"num_classes": 4}).num_classes == 4
    with pytest.raises(HardlookError, match="hardlook downloads nothing"):
        build_model("resnet18", {"weights": "IMAGENET1K_V1"})
    with pytest.raises(HardlookError, match="did you mean .*resnet18"):
        build_model("resnet81")
    with pytest.raises(HardlookError, match="num_classes"):
        build_model("resnet18", {"classes": 4})


def test_a_factory_must_return_a_module_and_halves_are_widened(tmp_path):
    write(
        tmp_path,
        model="from torch import nn\nmake = lambda: nn.Linear(2, 2).half()\nready = nn.Linear(2, 2)\ndef none(): pass",
    )
    assert build_model("model.py:make", {}, tmp_path).weight.dtype == torch.float32
    assert build_model("model.py:ready", {}, tmp_path) is not build_model("model.py:ready", {}, tmp_path)
    with pytest.raises(HardlookError, match="model.py:none returned NoneType; needed a torch.nn.Module"):
        build_model("model.py:none", {}, tmp_path)


def test_evaluating_gives_the_model_back_exactly_as_it_was():
    model = small_cnn().train()
    model.block1.eval()
    model.head.weight.requires_grad_(False)
    model(torch.randn(4, 1, 8, 8)).sum().backward()
    flags = [module.training for module in model.modules()]
    gradients = [(p.requires_grad, p.grad) for p in model.parameters()]
    values = copy.deepcopy(model.state_dict())
    with pytest.raises(RuntimeError, match="on purpose"), evaluating(model) as inside:
        assert not any(module.training for module in inside.modules())
        assert not any(p.requires_grad or p.grad is not None for p in inside.parameters())
        inside.block1[1].train()(torch.randn(4, 4, 8, 8))
        raise RuntimeError("on purpose")
    assert [module.training for module in model.modules()] == flags
    assert all(
        p.requires_grad == wanted and p.grad is kept
        for p, (wanted, kept) in zip(model.parameters(), gradients, strict=True)
    )
    assert all(torch.equal(value, values[name]) for name, value in model.state_dict().items())


def test_evaluating_can_leave_parameters_trainable():
    model = nn.Linear(2, 2)
    with evaluating(model, frozen=False):
        assert model.weight.requires_grad


def test_logits_are_found_in_every_usual_output():
    logits = torch.randn(3, 4)
    named = types.SimpleNamespace(logits=logits, loss=None)
    for output in (
        logits,
        {"logits": logits, "loss": 1},
        named,
        (logits, "hidden"),
        [logits],
        (named,),
        logits.reshape(3, 4, 1, 1),
    ):
        assert torch.equal(logits_of(output, 4), logits)


@pytest.mark.parametrize(
    "output, said",
    [
        ({"out": torch.zeros(2, 3)}, "dict with out"),
        (torch.zeros(3), r"shape \(3,\)"),
        (torch.zeros(2, 5, 3), r"shape \(2, 5, 3\)"),
        (torch.zeros(2, 1), "one logit per class"),
        ("text", "returned str"),
        ((), "returned tuple"),
        (torch.zeros(2, 3), "3 logits per example and audit.toml lists 4"),
    ],
)
def test_outputs_without_logits_are_refused_with_what_was_found(output, said):
    with pytest.raises(HardlookError, match=said):
        logits_of(output, 4)


def test_the_device_is_chosen_or_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device().type == "cpu"
    with pytest.raises(HardlookError, match="'cuda' is not available on this machine; found cpu"):
        choose_device("cuda")
    with pytest.raises(HardlookError, match="needed auto, cpu, cuda or mps"):
        choose_device("gpu")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device("auto").type == "mps"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert choose_device("auto").type == "cuda"
    with pytest.raises(HardlookError, match="found 1 CUDA"):
        choose_device("cuda:3")


def test_each_checkpoint_passes_through_the_one_module(tmp_path):
    for epoch in range(3):
        torch.save({"state_dict": small_cnn().state_dict(), "epoch": epoch}, tmp_path / f"{epoch}.pt")
    found = find_checkpoints("*.pt", tmp_path)
    model = AuditedModel(small_cnn(), found, n_classes=3)
    module = model.module.train()
    inputs = torch.randn(5, 1, 8, 8)
    for checkpoint in found:
        with model.at(checkpoint) as inside:
            assert inside is module and not module.training
            logits, features = model.predict(inputs)
        twin = small_cnn().eval()
        twin.load_state_dict(torch.load(checkpoint.path, weights_only=True)["state_dict"])
        np.testing.assert_array_equal(logits, twin(inputs).detach().numpy())
        np.testing.assert_array_equal(features, twin[:3](inputs).detach().numpy())
    assert module.training and torch.equal(model.at(0).module.head.weight, model.state(found[0])["head.weight"])


def test_a_model_of_another_number_of_classes_is_refused():
    with pytest.raises(HardlookError, match="3 logits per example and audit.toml lists 5"):
        AuditedModel(small_cnn(), n_classes=5).predict(torch.randn(2, 1, 8, 8))


def test_a_checkpoint_that_is_written_again_meanwhile_is_refused(tmp_path):
    torch.save(small_cnn().state_dict(), tmp_path / "a.pt")
    model = AuditedModel(small_cnn(), find_checkpoints("a.pt", tmp_path))
    torch.save({"model": small_cnn().state_dict()}, tmp_path / "a.pt")
    with pytest.raises(HardlookError, match="changed since it was read"):
        model.at(0)


def test_tokens_go_in_by_name_and_out_as_logits():
    class Texts(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.head = nn.Embedding(10, 4), nn.Linear(4, 2)

        def forward(self, input_ids, attention_mask=None):
            return {"logits": self.head(self.embed(input_ids).mean(1))}

    batch = {"input_ids": torch.randint(0, 10, (3, 6)), "attention_mask": torch.ones(3, 6)}
    logits, features = AuditedModel(Texts(), n_classes=2).predict(batch)
    assert logits.shape == (3, 2) and features.shape == (3, 4)
