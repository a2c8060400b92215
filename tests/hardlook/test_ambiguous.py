"""Where a notebook's cell can mean two things, or holds the wrong kind, one sentence says what to do."""

import subprocess
import sys

import datasets
import hardlook
import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from scoring.training import Recorder

from .conftest import picture
from .test_given_data import TO_TENSOR, inputs_of, made


def points():
    """Inputs (24, 4) and their labels, three classes."""
    return torch.randn(24, 4, generator=torch.Generator().manual_seed(0)), torch.arange(24) % 3


def of_model(model, inputs, labels):
    """The model's own probabilities of the labels."""
    with torch.no_grad():
        return model(inputs).softmax(1)[range(len(labels)), labels].numpy()


def test_another_model_than_the_recorded_one_is_refused(tmp_path):
    data = TensorDataset(*points())
    audit = hardlook.audit(data, folder=tmp_path, scores=None)
    model = nn.Linear(4, 3)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with Recorder(audit, model) as recorder:
        for _ in range(2):
            for inputs, labels in recorder.watch(DataLoader(data, 8)):
                nn.functional.cross_entropy(model(inputs), labels).backward()
                optimizer.step()
    audit.score(quick=True, model=model)
    assert np.allclose(audit.scores()["p_label"], of_model(model, *points()), atol=1e-5)
    other = nn.Linear(4, 3)
    with pytest.raises(hardlook.HardlookError, match="other weights than .*epoch-0002.pt.* pass checkpoints="):
        hardlook.audit(data, model=other, folder=tmp_path)
    every = str(next(tmp_path.glob("checkpoints/*")) / "*.pt")
    again = hardlook.audit(data, model=other, checkpoints=every, folder=tmp_path)
    assert np.allclose(again.scores()["p_label"], of_model(model, *points()), atol=1e-5)


def test_a_list_of_checkpoints_keeps_its_order(tmp_path):
    models = [nn.Linear(4, 3) for _ in range(3)]
    for name, model in zip("bca", models, strict=True):
        torch.save(model.state_dict(), tmp_path / f"{name}.pt")
    files = [tmp_path / f"{name}.pt" for name in "bca"]
    audit = hardlook.audit(points(), model=nn.Linear(4, 3), checkpoints=files, folder=tmp_path / "list")
    assert np.allclose(audit.scores()["p_label"], of_model(models[2], *points()), atol=1e-5)
    globbed = hardlook.audit(points(), model=nn.Linear(4, 3), checkpoints=tmp_path / "*.pt", folder=tmp_path / "glob")
    assert np.allclose(globbed.scores()["p_label"], of_model(models[1], *points()), atol=1e-5)


def test_a_transform_of_batches_has_to_be_named_for_one_example(tmp_path, net):
    data = datasets.Dataset.from_dict(
        {"image": [picture(row % 2, row) for row in range(4)], "label": [0, 1, 0, 1]},
        features=datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["bright", "dark"])}),
    ).with_transform(lambda batch: {"x": [TO_TENSOR(each) for each in batch["image"]], "label": batch["label"]})
    with pytest.raises(hardlook.HardlookError, match="set_transform.*pass transform="):
        made(tmp_path, train=data, model=net)
    opened, run = made(tmp_path, train=data, model=net, transform=TO_TENSOR)
    assert torch.equal(inputs_of(opened, run)[0], torch.stack(data[:]["x"]))


def test_an_audit_of_test_data_alone_shows_their_suspects(tmp_path):
    audit = hardlook.audit(test=points(), model=nn.Linear(4, 3), folder=tmp_path)
    assert len(audit.suspects(5)) == 5 and set(audit.suspects(5)["split"]) == {"test"}
    assert audit._repr_html_().count(" → <b>") == 12


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"train": (None, [0, 1])}, "found inputs of type NoneType"),
        ({"train": ("abc", [0, 1, 2])}, "found inputs of type str"),
        ({"train": (3, [0])}, "found inputs of type int"),
        ({"media": "audio"}, "media = 'audio'; needed one of image, vector, text"),
        ({"transform": 3}, "transform: found int"),
        ({"classes": 3}, "classes: found int"),
        ({"classes": "abc"}, "classes: found str"),
        ({"classes": ["0", "0", "1"]}, "2 different"),
        ({"checkpoints": 3}, "checkpoints: needed a path, a glob, or a list"),
        ({"checkpoints": [3]}, "checkpoints: needed a path, a glob, or a list"),
        ({"model": nn.Linear(4, 3, device="meta")}, "no values"),
    ],
)
def test_wrong_kinds_are_one_sentence(tmp_path, given, said):
    usual = {"train": points(), "model": nn.Linear(4, 3)}
    with pytest.raises(hardlook.HardlookError, match=said):
        hardlook.audit(**usual | given, folder=tmp_path)


def test_results_before_there_are_any_say_what_computes_them(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(hardlook.HardlookError, match="a file is in its place"):
        hardlook.audit(points(), folder=tmp_path / "file")
    with pytest.raises(hardlook.HardlookError, match="folder: found int"):
        hardlook.open(3)
    audit = hardlook.audit(points(), folder=tmp_path / "audit")
    for ask in (audit.scores, audit.suspects, audit.slices, audit.score, audit.refit):
        with pytest.raises(hardlook.HardlookError, match=r"audit\.score\(model=net\)"):
            ask()
    with pytest.raises(hardlook.HardlookError, match="not read yet"):
        audit.corrected_labels()
    audit.score(quick=True, model=nn.Linear(4, 3))
    with pytest.raises(hardlook.HardlookError, match="n = 'a'"):
        audit.suspects("a")


OTHER = """
import hardlook, sys, time, torch
torch.manual_seed(1)
class Slow(torch.utils.data.Dataset):
    def __len__(self):
        return 24
    def __getitem__(self, row):
        print("reads", flush=True)
        time.sleep(float(sys.argv[2]))
        return torch.full((4,), float(row)), row % 3
hardlook.audit(Slow(), model=torch.nn.Linear(4, 3), folder=sys.argv[1])
"""


def test_two_notebooks_never_mix_in_one_folder(tmp_path):
    model = nn.Linear(4, 3)
    mine = hardlook.audit(points(), model=model, folder=tmp_path)
    with subprocess.Popen([sys.executable, "-c", OTHER, tmp_path, "0.05"], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "reads\n"
        with pytest.raises(hardlook.HardlookError, match="another notebook or script is computing the audit"):
            hardlook.audit(points(), model=model, folder=tmp_path)
        other.communicate(timeout=120)
    for ask in (mine.scores, mine.suspects, mine.corrected_labels, mine.score):
        with pytest.raises(hardlook.HardlookError, match="written anew since"):
            ask()
    again = hardlook.audit(points(), model=model, folder=tmp_path)
    assert np.allclose(again.scores()["p_label"], of_model(model, *points()), atol=1e-5)
