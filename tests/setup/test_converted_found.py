"""Checkpoints that fastai, Ultralytics and Composer wrote; each test needs its tool, and skips without it."""

import os
import pickle
import subprocess
import sys
from importlib.util import find_spec
from types import ModuleType

import pytest
import torch
from torch import nn
from torchvision import models as zoo

from scoring.models.checkpoint_facts import read_facts
from scoring.models.conversion import convert_checkpoint
from scoring.models.unpickling import StandIn
from tests.conftest import hardlook
from tests.manual import blocks

from .test_found_audit import last_model, settings

CROP = ("--transform", "{ mode = 'RGB', resize = 32, crop = 32 }")


def test_a_vision_learner_of_fastai_is_told_by_its_tensors(work, capsys):
    learner = pytest.importorskip("fastai.vision.learner")
    net = learner.create_vision_model(zoo.squeezenet1_1, 3, pretrained=False).eval()
    torch.save({"model": net.state_dict(), "opt": {}}, work / "saved.pth")
    assert hardlook("new", "my-audit", "--train", "images", "--checkpoints", "saved.pth", *CROP) == 0
    run = settings(work / "my-audit")["run"]["main"]
    assert run["model"] == "fastai:squeezenet1_1" and run["arguments"] == {"num_classes": 3}
    with last_model(work / "my-audit") as model, torch.no_grad():
        inputs = torch.randn(2, 3, 32, 32)
        assert torch.equal(model(inputs), net(inputs))


def test_a_sequence_of_sequences_of_ones_own_is_no_fastai(work, capsys):
    net = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3)), nn.Sequential(nn.Flatten(), nn.Linear(4, 3)))
    torch.save(net.state_dict(), work / "own.pth")
    assert hardlook("new", "a", "--train", "images", "--checkpoints", "own.pth") == 1
    assert "name the code that builds it" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore")
def test_a_classifier_of_ultralytics_is_converted_and_then_found_whole(work, capsys):
    tasks = pytest.importorskip("ultralytics.nn.tasks")
    augment = pytest.importorskip("ultralytics.data.augment")
    net = tasks.ClassificationModel("yolo11n-cls.yaml", nc=3, verbose=False).eval()
    net.names = {0: "cat", 1: "dog", 2: "eel"}
    content = {"epoch": -1, "model": net, "ema": None, "updates": None, "version": "8.4.190"}
    torch.save({**content, "train_args": {"task": "classify", "imgsz": 32}}, work / "best.pt")
    assert hardlook("new", "my-audit", "--train", "images", "--checkpoints", "best.pt") == 1
    assert hardlook("convert", "best.pt", "--trust") == 0
    assert hardlook("new", "my-audit", "--train", "images", "--checkpoints", "best.safetensors") == 0
    found = settings(work / "my-audit")
    run = found["run"]["main"]
    assert found["classes"] == ["cat", "dog", "eel"] and all(source["exif"] for source in found["data"])
    assert run["arguments"] == {"cfg": "yolo11n-cls.yaml", "nc": 3, "verbose": False}
    assert run["output"] == "logits" and run["output_item"] == 1
    inputs = torch.rand(2, 3, 32, 32)
    with last_model(work / "my-audit") as model, torch.no_grad():
        assert torch.equal(model(inputs)[1], net(inputs)[1])
    from scoring.models.transform_tables import gives_the_same

    assert gives_the_same(run["transform"], augment.classify_transforms(32))


KERAS = """
import sys, torch
sys.path.insert(0, ".")
from knet import net
model = net()
torch.save(model.state_dict(), "weights.pt")
inputs = torch.rand(2, 3, 32, 32)
torch.save((inputs, model(inputs).detach()), "known.pt")
"""
LOOK = """
import torch
from scoring.audit import Audit
from scoring.models import AuditedModel, find_checkpoints
inputs, want = torch.load("known.pt")
run = Audit.open("my-audit").run().config
found = find_checkpoints(run["checkpoints"], "my-audit")
audited = AuditedModel.build(run["model"], {}, "my-audit", checkpoints=found, device="cpu")
with audited.at(found[-1]) as model, torch.no_grad():
    assert torch.allclose(model(inputs), want, atol=1e-6)
"""


def test_keras_on_torch_works_as_the_manual_says(work, monkeypatch):
    pytest.importorskip("h5py")
    if find_spec("keras") is None:
        pytest.skip("keras is not installed")
    (block,) = [each for each in blocks("checkpoints", "python") if each.file == "knet.py"]
    (work / "knet.py").write_text(block.text)
    given = ("new", "my-audit", "--train", "images", "--checkpoints", "weights.pt", "--model", "knet.py:net")
    new = ("-m", "scoring.cli", *given, "--transform", "{ mode = 'RGB', resize = [32, 32] }")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    for command in (("-c", KERAS), new, ("-c", LOOK)):  # keras settles its backend once per process
        done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


# -- what a conversion keeps, without the tools ----------------------------------------------------------------------


@pytest.fixture
def pretended(monkeypatch):
    """Classes of modules that are not installed, to be pickled by name."""

    def make(module, name, **members):
        at = sys.modules.get(module) or ModuleType(module)
        monkeypatch.setitem(sys.modules, module, at)
        kind = type(name, (), {"__module__": module, **members})
        monkeypatch.setattr(at, name, kind, raising=False)
        return kind

    return make


def test_a_conversion_keeps_plain_hyper_parameters_and_names_the_objects_that_it_drops(tmp_path, pretended):
    loss, box = pretended("own_losses", "Focal")(), pretended("own_config", "AttributeDict")()
    loss.gamma = 2.0
    box.lr, box.widths = 0.1, (8, 16)
    state = {"state_dict": {"fc.weight": torch.ones(3, 2)}, "epoch": 4, "pytorch-lightning_version": "2.6"}
    torch.save({**state, "hyper_parameters": {"loss": loss, "options": box, "width": 5}}, tmp_path / "a.ckpt")
    facts = read_facts(convert_checkpoint(tmp_path / "a.ckpt", trust=True))
    assert facts.stated["hyper_parameters"] == {"options": {"lr": 0.1, "widths": [8, 16]}, "width": 5}
    assert facts.dropped == ("hyper_parameters.loss",)
    assert facts.stated["pytorch-lightning_version"] == "2.6"


def test_the_vocabulary_of_an_exported_learner_is_found_where_fastai_keeps_it(tmp_path):
    from scoring.models.described_pickles import described

    vocab, items = StandIn(), StandIn()
    vocab.__class__ = type("CategoryMap", (StandIn,), {})
    items.__class__ = type("L", (StandIn,), {})
    vars(items)["items"] = ["cat", "dog"]
    vars(vocab)["items"] = items
    step, learner = StandIn(), StandIn()
    vars(step)["vocab"] = vocab
    learner.__class__ = type("Learner", (StandIn,), {})
    vars(learner)["dls"] = [{"tfms": step}]
    assert described(learner)[0] == {"tool": "fastai", "vocab": ["cat", "dog"]}


def test_a_conversion_and_its_source_count_once(work, capsys):
    net = zoo.resnet18(num_classes=3)
    (work / "ckpts").mkdir()
    for epoch in (1, 2):
        with torch.no_grad():
            net.fc.bias += 1
        torch.save(net, work / "ckpts" / f"e{epoch}.pt")
    (work / "ckpts" / "latest.pt").symlink_to("e2.pt")
    assert hardlook("new", "my-audit", "--train", "images", "--checkpoints", "ckpts") == 1
    assert "or all of them: hardlook convert ckpts/*.pt --trust" in capsys.readouterr().err
    assert hardlook("convert", *(f"ckpts/{name}.pt" for name in ("e1", "e2", "latest")), "--trust") == 0
    assert hardlook("new", "my-audit", "--train", "images", "--checkpoints", "ckpts") == 0
    names = [path.rpartition("/")[2] for path in settings(work / "my-audit")["run"]["main"]["checkpoints"]]
    assert names == ["e1.safetensors", "e2.safetensors"]


def test_a_pickle_of_plain_values_only_is_described_too(tmp_path):
    with open(tmp_path / "a.pkl", "wb") as file:
        pickle.dump({"state_dict": {"w": torch.ones(2)}, "arch": "resnet18"}, file)
    assert read_facts(convert_checkpoint(tmp_path / "a.pkl", trust=True)).stated == {"arch": "resnet18"}
