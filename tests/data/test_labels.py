"""scoring.data.labels: the many ways in which datasets write one label."""

import numpy as np
import pandas as pd
import pytest

from scoring.audit.errors import HardlookError
from scoring.data.class_order import classes_line, describe_order
from scoring.data.labels import Labels, natural, plain

ANIMALS = ["cat", "dog", "white rabbit"]


@pytest.mark.parametrize(
    "raw",
    [
        "dog",
        1,
        np.int64(1),
        np.uint8(1),
        1.0,
        np.float32(1),
        np.array(1),
        np.array([1]),
        "1",
        " dog ",
        b"dog",
        np.bytes_("dog"),
        np.str_("dog"),
        True,
    ],
)
def test_names_and_indices_of_every_type_are_the_same_label(raw):
    assert Labels(ANIMALS).name(raw) == "dog"


@pytest.mark.parametrize("raw", [None, "", "  ", float("nan"), np.nan, -1, np.int64(-1), -1.0, pd.NA, pd.NaT])
def test_the_ways_to_say_no_label(raw):
    assert Labels(ANIMALS).name(raw) is None


def test_tensors_are_labels_too():
    torch = pytest.importorskip("torch")
    assert Labels(ANIMALS).name(torch.tensor(2)) == "white rabbit"
    assert Labels(ANIMALS).name(torch.tensor([2])) == "white rabbit"
    with pytest.raises(HardlookError, match="several classes"):
        Labels(ANIMALS).name(torch.tensor([0, 1]))


@pytest.mark.parametrize(
    "raw",
    [
        ["cat", "dog"],
        ("cat", "dog"),
        {"cat"},
        np.array([0, 1]),
        "cat|dog",
        "cat;dog",
        "cat, dog",
        "['cat', 'dog']",
        "cat dog",
    ],
)
def test_several_labels_are_refused_as_multi_label(raw):
    with pytest.raises(HardlookError, match="several classes.*one label per example"):
        Labels(ANIMALS).name(raw)


def test_a_class_name_with_a_space_is_no_multi_label():
    assert Labels([*ANIMALS, "white", "rabbit"]).name("white rabbit") == "white rabbit"


@pytest.mark.parametrize("raw", ["bird", 3, 17, 1.5, "Cat", "3"])
def test_what_is_no_class_is_an_error_that_names_it(raw):
    with pytest.raises(HardlookError, match=str(raw)):
        Labels(ANIMALS).name(raw)


def test_an_unknown_label_lists_the_classes():
    with pytest.raises(HardlookError, match="'cat', 'dog', 'white rabbit'"):
        Labels(ANIMALS).name("bird")


def test_a_thousand_classes_are_not_all_listed():
    with pytest.raises(HardlookError) as error:
        Labels([f"class {number}" for number in range(1000)]).name("bird")
    assert len(str(error.value)) < 600


def test_digits_as_class_names_are_names_and_indices_alike():
    digits = Labels([str(number) for number in range(10)])
    assert digits.name("7") == digits.name(7) == "7"


def test_classes_numbered_from_one_are_found_by_name():
    for raws in ((1, 2, 3), ("1", "2", "3"), (1.0, 2.0, 3.0), ("1.0", "2.0", "3.0")):
        labels = Labels(["1", "2", "3"])
        assert [labels.name(raw) for raw in raws] == ["1", "2", "3"]


@pytest.mark.parametrize("raw", [0, "0", 0.0, False, 4])
def test_a_number_that_is_no_name_is_no_index_where_the_names_are_numbers_in_other_places(raw):
    with pytest.raises(
        HardlookError, match="is not in classes, and read as an index it would contradict the class '1'"
    ):
        Labels(["1", "2", "3"]).name(raw)


def test_numbers_are_indices_where_the_names_that_are_numbers_stand_in_their_places():
    labels = Labels(["0", "1", "other"])
    assert [labels.name(raw) for raw in (0, 1, 2)] == ["0", "1", "other"]


@pytest.mark.parametrize("raws", [("cat", 1), (1, "cat"), ("dog", "0")])
def test_names_and_indices_in_one_column_are_refused(raws):
    labels = Labels(ANIMALS)
    with pytest.raises(HardlookError, match="is the name of a class, but .* in the same column could only be an index"):
        for raw in raws:
            labels.name(raw)
    mapped = Labels(ANIMALS, {"0": "cat", "1": "dog"})
    assert [mapped.name(raw) for raw in ("cat", 1, "0")] == ["cat", "dog", "cat"]


@pytest.mark.parametrize(
    ("classes", "raw", "name"),
    [
        (["True", "False"], True, "True"),
        (["True", "False"], np.False_, "False"),
        (["false", "true"], True, "true"),
        (["1", "0"], True, "1"),
        (["no", "yes"], True, "yes"),
        (["1.0", "2.0"], 1.0, "1.0"),
        (["1.0", "2.0"], 1, "1.0"),
        (["1.5", "0.5"], np.float64(0.5), "0.5"),
        (["-1", "1"], -1, "-1"),
        (["-1", "1"], "-1", "-1"),
        (["1", "-1"], 1.0, "1"),
        (["2", "1"], [1], "1"),
        (["2", "1"], (2,), "2"),
        (["b", "a"], [], None),
    ],
)
def test_a_label_is_looked_up_by_name_before_it_is_an_index(classes, raw, name):
    assert Labels(classes).name(raw) == name


def test_a_number_for_the_wrong_way_round_of_true_and_false_is_refused():
    with pytest.raises(HardlookError, match="contradict the class 'True'"):
        Labels(["True", "False"]).name(1)


def test_a_number_that_could_be_two_names_is_refused():
    with pytest.raises(HardlookError, match="could be the class '1' or the class '1.0'"):
        Labels(["1", "1.0"]).name(1)


def test_numbers_mean_the_classes_that_the_data_numbers_them_by():
    labels = Labels(["dog", "cat"], own=["cat", "dog"])
    assert [labels.name(raw) for raw in (0, 1, np.int64(1), "cat", -1)] == ["cat", "dog", "dog", "cat", None]
    assert labels.note is None
    assert Labels(["dog", "cat"], {"hound": "dog"}, own=["cat", "hound"]).name(1) == "dog"
    with pytest.raises(HardlookError, match="2 is not an index into the data's own 2 classes"):
        labels.name(2)
    with pytest.raises(HardlookError, match="1 is 'fish' in the data's own list of classes, which is not in classes"):
        Labels(["dog", "cat"], own=["cat", "fish"]).name(1)


def test_where_the_datas_own_names_are_no_classes_numbers_are_indices_and_it_says_so():
    labels = Labels(["nought", "one"], own=["0 - zero", "1 - one"])
    assert [labels.name(0), labels.name(1)] == ["nought", "one"]
    assert "none of the data's own class names ('0 - zero', '1 - one') is in `classes`" in labels.note


def test_a_name_of_the_datas_own_is_never_an_index():
    with pytest.raises(HardlookError, match="'1' is not in classes"):
        Labels(["cat", "dog"], own=["1", "0"]).name("1")  # number 0 of its ClassLabel, not output 1


def test_labels_counted_from_one_need_a_label_map_which_is_named():
    with pytest.raises(HardlookError, match='label_map = { "1" = "cat", "2" = "dog", "3" = "white rabbit" }'):
        Labels(ANIMALS).name(3)


def test_label_map_renames_numbers_and_names():
    labels = Labels(ANIMALS, {"1": "cat", "hound": "dog"})
    assert [labels.name(raw) for raw in (1, "1", "hound", "dog")] == ["cat", "cat", "dog", "dog"]


def test_label_map_must_lead_to_a_class():
    with pytest.raises(HardlookError, match="'bird', which is not in classes"):
        Labels(ANIMALS, {"x": "bird"})


def test_true_and_the_text_true_are_not_mixed_up():
    labels = Labels(["False", "True"])
    assert labels.name(True) == "True" and labels.name("True") == "True" and labels.name(False) == "False"


def test_the_line_to_paste_is_toml_whatever_the_names_hold():
    import tomllib

    names = ['say "hi"', "back\\slash", "tab\there", "ünï", "a, b"]
    assert sorted(tomllib.loads(classes_line(names))["classes"]) == sorted(names)


def test_the_line_to_paste_is_in_the_order_of_the_datas_own_library():
    assert classes_line(["c10", "c9", "", None]) == 'classes = ["c10", "c9"]'
    assert classes_line([1, 0], ["shirt", "shoe"]) == 'classes = ["shirt", "shoe"]'
    assert classes_line(["3", "2", "1.0"]) == 'classes = ["1", "2", "3"]'
    assert classes_line(["10", "2", "1"], as_text=True) == 'classes = ["1", "10", "2"]'
    assert classes_line([1, 2, 4]) == 'classes = ["1", "2", "3", "4"]'
    assert classes_line([70001, 5]) == 'classes = ["5", "70001"]'
    assert classes_line([True, False]) == 'classes = ["False", "True"]'
    assert classes_line(["hound", "cat"], renamed={"hound": "dog"}) == 'classes = ["cat", "dog"]'
    assert [
        describe_order(["a"]),
        describe_order([1]),
        describe_order([1], as_text=True),
        describe_order([1], ["x"]),
    ] == [
        describe_order(["b"]),
        "sorted as numbers",
        describe_order(["a"]),
        "in the order of the data's own indices",
    ]


def test_natural_order_takes_any_names():
    assert sorted(["a10", "10", "a9", "9", "", "²"], key=natural) == ["", "a9", "a10", "²", "9", "10"]


def test_plain_makes_python_of_numbers():
    assert [type(plain(raw)) for raw in (np.int8(1), np.float64(2.0), np.float32(0.5))] == [int, int, float]
