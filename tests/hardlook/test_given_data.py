"""Every kind of dataset that a notebook has reaches the model as its own library would give it."""

import tomllib
from io import BytesIO

import datasets
import hardlook
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset, random_split
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from scoring.audit import Audit
from scoring.data.examples import input_columns, read_examples
from scoring.data.ingest import ingest
from scoring.models.inputs import Inputs, labelled
from tests import journeys

from .conftest import CLASSES, picture

TO_TENSOR = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5] * 3, [0.25] * 3)])


class Pictures(Dataset):
    """A dataset of one's own, as people write it."""

    classes = CLASSES

    def __init__(self, transform=None, n=10):
        self.transform, self.n = transform, n

    def __len__(self):
        return self.n

    def __getitem__(self, row):
        image = picture(row % 2, row)
        return (self.transform(image) if self.transform else image), row % 2


def made(tmp_path, **given):
    """The audit of what is handed over, its data read, as (inputs, class names) of a split."""
    audit = hardlook.audit(folder=tmp_path / "audit", scores=None, **given)
    opened = Audit.open(audit)
    ingest(opened)
    run = opened.run() if opened.run_names() else None
    return opened, run


def inputs_of(opened, run, split="train"):
    """What the model receives of a split, and its labels by name."""
    found = Inputs(opened, run, labelled(opened, split))
    return torch.stack([found.read(row) for row in range(len(found))]), [opened.classes[at] for at in found.labels]


def test_an_image_folder_stays_files_and_gives_its_own_tensors(tmp_path, folder, net):
    dataset = ImageFolder(folder, TO_TENSOR)
    opened, run = made(tmp_path, train=dataset, model=net)
    values, labels = inputs_of(opened, run)
    order = read_examples(opened)["reference"].map(lambda path: str((opened.root / path).resolve())).tolist()
    at = [order.index(str(path)) for path, _ in dataset.samples]
    assert torch.equal(values[at], torch.stack([dataset[row][0] for row in range(24)]))
    assert [labels[row] for row in at] == [dataset.classes[label] for _, label in dataset.samples]
    assert opened.originals.get(order[0]) is None  # no copy of what is a file
    assert "bright/00.png" in read_examples(opened)["example_id"].tolist()


def test_a_random_split_of_a_folder_keeps_its_rows_in_their_order(tmp_path, folder, net):
    dataset = ImageFolder(folder, TO_TENSOR)
    train, test = random_split(dataset, [16, 8], torch.Generator().manual_seed(0))
    opened, run = made(tmp_path, train=train, test=test, model=net)
    for split, part in (("train", train), ("test", test)):
        values, labels = inputs_of(opened, run, split)
        assert torch.equal(values, torch.stack([part[row][0] for row in range(len(part))]))
        assert labels == [CLASSES[part[row][1]] for row in range(len(part))]


@pytest.mark.parametrize(
    "wrap", [lambda data: data, lambda data: Subset(data, [7, 2, 5]), lambda data: DataLoader(data, shuffle=True)]
)
def test_a_dataset_of_ones_own_shows_its_pictures_and_gives_its_tensors(tmp_path, net, wrap):
    dataset = wrap(Pictures(TO_TENSOR))
    opened, run = made(tmp_path, train=dataset, model=net)
    plain = getattr(dataset, "dataset", dataset) if isinstance(dataset, DataLoader) else dataset
    values, labels = inputs_of(opened, run)
    assert torch.equal(values, torch.stack([plain[row][0] for row in range(len(plain))]))
    assert labels == [CLASSES[plain[row][1]] for row in range(len(plain))]
    first = opened.thumbnails.get(read_examples(opened)["example_id"][0])
    base_row = plain.indices[0] if isinstance(plain, Subset) else 0
    assert np.array_equal(np.asarray(Image.open(BytesIO(first))), np.asarray(picture(base_row % 2, base_row)))


def test_tensors_reach_the_model_as_they_are(tmp_path, net):
    inputs = torch.randn(6, 2, 5, 4)  # neither 1, 3 nor 4 channels: nothing may be moved
    opened, run = made(tmp_path, train=TensorDataset(inputs, torch.tensor([0, 1, 0, 1, 1, 0])), model=net)
    values, labels = inputs_of(opened, run)
    assert torch.equal(values, inputs)
    assert labels == ["0", "1", "0", "1", "1", "0"]


def test_a_dataset_of_tensors_of_ones_own_reaches_the_model_as_it_is(tmp_path, net):
    class Own(Dataset):
        def __len__(self):
            return 5

        def __getitem__(self, row):
            return torch.full((2, 5, 4), row / 7, dtype=torch.float64), torch.tensor(row % 2)

    opened, run = made(tmp_path, train=Own(), model=net, media="image")
    values, labels = inputs_of(opened, run)
    assert torch.equal(values, torch.stack([Own()[row][0] for row in range(5)]).float())
    assert labels == ["0", "1", "0", "1", "0"]


@pytest.mark.parametrize("of", [np.asarray, torch.as_tensor, np.ndarray.tolist], ids=["arrays", "tensors", "lists"])
def test_arrays_of_rows(tmp_path, of):
    rows = np.arange(12.0).reshape(6, 2)
    opened, _ = made(tmp_path, train=(of(rows), [1, 0, 1, 0, 1, 1]), pool=of(rows[:2] + 100))
    examples = read_examples(opened)
    assert opened.media == "vector"
    assert examples["label"].tolist()[:6] == ["1", "0", "1", "0", "1", "1"]
    assert examples["split"].tolist() == ["train"] * 6 + ["pool"] * 2


def test_a_frame_of_numbers_keeps_the_names_of_its_columns(tmp_path):
    frame = pd.DataFrame({"width": [1.0, 2.0], "height": [3.0, 4.0]})
    opened, _ = made(tmp_path, train=(frame, ["cat", "dog"]))
    assert input_columns(opened) == ["width", "height"]
    assert read_examples(opened)["label"].tolist() == ["cat", "dog"]


def test_a_frame_of_paths_keeps_its_other_columns(tmp_path, folder, monkeypatch):
    monkeypatch.chdir(folder)
    frame = pd.DataFrame({"path": ["bright/00.png", "dark/01.png"], "label": ["bright", "dark"], "camera": ["a", "b"]})
    opened, _ = made(tmp_path, train=frame)
    examples = read_examples(opened)
    assert examples["example_id"].tolist() == ["bright/00.png", "dark/01.png"]
    assert examples["problem"].isna().all()
    assert examples["meta.camera"].tolist() == ["a", "b"]


def test_paths_are_what_hardlook_new_finds_there(tmp_path, folder):
    opened, _ = made(tmp_path, train=folder)
    assert opened.classes == list(CLASSES)
    assert len(read_examples(opened)) == 24
    pd.DataFrame({"text": ["one", "two"], "label": ["a", "b"]}).to_csv(tmp_path / "texts.csv", index=False)
    audit = hardlook.audit(train=str(tmp_path / "texts.csv"), folder=tmp_path / "second", scores=None)
    opened = Audit.open(audit)
    ingest(opened)
    assert (opened.media, read_examples(opened)["label"].tolist()) == ("text", ["a", "b"])
    with pytest.raises(hardlook.HardlookError, match="nothing"):
        hardlook.audit(train=tmp_path / "nothing", folder=tmp_path / "third")


def test_texts_and_pictures_in_lists(tmp_path):
    opened, _ = made(tmp_path, train=(["good film", "bad film"], ["yes", "no"]))
    assert (opened.media, opened.classes) == ("text", ["no", "yes"])
    images = [picture(0, 1), picture(1, 2)]
    audit = hardlook.audit(train=(images, ["bright", "dark"]), folder=tmp_path / "second", scores=None)
    opened = Audit.open(audit)
    ingest(opened)
    assert (opened.media, read_examples(opened)["label"].tolist()) == ("image", ["bright", "dark"])


def test_a_dataset_of_hugging_face(tmp_path, net):
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["dark", "bright"])})
    rows = {"image": [picture(0, 1), picture(1, 2), picture(0, 3)], "label": [1, 0, 1]}
    opened, run = made(tmp_path, train=datasets.Dataset.from_dict(rows, features=features), model=net)
    values, labels = inputs_of(opened, run)
    assert opened.classes == ["dark", "bright"]
    assert labels == ["bright", "dark", "bright"]
    assert torch.allclose(values[1], v2.functional.to_dtype(v2.functional.to_image(picture(1, 2)), scale=True))


def test_a_classifier_of_hugging_face_with_its_tokenizer(tmp_path):
    transformers = pytest.importorskip("transformers")
    journeys.hugging_face_texts(tmp_path)
    folder = sorted((tmp_path / "out").glob("checkpoint-*"))[-1]
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    frame = pd.read_csv(tmp_path / "texts.csv")
    audit = hardlook.audit(
        train=frame[frame["split"] == "train"].drop(columns="split"),
        model=model,
        transform=tokenizer,
        classes=[model.config.id2label[at] for at in range(3)],
        folder=tmp_path / "audit",
        scores=["uncertainty"],
    )
    texts = frame.loc[frame["split"] == "train", "text"].tolist()
    with torch.no_grad():
        logits = model.eval()(**tokenizer(texts, padding="max_length", max_length=32, return_tensors="pt")).logits
    p = logits.softmax(1).numpy()
    given = [model.config.label2id[name] for name in frame.loc[frame["split"] == "train", "label"]]
    assert np.allclose(audit.scores()["p_label"], p[np.arange(len(p)), given], atol=1e-5)


def test_a_classifier_of_hugging_face_with_its_image_processor(tmp_path):
    transformers = pytest.importorskip("transformers")
    journeys.hugging_face_images(tmp_path)
    folder = sorted((tmp_path / "out").glob("checkpoint-*"))[-1]
    model = transformers.AutoModelForImageClassification.from_pretrained(folder)
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    data = ImageFolder(tmp_path / "images" / "test")
    audit = hardlook.audit(
        test=data, model=model, transform=processor, folder=tmp_path / "audit", scores=["uncertainty"], anyway=True
    )
    with torch.no_grad():
        logits = model.eval()(**processor([image for image, _ in data], return_tensors="pt")).logits
    p = logits.softmax(1).numpy()[np.arange(len(data)), data.targets]
    assert np.allclose(audit.scores()["p_label"], p, atol=1e-5)


def test_the_transform_of_the_test_set_serves_a_training_set_that_augments(tmp_path, net):
    augmenting = v2.Compose([v2.RandomHorizontalFlip(), TO_TENSOR])
    opened, run = made(tmp_path, train=Pictures(augmenting), test=Pictures(TO_TENSOR, 4), model=net)
    values, _ = inputs_of(opened, run)
    assert torch.equal(values[3], TO_TENSOR(picture(1, 3)))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"train": Pictures(v2.Compose([v2.RandomCrop(4), TO_TENSOR]))}, "augments at random; pass transform="),
        ({"train": Pictures(TO_TENSOR), "test": Pictures(v2.ToImage())}, "different transforms"),
        ({"train": np.zeros((3, 2))}, "tuple (inputs, labels)"),
        ({"train": (np.zeros((3, 2)), [0, 1])}, "2 labels for 3 inputs"),
        ({"train": 7}, "found int"),
        ({"train": (np.zeros((3, 2)), [0, 1, 0]), "test": (["a", "b"], [0, 1])}, "same kind of data"),
        ({"train": pd.DataFrame({"label": ["a"]}), "media": "image"}, "no column of the data frame holds paths"),
        ({"train": datasets.DatasetDict(a=datasets.Dataset.from_dict({"text": ["x"]}))}, "data['a']"),
        ({}, "needed train=, test= or pool="),
        ({"train": (np.zeros((3, 2)), [0, 1, 0]), "checkpoints": "x.pt"}, "without a model"),
        ({"train": (np.zeros((3, 2)), [0, 1, 0]), "model": 7}, "torch.nn.Module"),
    ],
)
def test_what_is_no_dataset_is_one_sentence(tmp_path, given, words):
    with pytest.raises(hardlook.HardlookError) as error:
        hardlook.audit(folder=tmp_path / "audit", scores=None, **given)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_a_stream_is_refused(tmp_path):
    class Stream(IterableDataset):
        def __iter__(self):
            yield torch.zeros(2), 0

    with pytest.raises(hardlook.HardlookError, match="found Stream"):
        hardlook.audit(train=Stream(), folder=tmp_path, scores=None)


def test_names_that_need_quotes_in_toml(tmp_path):
    names = ['say "x"', "back\\slash", "new\nline"]
    hardlook.audit(train=(np.eye(3), names), folder=tmp_path / "audit", scores=None)
    assert tomllib.loads((tmp_path / "audit" / "audit.toml").read_text())["classes"] == sorted(names)
