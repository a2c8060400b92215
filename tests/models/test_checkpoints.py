"""Checkpoints as real libraries write them, found and put into order."""

import argparse
import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from scoring.audit.errors import HardlookError
from scoring.models import AuditedModel
from scoring.models.checkpoint_reader import NeedsUnpickling, StateDict, read_state_dict
from scoring.models.checkpoints import (
    describe_order,
    find_checkpoints,
    natural_key,
    needs_checkpoints,
    weights_sha256,
)
from scoring.models.conversion import take_apart
from scoring.models.state_dict_matching import fit_state, load_into

from ..nets import Net, Settings, equal, loads, state


def lightning_module():
    lightning = pytest.importorskip("lightning.pytorch")

    class Training(lightning.LightningModule):
        def __init__(self, settings=None):
            super().__init__()
            self.save_hyperparameters()
            self.model = Net(seed=1)
            self.loss = nn.CrossEntropyLoss(weight=torch.ones(3))

        def training_step(self, batch, _):
            return self.loss(self.model(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    return lightning, Training


@pytest.fixture
def lightning_run(tmp_path):
    """Train for three epochs with the real library; return a function of callbacks and settings → trained
    module."""
    lightning, Training = lightning_module()
    import warnings

    def run(settings=None, callbacks=(), pattern="{epoch}"):
        module = Training(settings)
        every = lightning.callbacks.ModelCheckpoint(tmp_path, filename=pattern, save_top_k=-1, every_n_epochs=1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # lightning advises on loggers and workers
            trainer = lightning.Trainer(
                max_epochs=3,
                accelerator="cpu",
                devices=1,
                logger=False,
                default_root_dir=tmp_path,
                callbacks=[every, *callbacks],
                enable_progress_bar=False,
                enable_model_summary=False,
            )
            data = torch.utils.data.TensorDataset(torch.randn(8, 4), torch.arange(8) % 3)
            trainer.fit(module, torch.utils.data.DataLoader(data, batch_size=4))
        return module

    return run


def test_lightning_checkpoints_load_in_the_order_of_their_epochs(tmp_path, lightning_run):
    module = lightning_run({"lr": 0.1})
    found = find_checkpoints("*.ckpt", tmp_path)
    assert [(c.path.name, c.epoch, c.step) for c in found] == [(f"epoch={e}.ckpt", e, 2 * e + 2) for e in range(3)]
    assert found[0].order == "the epoch stored in the files"
    notes = loads(found[-1].path, module.model)
    assert notes == ("ignored keys outside 'model.': 'loss.weight'",)


def test_lightnings_averaged_weights_are_not_taken_for_the_plain_ones(tmp_path, lightning_run):
    callbacks = pytest.importorskip("lightning.pytorch.callbacks")
    if not hasattr(callbacks, "EMAWeightAveraging"):
        pytest.skip("this lightning has no EMAWeightAveraging")
    lightning_run(callbacks=[callbacks.EMAWeightAveraging(decay=0.5)])
    path = tmp_path / "epoch=1.ckpt"
    raw = torch.load(path, weights_only=True)
    plain, ema = (
        fit_state(Net(), read_state_dict(path)),
        fit_state(Net(), read_state_dict(path, weights="ema")),
    )
    assert torch.equal(plain.tensors["head.weight"], raw["current_model_state"]["model.head.weight"])
    assert torch.equal(ema.tensors["head.weight"], raw["state_dict"]["model.head.weight"])
    assert not torch.equal(plain.tensors["head.weight"], ema.tensors["head.weight"])


def test_lightning_checkpoints_with_objects_inside_are_refused_and_taken_apart(tmp_path, lightning_run):
    module = lightning_run(Settings())
    with pytest.raises(NeedsUnpickling, match=r"Settings.*hardlook convert .*epoch=0.ckpt --trust"):
        find_checkpoints("*.ckpt", tmp_path)
    found = take_apart(tmp_path / "epoch=2.ckpt")
    load_into(model := Net(), found)
    assert equal(model, module.model) and (found.epoch, found.step) == (2, 6)


@pytest.mark.parametrize("sharded", [False, True], ids=["one file", "sharded"])
def test_hugging_face_folders_are_read(tmp_path, sharded):
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
    made = {step: transformers.ViTForImageClassification(config) for step in (1000, 500)}
    for step, model in made.items():
        model.save_pretrained(tmp_path / f"checkpoint-{step}", **({"max_shard_size": "2KB"} if sharded else {}))
        record = {"global_step": step, "epoch": step / 500}
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text(json.dumps(record))
    assert (tmp_path / "checkpoint-500" / "model.safetensors.index.json").is_file() == sharded
    found = find_checkpoints("checkpoint-*", tmp_path)
    assert [(c.path.name, c.step, c.epoch) for c in found] == [
        ("checkpoint-500", 500, 1),
        ("checkpoint-1000", 1000, 2),
    ]
    audited = AuditedModel(transformers.ViTForImageClassification(config), found, n_classes=3)
    for checkpoint in found:
        with audited.at(checkpoint) as module:
            assert equal(module, made[checkpoint.step])
            logits, features = audited.predict(torch.randn(2, 3, 8, 8))
    assert logits.shape == (2, 3) and features.shape == (2, 8)
    if not sharded:
        refuses_what_does_not_fit(transformers.ViTForImageClassification, config, found[0].path)


def refuses_what_does_not_fit(kind, config, folder):
    """Errors about a Hugging Face folder are ours, and as strict as those about any file."""
    given = read_state_dict(folder).tensors
    name = next(name for name in given if "query.weight" in name or "q_proj.weight" in name)
    changes = {
        "lacks 1 of the": {k: v for k, v in given.items() if k != name},
        "keys that the model does not have: 'extra'": {**given, "extra": torch.ones(1)},
        "needs 3": {**given, "classifier.weight": torch.ones(9, 8), "classifier.bias": torch.ones(9)},
    }
    for said, tensors in changes.items():
        with pytest.raises(HardlookError, match=said):
            load_into(kind(config), StateDict(folder, tensors))
    wrapped = nn.ModuleDict({"net": kind(config)})
    load_into(wrapped, StateDict(folder, given))
    load_into(wrapped, StateDict(folder, {f"model.{name}": value for name, value in given.items()}))
    assert torch.equal(wrapped["net"].classifier.weight, given["classifier.weight"])


def test_a_pytorch_bin_folder_is_read_and_others_say_what_they_lack(tmp_path):
    folder = tmp_path / "checkpoint-5"
    folder.mkdir()
    with pytest.raises(HardlookError, match="needed model.safetensors or pytorch_model.bin, found nothing"):
        find_checkpoints("checkpoint-*", tmp_path)
    torch.save(state(1), folder / "pytorch_model.bin")
    assert loads(folder, Net(seed=1)) == ()
    assert find_checkpoints("checkpoint-*", tmp_path)[0].order == "their names"


def test_an_index_that_leads_out_of_its_folder_or_to_nothing_is_refused(tmp_path):
    folder = tmp_path / "checkpoint-5"
    folder.mkdir()
    save_file(state(1), tmp_path / "outside.safetensors")
    for name in ("../outside.safetensors", "model-00002-of-00002.safetensors"):
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"body.weight": name}}))
        with pytest.raises(HardlookError, match="lists the shard"):
            read_state_dict(folder)


def test_timms_own_checkpoints_load_and_their_average_is_a_choice(tmp_path):
    timm = pytest.importorskip("timm")
    from timm.utils import CheckpointSaver, ModelEmaV3

    model = timm.create_model("resnet10t", pretrained=False, num_classes=3)
    ema = ModelEmaV3(model, decay=0.5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    args = argparse.Namespace(model="resnet10t", lr=0.1)
    saver = CheckpointSaver(model, optimizer, args=args, model_ema=ema, checkpoint_dir=str(tmp_path), max_history=5)
    for epoch in range(2):
        with torch.no_grad():
            model.fc.weight.add_(1)
        saver.save_checkpoint(epoch)
    found = find_checkpoints("checkpoint-*.pth.tar", tmp_path)
    assert [c.epoch for c in found] == [0, 1] and "state_dict_ema" in describe_order(found)
    fresh = timm.create_model("resnet10t", pretrained=False, num_classes=3)
    loads(found[-1].path, model, fresh)
    loads(found[-1].path, ema.module, fresh, weights="ema")


def test_order_is_what_is_stored_inside_else_what_the_names_say(tmp_path):
    names = {"a": 10, "b": 9, "c": 11}
    for name, epoch in names.items():
        torch.save({"model": state(epoch), "epoch": epoch}, tmp_path / f"{name}.pt")
    found = find_checkpoints("*.pt", tmp_path)
    assert [c.path.stem for c in found] == ["b", "a", "c"]
    assert describe_order(found) == (
        "3 checkpoints in the order of the epoch stored in the files: b.pt (epoch 9), a.pt (epoch 10), c.pt (epoch "
        "11); the trained weights (not averaged); the file names would give another order"
    )


@pytest.mark.parametrize(
    "contents, order",
    [
        (
            [
                {"epoch": 1, "global_step": 20},
                {"epoch": 0, "global_step": 10},
                {"epoch": 0, "global_step": 5},
            ],
            "the epoch and step stored in the files",
        ),
        ([{"step": 30}, {"step": 20}, {"step": 10}], "the step stored in the files"),
        ([{"meta": {"epoch": 3}}, {"meta": {"epoch": 2}}, {"meta": {"epoch": 1}}], "the epoch stored in the files"),
    ],
)
def test_whatever_tells_checkpoints_apart_orders_them(tmp_path, contents, order):
    for number, content in enumerate(contents):
        torch.save({"model": state(number), **content}, tmp_path / f"{number}.pt")
    found = find_checkpoints("*.pt", tmp_path)
    assert [c.path.stem for c in found] == ["2", "1", "0"] and found[0].order == order


@pytest.mark.parametrize(
    "names, order",
    [
        (["epoch9", "epoch10", "epoch100"], "the epoch in the file names"),
        (["loss=0.9-epoch=01", "loss=0.5-epoch=02", "loss=0.7-epoch=03"], "the epoch in the file names"),
        (["step_900", "step_1000"], "the step in the file names"),
        (["w9", "w10"], "their names"),
    ],
)
def test_nine_goes_before_ten_in_names(tmp_path, names, order):
    for seed, name in enumerate(names):
        torch.save(state(seed), tmp_path / f"{name}.pt")
    found = find_checkpoints("*.pt", tmp_path)
    assert [c.path.stem for c in found] == names and found[0].order == order


def test_natural_order_sees_numbers_in_every_part_of_a_path():
    paths = ["run10/a2.pt", "run2/a10.pt", "run2/a9.pt"]
    assert sorted(paths, key=natural_key) == paths[::-1]


def test_identical_weights_are_refused_by_both_names_whatever_their_wrapping(tmp_path):
    torch.save({"model": state(1), "epoch": 1}, tmp_path / "a.pt")
    torch.save(nn.DataParallel(Net(seed=1)).state_dict(), tmp_path / "b.pt")
    with pytest.raises(HardlookError, match=r"a\.pt and .*b\.pt hold identical weights"):
        find_checkpoints("*.pt", tmp_path)


def test_the_hash_of_weights_changes_with_any_value_type_or_shape():
    weights = {"a": torch.zeros(2, 3), "b": torch.zeros((), dtype=torch.bfloat16)}
    changes = [
        {**weights, "a": torch.zeros(3, 2)},
        {**weights, "a": torch.full((2, 3), 1e-30)},
        {**weights, "b": torch.zeros(())},
        {"a": weights["a"]},
    ]
    assert len({weights_sha256(w) for w in [weights, *changes]}) == 5


def test_patterns_that_match_nothing_or_something_else_are_refused(tmp_path):
    torch.save(state(1), tmp_path / "a.pt")
    (tmp_path / "log.csv").write_text("epoch,loss\n")
    with pytest.raises(HardlookError, match=r"'\*.ckpt' matches nothing in .*holds a.pt, log.csv.*hardlook train"):
        find_checkpoints("*.ckpt", tmp_path)
    with pytest.raises(HardlookError, match="log.csv, which is not a checkpoint.*narrow the pattern"):
        find_checkpoints("*", tmp_path)
    save_file(state(2), tmp_path / "model-00001-of-00002.safetensors")
    with pytest.raises(HardlookError, match="one part of a sharded checkpoint"):
        find_checkpoints("*.safetensors", tmp_path)


def test_one_checkpoint_is_no_error_and_several_patterns_are_one_list(tmp_path):
    torch.save(state(1), tmp_path / "a.pt")
    torch.save(state(2), tmp_path / "b.pth")
    assert describe_order(find_checkpoints("a.pt", tmp_path)) == (
        "1 checkpoint: a.pt; the trained weights (not averaged)"
    )
    assert len(find_checkpoints(["*.pt", "*.pth", str(tmp_path / "a.*")], tmp_path)) == 2
    assert needs_checkpoints(1, 2, "runs/a").startswith(
        "vog needs at least 2 checkpoints, found 1 in runs/a; keep more with Recorder(every=1)"
    )
