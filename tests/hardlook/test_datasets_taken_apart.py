"""Datasets that look like torchvision's or PyTorch's own and are not: subclasses, samplers, orders of classes. What
the model receives is compared with what the dataset itself gives."""

import hardlook
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from torch.utils.data import BatchSampler, ConcatDataset, DataLoader, Sampler, Subset, SubsetRandomSampler
from torchvision import transforms
from torchvision.datasets import ImageFolder

from .conftest import CLASSES, picture
from .test_given_data import TO_TENSOR, Pictures, inputs_of, made


def gives_the_same(tmp_path, dataset, net, names=CLASSES):
    """The audit, after its inputs and labels were found to be those of the dataset, row by row."""
    opened, run = made(tmp_path, train=dataset, model=net)
    values, labels = inputs_of(opened, run)
    assert torch.equal(values, torch.stack([torch.as_tensor(dataset[row][0]) for row in range(len(dataset))]))
    assert labels == [names[dataset[row][1]] for row in range(len(dataset))]
    return opened


class Reversed(ImageFolder):
    """An image folder that numbers its classes otherwise."""

    def find_classes(self, directory):
        return ["dark", "bright"], {"dark": 0, "bright": 1}


def test_an_image_folder_keeps_its_own_order_of_classes(tmp_path, folder, net):
    dataset = Reversed(folder, TO_TENSOR)
    opened = gives_the_same(tmp_path, Subset(dataset, range(24)), net, dataset.classes)
    assert opened.classes == ["dark", "bright"]


def test_a_subset_without_one_class_keeps_all_classes(tmp_path, folder, net):
    dataset = ImageFolder(folder, TO_TENSOR)
    dark = [row for row, label in enumerate(dataset.targets) if label == 1]
    assert gives_the_same(tmp_path, Subset(dataset, dark), net).classes == ["bright", "dark"]


def test_folders_with_other_orders_of_classes_are_refused(tmp_path, folder, net):
    with pytest.raises(hardlook.HardlookError, match="the same in another order; pass classes="):
        made(tmp_path, train=Reversed(folder, TO_TENSOR), test=ImageFolder(folder, TO_TENSOR), model=net)
    opened, _ = made(tmp_path, train=Reversed(folder), test=ImageFolder(folder), model=net, classes=CLASSES)
    assert opened.classes == list(CLASSES)


def test_joined_folders_keep_the_names_of_their_classes(tmp_path, folder, net):
    part = ImageFolder(folder, TO_TENSOR)
    dataset = ConcatDataset([part, Subset(part, [3, 1])])
    assert gives_the_same(tmp_path, dataset, net).classes == list(CLASSES)


class Flipped(ImageFolder):
    """An image folder that prepares its pictures itself, before the transform."""

    def __getitem__(self, row):
        path, label = self.samples[row]
        image = self.loader(path).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return self.transform(image) if self.transform else image, label


class WithTransform(Subset):
    """A subset with a transform of its own, as people write it after ``random_split``."""

    def __init__(self, dataset, indices, transform):
        super().__init__(dataset, indices)
        self.transform = transform

    def __getitem__(self, row):
        image, label = super().__getitem__(row)
        return (self.transform(image) if self.transform else image), label

    def __getitems__(self, rows):
        return [self[row] for row in rows]


def test_a_subclass_that_reads_its_items_itself_gives_them(tmp_path, folder, net):
    gives_the_same(tmp_path / "a", Flipped(folder, TO_TENSOR), net)
    gives_the_same(tmp_path / "b", WithTransform(ImageFolder(folder), [5, 2, 9], TO_TENSOR), net)


def test_a_broken_first_file_does_not_take_the_transform_away(tmp_path, folder, net):
    dataset = ImageFolder(folder, TO_TENSOR)
    with open(dataset.samples[0][0], "wb") as file:
        file.write(b"no picture")
    opened, run = made(tmp_path, train=dataset, model=net)
    values, _ = inputs_of(opened, run)
    assert torch.equal(values, torch.stack([dataset[row][0] for row in range(1, 24)]))


class LaterRows(Pictures):
    """A dataset whose later rows are transformed otherwise."""

    def __getitem__(self, row):
        image, label = super().__getitem__(row)
        return (image * 2 if row > 5 and isinstance(image, torch.Tensor) else image), label


def test_later_rows_that_are_transformed_otherwise_are_noticed(tmp_path, net):
    gives_the_same(tmp_path, LaterRows(TO_TENSOR), net)


def scaled(by):
    return transforms.Compose([transforms.ToTensor(), transforms.Lambda(lambda value: value * by)])


def test_transforms_that_print_alike_and_do_not_do_alike_are_told_apart(tmp_path, net):
    assert repr(scaled(1)) == repr(scaled(3))
    with pytest.raises(hardlook.HardlookError, match="different transforms"):
        made(tmp_path, train=Pictures(scaled(1)), test=Pictures(scaled(3)), model=net)
    opened, run = made(tmp_path, train=Pictures(scaled(3)), test=Pictures(lambda each: scaled(3)(each)), model=net)
    assert torch.equal(inputs_of(opened, run)[0][4], scaled(3)(picture(0, 4)))


class Unknown(Sampler):
    """Half of the rows."""

    def __init__(self, data):
        self.data = data

    def __iter__(self):
        return iter(range(0, len(self.data), 2))

    def __len__(self):
        return len(self.data) // 2


def test_a_loader_stands_for_the_rows_that_its_sampler_draws_from(tmp_path, net):
    data = Pictures(TO_TENSOR)
    for at, given in enumerate(
        (
            {"sampler": SubsetRandomSampler([7, 2, 5])},
            {"batch_sampler": BatchSampler(SubsetRandomSampler(torch.tensor([7, 2, 5])), 2, False)},
        )
    ):
        opened, run = made(tmp_path / str(at), train=DataLoader(data, **given), model=net)
        values, labels = inputs_of(opened, run)
        assert torch.equal(values, torch.stack([data[row][0] for row in (2, 5, 7)]))
        assert labels == [CLASSES[row % 2] for row in (2, 5, 7)]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"sampler": Unknown(Pictures())}, r"sampler of the DataLoader \(Unknown\) may draw from a part"),
        ({"batch_sampler": [[0, 1], [2]]}, "may draw from a part"),
        ({"collate_fn": lambda items: items}, "collate_fn of its own"),
    ],
)
def test_a_loader_that_may_give_other_examples_is_refused(tmp_path, net, given, said):
    with pytest.raises(hardlook.HardlookError, match=said):
        made(tmp_path, train=DataLoader(Pictures(TO_TENSOR), **given), model=net)


NAMES = ["zebra", "ant", "Mole"]


def table():
    """Points of three classes, and a model of scikit-learn, which sorts the names of classes."""
    points = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    frame = pd.DataFrame(points, columns=list("dcba")).assign(label=[NAMES[row % 3] for row in range(30)])
    p = LogisticRegression().fit(points, frame["label"]).predict_proba(points)
    return frame, pd.DataFrame(p, columns=sorted(NAMES))


def test_columns_of_predictions_belong_to_the_class_that_they_name(tmp_path):
    frame, p = table()
    audit = hardlook.audit(frame, pred_probs={"train": p[NAMES]}, folder=tmp_path / "a")
    expected = [p[label][row] for row, label in enumerate(frame["label"])]
    assert np.allclose(audit.scores()["p_label"], expected, atol=1e-6)
    with pytest.raises(hardlook.HardlookError, match="pred_probs of train: the data frame's columns are named"):
        hardlook.audit(frame, pred_probs={"train": p.add_prefix("p of ")}, folder=tmp_path / "b")


def test_one_index_in_two_orders_is_refused(tmp_path):
    frame, p = table()
    with pytest.raises(hardlook.HardlookError, match="the same index in different orders"):
        hardlook.audit(frame, pred_probs={"train": p.iloc[::-1]}, folder=tmp_path)
    with pytest.raises(hardlook.HardlookError, match="the inputs of train and its labels have the same index"):
        hardlook.audit((frame.drop(columns="label"), frame["label"].iloc[::-1]), folder=tmp_path)


def test_categories_in_an_order_of_their_own_ask_for_the_classes(tmp_path):
    frame, _ = table()
    categorical = pd.Series(pd.Categorical(frame["label"], categories=NAMES))
    for data in (frame.assign(label=categorical), (frame.drop(columns="label"), categorical)):
        with pytest.raises(hardlook.HardlookError, match="not sorted.*pass classes="):
            hardlook.audit(data, folder=tmp_path)
        assert hardlook.audit(data, folder=tmp_path, classes=NAMES)._audit.classes == NAMES
    usual = frame.assign(label=frame["label"].astype("category"))
    assert hardlook.audit(usual, folder=tmp_path)._audit.classes == sorted(NAMES)
