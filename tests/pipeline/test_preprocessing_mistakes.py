"""Which mistake explains an accuracy: named where it is significant, guessed with its numbers where not, else
untested."""

import numpy as np
import pytest

from scoring.pipeline.preprocessing_mistakes import Remedy, advantage, best_remedy, class_remedies, input_remedies


def noisy(labels, classes, accuracy, rng):
    """Predictions that are right at this rate, else uniform over the other classes."""
    wrong = (labels + rng.integers(1, classes, len(labels))) % classes
    return np.where(rng.random(len(labels)) < accuracy, labels, wrong)


def found(predictions, labels, classes):
    names = [f"class {n:03d}" for n in range(classes)]
    remedies, untested = class_remedies(predictions, labels, names)
    return best_remedy(remedies, predictions == labels), untested


@pytest.mark.parametrize(("classes", "each"), [(2, 40), (10, 10), (60, 3), (125, 4), (400, 3)])
def test_a_permutation_of_any_number_of_classes_is_found(classes, each):
    rng = np.random.default_rng(classes)
    labels = np.repeat(np.arange(classes), each)
    order = rng.permutation(classes) if classes > 2 else np.array([1, 0])
    predictions = order[noisy(labels, classes, 0.9, rng)]
    winner, untested = found(predictions, labels, classes)
    assert untested is None and winner.sure and winner.right.mean() > 0.5
    assert "classes are permuted" in winner.text
    if 2 < classes <= 50:
        meant = [f'"class {np.flatnonzero(order == output)[0]:03d}"' for output in range(classes)]
        assert (
            f"classes = [{', '.join(meant)}]" in winner.text
        )  # applied before it is recommended: these are the outputs


@pytest.mark.parametrize("classes", [2, 4, 10, 60, 100])
def test_of_rightly_configured_nets_with_twenty_examples_none_is_blocked(classes):
    """400 nets of 30 to 95 % accuracy: where no mistake was made, none is called sure."""
    rng = np.random.default_rng(classes)
    sure = 0
    for _ in range(400):
        labels = rng.integers(0, classes, 20)
        winner, _ = found(noisy(labels, classes, rng.uniform(0.3, 0.95), rng), labels, classes)
        sure += winner is not None and winner.sure
    assert sure <= 8  # the level is 1 %, and Bonferroni's is below it


def test_where_no_class_shows_twice_it_says_that_it_was_not_tested():
    labels = np.arange(30)
    winner, untested = found((labels * 7 + 3) % 30, labels, 30)
    assert winner is None or not winner.sure
    assert "not arbitrary permutations" in untested and "0 of 30" in untested


def test_the_order_of_image_folder_is_known_by_name_and_needs_few_examples():
    names = [str(n) for n in range(1, 13)]
    folder = sorted(names)  # 1, 10, 11, 12, 2 …: in this order the model's outputs are
    labels = np.arange(12)
    predictions = np.array([folder.index(names[label]) for label in labels])
    remedies, untested = class_remedies(predictions, labels, names)
    winner = best_remedy(remedies, predictions == labels)
    assert untested and winner.sure and winner.right.all()
    assert "ImageFolder" in winner.text and '`classes = ["1", "10", "11", "12", "2"' in winner.text


def test_labels_that_are_counted_from_one_get_a_label_map_and_no_other_order():
    names = ["World", "Sports", "Business", "Sci/Tech"]
    true = np.arange(60) % 3
    labels, predictions = true + 1, true  # what the file calls 1 is output 0
    winner = best_remedy(class_remedies(predictions, labels, names)[0], predictions == labels)
    assert winner.sure and 'label_map = { "1" = "World", …, "4" = "Sci/Tech" }' in winner.text


def test_mcnemar_is_the_binomial_tail():
    right, remedied = np.array([0, 0, 0, 1, 1, 1], bool), np.array([1, 1, 1, 0, 1, 1], bool)
    assert advantage(remedied, right) == pytest.approx(5 / 16)  # P(X ≥ 3), X ~ B(4, ½)
    assert advantage(right, right) == 1.0


def test_an_advantage_that_may_be_chance_is_said_with_its_numbers():
    right = np.arange(20) < 12
    remedied = np.arange(20) < 15
    winner = best_remedy([Remedy("undo it", remedied)], right)
    assert (
        not winner.sure
        and "75.0% with this corrected; with only 20 examples this may be chance, p = 0.12" in winner.sentence()
    )
    assert best_remedy([Remedy("undo it", right)], right) is None


def test_pictures_alone_have_remedies_of_inputs():
    import torch

    assert len(input_remedies(torch.zeros(2, 3, 4, 4))) == 11
    assert input_remedies(torch.zeros(2, 9)) == {}


def test_a_remedy_that_chance_explains_as_well_is_not_named():
    right = np.arange(60) < 10
    better = np.arange(60) < 12  # two examples more: p = 0.25, of five candidates 1
    candidates = [Remedy("the classes are permuted", better)] * 5
    assert best_remedy(candidates, right) is None
    assert best_remedy(candidates[:1], right).sentence().startswith("perhaps the classes are permuted (20.0%")
