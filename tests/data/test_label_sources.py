"""The same labels give the same class names, or a refusal, whatever type they have and whatever file they stand in."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring.audit import Audit
from scoring.audit.errors import HardlookError
from scoring.data.examples import read_examples
from scoring.data.ingest import ingest
from scoring.data.listed_sources import list_sources, with_labels

CLASSES = st.sampled_from(
    [
        ("cat", "dog", "eel"),
        ("0", "1", "2"),
        ("1", "2", "3"),
        ("1", "10", "2"),
        ("True", "False"),
        ("true", "false"),
        ("1.0", "2.0", "0.5"),
        ("-1", "1"),
        ("a", "1", "b"),
    ]
).flatmap(st.permutations)
VALUES = st.one_of(
    st.lists(st.integers(-1, 3), min_size=3, max_size=3),
    st.lists(st.booleans(), min_size=3, max_size=3),
    st.lists(st.sampled_from([0.0, 1.0, 2.0, 0.5]), min_size=3, max_size=3),
    st.lists(st.sampled_from(["cat", "dog", "1", "2", "0", "1.0", "True", "b"]), min_size=3, max_size=3),
)


def as_csv(root, values):
    pd.DataFrame({"text": list("abc"), "label": values}).to_csv(root / "data.csv", index=False)
    return "data.csv"


def as_parquet(root, values):
    pd.DataFrame({"text": list("abc"), "label": values}).to_parquet(root / "data.parquet")
    return "data.parquet"


def as_category(root, values):
    pd.DataFrame({"text": list("abc"), "label": pd.Categorical(values)}).to_parquet(root / "data.parquet")
    return "data.parquet"


def as_npz(root, values):
    np.savez(root / "data.npz", text=np.array(list("abc")), labels=np.array(values))
    return "data.npz"


def as_hugging_face(root, values):
    datasets = pytest.importorskip("datasets")
    datasets.Dataset.from_dict({"text": list("abc"), "label": values}).save_to_disk(root / "saved")
    return "saved"


def as_lists(root, values):
    pd.DataFrame({"text": list("abc"), "label": [[value] for value in values]}).to_parquet(root / "data.parquet")
    return "data.parquet"


FORMS = (as_csv, as_parquet, as_category, as_npz, as_hugging_face, as_lists)


def named(root, path, classes):
    """The class names that a source gives, or None where it refuses."""
    listed = ", ".join(f'"{name}"' for name in classes)
    (root / "audit.toml").write_text(
        f'format = 1\nmedia = "text"\nclasses = [{listed}]\n[[data]]\npath = "{path}"\nsplit = "train"\n'
    )
    listed = list_sources(Audit.open(root))[0]
    try:
        return with_labels(listed).labels
    except HardlookError:
        return None


def meant(values, classes):
    """What these labels must mean: all by name, else all as indices among classes that are no numbers; else a
    refusal."""
    by_name = [
        next(
            (
                name
                for name in classes
                if name == str(value)
                or same_number(name, value)
                or (isinstance(value, bool) and name == str(value).lower())
            ),
            None,
        )
        for value in values
    ]
    left = [value for value, name in zip(values, by_name, strict=True) if name is None and value != -1]
    if not left:
        return by_name
    whole = [as_number(value) for value in values if value != -1]
    truths = {"false": 0, "true": 1}
    placed = [truths.get(name.lower(), as_number(name)) in (None, at) for at, name in enumerate(classes)]
    if all(number is not None and number == int(number) and 0 <= number < len(classes) for number in whole) and all(
        placed
    ):
        indices = [None if value == -1 else classes[int(as_number(value))] for value in values]
        if all(name in (None, index) for name, index in zip(by_name, indices, strict=True)):
            return indices
    return None


def as_number(value):
    try:
        return float(value)
    except ValueError:
        return None


def same_number(name, value):
    return as_number(name) is not None and as_number(name) == as_number(value)


@settings(max_examples=40, deadline=None)
@given(CLASSES, VALUES)
def test_any_label_in_any_file_is_the_same_class_or_refused(tmp_path_factory, classes, values):
    root = tmp_path_factory.mktemp("labels")
    wanted, any_found = meant(values, classes), False
    for form in FORMS:
        found = named(root, form(root, values), classes)
        assert found is None or found == wanted, (form.__name__, found)
        any_found |= found is not None
    assert any_found or wanted is None


@settings(max_examples=25, deadline=None)
@given(
    st.permutations(["cat", "dog", "1", "0", "eel"]),
    st.permutations(["cat", "dog", "1", "0", "eel"]),
    st.lists(st.integers(-1, 4), min_size=3, max_size=3),
)
def test_a_class_label_means_its_names_whatever_the_order_of_classes(tmp_path_factory, own, classes, numbers):
    datasets = pytest.importorskip("datasets")
    root = tmp_path_factory.mktemp("labels")
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=list(own))})
    data = datasets.Dataset.from_dict({"text": list("abc"), "label": numbers}, features=features)
    data.save_to_disk(root / "saved")
    data.to_parquet(str(root / "data.parquet"))
    np.savez(root / "data.npz", text=np.array(list("abc")), labels=np.array(numbers), classes=np.array(own))
    wanted = [own[number] if number >= 0 else None for number in numbers]
    for path in ("saved", "data.parquet", "data.npz"):
        assert named(root, path, classes) == wanted, path


def test_parquet_of_the_hub_names_its_labels_end_to_end(tmp_path):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {
            "text": datasets.Value("string"),
            "sentiment": datasets.ClassLabel(names=["neg", "pos"]),
            "tone": datasets.ClassLabel(names=["calm", "loud"]),
            "spans": datasets.List(datasets.Value("int64")),
        }
    )
    datasets.Dataset.from_dict(
        {"text": list("abc"), "sentiment": [0, 1, -1], "tone": [1, 0, 1], "spans": [[1], [], [2]]}, features=features
    ).to_parquet(str(tmp_path / "data.parquet"))
    (tmp_path / "audit.toml").write_text(
        'format = 1\nmedia = "text"\nclasses = ["pos", "neg"]\n[[data]]\n'
        'path = "data.parquet"\nsplit = "train"\nlabel_column = "sentiment"\n'
    )
    found = ingest(Audit.open(tmp_path))
    examples = read_examples(Audit.open(tmp_path))
    assert examples["label"].fillna("").tolist() == ["neg", "pos", ""] and examples["meta.tone"].tolist() == [
        "loud",
        "calm",
        "loud",
    ]
    assert found.notes == ["data[0]: columns of lists, structs or bytes are not kept as metadata: spans"]


def test_image_folder_in_another_order_than_classes_means_its_own_names(tmp_path):
    pytest.importorskip("torchvision")
    from PIL import Image

    for name in ("1", "10", "2"):
        (tmp_path / "images" / name).mkdir(parents=True)
        Image.new("L", (4, 3), int(name)).save(tmp_path / "images" / name / "a.png")
    (tmp_path / "audit.toml").write_text(
        'format = 1\nclasses = ["1", "2", "10"]\n[[data]]\nfactory = "code.py:data"\nsplit = "train"\n'
    )
    (tmp_path / "code.py").write_text("""
from pathlib import Path
from torch.utils.data import Subset
from torchvision.datasets import ImageFolder
def data(): return Subset(ImageFolder(Path(__file__).parent / "images"), [2, 1, 0])
""")
    ingest(Audit.open(tmp_path))
    assert read_examples(Audit.open(tmp_path))["label"].tolist() == ["2", "10", "1"]
