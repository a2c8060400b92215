"""Small models, their weights, and whether a file gives them back."""

import torch
from torch import nn

from scoring.models.loading import load_into
from scoring.models.weights import read_state_dict


def small_cnn(classes=3):
    """Convolutions and norms in two blocks, and a head."""

    def block(i, o):
        return nn.Sequential(nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU())

    model = nn.Sequential()
    model.block1, model.block2 = block(1, 4), block(4, 8)
    model.pool, model.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), nn.Linear(8, classes)
    return model


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


class Wrapped(nn.Module):
    """A model whose own names begin with ``model.``."""

    def __init__(self, seed=0):
        super().__init__()
        self.model = Net(seed=seed)


def state(seed=0, classes=3):
    return Net(classes, seed).state_dict()


def equal(model, other):
    mine, theirs = model.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(
        torch.equal(value, theirs[name]) for name, value in mine.items()
    )


def loads(path, expected, model=None, **options):
    """Whether the file gives exactly the expected model, and what it had to say."""
    model = model or Net(seed=99)
    notes = load_into(model, read_state_dict(path, **options), **options)
    assert equal(model, expected)
    return notes


def write(folder, **files):
    """Python files of these names and texts in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    return folder


class Settings:
    """Hyperparameters of a class of the user's own."""

    def __init__(self):
        self.lr = 0.1
