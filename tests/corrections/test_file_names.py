"""File names of exports: one name each, allowed everywhere, distinct where case and composition do not count."""

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from scoring.corrections.file_names import LONGEST, file_names

TEXTS = st.lists(st.text(max_size=12) | st.sampled_from(["..", "CON", "nul.txt", "a/b", "\0", "a" * 400, "é" * 300]))


@given(TEXTS)
def test_names_are_portable_distinct_and_short(texts):
    names = file_names(texts)
    assert len(names) == len(texts)
    folded = {unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold()) for name in names}
    assert len(folded) == len(names)
    for name in names:
        assert name and len(name.encode()) <= LONGEST
        assert not {*name} & {*'/\\:*?<>|"\0\n'} and name not in (".", "..") and name == name.rstrip(". ")
        assert name.split(".")[0].casefold() not in ("con", "nul", "prn", "aux")


@given(TEXTS)
def test_names_that_are_portable_and_distinct_stay(texts):
    names = file_names(texts)
    assert file_names(names) == names


def test_a_name_that_needs_no_change_is_not_pushed_aside():
    assert file_names(["a/b", "a_b", "A_B"]) == ["a_b-3", "a_b", "A_B-2"]


def test_endings_are_kept_in_long_names_and_beside_numbers():
    long, again, dots = file_names(["x" * 400 + ".png", "x" * 400 + ".PNG", "a.tar.gz"])
    assert long.endswith("x.png") and again.endswith("-2.PNG") and dots == "a.tar.gz"
