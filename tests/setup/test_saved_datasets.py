"""Folders that ``save_to_disk`` of Hugging Face wrote: splits, kind of examples, the column of texts."""

import datasets
import pytest

from scoring.audit.errors import HardlookError
from scoring.setup.data_found import find_data


def saved(folder, **columns):
    """A dataset of two rows, saved."""
    data = datasets.Dataset.from_dict({"label": [0, 1], **columns})
    data.save_to_disk(folder)
    return data


def tables(found):
    """The tables of what was found, as audit.toml has them."""
    return [{line.key: line.value for line in table} for table in found.tables]


def test_a_dict_gives_its_splits_and_says_which_it_leaves_out(tmp_path):
    part = datasets.Dataset.from_dict({"review": ["good film", "bad film"], "label": [1, 0]})
    datasets.DatasetDict(train=part, validation=part, unsupervised=part).save_to_disk(tmp_path / "all")
    found = find_data({"train": str(tmp_path / "all")}, tmp_path)
    assert found.media == "text"
    assert [(table["split"], table.get("dataset_split")) for table in tables(found)] == [
        ("train", None),
        ("test", "validation"),
    ]
    assert all(table["text_column"] == "review" for table in tables(found))
    assert "unsupervised left out" in " ".join(found.said)


def test_one_dataset_is_the_split_that_it_is_named_for(tmp_path):
    saved(tmp_path / "one", text=["good", "bad"])
    found = find_data({"test": str(tmp_path / "one")}, tmp_path)
    assert (found.media, [table["split"] for table in tables(found)]) == ("text", ["test"])
    assert "text_column" not in tables(found)[0]  # a usual name tells it


def test_two_columns_of_text_are_refused_with_their_names(tmp_path):
    saved(tmp_path / "two", premise=["a", "b"], hypothesis=["c", "d"])
    with pytest.raises(HardlookError, match="2 columns that may be the text .premise, hypothesis"):
        find_data({"train": str(tmp_path / "two")}, tmp_path)


def test_a_dict_without_a_known_split_is_refused(tmp_path):
    part = datasets.Dataset.from_dict({"text": ["a"], "label": [0]})
    datasets.DatasetDict(fold_1=part).save_to_disk(tmp_path / "folds")
    with pytest.raises(HardlookError, match="of its splits fold_1 none is train or test"):
        find_data({"train": str(tmp_path / "folds")}, tmp_path)


def test_a_damaged_description_is_one_sentence(tmp_path):
    saved(tmp_path / "one", text=["good", "bad"])
    (tmp_path / "one" / "dataset_info.json").write_text("{", encoding="utf8")
    with pytest.raises(HardlookError, match="cannot be read .*; save the dataset again with save_to_disk"):
        find_data({"train": str(tmp_path / "one")}, tmp_path)
