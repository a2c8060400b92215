"""Checkpoint files as real libraries write them: found, ordered, read without running them, loaded, converted."""

import argparse
import json
import os
import pickle
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from scoring import conversion
from scoring.checkpoints import describe_order, find_checkpoints, natural_key, weights_sha256
from scoring.conversion import convert_checkpoint, take_apart
from scoring.loading import fit_state, load_into
from scoring.models import AuditedModel, needs_checkpoints
from scoring.tables import HardlookError
from scoring.weights import NeedsUnpickling, StateDict, read_state_dict


class Net(nn.Module):
    """A norm, two Linear layers, and a buffer that is not saved."""

    def __init__(self, classes=3, seed=0):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.body, self.norm, self.head = nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, classes)
        self.register_buffer("position", torch.arange(4), persistent=False)

    def forward(self, x):
        return self.head(self.norm(self.body(x)))


def state(seed=0, classes=3):
    return Net(classes, seed).state_dict()


def equal(model, other):
    mine, theirs = model.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(value, theirs[name]) for name, value in mine.items())


def loads(path, expected, model=None, **options):
    """Whether the file gives exactly the expected model, and what it had to say."""
    model = model or Net(seed=99)
    notes = load_into(model, read_state_dict(path, **options), **options)
    assert equal(model, expected)
    return notes


# --------------------------------------------------------------------------------------------------------- layouts


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model", "module", "net", "anything"])
def test_a_state_dict_is_found_under_its_key(tmp_path, key):
    optimizer = torch.optim.Adam(Net().parameters()).state_dict()
    torch.save({key: state(1), "optimizer": optimizer, "epoch": 4, "loss": 0.5}, tmp_path / "a.pt")
    loads(tmp_path / "a.pt", Net(seed=1))
    found = read_state_dict(tmp_path / "a.pt")
    assert (found.taken, found.epoch, found.kind) == (key, 4, "plain")


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_plain_state_dict_is_read_in_both_formats_of_torch(tmp_path, zipped):
    torch.save(state(1), tmp_path / "a.pth.tar", _use_new_zipfile_serialization=zipped)
    assert loads(tmp_path / "a.pth.tar", Net(seed=1)) == ()


def test_weights_beside_an_epoch_in_one_flat_dict_are_read(tmp_path):
    torch.save({**state(1), "epoch": torch.tensor(3), "global_step": 70}, tmp_path / "a.pt")
    loads(tmp_path / "a.pt", Net(seed=1))
    found = read_state_dict(tmp_path / "a.pt")
    assert (found.epoch, found.step) == (3, 70)


def test_safetensors_state_their_epoch_in_the_header(tmp_path):
    save_file(state(1), tmp_path / "a.safetensors", metadata={"epoch": "12"})
    loads(tmp_path / "a.safetensors", Net(seed=1))
    assert read_state_dict(tmp_path / "a.safetensors").epoch == 12


@pytest.mark.parametrize("prefix", ["module.", "model.", "_orig_mod.", "model._orig_mod.", "module.model.net."])
def test_prefixes_of_wrappers_are_taken_off(tmp_path, prefix):
    torch.save({prefix + name: value for name, value in state(1).items()}, tmp_path / "a.pt")
    assert loads(tmp_path / "a.pt", Net(seed=1)) == ()


class Wrapped(nn.Module):
    """A model whose own names begin with ``model.``."""

    def __init__(self, seed=0):
        super().__init__()
        self.model = Net(seed=seed)


def test_a_model_that_truly_has_the_prefix_keeps_it(tmp_path):
    for name, prefix in (("own", ""), ("more", "model."), ("lightning", "net.")):
        torch.save({prefix + key: value for key, value in Wrapped(1).state_dict().items()}, tmp_path / f"{name}.pt")
        assert loads(tmp_path / f"{name}.pt", Wrapped(1), Wrapped(9)) == ()
    torch.save(state(1), tmp_path / "bare.pt")
    assert loads(tmp_path / "bare.pt", Wrapped(1), Wrapped(9)) == ()


def test_data_parallel_and_compiled_models_are_read_and_written(tmp_path):
    torch.save(nn.DataParallel(Net(seed=1)).state_dict(), tmp_path / "parallel.pt")
    torch.save(torch.compile(Net(seed=1)).state_dict(), tmp_path / "compiled.pt")
    inner = Wrapped(1)
    inner.model = torch.compile(inner.model)
    torch.save(inner.state_dict(), tmp_path / "inner.pt")
    for name in ("parallel", "compiled"):
        assert loads(tmp_path / f"{name}.pt", Net(seed=1)) == ()
    assert loads(tmp_path / "inner.pt", Wrapped(1), Wrapped(9)) == ()
    load_into(torch.compile(fresh := Net(seed=9)), read_state_dict(tmp_path / "compiled.pt"))
    assert equal(fresh, Net(seed=1))


def test_what_a_training_module_keeps_beside_the_model_is_left_out_with_a_note(tmp_path):
    torch.save({**{f"model.{k}": v for k, v in state(1).items()}, "criterion.weight": torch.ones(3)}, tmp_path / "a.pt")
    assert loads(tmp_path / "a.pt", Net(seed=1)) == ("left out what is not under 'model.': 'criterion.weight'",)


def test_weights_that_are_there_twice_are_not_guessed_at(tmp_path):
    torch.save({f"{who}.{k}": v for who in ("student", "tutor") for k, v in state(1).items()}, tmp_path / "a.pt")
    with pytest.raises(HardlookError, match="more than once, under 'student.' and 'tutor.'"):
        load_into(Net(), read_state_dict(tmp_path / "a.pt"))


# ------------------------------------------------------------------------------------------------------------- EMA


@pytest.mark.parametrize("plain, ema", [("state_dict", "state_dict_ema"), ("model", "model_ema"), ("model", "ema")])
def test_plain_weights_go_before_their_average_unless_asked(tmp_path, plain, ema):
    averaged = torch.optim.swa_utils.AveragedModel(Net(seed=2))
    torch.save({ema: averaged.state_dict(), plain: state(1), "epoch": 1}, tmp_path / "a.pt")
    assert loads(tmp_path / "a.pt", Net(seed=1)) == (f"took the plain weights ({plain}), not the EMA ({ema})",)
    assert loads(tmp_path / "a.pt", Net(seed=2), weights="ema") == (f"took the EMA weights ({ema})",)


def test_averages_under_a_prefix_are_told_apart_too(tmp_path):
    torch.save({"state_dict": {**{f"ema_model.{k}": v for k, v in state(2).items()},
                               **{f"model.{k}": v for k, v in state(1).items()}}}, tmp_path / "a.ckpt")
    assert loads(tmp_path / "a.ckpt", Net(seed=1)) == ("took the plain weights (under 'model.'), not the EMA (under 'ema_model.')",)


def test_averages_under_a_prefix_are_taken_when_asked(tmp_path):
    flat = {**{f"ema.{k}": v for k, v in state(2).items()}, **state(1)}
    torch.save(flat, tmp_path / "a.pt")
    assert "EMA (under 'ema.')" in loads(tmp_path / "a.pt", Net(seed=1))[0]
    assert loads(tmp_path / "a.pt", Net(seed=2), weights="ema") == ("took the EMA weights (under 'ema.')",)


def test_a_file_with_averages_alone_gives_them_with_a_note_and_one_without_refuses(tmp_path):
    torch.save({"ema": {"module": state(1)}}, tmp_path / "ema.pt")
    torch.save({"model": state(1)}, tmp_path / "plain.pt")
    torch.save(state(1), tmp_path / "flat.pt")
    assert loads(tmp_path / "ema.pt", Net(seed=1)) == ("only EMA weights are there (ema.module); took those",)
    for name in ("plain", "flat"):
        with pytest.raises(HardlookError, match="holds no EMA weights"):
            loads(tmp_path / f"{name}.pt", Net(seed=1), weights="ema")


# -------------------------------------------------------------------------------------------------- real libraries


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
    """Train for three epochs with the real library; return a function of callbacks and settings → trained module."""
    lightning, Training = lightning_module()
    import warnings

    def run(settings=None, callbacks=(), pattern="{epoch}"):
        module = Training(settings)
        every = lightning.callbacks.ModelCheckpoint(tmp_path, filename=pattern, save_top_k=-1, every_n_epochs=1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # lightning advises on loggers and workers
            trainer = lightning.Trainer(max_epochs=3, accelerator="cpu", devices=1, logger=False, default_root_dir=tmp_path,
                                        callbacks=[every, *callbacks], enable_progress_bar=False,
                                        enable_model_summary=False)
            data = torch.utils.data.TensorDataset(torch.randn(8, 4), torch.arange(8) % 3)
            trainer.fit(module, torch.utils.data.DataLoader(data, batch_size=4))
        return module

    return run


def test_lightning_checkpoints_load_in_the_order_of_their_epochs(tmp_path, lightning_run):
    module = lightning_run({"lr": 0.1})
    found = find_checkpoints("*.ckpt", tmp_path)
    assert [(c.path.name, c.epoch, c.step) for c in found] == [(f"epoch={e}.ckpt", e, 2 * e + 2) for e in range(3)]
    assert found[0].order == "the epoch stored inside"
    notes = loads(found[-1].path, module.model)
    assert notes == ("left out what is not under 'model.': 'loss.weight'",)


def test_lightnings_averaged_weights_are_not_taken_for_the_plain_ones(tmp_path, lightning_run):
    callbacks = pytest.importorskip("lightning.pytorch.callbacks")
    if not hasattr(callbacks, "EMAWeightAveraging"):
        pytest.skip("this lightning has no EMAWeightAveraging")
    lightning_run(callbacks=[callbacks.EMAWeightAveraging(decay=0.5)])
    path = tmp_path / "epoch=1.ckpt"
    raw = torch.load(path, weights_only=True)
    plain, ema = fit_state(Net(), read_state_dict(path)), fit_state(Net(), read_state_dict(path, weights="ema"))
    assert torch.equal(plain.tensors["head.weight"], raw["current_model_state"]["model.head.weight"])
    assert torch.equal(ema.tensors["head.weight"], raw["state_dict"]["model.head.weight"])
    assert not torch.equal(plain.tensors["head.weight"], ema.tensors["head.weight"])


class Settings:
    """Hyperparameters of a class of the user's own."""

    def __init__(self):
        self.lr = 0.1


def test_lightning_checkpoints_with_objects_inside_are_refused_and_converted(tmp_path, lightning_run, in_this_process):
    module = lightning_run(Settings())
    with pytest.raises(NeedsUnpickling, match=r"Settings.*hardlook convert .*epoch=0.ckpt --trust"):
        find_checkpoints("*.ckpt", tmp_path)
    out = convert_checkpoint(tmp_path / "epoch=2.ckpt", trust=True)
    loads(out, module.model)
    assert (read_state_dict(out).epoch, read_state_dict(out).step) == (2, 6)


@pytest.mark.parametrize("sharded", [False, True], ids=["one file", "sharded"])
def test_hugging_face_folders_are_read(tmp_path, sharded):
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
                                    image_size=8, patch_size=4, num_labels=3)
    made = {step: transformers.ViTForImageClassification(config) for step in (1000, 500)}
    for step, model in made.items():
        model.save_pretrained(tmp_path / f"checkpoint-{step}", **({"max_shard_size": "2KB"} if sharded else {}))
        record = {"global_step": step, "epoch": step / 500}
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text(json.dumps(record))
    assert (tmp_path / "checkpoint-500" / "model.safetensors.index.json").is_file() == sharded
    found = find_checkpoints("checkpoint-*", tmp_path)
    assert [(c.path.name, c.step, c.epoch) for c in found] == [("checkpoint-500", 500, 1), ("checkpoint-1000", 1000, 2)]
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
    changes = {"lacks 1 of the": {k: v for k, v in given.items() if k != name},
               "keys that the model does not: 'extra'": {**given, "extra": torch.ones(1)},
               "needs 3": {**given, "classifier.weight": torch.ones(9, 8), "classifier.bias": torch.ones(9)}}
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


# ----------------------------------------------------------------------------------------------- finding, ordering


def test_order_is_what_is_stored_inside_else_what_the_names_say(tmp_path):
    names = {"a": 10, "b": 9, "c": 11}
    for name, epoch in names.items():
        torch.save({"model": state(epoch), "epoch": epoch}, tmp_path / f"{name}.pt")
    found = find_checkpoints("*.pt", tmp_path)
    assert [c.path.stem for c in found] == ["b", "a", "c"]
    assert describe_order(found) == ("3 checkpoints in the order of the epoch stored inside: b.pt (epoch 9), a.pt (epoch 10), "
                                     "c.pt (epoch 11); the names would give another order")


@pytest.mark.parametrize("contents, order", [
    ([{"epoch": 1, "global_step": 20}, {"epoch": 0, "global_step": 10}, {"epoch": 0, "global_step": 5}],
     "the epoch and step stored inside"),
    ([{"step": 30}, {"step": 20}, {"step": 10}], "the step stored inside"),
    ([{"meta": {"epoch": 3}}, {"meta": {"epoch": 2}}, {"meta": {"epoch": 1}}], "the epoch stored inside"),
])
def test_whatever_tells_checkpoints_apart_orders_them(tmp_path, contents, order):
    for number, content in enumerate(contents):
        torch.save({"model": state(number), **content}, tmp_path / f"{number}.pt")
    found = find_checkpoints("*.pt", tmp_path)
    assert [c.path.stem for c in found] == ["2", "1", "0"] and found[0].order == order


@pytest.mark.parametrize("names, order", [
    (["epoch9", "epoch10", "epoch100"], "the epoch in their names"),
    (["loss=0.9-epoch=01", "loss=0.5-epoch=02", "loss=0.7-epoch=03"], "the epoch in their names"),
    (["step_900", "step_1000"], "the step in their names"),
    (["w9", "w10"], "their names"),
])
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
    changes = [{**weights, "a": torch.zeros(3, 2)}, {**weights, "a": torch.full((2, 3), 1e-30)},
               {**weights, "b": torch.zeros(())}, {"a": weights["a"]}]
    assert len({weights_sha256(w) for w in [weights, *changes]}) == 5


def test_patterns_that_match_nothing_or_something_else_are_refused(tmp_path):
    torch.save(state(1), tmp_path / "a.pt")
    (tmp_path / "log.csv").write_text("epoch,loss\n")
    with pytest.raises(HardlookError, match=r"'\*.ckpt' matches nothing in .*holds a.pt, log.csv.*hardlook train"):
        find_checkpoints("*.ckpt", tmp_path)
    with pytest.raises(HardlookError, match="log.csv, which is no checkpoint.*narrow the pattern"):
        find_checkpoints("*", tmp_path)
    save_file(state(2), tmp_path / "model-00001-of-00002.safetensors")
    with pytest.raises(HardlookError, match="one part of a sharded checkpoint"):
        find_checkpoints("*.safetensors", tmp_path)


def test_one_checkpoint_is_no_error_and_several_patterns_are_one_list(tmp_path):
    torch.save(state(1), tmp_path / "a.pt")
    torch.save(state(2), tmp_path / "b.pth")
    assert describe_order(find_checkpoints("a.pt", tmp_path)) == "1 checkpoint: a.pt"
    assert len(find_checkpoints(["*.pt", "*.pth", str(tmp_path / "a.*")], tmp_path)) == 2
    assert needs_checkpoints(1, 2, "runs/a").startswith("vog needs at least 2 checkpoints, found 1 in runs/a; keep more "
                                                        "with Recorder(every=1)")


@pytest.mark.parametrize("name", ["a.pt", "a.safetensors"])
def test_a_cut_file_is_called_damaged(tmp_path, name):
    torch.save(state(1), tmp_path / "a.pt")
    save_file(state(1), tmp_path / "a.safetensors")
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(HardlookError, match=f"{name} is damaged or incomplete"):
        read_state_dict(tmp_path / name)
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(HardlookError, match="0 bytes"):
        read_state_dict(tmp_path / name)


@pytest.mark.parametrize("content, said", [
    ([1, 2], "holds a list"), ({"epoch": 3}, "the keys epoch"), ({}, "an empty dict"),
    ({"first": {"a": torch.ones(1)}, "second": {"a": torch.ones(1)}}, "several state dicts .first, second."),
])
def test_a_file_without_weights_says_what_it_holds(tmp_path, content, said):
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(HardlookError, match=said):
        read_state_dict(tmp_path / "a.pt")


# --------------------------------------------------------------------------------------------------------- loading


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
    assert said.startswith("runs/a.pt lacks 1 of the 9 keys that the model needs: 'head.weight' (3, 5); it has instead 'classifier'")


def test_an_unexpected_key_names_it():
    assert "runs/a.pt has 1 keys that the model does not: 'extra.weight'" in refused(lambda t: t.update({"extra.weight": torch.ones(1)}))


def test_a_wrong_shape_names_found_and_needed():
    said = refused(lambda t: t.update({"body.weight": torch.ones(5, 7)}))
    assert said.startswith("runs/a.pt: key 'body.weight' has shape (5, 7), the model needs (5, 4)")


def test_a_wrong_class_count_has_its_own_message():
    def ten(tensors):
        tensors.update({"head.weight": torch.ones(10, 5), "head.bias": torch.ones(10)})

    said = refused(ten, n_classes=3)
    assert said.startswith("runs/a.pt: its output layer (key 'head.weight') has 10 classes, the model built here needs "
                           "3, and audit.toml lists 3")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_name_their_key(value):
    said = refused(lambda t: t["norm.running_var"].__setitem__(2, value))
    assert said.startswith("runs/a.pt: key 'norm.running_var' holds 1 values of 5 that are NaN or infinite")


def test_another_models_checkpoint_is_told_as_such():
    assert "none of its keys fits the model; found 'conv1'" in refused(lambda t: (t.clear(), t.update(conv1=torch.ones(1))))


def test_half_precision_becomes_the_models_with_a_note(tmp_path):
    torch.save({name: value.half() if value.is_floating_point() else value for name, value in state(1).items()}, tmp_path / "a.pt")
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


# -------------------------------------------------------------------------------------------- unpickling, converting


@pytest.fixture
def in_this_process(monkeypatch):
    """Run what the child process runs without starting one, which takes seconds; two tests start real ones."""
    monkeypatch.setattr(conversion, "_in_own_process",
                        lambda path, partial, _folder, weights: conversion.write_converted(take_apart(path, weights), partial))


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
    source = ("import torch\nfrom torch import nn\nclass Gone(nn.Module):\n    def __init__(self):\n"
              "        super().__init__()\n        self.body, self.norm, self.head = nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 3)\n"
              "        self.register_buffer('position', torch.arange(4), persistent=False)\n        self.hook = print\n")
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
    converted = read_state_dict(convert_checkpoint(tmp_path / "whole.pt", tmp_path / "out" / "w.safetensors", trust=True))
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
    with pytest.raises(HardlookError, match="a.safetensors is there already"):
        convert_checkpoint(tmp_path / "a.pt", trust=True)
    assert torch.equal(read_state_dict(tmp_path / "a.safetensors").tensors["head.bias"], state(2)["head.bias"])


def test_what_cannot_be_converted_leaves_no_file_and_says_why(tmp_path):
    torch.save({"settings": Settings(), "extra": Evil(tmp_path / "touched")}, tmp_path / "a.pt")
    with pytest.raises(HardlookError, match="a.pt could not be converted: .*holds no weights"):
        convert_checkpoint(tmp_path / "a.pt", trust=True)
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]
