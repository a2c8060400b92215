"""`hardlook new` on what a training left: the file that it writes is opened, and its model is run."""

import tomllib

import pytest
import torch
from PIL import Image
from torch import nn
from torchvision import models as zoo
from torchvision.datasets import ImageFolder

from scoring.audit import Audit, check_config
from scoring.audit.errors import HardlookError
from scoring.models import AuditedModel, find_checkpoints
from scoring.setup.first_look import first_look
from tests.conftest import hardlook


def settings(folder):
    return check_config(tomllib.loads((folder / "audit.toml").read_text()))


def last_model(folder):
    """The model of an audit with the weights of its last checkpoint."""
    audit = Audit.open(folder)
    run = audit.run().config
    found = find_checkpoints(run["checkpoints"], audit.root)
    model = AuditedModel.build(run["model"], run.get("arguments"), audit.root, checkpoints=found, device="cpu")
    return model.at(found[-1])


def test_one_pth_of_a_torchvision_model_needs_the_data_and_the_file_alone(work, capsys):
    net = zoo.resnet18(num_classes=3)
    torch.save({"model_state_dict": net.state_dict(), "epoch": 10, "optimizer": {}}, work / "final.pth")
    assert hardlook("new", "my-audit", "--train", "images", "--checkpoints", "final.pth") == 0
    found = settings(work / "my-audit")
    assert found["classes"] == ["cat", "dog", "eel"]
    assert [(source["split"], source["path"]) for source in found["data"]] == [
        ("train", "../images/train"),
        ("test", "../images/test"),
    ]
    assert found["run"]["main"]["model"] == "resnet18" and found["run"]["main"]["arguments"] == {"num_classes": 3}
    transform = {"mode": "RGB", "resize": 256, "crop": 224, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    assert found["run"]["main"]["transform"] == transform
    text = (work / "my-audit" / "audit.toml").read_text()
    assert 'checkpoints = "../final.pth"    # read from its key model_state_dict, epoch 10' in text
    shown = capsys.readouterr().out
    assert "12 examples of the test split went through the model: accuracy" in shown
    assert "VoG, AUM, the data map and forgetting need those of several epochs" in shown
    assert "to decide: transform: that of the published weights of resnet18 is written" in shown
    assert "next: hardlook score my-audit" in shown


def test_a_pickled_model_is_converted_first_and_nothing_is_written_until_then(work, capsys):
    torch.save(zoo.resnet18(num_classes=3), work / "whole.pth")
    assert hardlook("new", "my-audit", "--train", "images", "--checkpoints", "whole.pth") == 1
    told = capsys.readouterr().err
    assert "hardlook convert whole.pth --trust" in told and "--checkpoints whole.safetensors" in told
    assert not (work / "my-audit").exists()
    assert hardlook("convert", "whole.pth", "--trust") == 0
    assert hardlook("new", "my-audit", "--train", "images", "--checkpoints", "whole.safetensors") == 0
    assert settings(work / "my-audit")["run"]["main"]["model"] == "resnet18"


def test_weights_of_another_architecture_are_refused_before_anything_is_written(work, capsys):
    torch.save(zoo.resnet34(num_classes=3).state_dict(), work / "other.pth")
    assert hardlook("new", "a", "--train", "images", "--checkpoints", "other.pth", "--model", "resnet18") == 1
    assert "keys that the model does not have" in capsys.readouterr().err
    assert not (work / "a").exists()


def test_a_state_dict_that_fits_nothing_names_the_body_it_holds_and_asks_for_its_code(work, capsys):
    net = zoo.resnet18()
    net.fc = nn.Sequential(nn.Dropout(), nn.Linear(512, 3))
    torch.save(net.state_dict(), work / "tuned.pth")
    assert hardlook("new", "a", "--train", "images", "--checkpoints", "tuned.pth") == 1
    told = capsys.readouterr().err
    assert "its layers, but for the head, are those of resnet18" in told and "--model file.py:callable" in told


MODEL = """from torch import nn


def net(width, num_classes=10):
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes))
"""


def test_code_of_ones_own_is_called_with_the_width_of_the_head_and_asks_for_the_rest(work, capsys):
    (work / "train.py").write_text(MODEL)
    scope: dict = {}
    exec(MODEL, scope)
    for epoch in (1, 2):
        torch.save(scope["net"](4, 3).state_dict(), work / f"e{epoch}.pt")
    given = ("new", "my-audit", "--train", "images", "--checkpoints", "e*.pt", "--model", "train.py:net")
    assert hardlook(*given, "--transform", "{ mode = 'RGB', resize = [32, 32] }") == 0
    text = (work / "my-audit" / "audit.toml").read_text()
    assert 'model = "../train.py:net"' in text and '# width = ""' in text and "num_classes = 3" in text
    assert 'checkpoints = "../e*.pt"' in text and "transform" not in capsys.readouterr().out.partition("wrote")[0]
    filled = text.replace('# width = ""', "width = 4")
    (work / "my-audit" / "audit.toml").write_text(filled)
    with last_model(work / "my-audit") as module:
        assert torch.equal(module[0].weight, torch.load(work / "e2.pt")["0.weight"])


def test_a_model_without_checkpoints_is_one_to_be_trained(work, capsys):
    (work / "train.py").write_text(MODEL.replace("net(width,", "net(width=4,"))
    given = ("--train", "images", "--model", "train.py:net", "--transform", "{ mode = 'RGB', resize = [32, 32] }")
    assert hardlook("new", "my-audit", *given) == 0
    run = settings(work / "my-audit")["run"]["main"]
    assert run["arguments"] == {"num_classes": 3} and "checkpoints" not in run
    assert "next: hardlook train my-audit" in capsys.readouterr().out
    assert hardlook("train", "my-audit", "--device", "cpu") == 0
    assert len(list((work / "my-audit" / "checkpoints" / "main").glob("*.pt"))) > 1


def test_identical_weights_are_left_out_with_a_word_and_the_numbered_file_stays(work, capsys):
    state = zoo.resnet18(num_classes=3).state_dict()
    torch.save({"state_dict": zoo.resnet18(num_classes=3).state_dict(), "epoch": 1}, work / "epoch_1.pt")
    for name in ("best.pt", "epoch_2.pt", "last.pt"):
        torch.save({"state_dict": state, "epoch": 2}, work / name)
    assert hardlook("new", "my-audit", "--train", "images", "--checkpoints", "*.pt") == 0
    assert settings(work / "my-audit")["run"]["main"]["checkpoints"] == ["../epoch_1.pt", "../epoch_2.pt"]
    shown = capsys.readouterr().out
    assert "last.pt is left out: it holds the weights of epoch_2.pt again" in shown
    assert "best.pt is left out" in shown


def test_a_number_of_classes_that_is_not_that_of_the_outputs_is_a_question(work, capsys):
    torch.save(zoo.resnet18(num_classes=4).state_dict(), work / "four.pth")
    assert hardlook("new", "my-audit", "--train", "images", "--checkpoints", "four.pth") == 0
    text = (work / "my-audit" / "audit.toml").read_text()
    assert '# classes = ["cat", "dog", "eel"]' in text
    shown = capsys.readouterr().out
    assert "the data has 3 classes and the model 4 outputs" in shown and "next: write what is to decide" in shown
    assert hardlook("new", "other", "--train", "images", "--checkpoints", "four.pth", "--classes", "cat,dog,eel") == 1
    assert "--classes names 3 classes, and the model has 4 outputs" in capsys.readouterr().err
    named = ("--classes", "eel,cat,ant,dog")
    assert hardlook("new", "other", "--train", "images", "--checkpoints", "four.pth", *named) == 0
    assert settings(work / "other")["classes"] == ["eel", "cat", "ant", "dog"]


@pytest.mark.parametrize(
    "given, told",
    [
        (("--train", "nowhere"), "--train nowhere: there is nothing there; . holds empty, images, notes.txt"),
        (("--train", "empty"), "the folder is empty"),
        (("--model", "resnet18"), "--model alone describes no audit; name its data too"),
        (("--train", "images", "--model", "resnet81"), "is not a torchvision model; did you mean resnet18"),
        (("--train", "images", "--checkpoints", "no/*.pt"), "nothing is there"),
        (("--train", "images", "--checkpoints", "notes.txt"), "is not a checkpoint: it is a text file"),
        (("--train", "images", "--sample", "digits"), "--sample copies a project of its own"),
        (("--train", "images", "--classes", "a,a"), "'a' twice"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing_behind(work, capsys, given, told):
    (work / "empty").mkdir()
    (work / "notes.txt").write_text("to do")
    assert hardlook("new", "a", *given) == 1
    shown = capsys.readouterr().err
    assert told in shown and shown.count("\n") == 1
    assert not (work / "a").exists()


def test_images_without_class_folders_go_to_the_pool_with_a_word(work, capsys):
    assert hardlook("new", "a", "--train", "images/train/cat") == 0
    text = (work / "a" / "audit.toml").read_text()
    assert 'split = "pool"    # no class folders: unlabelled examples' in text
    assert "so its examples are in the pool" in capsys.readouterr().out


def test_a_first_look_that_is_no_better_than_chance_says_so(work, capsys):
    torch.save(zoo.resnet18(num_classes=3).state_dict(), work / "untrained.pth")
    assert hardlook("new", "a", "--train", "images", "--checkpoints", "untrained.pth") == 0
    assert "little more than naming one class always" in capsys.readouterr().out


STATED = [
    {"class_to_idx": {"eel": 0, "cat": 1, "dog": 2}},
    {"classes": ["eel", "cat", "dog"]},
    {"class_names": ("eel", "cat", "dog")},
    {"idx_to_class": {0: "eel", 2: "dog", 1: "cat"}},
    {"id2label": {"1": "cat", "0": "eel", "2": "dog"}},
    {"hyper_parameters": {"classes": ["eel", "cat", "dog"]}},
    {"meta": {"dataset_meta": {"classes": ("eel", "cat", "dog")}}},
    {"classes": ["eel", "cat", "dog"], "labels": ["x", "y"], "config": {"classes": 3, "class_names": None}},
]


@pytest.mark.parametrize("stated", STATED, ids=[str(number) for number in range(len(STATED))])
def test_the_classes_that_a_checkpoint_states_are_in_its_order(work, capsys, stated):
    torch.save({"model": zoo.resnet18(num_classes=3).state_dict(), **stated}, work / "final.pth")
    assert hardlook("new", "my-audit", "--train", "images", "--checkpoints", "final.pth") == 0
    assert settings(work / "my-audit")["classes"] == ["eel", "cat", "dog"]
    assert "(eel, cat, dog), from " in capsys.readouterr().out


def test_two_stated_orders_are_refused_and_the_command_may_name_one(work, capsys):
    stated = {"classes": ["eel", "cat", "dog"], "class_to_idx": {"cat": 0, "dog": 1, "eel": 2}}
    torch.save({"model": zoo.resnet18(num_classes=3).state_dict(), **stated}, work / "final.pth")
    given = ("--train", "images", "--checkpoints", "final.pth")
    assert hardlook("new", "my-audit", *given) == 1
    assert "states two orders of its classes" in capsys.readouterr().err
    assert hardlook("new", "my-audit", *given, "--classes", "dog,eel,cat") == 0
    assert settings(work / "my-audit")["classes"] == ["dog", "eel", "cat"]
    assert "as named by --classes; class_to_idx in final.pth says cat, dog, eel" in capsys.readouterr().out


@pytest.mark.parametrize("stated", [["cat", "dog"], {"cat": 1, "dog": 2, "eel": 3}, {"cat": 0, "dog": 0, "eel": 1}])
def test_what_states_no_order_of_the_outputs_leaves_that_of_the_data(work, stated):
    torch.save({"model": zoo.resnet18(num_classes=3).state_dict(), "class_to_idx": stated}, work / "final.pth")
    assert hardlook("new", "my-audit", "--train", "images", "--checkpoints", "final.pth") == 0
    assert settings(work / "my-audit")["classes"] == ["cat", "dog", "eel"]


COLOURS = """
import torch
from PIL import Image
from torchvision.transforms import v2

scaled = v2.Compose([v2.Resize((16, 16)), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])

def net(channels=3, num_classes=3):
    return torch.nn.Sequential(torch.nn.Conv2d(channels, 4, 3), torch.nn.Flatten(), torch.nn.Linear(784, num_classes))
"""


def test_a_transform_that_is_code_gets_images_as_image_folder_gives_them(work, capsys):
    (work / "train.py").write_text(COLOURS)
    scope: dict = {}
    exec(COLOURS, scope)
    for at, mode in enumerate(("L", "P", "RGBA")):
        path = work / "images" / "test" / "cat" / f"{at}.png"
        Image.open(path).convert(mode).save(path)
    net = scope["net"]()
    torch.save(net.state_dict(), work / "net.pth")
    given = ("--train", "images", "--checkpoints", "net.pth", "--model", "train.py:net")
    assert hardlook("new", "my-audit", *given, "--transform", "train.py:scaled") == 0
    assert [table["mode"] for table in settings(work / "my-audit")["data"]] == ["RGB", "RGB"]
    data = ImageFolder(work / "images" / "test", scope["scaled"])
    right = sum(int(net(item[None]).argmax()) == label for item, label in data)
    assert f"accuracy {right / len(data):.1%} on the {len(data)} with a label" in capsys.readouterr().out
    assert hardlook("new", "tables", *given, "--transform", "{ mode = 'RGB', resize = [16, 16] }") == 0
    assert not any("mode" in table for table in settings(work / "tables")["data"])
    text = (work / "my-audit" / "audit.toml").read_text()
    (work / "my-audit" / "audit.toml").write_text("\n".join(each for each in text.splitlines() if "mode" not in each))
    with pytest.raises(HardlookError, match=r'\(1, 16, 16\).*write mode = "RGB" in the \[\[data\]\] table'):
        first_look(Audit.open(work / "my-audit"))


def test_a_model_of_one_channel_keeps_grey_images_as_they_are(work):
    (work / "train.py").write_text(COLOURS.replace("channels=3", "channels=1"))
    scope: dict = {}
    exec(COLOURS, scope)
    torch.save(scope["net"](1).state_dict(), work / "net.pth")
    for path in (work / "images").glob("*/*/*.png"):
        Image.open(path).convert("L").save(path)
    given = ("--train", "images", "--checkpoints", "net.pth", "--model", "train.py:net")
    assert hardlook("new", "my-audit", *given, "--transform", "train.py:scaled") == 0
    assert not any("mode" in table for table in settings(work / "my-audit")["data"])


@pytest.mark.parametrize("outputs, known", [(7, True), (12, False)])
def test_numbered_folders_of_fewer_classes_than_outputs(work, capsys, outputs, known):
    for number, name in enumerate(("cat", "dog", "eel")):
        (work / "images" / "train" / name).rename(work / "images" / "train" / str(number))
    torch.save(zoo.resnet18(num_classes=outputs).state_dict(), work / "net.pth")
    assert hardlook("new", "my-audit", "--train", "images/train", "--checkpoints", "net.pth") == 0
    names = [str(number) for number in range(outputs)]  # ImageFolder sorts them so up to ten: then 10 is before 2
    assert settings(work / "my-audit").get("classes") == (names if known else None)
    assert ("write all 12 names" in capsys.readouterr().out) != known


TWO_HEADS = """
import torch

class Net(torch.nn.Module):
    def __init__(self, width, num_classes=3):
        super().__init__()
        self.body = torch.nn.Sequential(torch.nn.Conv2d(3, width, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
        self.main, self.helper = torch.nn.Linear(width, num_classes), torch.nn.Linear(width, 2)

    def forward(self, inputs):
        features = self.body(inputs)
        return {"logits": self.main(features), "helper": self.helper(features)}
"""


def test_arguments_that_no_file_states_are_named(work, capsys):
    (work / "train.py").write_text(TWO_HEADS)
    scope: dict = {}
    exec(TWO_HEADS, scope)
    torch.save(scope["Net"](5).state_dict(), work / "net.pth")
    given = ("--train", "images", "--checkpoints", "net.pth", "--model", "train.py:Net")
    given = (*given, "--transform", "{ mode = 'RGB', resize = [16, 16] }")
    assert hardlook("new", "my-audit", *given, "--arguments", "{ width = 5 }") == 1  # the helper's outputs are the last
    assert "--arguments '{ width = 8 }' names what ../train.py:Net is called with" in capsys.readouterr().err
    assert hardlook("new", "my-audit", *given, "--arguments", "{ width = 5, num_classes = 3 }") == 0
    assert settings(work / "my-audit")["run"]["main"]["arguments"] == {"width": 5, "num_classes": 3}
    shown = capsys.readouterr().out
    assert "to decide" not in shown and "first look: 12 examples" in shown
    assert hardlook("new", "other", *given, "--arguments", "width = 5") == 1
    assert "is no table of TOML" in capsys.readouterr().err
