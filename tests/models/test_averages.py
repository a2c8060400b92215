"""Trained weights and their moving average: told apart in the files of each tool, kept by convert, always
said."""

import json

import pytest
import torch
from torch import nn

from scoring.audit import Audit
from scoring.audit.errors import HardlookError
from scoring.models import conversion
from scoring.models.checkpoint_reader import read_state_dict
from scoring.models.checkpoints import describe_order, find_checkpoints
from scoring.models.conversion import convert_checkpoint, describe_contents

from ..conftest import hardlook
from ..nets import Net, Settings, loads, state
from ..small_audits import write_small_audit


@pytest.fixture
def in_this_process(monkeypatch):
    """Convert without starting the child process, which takes seconds."""
    monkeypatch.setattr(
        conversion,
        "_in_own_process",
        lambda path, out, _folder, weights: conversion._convert(path, out, weights),
    )


def under(prefix, seed):
    return {prefix + name: value for name, value in state(seed).items()}


def mmengine():
    """As mmengine 0.10.7 writes with EMAHook: ``state_dict`` is the average, ``ema_state_dict`` the trained
    weights.
    """
    return {
        "meta": {
            "epoch": 2,
            "iter": 8,
            "mmengine_version": "0.10.7",
            "cfg": "",
            "seed": 1,
            "experiment_name": "e",
        },
        "state_dict": under("net.", 2),
        "message_hub": Settings(),
        "optimizer": torch.optim.SGD(Net().parameters()).state_dict(),
        "ema_state_dict": {"steps": torch.tensor(8), **under("module.net.", 1)},
    }


def composer(active=True):
    """As Composer 0.32.1 writes with EMA: the kind that is not in ``state.model`` is in the algorithm's
    state.
    """
    names = [name for name, _ in Net().named_parameters()]
    other = {f"module.{name}": state(1 if active else 2)[name] for name in names}
    kept = {
        "repr": "EMA()",
        "ema_model": {"named_parameters_dict": other, "named_buffers_dict": {}},
        "ema_weights_active": active,
        "ema_started": True,
    }
    return {
        "state": {
            "model": under("module.", 2 if active else 1),
            "algorithms": [("EMA", kept)],
            "optimizers": {"SGD": {"state": {}, "param_groups": []}},
            "timestamp": Settings(),
        },
        "rng": [Settings()],
    }


def composer_inactive():
    return composer(active=False)


def lightning():
    """As Lightning 2.6 writes with WeightAveraging."""
    return {
        "state_dict": under("model.", 2),
        "current_model_state": under("model.", 1),
        "epoch": 1,
        "global_step": 4,
        "averaging_state": {"n_averaged": torch.tensor(3)},
        "hyper_parameters": Settings(),
    }


def timm():
    """As timm 1.0.31 writes with ModelEmaV3."""
    return {
        "epoch": 1,
        "arch": "net",
        "state_dict": state(1),
        "version": 2,
        "args": Settings(),
        "state_dict_ema": state(2),
    }


BOTH = [mmengine, composer, composer_inactive, lightning, timm]


@pytest.mark.parametrize("written", BOTH)
def test_convert_keeps_both_kinds_and_neither_is_taken_for_the_other(tmp_path, in_this_process, written):
    torch.save(written(), tmp_path / "a.pt")
    both = convert_checkpoint(tmp_path / "a.pt", trust=True)
    assert describe_contents(both) == "the trained weights and their average (EMA)"
    plain = loads(both, Net(seed=1))  # composer averages no running statistics, and those of all seeds are equal
    assert "used the trained weights (state_dict), not the EMA weights (state_dict_ema)" in plain
    assert "used the EMA weights (state_dict_ema)" in loads(both, Net(seed=2), weights="ema")
    stated = [read_state_dict(both, weights=weights).kind for weights in ("plain", "ema")]
    assert stated == ["plain", "ema"]


@pytest.mark.parametrize("written", BOTH)
@pytest.mark.parametrize("weights, seed", [("plain", 1), ("ema", 2)])
def test_convert_takes_the_kind_that_is_asked_for(tmp_path, in_this_process, written, weights, seed):
    torch.save(written(), tmp_path / "a.pt")
    one = convert_checkpoint(tmp_path / "a.pt", trust=True, weights=weights)
    loads(one, Net(seed=seed), weights=weights)
    assert read_state_dict(one, weights=weights).kind == weights
    if weights == "plain":
        with pytest.raises(HardlookError, match="holds no EMA weights"):
            read_state_dict(one, weights="ema")
    else:
        assert read_state_dict(one).notes == ("used the EMA weights, because the file holds no others",)


def test_ultralytics_epochs_and_its_last_files_hold_the_average_alone(tmp_path, capsys):
    """As Ultralytics 8.4.190 writes: ``ema`` while it trains, the average in the place of ``model`` at the
    end.
    """
    common = {"updates": None, "optimizer": None, "train_args": {"imgsz": 32}, "version": "8.4.190"}
    torch.save({**common, "epoch": 0, "updates": 3, "model": None, "ema": Net(seed=1).half()}, tmp_path / "epoch0.pt")
    torch.save({**common, "epoch": -1, "model": Net(seed=1).half(), "ema": None}, tmp_path / "best.pt")
    half = Net()
    half.load_state_dict(Net(seed=1).half().state_dict())
    assert hardlook("convert", tmp_path / "epoch0.pt", tmp_path / "best.pt", "--trust") == 0
    told = capsys.readouterr().out
    assert (
        "epoch0.safetensors: averaged (EMA) weights; used the EMA weights (ema), because the file holds no others"
        in told
    )
    assert (
        "best.safetensors: averaged (EMA) weights; used the EMA weights (model), because the file holds no others"
        in told
    )
    for name in ("epoch0", "best"):
        loads(tmp_path / f"{name}.safetensors", half)
        loads(tmp_path / f"{name}.safetensors", half, weights="ema")
    assert hardlook("convert", tmp_path / "epoch0.pt", "--trust", "--weights", "ema") == 0
    assert "epoch0.safetensors: averaged (EMA) weights; used the EMA weights (ema)\n" in capsys.readouterr().out


def test_the_state_dict_of_an_averaged_model_is_an_average(tmp_path):
    averaged = torch.optim.swa_utils.AveragedModel(Net(seed=1))
    torch.save(averaged.state_dict(), tmp_path / "flat.pt")
    torch.save({"model": averaged.state_dict(), "epoch": 3}, tmp_path / "held.pt")
    for name in ("flat", "held"):
        assert "because the file holds no others" in loads(tmp_path / f"{name}.pt", Net(seed=1))[0]
        loads(tmp_path / f"{name}.pt", Net(seed=1), weights="ema")
        assert read_state_dict(tmp_path / f"{name}.pt").kind == "ema"


def test_an_average_under_a_prefix_is_found_in_a_dict_of_a_dict(tmp_path):
    torch.save({"state_dict": {**under("ema_model.", 2), **under("model.", 1)}}, tmp_path / "a.ckpt")
    loads(tmp_path / "a.ckpt", Net(seed=2), weights="ema")
    loads(tmp_path / "a.ckpt", Net(seed=1))
    for weights, told in (("ema", "averaged (EMA) weights"), ("plain", "the trained weights (not averaged)")):
        assert f"1 checkpoint: a.ckpt; {told}" == describe_order(find_checkpoints("a.ckpt", tmp_path, weights=weights))


def test_trained_and_averaged_weights_are_never_mixed(tmp_path):
    torch.save({"model": state(1), "ema": state(2)}, tmp_path / "1.pt")
    torch.save({"ema": state(3)}, tmp_path / "2.pt")
    with pytest.raises(
        HardlookError, match=r"1.pt gives the trained weights and .*2.pt only averaged ones.*averaged = true"
    ):
        find_checkpoints("*.pt", tmp_path)
    found = find_checkpoints("*.pt", tmp_path, weights="ema")
    assert [each.kind for each in found] == ["ema", "ema"] and "averaged (EMA) weights" in describe_order(found)


def test_two_state_dicts_that_mean_the_same_are_not_guessed_at(tmp_path):
    torch.save({"model": state(1), "net": state(2)}, tmp_path / "a.pt")
    with pytest.raises(HardlookError, match="holds two state dicts of the same shapes .model and net."):
        read_state_dict(tmp_path / "a.pt")
    torch.save({"model": state(1), "net": state(1)}, tmp_path / "b.pt")
    loads(tmp_path / "b.pt", Net(seed=1))
    torch.save({"model": state(1), "best_model": state(2)}, tmp_path / "c.pt")
    assert loads(tmp_path / "c.pt", Net(seed=1)) == ("used model, not best_model",)


def test_which_weights_are_audited_is_printed_and_recorded(tmp_path, capsys):
    """The line of `hardlook score` and run.json say so for either kind."""
    folder = write_small_audit(tmp_path)
    for path in sorted((folder / "checkpoints").glob("*.pt")):
        saved = torch.load(path, weights_only=True)
        torch.save({**saved, "ema": {name: value / 2 for name, value in saved["state_dict"].items()}}, path)
    config = folder / "audit.toml"
    for averaged, told, kind in (
        (False, "the trained weights (not averaged)", "plain"),
        (True, "averaged (EMA) weights", "ema"),
    ):
        if averaged:
            config.write_text(config.read_text().replace("checkpoints =", "averaged = true\ncheckpoints ="))
        assert hardlook("score", folder, "--only", "grand", "--anyway", "--device", "cpu") == 0
        assert told in capsys.readouterr().out
        record = json.loads(Audit.open(folder).run().record_path.read_text())
        taken = (
            ["used the EMA weights (ema)"]
            if averaged
            else ["used the trained weights (state_dict), not the EMA weights (ema)"]
        )
        assert record["notes"]["checkpoints"] == taken
        assert {each["weights"] for each in record["checkpoints"]} == {kind}
    assert hardlook("train", folder, "--overwrite") == 1
    assert "averaged = true, but hardlook train saves the trained weights" in capsys.readouterr().err


def test_weights_that_are_told_apart_only_when_they_are_loaded_are_recorded_too(tmp_path, capsys):
    folder = write_small_audit(tmp_path)
    for path in sorted((folder / "checkpoints").glob("*.pt")):
        plain = torch.load(path, weights_only=True)["state_dict"]
        average = {f"ema.{name}": value / 2 for name, value in plain.items()}
        torch.save({**average, **{f"net.{name}": value for name, value in plain.items()}}, path)
    for _ in range(2):  # the second time nothing is computed anew
        assert hardlook("score", folder, "--only", "grand", "--anyway", "--device", "cpu") == 0
        assert (
            "note: checkpoints: used the trained weights (under 'net.'), not the EMA weights (under 'ema.')"
            in capsys.readouterr().out
        )


def test_a_layer_of_the_model_that_is_called_ema_is_an_ordinary_layer(tmp_path):
    model = nn.ModuleDict({"body": nn.Linear(2, 2), "ema": nn.Linear(2, 2)})
    torch.save({"state_dict": model.state_dict()}, tmp_path / "a.pt")
    fresh = nn.ModuleDict({"body": nn.Linear(2, 2), "ema": nn.Linear(2, 2)})
    loads(tmp_path / "a.pt", model, fresh)
    assert find_checkpoints("a.pt", tmp_path)[0].kind == "plain"


def test_a_list_of_globs_is_scored_like_one_glob(tmp_path, capsys):
    """Checkpoints in two folders, one order; a list of one file is one checkpoint."""
    folder = write_small_audit(tmp_path)
    (folder / "early").mkdir()
    (folder / "checkpoints" / "epoch-1.pt").rename(folder / "early" / "epoch-1.pt")
    config = folder / "audit.toml"
    config.write_text(config.read_text().replace('"checkpoints/*.pt"', '["checkpoints/*.pt", "early/*.pt"]'))
    assert hardlook("score", folder, "--only", "grand", "--anyway", "--device", "cpu") == 0
    assert "3 checkpoints in the order of the epoch stored in the files: epoch-1.pt" in capsys.readouterr().out
    record = Audit.open(folder).run().record()
    assert [each["path"] for each in record["checkpoints"]] == [
        "early/epoch-1.pt",
        "checkpoints/epoch-2.pt",
        "checkpoints/epoch-3.pt",
    ]
    config.write_text(config.read_text().replace('"early/*.pt"', '"nowhere/*.pt"'))
    assert hardlook("score", folder, "--only", "grand", "--anyway", "--device", "cpu") == 1
    assert "checkpoints = 'nowhere/*.pt' matches nothing" in capsys.readouterr().err
