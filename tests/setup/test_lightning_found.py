"""Checkpoints that Lightning's Trainer and its command line wrote; its own ``load_from_checkpoint`` is the oracle."""

import sys

import pytest
import torch

from tests.conftest import hardlook

from .test_found_audit import last_model, settings

lightning = pytest.importorskip("lightning.pytorch")
from lightning.pytorch.callbacks import ModelCheckpoint  # noqa: E402  after the check that it is there

CODE = """import lightning.pytorch as lightning
import torch
from torch import nn
from torch.nn.functional import cross_entropy


class LitNet(lightning.LightningModule):
    def __init__(self, width: int, classes: int = 10, lr: float = 1e-3, note: str | None = None, head=None):
        super().__init__()
        self.save_hyperparameters(ignore=["head"])
        self.net = nn.Sequential(nn.Conv2d(3, width, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                                 nn.Linear(width, classes))

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, number):
        return cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.hparams.get("lr", 0.1))


class ByConfig(lightning.LightningModule):
    training_step, configure_optimizers = LitNet.training_step, LitNet.configure_optimizers

    def __init__(self, config):
        super().__init__()
        self.save_hyperparameters(config)
        self.net = nn.Linear(3 * config["side"] ** 2, config["classes"])

    def forward(self, x):
        return self.net(x.flatten(1))


class Needy(LitNet):
    def __init__(self, backbone, classes=3):
        lightning.LightningModule.__init__(self)
        self.save_hyperparameters(ignore=["backbone"])
        self.net = backbone


class Encoder(LitNet):
    def forward(self, x):
        return self.net[:-1](x)
"""
TRANSFORM = ("--transform", "{ mode = 'RGB', resize = [32, 32] }")


@pytest.fixture
def code(work, monkeypatch):
    """``train.py`` in the working directory, imported once; forgotten afterwards."""
    (work / "train.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(work))
    sys.modules.pop("train", None)
    import train

    yield train
    sys.modules.pop("train", None)


def fit(module, folder, epochs=2):
    """Train on noise; checkpoints of every epoch and ``last.ckpt`` go to ``folder``."""
    data = torch.utils.data.TensorDataset(torch.randn(8, 3, 32, 32), torch.arange(8) % 3)
    keep = ModelCheckpoint(folder, save_top_k=-1, save_last=True)
    lightning.Trainer(
        max_epochs=epochs,
        callbacks=[keep],
        logger=False,
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(module, torch.utils.data.DataLoader(data, batch_size=4, num_workers=0))


@pytest.mark.filterwarnings("ignore")
def test_class_and_checkpoints_are_enough_hyper_parameters_are_in_them(code, work, capsys):
    fit(code.LitNet(width=5, classes=3, lr=0.5), "ckpts")
    given = ("--train", "images", "--checkpoints", "ckpts", "--model", "train:LitNet")
    assert hardlook("new", "my-audit", *given, *TRANSFORM) == 0
    run = settings(work / "my-audit")["run"]["main"]
    assert run["model"] == "../train.py:LitNet" and run["arguments"] == {"width": 5, "classes": 3, "lr": 0.5}
    assert [path.rpartition("/")[2] for path in run["checkpoints"]] == ["epoch=0-step=2.ckpt", "epoch=1-step=4.ckpt"]
    assert "last.ckpt is left out: it holds the weights of epoch=1-step=4.ckpt again" in capsys.readouterr().out
    want = code.LitNet.load_from_checkpoint("ckpts/last.ckpt", map_location="cpu").eval()
    with last_model(work / "my-audit") as model, torch.no_grad():
        inputs = torch.randn(3, 3, 32, 32)
        assert torch.equal(model(inputs), want(inputs))


@pytest.mark.filterwarnings("ignore")
def test_hyper_parameters_under_one_name_are_that_argument(code, work):
    fit(code.ByConfig({"side": 32, "classes": 3}), "ckpts", 1)
    given = ("--train", "images", "--checkpoints", "ckpts", "--model", "train.py:ByConfig")
    assert hardlook("new", "my-audit", *given, *TRANSFORM) == 0
    assert settings(work / "my-audit")["run"]["main"]["arguments"] == {"config": {"side": 32, "classes": 3}}


@pytest.mark.filterwarnings("ignore")
def test_an_argument_that_was_not_saved_is_a_question(code, work, capsys):
    fit(code.Needy(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, 3))), "ckpts", 1)
    given = ("--train", "images", "--checkpoints", "ckpts", "--model", "train.py:Needy")
    assert hardlook("new", "my-audit", *given, *TRANSFORM) == 0
    shown = capsys.readouterr().out
    assert "the class needs the argument backbone, which is not among its hyper-parameters" in shown
    assert "first look" not in shown and '# backbone = ""' in (work / "my-audit" / "audit.toml").read_text()


@pytest.mark.filterwarnings("ignore")
def test_without_a_class_the_file_says_which_hyper_parameters_it_has(code, work, capsys):
    fit(code.LitNet(width=5, classes=3), "ckpts", 1)
    assert hardlook("new", "my-audit", "--train", "images", "--checkpoints", "ckpts") == 0
    shown = capsys.readouterr().out
    assert "its hyper-parameters: width, classes, lr, note" in shown
    assert "name it with --model train.py:LitClass" in shown


@pytest.mark.filterwarnings("ignore")
def test_a_wrong_name_of_the_class_is_refused_with_the_close_one(code, work, capsys):
    fit(code.LitNet(width=5, classes=3), "ckpts", 1)
    given = ("--train", "images", "--checkpoints", "ckpts", "--model", "train.py:LitNett")
    assert hardlook("new", "a", *given) == 1
    assert "did you mean LitNet" in capsys.readouterr().err
    assert hardlook("new", "a", *given[:-1], "trian.py:LitNet") == 1
    assert "there is no file trian.py; did you mean train.py?" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore")
def test_the_command_line_of_lightning_keeps_the_class_too(code, work):
    state = code.LitNet(width=5, classes=3)
    saved = {
        "pytorch-lightning_version": lightning.__version__,
        "state_dict": state.state_dict(),
        "epoch": 0,
        "global_step": 1,
        "hyper_parameters": {
            "_class_path": "train.LitNet",
            "_instantiator": "lightning.pytorch.cli.instantiate_module",
            "width": 5,
            "classes": 3,
        },
    }
    torch.save(saved, work / "cli.ckpt")
    assert hardlook("new", "my-audit", "--train", "images", "--checkpoints", "cli.ckpt", *TRANSFORM) == 0
    run = settings(work / "my-audit")["run"]["main"]
    assert run["model"] == "../train.py:LitNet" and run["arguments"] == {"width": 5, "classes": 3}


@pytest.mark.filterwarnings("ignore")
def test_a_forward_pass_that_gives_features_is_told_so(code, work, capsys):
    fit(code.Encoder(5, 3), "out", 1)
    given = ("--train", "images", "--checkpoints", "out", "--model", "train.py:Encoder", *TRANSFORM)
    assert hardlook("new", "my-audit", *given) == 1
    told = capsys.readouterr().err
    assert "the model gives 5 logits" in told and "name code whose forward pass gives the logits" in told
