"""scoring.data.adapters.dataset_objects: map-style PyTorch datasets, torchvision's own, and the real Hugging Face
library."""

import numpy as np
import pytest
from PIL import Image

from scoring.audit import Audit
from scoring.audit.errors import HardlookError
from scoring.data.adapters import open_sources
from scoring.data.examples import Originals, read_examples
from scoring.data.ingest import ingest


def audit_of(root, data, classes=("cat", "dog"), code="", media="image"):
    (root / "code.py").write_text(code)
    (root / "audit.toml").write_text(
        f"format = 1\nmedia = {media!r}\nclasses = {list(classes)}\n[[data]]\n{data}\n", encoding="utf8"
    )
    return Audit.open(root)


FACTORY = 'factory = "code.py:data"\n'


@pytest.mark.parametrize(
    "item",
    [
        "(image, label)",
        "[image, label, 'more']",
        "{'image': image, 'label': label}",
        "{'x': image, 'y': label}",
        "(np.asarray(image), np.int64(label))",
    ],
)
def test_items_of_every_usual_kind_are_examples(tmp_path, item):
    code = f"""
import numpy as np
from PIL import Image
class Data:
    def __len__(self): return 4
    def __getitem__(self, row):
        if row >= 4: raise IndexError
        image, label = Image.new("L", (4, 3), row), row % 2
        return {item}
def data(): return Data()
"""
    audit = audit_of(tmp_path, FACTORY + 'split = "test"', code=code)
    ingest(audit)
    examples = read_examples(audit)
    assert examples["label"].tolist() == ["cat", "dog"] * 2
    assert examples["example_id"].is_unique and examples["reference"].isna().all()
    assert np.asarray(Originals(audit).read(0, 3)).max() == 3


def test_a_real_torch_dataset_gives_tensors(tmp_path):
    torch = pytest.importorskip("torch")
    code = """
import torch
def data(n):
    return torch.utils.data.TensorDataset(torch.arange(n * 12.0).reshape(n, 3, 2, 2) / 100, torch.arange(n) % 2)
"""
    audit = audit_of(tmp_path, FACTORY + 'split = "train"\narguments = { n = 4 }', code=code)
    assert ingest(audit).examples == 4
    original = Originals(audit).read(0, 1)
    assert isinstance(original, torch.Tensor) and original.shape == (3, 2, 2)
    assert read_examples(audit)["label"].tolist() == ["cat", "dog"] * 2


def test_torchvision_datasets_work_by_name(tmp_path):
    pytest.importorskip("torchvision")
    for name in ("cat", "dog"):
        (tmp_path / "images" / name).mkdir(parents=True)
        Image.new("L", (4, 3), len(name)).save(tmp_path / "images" / name / "a.png")
        Image.new("L", (4, 3), ord(name[0])).save(tmp_path / "images" / name / "b.png")
    data = 'factory = "torchvision.datasets:ImageFolder"\narguments = { root = "{audit}/images" }\nsplit = "train"'
    audit = audit_of(tmp_path, data)
    ingest(audit)
    assert read_examples(audit)["label"].tolist() == ["cat", "cat", "dog", "dog"]
    assert Originals(audit).read(0, 0).mode == "RGB"
    with pytest.raises(HardlookError, match=r'classes = \["cat", "dog"\]'):
        ingest(audit_of(tmp_path, data, classes=()))


def test_an_item_that_fails_is_that_examples_problem(tmp_path):
    code = """
from PIL import Image
class Data:
    def __len__(self): return 3
    def __getitem__(self, row):
        if row == 1: raise OSError("the disk is gone")
        return Image.new("L", (4, 3), row), 0
def data(): return Data()
"""
    audit = audit_of(tmp_path, FACTORY + 'split = "train"', code=code)
    found = ingest(audit)
    assert found.problems == [{"example_id": "data[0]/row 1", "problem": "OSError: the disk is gone"}]


def test_random_augmentation_is_refused(tmp_path):
    code = """
import numpy as np
rng = np.random.default_rng(0)
def data(): return Data()
class Data:
    def __len__(self): return 2
    def __getitem__(self, row): return rng.random((4, 3)), 0
"""
    with pytest.raises(HardlookError, match="different item 0 on every access"):
        ingest(audit_of(tmp_path, FACTORY + 'split = "train"', code=code))


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def data(): return iter([1])", "needed a map-style dataset"),
        ("def data(n): return [1]", "failed: TypeError"),
        ("def dat(): return [1]", "did you mean dat"),
        ("def data(): return [{'photo': 1}]", "input_key"),
        ("def data(): return [('only text', 0)]", "needed an image or numbers"),
        ("def data(): return [([1, 2], [0, 1])]", "several classes|shape"),
        ("def data(): return [(__import__('numpy').zeros((2, 2)), 'bird')]", "label of example '.{16}'.*'bird'"),
    ],
)
def test_what_is_no_dataset_says_so(tmp_path, code, message):
    with pytest.raises(HardlookError, match=message):
        ingest(audit_of(tmp_path, FACTORY + 'split = "train"', code=code))


def test_a_dataset_is_read_by_one_thread_at_a_time(tmp_path):
    code = """
import threading, time
import numpy as np
class Data:
    busy = threading.Lock()
    def __len__(self): return 300
    def __getitem__(self, row):
        assert self.busy.acquire(blocking=False), "two threads at once"
        try:
            time.sleep(0.0002)
            return np.full((2, 2), row, dtype=np.uint16), 0
        finally:
            self.busy.release()
def data(): return Data()
"""
    assert not ingest(audit_of(tmp_path, FACTORY + 'split = "train"', code=code), workers=4).problems


# ----------------------------------------------------------------------------------------------- Hugging Face


def hugging_face(n=4, **features):
    datasets = pytest.importorskip("datasets")
    columns = {
        "image": [Image.new("RGB", (4, 3), (row, 0, 0)) for row in range(n)],
        "label": [row % 2 for row in range(n)],
        "age": list(range(n)),
        "boxes": [[row] for row in range(n)],
    }
    kinds = {
        "image": datasets.Image(),
        "label": datasets.ClassLabel(names=["dog", "cat"]),
        "age": datasets.Value("int64"),
        "boxes": datasets.Sequence(datasets.Value("int64")),
        **features,
    }
    return datasets.Dataset.from_dict(columns, features=datasets.Features(kinds))


def test_a_saved_hugging_face_dataset_is_recognised(tmp_path):
    hugging_face().save_to_disk(tmp_path / "saved")
    audit = audit_of(tmp_path, 'path = "saved"\nsplit = "train"')
    found = ingest(audit)
    examples = read_examples(audit)
    assert examples["label"].tolist() == ["dog", "cat"] * 2, "names of ClassLabel, not its numbers"
    assert examples["meta.age"].tolist() == [0, 1, 2, 3]
    assert "meta.boxes" not in examples and not found.problems
    assert Originals(audit).read(0, 2).getpixel((0, 0)) == (2, 0, 0)
    assert audit.originals.get(examples["example_id"][0]).startswith(b"\x89PNG")


def test_a_dataset_dict_needs_its_split_named(tmp_path):
    datasets = pytest.importorskip("datasets")
    datasets.DatasetDict({"train": hugging_face(4), "validation": hugging_face(2)}).save_to_disk(tmp_path / "saved")
    ingest(audit_of(tmp_path, 'path = "saved"\nsplit = "train"'))
    with pytest.raises(HardlookError, match="needs dataset_split; available: train, validation"):
        ingest(audit_of(tmp_path, 'path = "saved"\nsplit = "test"'))
    assert ingest(audit_of(tmp_path, 'path = "saved"\nsplit = "test"\ndataset_split = "validation"')).examples == 2


def test_a_factory_may_select_shuffle_and_format(tmp_path):
    hugging_face(10).save_to_disk(tmp_path / "saved")
    code = """
import datasets
from pathlib import Path
def data(): return datasets.load_from_disk(str(Path(__file__).parent / "saved")).select([7, 2, 4]).with_format("numpy")
"""
    audit = audit_of(tmp_path, FACTORY + 'adapter = "huggingface"\nsplit = "train"\nid_column = "age"', code=code)
    ingest(audit)
    examples = read_examples(audit)
    assert examples["example_id"].tolist() == ["7", "2", "4"]
    assert examples["label"].tolist() == ["cat", "dog", "dog"]
    assert [Originals(audit).read(0, row).getpixel((0, 0))[0] for row in range(3)] == [7, 2, 4]


def test_missing_images_and_labels_are_problems_of_their_rows(tmp_path):
    datasets = pytest.importorskip("datasets")
    data = datasets.Dataset.from_dict(
        {"image": [Image.new("L", (2, 2)), None, {"bytes": b"broken", "path": None}], "label": [-1, 0, 1]},
        features=datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])}),
    )
    data.save_to_disk(tmp_path / "saved")
    found = ingest(audit_of(tmp_path, 'path = "saved"\nsplit = "train"'))
    assert [problem["problem"][:9] for problem in found.problems] == ["has no la", "row 1 is ", "not an im"]


def test_several_labels_per_image_are_refused(tmp_path):
    datasets = pytest.importorskip("datasets")
    data = datasets.Dataset.from_dict(
        {"image": [Image.new("L", (2, 2))], "label": [[0, 1]]},
        features=datasets.Features(
            {"image": datasets.Image(), "label": datasets.Sequence(datasets.ClassLabel(names=["cat", "dog"]))}
        ),
    )
    data.save_to_disk(tmp_path / "saved")
    with pytest.raises(HardlookError, match="several classes"):
        ingest(audit_of(tmp_path, 'path = "saved"\nsplit = "train"'))


def test_texts_of_hugging_face(tmp_path):
    datasets = pytest.importorskip("datasets")
    datasets.Dataset.from_dict({"text": ["good", "bad"], "label": [0, 1]}).save_to_disk(tmp_path / "saved")
    audit = audit_of(tmp_path, 'path = "saved"\nsplit = "train"', media="text")
    ingest(audit)
    assert Originals(audit).read(0, 1) == "bad"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ('image_column = "photo"', "no such column"),
        ('label_column = "lable"', "did you mean label"),
    ],
)
def test_wrong_columns_of_hugging_face_list_the_right_ones(tmp_path, data, message):
    hugging_face().save_to_disk(tmp_path / "saved")
    source = open_sources(audit_of(tmp_path, f'path = "saved"\nsplit = "train"\n{data}'))[0]
    with pytest.raises(HardlookError, match=message):
        source.listing()
        source.stored(0)


def test_the_class_names_of_the_dataset_are_the_line_to_paste(tmp_path):
    hugging_face().save_to_disk(tmp_path / "saved")
    with pytest.raises(HardlookError, match=r'classes = \["dog", "cat"\]'):
        ingest(audit_of(tmp_path, 'path = "saved"\nsplit = "train"', classes=()))
