"""The smallest audit that goes the whole way: 36 striped images, a network of 99 parameters, three checkpoints.

It is written in a few milliseconds (its checkpoints are trained once per process), so that each test of broken input
may have one of its own and run real commands on it.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

MODEL = """import numpy as np
import torch
from torch import nn


def net(classes=3):
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(2),
                         nn.Flatten(), nn.Linear(16, classes))


def transform(image):
    return torch.from_numpy(np.asarray(image.convert("L"), dtype=np.float32)[None] / 255)
"""
AUDIT = """format = 1
classes = ["a", "b", "c"]

[[data]]
split = "train"
path = "train"

[[data]]
split = "test"
path = "test"

[run.main]
model = "model.py:net"
transform = "model.py:transform"
checkpoints = "checkpoints/*.pt"
"""


def striped(number: int, seed: int) -> np.ndarray:
    """(8, 8) uint8: noise, with a bright stripe whose place is the class."""
    picture = np.random.default_rng(seed).integers(0, 60, (8, 8)).astype(np.uint8)
    picture[2 * number : 2 * number + 3] += 150
    return picture


def write_small_audit(root: Path) -> Path:
    """24 training and 12 test images in folders, the model's file, three checkpoints and audit.toml."""
    for split, count in (("train", 8), ("test", 4)):
        for number, name in enumerate("abc"):
            (root / split / name).mkdir(parents=True)
            for at in range(count):
                Image.fromarray(striped(number, 100 * number + at + (1000 if split == "test" else 0))).save(
                    root / split / name / f"{at}.png"
                )
    (root / "model.py").write_text(MODEL)
    (root / "audit.toml").write_text(AUDIT)
    (root / "checkpoints").mkdir()
    for epoch, state in enumerate(small_states(), 1):
        torch.save({"state_dict": state, "epoch": epoch}, root / "checkpoints" / f"epoch-{epoch}.pt")
    return root


@functools.cache
def small_states() -> tuple[dict[str, torch.Tensor], ...]:
    """The weights after 15, 30 and 45 steps."""
    scope: dict = {}
    exec(MODEL, scope)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net: nn.Module = scope["net"]()
    inputs = torch.stack(
        [torch.from_numpy(striped(c, 100 * c + i).astype(np.float32)[None] / 255) for c in range(3) for i in range(8)]
    )
    labels = torch.arange(3).repeat_interleave(8)
    descent = torch.optim.Adam(net.parameters(), 0.03)
    states = []
    for _ in range(3):
        for _ in range(15):
            descent.zero_grad()
            nn.functional.cross_entropy(net(inputs), labels).backward()
            descent.step()
        states.append({name: value.clone() for name, value in net.state_dict().items()})
    return tuple(states)


def spoil(folder, forward):
    """The same network and weights, behind a forward of its own."""
    text = (folder / "model.py").read_text()
    (folder / "model.py").write_text(
        text.replace("def net(", "def plain(")
        + f"""

class Spoilt(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = plain()

    def forward(self, x):
        {forward}


def net():
    return Spoilt()
"""
    )
