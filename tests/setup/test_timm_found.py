"""Checkpoints of timm: what its own CheckpointSaver and train.py write, and the transform that it makes itself."""

import argparse

import numpy as np
import pytest
import torch
from PIL import Image

from scoring.models import load_transform
from tests.conftest import hardlook

from .conftest import write_images
from .test_found_audit import last_model, settings

timm = pytest.importorskip("timm")
yaml = pytest.importorskip("yaml")

OPTIONS = {
    "model": "resnet10t",
    "num_classes": 3,
    "img_size": None,
    "input_size": [3, 64, 64],
    "crop_pct": 0.8,
    "mean": [0.4, 0.5, 0.6],
    "std": None,
    "interpolation": "bicubic",
    "class_map": "",
    "in_chans": None,
    "gp": None,
    "model_kwargs": {},
}


@pytest.fixture
def training(work):
    """``out`` as timm's saver leaves it after two epochs, with ``args.yaml``; its net."""
    net = timm.create_model("resnet10t", num_classes=3)
    (work / "out").mkdir()
    saver = timm.utils.CheckpointSaver(
        net,
        torch.optim.SGD(net.parameters(), 0.1),
        argparse.Namespace(**OPTIONS),
        checkpoint_dir="out",
        recovery_dir="out",
    )
    for epoch in (0, 1):
        with torch.no_grad():
            net.fc.bias += 0.1
        saver.save_checkpoint(epoch, metric=epoch)
    (work / "out" / "args.yaml").write_text(yaml.safe_dump(OPTIONS))
    return net.eval()


def test_the_folder_of_train_py_is_enough(training, work, capsys):
    assert hardlook("new", "my-audit", "--train", "images", "--checkpoints", "out") == 0
    run = settings(work / "my-audit")["run"]["main"]
    assert run["model"] == "timm:resnet10t" and run["arguments"] == {"num_classes": 3}
    assert [path.rpartition("/")[2] for path in run["checkpoints"]] == ["checkpoint-0.pth.tar", "checkpoint-1.pth.tar"]
    shown = capsys.readouterr().out
    assert "last.pth.tar is left out" in shown and "model_best.pth.tar is left out" in shown
    with last_model(work / "my-audit") as model, torch.no_grad():
        inputs = torch.randn(2, 3, 64, 64)
        assert torch.equal(model(inputs), training(inputs))


@pytest.mark.parametrize("beside", [True, False])
def test_the_transform_is_the_one_that_timm_evaluates_with_bit_for_bit(training, work, beside):
    if not beside:
        (work / "out" / "args.yaml").unlink()
    assert hardlook("new", "my-audit", "--train", "images", "--checkpoints", "out") == 0
    table = settings(work / "my-audit")["run"]["main"]["transform"]
    assert table["interpolation"] == "bicubic" and table["resize"] == 80 and table["crop"] == 64
    data = timm.data.resolve_data_config(OPTIONS, model=training)
    theirs = timm.data.create_transform(**data, is_training=False)
    ours = load_transform(table, work / "my-audit")
    for seed, size in enumerate([(90, 130), (64, 64), (301, 77)]):
        image = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8))
        assert torch.equal(ours(image), theirs(image))


@pytest.mark.parametrize(
    "names", [("a10", "a2", "a1"), ("Zebra", "ant", "Bee"), ("cat", "10", "9"), ("b2", "B10", "_")]
)
def test_classes_are_in_the_order_in_which_timm_sorts_folders(training, work, names):
    write_images(work / "named", {"train": 2, "test": 2}, names)
    assert hardlook("new", "my-audit", "--train", "named", "--checkpoints", "out") == 0
    reader = timm.data.readers.reader_image_folder.ReaderImageFolder("named/train")
    assert settings(work / "my-audit")["classes"] == list(reader.class_to_idx) != sorted(names)


def test_a_training_that_read_its_images_by_another_library_has_the_order_of_that_one(training, work):
    write_images(work / "named", {"train": 2, "test": 2}, ("Zebra", "ant", "Bee"))
    (work / "out" / "args.yaml").write_text(yaml.safe_dump({**OPTIONS, "dataset": "torch/image_folder"}))
    assert hardlook("new", "my-audit", "--train", "named", "--checkpoints", "out") == 0
    theirs = timm.data.create_dataset("torch/image_folder", root="named", split="train")
    assert settings(work / "my-audit")["classes"] == theirs.classes == ["Bee", "Zebra", "ant"]


def test_a_class_map_settles_the_order_and_one_that_is_gone_is_a_question(training, work, capsys):
    (work / "out" / "map.txt").write_text("eel\ncat\ndog\n")
    (work / "out" / "args.yaml").write_text(yaml.safe_dump({**OPTIONS, "class_map": "map.txt"}))
    assert hardlook("new", "my-audit", "--train", "images", "--checkpoints", "out") == 0
    assert settings(work / "my-audit")["classes"] == ["eel", "cat", "dog"]
    (work / "out" / "map.txt").unlink()
    assert hardlook("new", "other", "--train", "images", "--checkpoints", "out") == 0
    assert "the training had the class map map.txt, which cannot be read here" in capsys.readouterr().out


def test_a_state_dict_of_timm_is_told_by_its_names_and_shapes(work, capsys):
    torch.save(timm.create_model("convnext_atto", num_classes=3).state_dict(), work / "net.pth")
    assert hardlook("new", "my-audit", "--train", "images", "--checkpoints", "net.pth") == 0
    run = settings(work / "my-audit")["run"]["main"]
    assert run["model"] == "timm:convnext_atto" and run["arguments"] == {"num_classes": 3}
    assert "to decide: transform: that of the published weights of timm:convnext_atto" in capsys.readouterr().out


def test_several_architectures_of_the_same_tensors_are_named_and_none_is_taken(work, capsys):
    torch.save(timm.create_model("mobilenetv3_small_100", num_classes=3).state_dict(), work / "net.pth")
    assert hardlook("new", "a", "--train", "images", "--checkpoints", "net.pth") == 1
    told = capsys.readouterr().err
    assert "timm:mobilenetv3_small_100, timm:tf_mobilenetv3_small_100" in told and "may compute differently" in told
    named = ("--model", "timm:tf_mobilenetv3_small_100")
    assert hardlook("new", "a", "--train", "images", "--checkpoints", "net.pth", *named) == 0


def test_a_name_that_timm_does_not_have_is_refused_with_close_ones(training, work, capsys):
    assert hardlook("new", "a", "--train", "images", "--checkpoints", "out", "--model", "timm:resnet10") == 1
    assert "timm has no model 'resnet10'" in capsys.readouterr().err
