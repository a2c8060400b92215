"""The check names the mistake that would have spoiled every number."""

import numpy as np
import pytest
import torch

from scoring.audit import Audit
from scoring.audit.errors import HardlookError
from scoring.audit.storage import read_json
from scoring.data.ingest import ingest
from scoring.pipeline.check import check_run, refuse_errors, tile
from scoring.pipeline.shards import Context

MODEL = '''
import torch
from torch import nn

class ByColour(nn.Module):
    """The class whose colour is nearest, after ImageNet's normalisation."""
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4))
    def forward(self, x):
        mean = torch.tensor([0.485, 0.456, 0.406]); std = torch.tensor([0.229, 0.224, 0.225])
        value = x.mean((2, 3)) * std + mean            # the normalised input back to 0…1
        return -((value.unsqueeze(1) - CENTRES) ** 2).sum(-1) * 40 * self.scale

CENTRES = torch.tensor([[0.7, 0.5, 0.3], [0.3, 0.7, 0.5], [0.2, 0.2, 0.4], [0.95, 0.2, 0.0]])  # the last: no example

def net():
    return ByColour()

def to_unit(image):
    import numpy as np
    return torch.from_numpy(np.asarray(image, dtype="float32") / 255).permute(2, 0, 1)

def normalised(x):
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return (x - mean.reshape(3, 1, 1)) / deviation.reshape(3, 1, 1)

def right(image): return normalised(to_unit(image))
def bgr(image): return right(image).flip(0)
def no_255(image): return normalised(to_unit(image) * 255)
def unnormalised(image): return to_unit(image)
def twice(image): return normalised(right(image))
def jitter(image): return right(image) + torch.randn(1) * 0.01
def nan(image): return right(image) * float("nan")
def raw(image): return to_unit(image) * 255
'''

TOML = """
format = 1
classes = ["red", "green", "dark", "none"]
[[data]]
split = "test"
path = "data.npz"
inputs = "images"
labels = "labels"
[run.main]
model = "model.py:net"
transform = "model.py:{transform}"
checkpoints = "*.pt"
expected_accuracy = 0.95
"""


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    """120 small images of three colours."""
    folder = tmp_path_factory.mktemp("colours")
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 120)
    centres = np.array([[0.7, 0.5, 0.3], [0.3, 0.7, 0.5], [0.2, 0.2, 0.4]])
    images = centres[labels][:, None, None] + rng.normal(0, 0.03, (120, 4, 4, 3))
    np.savez(folder / "data.npz", images=(images.clip(0, 1) * 255).astype(np.uint8), labels=labels)
    (folder / "model.py").write_text(MODEL)
    torch.save({"scale": torch.ones(4)}, folder / "a.pt")
    return folder


def findings(folder, transform, classes=None):
    text = TOML.format(transform=transform)
    if classes:
        text = text.replace('["red", "green", "dark", "none"]', classes)
    (folder / "audit.toml").write_text(text)
    audit = Audit.open(folder)
    ingest(audit)
    return check_run(Context(audit, audit.run(), device="cpu"))


def test_a_sound_run_passes_and_its_inputs_are_kept_as_a_picture(colours):
    found = findings(colours, "right")
    assert {finding.level for finding in found} == {"ok"}
    refuse_errors(found)
    run = Audit.open(colours).run()
    assert run.check_picture.stat().st_size > 200
    assert read_json(run.check_path)["examples"] == 120


@pytest.mark.parametrize(
    ("transform", "named"),
    [
        ("bgr", "BGR instead of RGB"),
        ("no_255", "the division by 255 is missing before the normalisation \\(ImageNet's\\)"),
        ("unnormalised", "normalisation is missing \\(ImageNet's\\)"),
        ("twice", "normalisation is applied but was not used in training \\(ImageNet's\\)"),
        ("raw", "/255 and normalisation are missing \\(ImageNet's\\)"),
    ],
)
def test_each_usual_mistake_is_named(colours, transform, named):
    with pytest.raises(HardlookError, match=named):
        refuse_errors(findings(colours, transform))


def test_permuted_classes_are_named(colours):
    with pytest.raises(HardlookError, match="classes are permuted"):
        rotated = findings_with_rotated_labels(colours)
        refuse_errors(rotated)


def findings_with_rotated_labels(colours):
    """The same data with labels 0, 1, 2 meaning other outputs of the model."""
    kept = (colours / "data.npz").read_bytes()
    data = dict(np.load(colours / "data.npz"))
    np.savez(colours / "data.npz", images=data["images"], labels=(data["labels"] + 1) % 3)
    try:
        return findings(colours, "right")
    finally:
        (colours / "data.npz").write_bytes(kept)


def test_random_augmentation_is_refused(colours):
    with pytest.raises(HardlookError, match="differs between two reads.*augments at random"):
        refuse_errors(findings(colours, "jitter"))


def test_inputs_that_are_not_finite_are_refused(colours):
    with pytest.raises(HardlookError, match="inputs of 120 of 120 examples contain NaN"):
        refuse_errors(findings(colours, "nan"))


def test_a_small_input_is_enlarged_without_blur():
    picture = tile(torch.tensor([[[0.0, 1.0], [1.0, 0.0]]]), least=8)
    assert picture.size == (8, 8)
    assert set(picture.convert("L").tobytes()) == {0, 255}


def test_a_text_model_that_attends_to_padding_is_warned_of():
    from types import SimpleNamespace

    from scoring.models import AuditedModel
    from scoring.pipeline.check import padding_attention

    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    net = transformers.BertForSequenceClassification(
        transformers.BertConfig(
            vocab_size=30,
            hidden_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=8,
            num_labels=3,
            initializer_range=1.0,
        )
    ).eval()
    ids = torch.randint(1, 30, (9, 6)).masked_fill(torch.arange(6) >= 4, 0)

    class Audited(AuditedModel):
        def at(self, _checkpoint):
            return self

    context = SimpleNamespace(model=Audited(net, n_classes=3), checkpoints=[None])
    logits = torch.from_numpy(context.model.predict(ids)[0])
    (finding,) = padding_attention(context, ids, logits)
    assert finding.level == "warning" and "attends to padding: with attention_mask = (ids != 0)" in finding.text
    full = torch.randint(1, 30, (9, 6))
    assert padding_attention(context, full, torch.from_numpy(context.model.predict(full)[0])) == []
