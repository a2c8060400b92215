"""What is read from one file: every layout of training scripts, plain and averaged, never running it."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from scoring.audit.errors import HardlookError
from scoring.models.checkpoint_reader import read_state_dict
from scoring.models.state_dict_matching import load_into

from ..nets import Net, Wrapped, equal, loads, state


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
    torch.save(
        {**{f"model.{k}": v for k, v in state(1).items()}, "criterion.weight": torch.ones(3)},
        tmp_path / "a.pt",
    )
    assert loads(tmp_path / "a.pt", Net(seed=1)) == ("ignored keys outside 'model.': 'criterion.weight'",)


def test_weights_that_are_there_twice_are_not_guessed_at(tmp_path):
    torch.save({f"{who}.{k}": v for who in ("student", "tutor") for k, v in state(1).items()}, tmp_path / "a.pt")
    torch.save({**state(1), **{f"tutor.{k}": v for k, v in state(2).items()}}, tmp_path / "b.pt")
    for name, where in (("a", "'student.' and 'tutor.'"), ("b", "'' and 'tutor.'")):
        with pytest.raises(HardlookError, match=f"more than once, under {where}"):
            load_into(Net(), read_state_dict(tmp_path / f"{name}.pt"))


@pytest.mark.parametrize("plain, ema", [("state_dict", "state_dict_ema"), ("model", "model_ema"), ("model", "ema")])
def test_plain_weights_go_before_their_average_unless_asked(tmp_path, plain, ema):
    averaged = torch.optim.swa_utils.AveragedModel(Net(seed=2))
    torch.save({ema: averaged.state_dict(), plain: state(1), "epoch": 1}, tmp_path / "a.pt")
    assert loads(tmp_path / "a.pt", Net(seed=1)) == (
        f"used the trained weights ({plain}), not the EMA weights ({ema})",
    )
    assert loads(tmp_path / "a.pt", Net(seed=2), weights="ema") == (f"used the EMA weights ({ema})",)


def test_averages_under_a_prefix_are_told_apart_too(tmp_path):
    torch.save(
        {
            "state_dict": {
                **{f"ema_model.{k}": v for k, v in state(2).items()},
                **{f"model.{k}": v for k, v in state(1).items()},
            }
        },
        tmp_path / "a.ckpt",
    )
    assert loads(tmp_path / "a.ckpt", Net(seed=1)) == (
        "used the trained weights (under 'model.'), not the EMA weights (under 'ema_model.')",
    )


def test_averages_under_a_prefix_are_taken_when_asked(tmp_path):
    flat = {**{f"ema.{k}": v for k, v in state(2).items()}, **state(1)}
    torch.save(flat, tmp_path / "a.pt")
    assert "EMA weights (under 'ema.')" in loads(tmp_path / "a.pt", Net(seed=1))[0]
    assert loads(tmp_path / "a.pt", Net(seed=2), weights="ema") == ("used the EMA weights (under 'ema.')",)


def test_a_file_with_averages_alone_gives_them_with_a_note_and_one_without_refuses(tmp_path):
    torch.save({"ema": {"module": state(1)}}, tmp_path / "ema.pt")
    torch.save({"model": state(1)}, tmp_path / "plain.pt")
    torch.save(state(1), tmp_path / "flat.pt")
    assert loads(tmp_path / "ema.pt", Net(seed=1)) == (
        "used the EMA weights (ema.module), because the file holds no others",
    )
    for name in ("plain", "flat"):
        with pytest.raises(HardlookError, match="holds no EMA weights"):
            loads(tmp_path / f"{name}.pt", Net(seed=1), weights="ema")


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


@pytest.mark.parametrize(
    "content, said",
    [
        ([1, 2], "holds a list"),
        ({"epoch": 3}, "the keys epoch"),
        ({}, "an empty dict"),
        (
            {"first": {"a": torch.ones(1)}, "second": {"a": torch.ones(1)}},
            "several state dicts .first, second.",
        ),
    ],
)
def test_a_file_without_weights_says_what_it_holds(tmp_path, content, said):
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(HardlookError, match=said):
        read_state_dict(tmp_path / "a.pt")
