"""Where checkpoints go, and which of them stay."""

import pytest
import torch
from safetensors import safe_open
from torch import nn

from scoring.audit import Run
from scoring.audit.errors import HardlookError
from scoring.models import find_checkpoints
from scoring.training.checkpoint_files import CheckpointFiles, bare, plain_tensors, save_checkpoint, thin


def files(folder, pattern=None):
    return CheckpointFiles(Run("main", folder, {"checkpoints": pattern} if pattern else {}))


@pytest.mark.parametrize(
    "pattern, name",
    [
        (None, "checkpoints/main/epoch-0012.pt"),
        ("kept/*.pt", "kept/epoch-0012.pt"),
        ("kept/net_*.pth", "kept/net_0012.pth"),
        ("kept/*/model.safetensors", "kept/epoch-0012/model.safetensors"),
    ],
)
def test_names_follow_the_glob_of_the_run_so_that_what_is_saved_is_found(tmp_path, pattern, name):
    place = files(tmp_path, pattern)
    assert place.path(12) == tmp_path / name
    for epoch in (2, 12):
        save_checkpoint(place.path(epoch), nn.Linear(epoch, 3), epoch)
    found = find_checkpoints(place.pattern, tmp_path)
    assert [checkpoint.epoch for checkpoint in found] == [2, 12] == list(place.epochs())
    assert place.foreign() == []


def test_absolute_globs_work_too(tmp_path):
    place = files(tmp_path / "audit", str(tmp_path / "elsewhere/*.pt"))
    save_checkpoint(place.path(1), nn.Linear(2, 3), 1)
    assert list(place.epochs()) == [1] and place.foreign() == []


@pytest.mark.parametrize("pattern", ["last.pt", "a/*/b*.pt", "**/*.pt", "ck[0-9].pt"])
def test_a_glob_that_does_not_say_where_to_save_is_an_error_with_an_example(tmp_path, pattern):
    with pytest.raises(HardlookError, match="needed exactly one"):
        files(tmp_path, pattern)


def test_safetensors_state_their_epoch(tmp_path):
    save_checkpoint(tmp_path / "a.safetensors", nn.Linear(2, 3), 7)
    with safe_open(tmp_path / "a.safetensors", framework="pt") as file:
        assert file.metadata() == {"epoch": "7"} and set(file.keys()) == {"weight", "bias"}


def test_tied_weights_and_views_share_no_memory_in_what_is_saved():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    state = plain_tensors(model)
    assert len({value.untyped_storage().data_ptr() for value in state.values()}) == len(state) == 4


def test_modules_extra_state_is_left_out_so_that_files_load_as_weights_only(tmp_path):
    class Odd(nn.Linear):
        def get_extra_state(self):
            return {"anything": object}

        def set_extra_state(self, state):
            pass

    save_checkpoint(tmp_path / "a.pt", Odd(2, 3), 1)
    assert set(torch.load(tmp_path / "a.pt", weights_only=True)["state_dict"]) == {"weight", "bias"}


def test_wrappers_are_taken_off():
    model = nn.Linear(2, 3)
    assert bare(torch.compile(nn.DataParallel(model), backend="eager")) is model


def test_thinning_keeps_first_latest_and_every_so_many():
    assert thin([1, 2, 3, 4, 5, 6, 7], every=3) == [1, 4, 7]
    assert thin([1, 2, 3, 4, 5, 6], every=3) == [1, 4, 6]
    assert thin([5], every=3, keep=2) == [5] and thin([]) == []


@pytest.mark.parametrize("keep", [2, 3, 4, 6, 7, 10])
def test_thinning_step_by_step_keeps_early_and_late_stages_and_no_more_than_asked(keep):
    kept = []
    for epoch in range(1, 41):
        kept = thin([*kept, epoch], keep=keep)
        assert len(kept) == min(epoch, keep)
    ends = min(3, keep // 2)
    assert kept[:ends] == [1, 2, 3][:ends] and kept[-ends:] == [38, 39, 40][-ends:]


def test_one_glob_in_a_list_is_that_glob_and_several_say_nothing_of_where_a_new_one_goes(tmp_path):
    assert files(tmp_path, ["kept/*.pt"]).path(3) == tmp_path / "kept/epoch-0003.pt"
    with pytest.raises(HardlookError, match="checkpoints lists 2 patterns.*needed one with exactly one"):
        files(tmp_path, ["kept/*.pt", "more/*.pt"])
