"""Sections of guidelines.md: which class each belongs to, and its gold examples."""

from scoring.reviews.guidelines import Section, sections

TEXT = """# How we label
Look twice.

## Cat
Whole or part.
### What about drawings?
They count.
Gold: `a, 1.png`, `b.png`
- gold examples: c.png, b.png

## `naïve  dog` ##
Barks.
"""


def test_each_class_has_its_own_section_whatever_the_case_and_the_spaces():
    found = sections(TEXT, ["cat", "naïve dog", "bird"])
    assert set(found) == {"cat", "naïve dog"}
    assert found["cat"].text == "Whole or part.\n### What about drawings?\nThey count."
    assert found["naïve dog"] == Section("Barks.")


def test_gold_examples_keep_their_order_and_each_is_named_once():
    assert sections(TEXT, ["cat"])["cat"].gold == ("a, 1.png", "b.png", "c.png")


def test_a_text_without_headings_says_nothing_of_a_class():
    assert sections("cat\nis an animal", ["cat"]) == {}
