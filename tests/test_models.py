"""The audited model: built, given back, its head, features and layers, and the transform before it."""

import copy
import sys
import types

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from scoring.models import (AuditedModel, build_model, choose_device, evaluating, features_of, find_checkpoints,
                            head_of, last_block_and_head, load_callable, load_transform, logits_of, named_layers,
                            select_layers)
from scoring.tables import HardlookError


def small_cnn(classes=3):
    """Convolutions and norms in two blocks, and a head."""
    def block(i, o):
        return nn.Sequential(nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU())

    model = nn.Sequential()
    model.block1, model.block2 = block(1, 4), block(4, 8)
    model.pool, model.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), nn.Linear(8, classes)
    return model


@pytest.fixture(autouse=True)
def own_imports(monkeypatch):
    """What a test imports from its folder is gone after it."""
    before = dict(sys.modules)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name in set(sys.modules) - set(before):
        if str(getattr(sys.modules[name], "__file__", "") or "").startswith("/tmp"):
            del sys.modules[name]


# ------------------------------------------------------------------------------------------------------ references


def write(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    return folder


def test_a_file_imports_the_modules_beside_it(tmp_path):
    write(tmp_path, model="from helpers import width\ndef make():\n    return width", helpers="width = 7")
    assert load_callable("model.py:make", tmp_path)() == 7
    assert not [entry for entry in sys.path[:-1] if entry == str(tmp_path)]


def test_files_in_a_subfolder_import_the_modules_beside_them(tmp_path):
    write(tmp_path / "code", model="from helpers import width\ndef make():\n    return width", helpers="width = 8")
    assert load_callable("code/model.py:make", tmp_path)() == 8


def test_two_audits_with_files_of_the_same_names_do_not_collide(tmp_path):
    for name in "ab":
        write(tmp_path / name, model="import helpers\ndef make():\n    return helpers.name, __name__",
              helpers=f"name = {name!r}")
    made = {name: load_callable("model.py:make", tmp_path / name) for name in "abab"}
    assert {name: make()[0] for name, make in made.items()} == {"a": "a", "b": "b"}
    assert load_callable("model.py:make", tmp_path / "a") is made["a"]
    assert sys.modules["helpers"].name == "a"


def test_a_function_may_import_a_sibling_when_it_is_called(tmp_path):
    late = "def make(classes):\n    from helpers import build\n    return build(classes)"
    for name, width in [("a", 5), ("b", 6)]:
        write(tmp_path / name, late=late, helpers=f"from torch import nn\ndef build(c):\n    return nn.Linear({width}, c)")
    built = [build_model("late.py:make", {"classes": 2}, tmp_path / name).in_features for name in "aba"]
    assert built == [5, 6, 5]


def test_a_file_named_as_an_installed_package_shadows_it_for_its_folder_alone(tmp_path):
    import safetensors

    write(tmp_path, model="import safetensors\ndef make():\n    return safetensors.mine", safetensors="mine = True")
    assert load_callable("model.py:make", tmp_path)() is True
    assert sys.modules["safetensors"] is safetensors
    assert hasattr(sys.modules["safetensors"], "safe_open")


def test_a_package_that_is_not_yet_imported_stays_what_it_is(tmp_path, monkeypatch):
    write(tmp_path / "site", latecomer="mine = False")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    write(tmp_path / "audit", model="import latecomer\ndef make():\n    return latecomer.mine", latecomer="mine = True")
    assert load_callable("model.py:make", tmp_path / "audit")() is True
    import latecomer
    assert latecomer.mine is False


def test_what_the_folder_already_gave_is_not_imported_twice():
    from pathlib import Path

    import scoring.tables
    assert load_callable("scoring.tables:HardlookError", Path(scoring.tables.__file__).parents[1]) is HardlookError
    assert sys.modules["scoring.tables"] is scoring.tables


def test_a_package_beside_the_audit_is_found(tmp_path):
    write(tmp_path / "mynets", __init__="", nets="def make():\n    return 3")
    assert load_callable("mynets.nets:make", tmp_path)() == 3


def test_an_edited_file_is_read_again(tmp_path):
    write(tmp_path, model="def make():\n    return 1")
    assert load_callable("model.py:make", tmp_path)() == 1
    write(tmp_path, model="def make():\n    return 1 + 1")
    assert load_callable("model.py:make", tmp_path)() == 2


@pytest.mark.parametrize("reference, files, said", [
    ("modle.py:make", {"model": "x = 1"}, "did you mean model.py"),
    ("model.py:mak", {"model": "def make(): pass"}, "did you mean make"),
    ("model.py:make", {"model": "make = 3"}, "cannot be called"),
    ("model.py:make", {"model": "import absent_package_xyz"}, "install 'absent_package_xyz'"),
    ("model.py:make", {"model": "a = 1\nb = a / 0"}, "ZeroDivisionError: division by zero (model.py, line 2)"),
    ("model.py:make", {"model": "import sys\nsys.exit(2)"}, "__main__"),
    ("model.py:make", {"model": "def broken(:"}, "SyntaxError"),
    ("nowhere_xyz.nets:make", {}, "No module named 'nowhere_xyz'"),
    ("model.py", {"model": ""}, "needed file.py:callable"),
])
def test_a_bad_reference_is_told_with_its_name(tmp_path, reference, files, said):
    write(tmp_path, **files)
    with pytest.raises(HardlookError) as error:
        load_callable(reference, tmp_path)
    assert reference in str(error.value) and said in str(error.value)


def test_a_failed_import_leaves_nothing_and_can_be_repaired(tmp_path):
    write(tmp_path, model="raise OSError('no')")
    with pytest.raises(HardlookError, match="OSError: no"):
        load_callable("model.py:make", tmp_path)
    assert "model" not in sys.modules
    write(tmp_path, model="def make():\n    return 'repaired'")
    assert load_callable("model.py:make", tmp_path)() == "repaired"


def test_a_factory_that_raises_is_told_with_its_arguments_and_line(tmp_path):
    write(tmp_path, model="def make(classes):\n    raise KeyError('width')")
    with pytest.raises(HardlookError, match=r"model.py:make\(classes=2\) failed: KeyError: 'width' \(model.py, line 2\)"):
        build_model("model.py:make", {"classes": 2}, tmp_path)


# ---------------------------------------------------------------------------------------------------------- models


def test_torchvision_models_are_built_by_name_without_weights(monkeypatch):
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *a, **k: pytest.fail("it downloads"))
    assert build_model("resnet18", {"num_classes": 4}).fc.out_features == 4
    assert build_model("squeezenet1_0", {"num_classes": 4}).num_classes == 4
    with pytest.raises(HardlookError, match="nothing is downloaded"):
        build_model("resnet18", {"weights": "IMAGENET1K_V1"})
    with pytest.raises(HardlookError, match="did you mean .*resnet18"):
        build_model("resnet81")
    with pytest.raises(HardlookError, match="num_classes"):
        build_model("resnet18", {"classes": 4})


def test_a_factory_must_return_a_module_and_halves_are_widened(tmp_path):
    write(tmp_path, model="from torch import nn\nmake = lambda: nn.Linear(2, 2).half()\nready = nn.Linear(2, 2)\n"
                          "def none(): pass")
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
    assert all(p.requires_grad == wanted and p.grad is kept for p, (wanted, kept) in zip(model.parameters(), gradients))
    assert all(torch.equal(value, values[name]) for name, value in model.state_dict().items())


def test_evaluating_can_leave_parameters_trainable():
    model = nn.Linear(2, 2)
    with evaluating(model, frozen=False):
        assert model.weight.requires_grad


def test_logits_are_found_in_every_usual_output():
    logits = torch.randn(3, 4)
    named = types.SimpleNamespace(logits=logits, loss=None)
    for output in (logits, {"logits": logits, "loss": 1}, named, (logits, "hidden"), [logits], (named,),
                   logits.reshape(3, 4, 1, 1)):
        assert torch.equal(logits_of(output, 4), logits)


@pytest.mark.parametrize("output, said", [
    ({"out": torch.zeros(2, 3)}, "dict with out"),
    (torch.zeros(3), r"shape \(3,\)"),
    (torch.zeros(2, 5, 3), r"shape \(2, 5, 3\)"),
    (torch.zeros(2, 1), "one logit per class"),
    ("text", "returned str"),
    ((), "returned tuple"),
    (torch.zeros(2, 3), "3 logits per example and audit.toml lists 4"),
])
def test_outputs_without_logits_are_refused_with_what_was_found(output, said):
    with pytest.raises(HardlookError, match=said):
        logits_of(output, 4)


def test_the_device_is_chosen_or_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device().type == "cpu"
    with pytest.raises(HardlookError, match="'cuda' is not on this machine; found cpu"):
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


# ---------------------------------------------------------------------------------------------------------- layers


class Backwards(nn.Module):
    """Registers its head first and an unused Linear last."""

    def __init__(self):
        super().__init__()
        self.out, self.body, self.spare = nn.Linear(6, 3), nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x):
        return self.out(self.body(x).relu())


def test_the_head_is_what_runs_last_and_not_what_is_registered_last():
    model, inputs = Backwards(), torch.randn(5, 4)
    assert head_of(model, inputs)[:2] == ("out", model.out)
    found = features_of(model, inputs)
    assert torch.equal(found.features, model.body(inputs).relu()) and torch.equal(found.logits, model(inputs))
    assert last_block_and_head(model, inputs) == ("body", "out")


def test_a_head_under_spectral_norm_or_before_an_identity_is_found():
    model = nn.Sequential(nn.Linear(4, 6), nn.utils.parametrizations.spectral_norm(nn.Linear(6, 3)), nn.Identity())
    assert head_of(model, torch.randn(2, 4)).name == "1"


def test_a_model_without_a_linear_head_says_what_its_head_is():
    conv = nn.Sequential(nn.Conv2d(1, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    found = features_of(conv, torch.randn(2, 1, 8, 8))
    assert found.features is None and found.logits.shape == (2, 3) and "Flatten" in found.reason
    assert last_block_and_head(conv, torch.randn(2, 1, 8, 8)) == ("0",)


@pytest.mark.parametrize("scale", [lambda z: z * 3, lambda z: z.mul_(3)], ids=["new", "in place"])
def test_logits_that_are_scaled_afterwards_are_no_head(scale):
    class Scaled(Backwards):
        def forward(self, x):
            return scale(super().forward(x))

    found = features_of(Scaled(), torch.randn(2, 4))
    assert found.features is None and "no single layer" in found.reason


def test_looking_at_a_model_leaves_it_as_it_was():
    model = small_cnn().train()
    before = copy.deepcopy(model.state_dict())
    last_block_and_head(model, torch.randn(4, 1, 8, 8))
    features_of(model, torch.randn(4, 1, 8, 8))
    assert model.training and all(p.requires_grad for p in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_last_block_is_found_in_usual_architectures():
    images = torch.randn(1, 3, 32, 32)
    assert last_block_and_head(build_model("resnet18", {"num_classes": 4}), images) == ("layer4", "fc")
    assert last_block_and_head(small_cnn(), torch.randn(2, 1, 8, 8)) == ("block2", "head")
    flat = nn.Sequential(*small_cnn().block1, *small_cnn().block2, *small_cnn().pool, nn.Linear(8, 3))
    assert last_block_and_head(flat, torch.randn(2, 1, 8, 8)) == ("3", "4", "8")
    assert last_block_and_head(nn.Linear(2, 3), torch.randn(2, 2)) == ("",)


def test_a_vision_transformer_gives_its_last_encoder_layer():
    from torchvision.models import VisionTransformer

    model = VisionTransformer(image_size=16, patch_size=8, num_layers=3, num_heads=2, hidden_dim=8, mlp_dim=16, num_classes=4)
    assert last_block_and_head(model, torch.randn(1, 3, 16, 16)) == (
        "encoder.layers.encoder_layer_2", "encoder.ln", "heads.head")


def test_layers_are_chosen_by_name_container_or_pattern():
    model = small_cnn()
    assert list(named_layers(model)) == ["block1.0", "block1.1", "block2.0", "block2.1", "head"]
    assert select_layers(model, ["head", "block2"]) == ["block2.0", "block2.1", "head"]
    assert select_layers(model, "block*.1") == ["block1.1", "block2.1"]
    assert select_layers(model, "block?") == ["block1.0", "block1.1", "block2.0", "block2.1"]
    with pytest.raises(HardlookError, match="'blok2'.*did you mean block2"):
        select_layers(model, ["blok2"])


# ------------------------------------------------------------------------------------------------------ transforms


def picture(mode="RGB", size=(12, 10)):
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def test_a_table_is_the_transform_that_torchvision_makes_of_it():
    from torchvision.transforms import v2

    table = {"resize": 8, "crop": [6, 7], "mode": "RGB", "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4]}
    oracle = v2.Compose([v2.Resize(8), v2.CenterCrop([6, 7]), v2.ToImage(), v2.ToDtype(torch.float32, scale=True),
                         v2.Normalize(table["mean"], table["std"])])
    torch.testing.assert_close(load_transform(table, ".")(picture()), oracle(picture()).as_subclass(torch.Tensor))


@pytest.mark.parametrize("mode, channels", [("L", 1), ("1", 1), ("LA", 1), ("RGB", 3), ("RGBA", 3), ("P", 3), ("CMYK", 3)])
def test_pictures_of_every_mode_become_grey_or_colour(mode, channels):
    plain = load_transform(None, ".")(picture(mode))
    assert plain.shape == (channels, 10, 12) and plain.dtype == torch.float32 and 0 <= plain.min() <= plain.max() <= 1
    for wanted, number in (("L", 1), ("RGB", 3)):
        assert load_transform({"mode": wanted}, ".")(picture(mode)).shape == (number, 10, 12)
    if mode == "P":
        torch.testing.assert_close(plain, load_transform(None, ".")(picture("P").convert("RGB")))


def test_an_array_is_transformed_as_the_picture_that_it_is():
    table = load_transform({"resize": 8, "crop": 6, "mean": 0.5, "std": 0.25}, ".")
    colour, grey = picture(), picture("L")
    assert torch.equal(table(np.asarray(colour)), table(colour))
    assert torch.equal(table(np.asarray(grey)[..., None]), table(grey))
    assert torch.equal(table(np.asarray(grey)), table(grey))


def test_numbers_that_are_no_bytes_are_left_in_their_range():
    plain = load_transform(None, ".")
    digits = np.arange(64, dtype=np.float64).reshape(8, 8)
    assert torch.equal(plain(digits), torch.arange(64.0).reshape(1, 8, 8))
    assert torch.equal(plain(digits.astype(">f4")), plain(digits))
    assert plain(np.full((4, 4), 65535, np.uint16)).max() == 1
    assert plain(Image.fromarray(np.full((4, 4), 65535, np.uint16))).max() == 1
    assert plain(np.zeros((3, 9, 8), np.float32)).shape == plain(np.zeros((9, 8, 3), np.float32)).shape == (3, 9, 8)
    assert load_transform({"mode": "RGB", "resize": 6}, ".")(Image.fromarray(np.ones((4, 4), np.uint16))).shape == (3, 6, 6)


def test_vectors_pass_and_are_normalised_per_element():
    assert torch.equal(load_transform(None, ".")(np.array([1, 2], np.int64)), torch.tensor([1.0, 2.0]))
    assert torch.equal(load_transform({"mean": [1, 2], "std": 2}, ".")([3.0, 2.0]), torch.tensor([1.0, 0.0]))
    series = np.zeros((2, 50), np.float32)
    assert load_transform(None, ".", "vector")(series).shape == (2, 50)
    with pytest.raises(HardlookError, match="needed a picture"):
        load_transform({"resize": 4}, ".")(np.zeros(3))


def test_a_transform_of_the_users_own_is_taken_as_it_is(tmp_path):
    write(tmp_path, own="def transform(x):\n    return x + 1\nclass Twice:\n    def __call__(self, x):\n        return 2 * x")
    assert load_transform("own.py:transform", tmp_path)(1) == 2
    assert load_transform("own.py:Twice", tmp_path)(3) == 6


@pytest.mark.parametrize("table, said", [
    ({"resise": 3}, "did you mean resize"), ({"resize": 0}, "needed pixels"), ({"crop": [1, 2, 3]}, "height, width"),
    ({"mean": "0.5"}, "needed a number"), ({"std": [1, 0]}, "other than 0"), ({"mode": "BGR"}, "'L' .grey. or 'RGB'"),
])
def test_a_wrong_key_or_value_of_a_transform_is_refused(table, said):
    with pytest.raises(HardlookError, match=said):
        load_transform(table, ".")


def test_what_a_transform_cannot_take_is_told():
    with pytest.raises(HardlookError, match="got str"):
        load_transform(None, ".")("a text")
    with pytest.raises(HardlookError, match="makes tokens"):
        load_transform(None, ".", "text")
    with pytest.raises(HardlookError, match="3 numbers, an example has 1 channels"):
        load_transform({"mean": [0, 0, 0]}, ".")(picture("L"))
