"""The text of audit.toml: what was found comes back out of it, questions stay comments, nothing is overwritten."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring.audit.errors import HardlookError
from scoring.setup.class_names import classes_line
from scoring.setup.findings import FoundData, FoundModel, Line, as_value
from scoring.setup.written_config import config_text, write_config

VALUES = st.recursive(
    st.booleans()
    | st.integers(-(2**62), 2**62)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)
DATA = FoundData(media="image", tables=((Line("split", "train"), Line("path", "x", "a\nreason of two lines")),))


def run(**more):
    lines = {"model": Line("model", "net"), "checkpoints": Line("checkpoints", "a.pt")}
    return FoundModel(kind="own", **{**lines, **more})


@given(st.dictionaries(st.text(min_size=1, max_size=8), VALUES, max_size=5), st.text(max_size=40))
def test_every_value_comes_back_whatever_the_reason_beside_it(values, reason):
    lines = tuple(Line(key, value, reason) for key, value in values.items())
    text = config_text(DATA, run(arguments=lines), Line("classes", ["a", 'b"\\']))
    read = tomllib.loads(text)
    assert read["run"]["main"].get("arguments", {}) == values and read["classes"] == ["a", 'b"\\']
    assert read["data"] == [{"split": "train", "path": "x"}]


def test_questions_are_comments_and_leave_the_rest_alone():
    asked = (Line("width", 3, "the width", asked=True), Line("depth", 2))
    read = tomllib.loads(config_text(DATA, run(arguments=asked), Line("classes", ["a", "b"], "why", asked=True)))
    assert read["run"]["main"]["arguments"] == {"depth": 2} and "classes" not in read


def test_a_transform_that_is_asked_for_as_a_whole_has_no_table():
    text = config_text(DATA, run(transform=(Line("mode", "RGB", "", asked=True),)), Line("classes", ["a", "b"]))
    assert "# [run.main.transform]" in text and "transform" not in tomllib.loads(text)["run"]["main"]


def test_long_lists_are_broken_into_lines_and_long_reasons_stand_above():
    names = [f"class number {number}" for number in range(60)]
    text = config_text(DATA, run(), Line("classes", names, "a reason"))
    assert tomllib.loads(text)["classes"] == names
    assert max(map(len, text.splitlines())) < 130 and "# a reason\nclasses = [\n" in text


def test_nothing_is_overwritten_and_what_a_killed_writing_leaves_is_no_audit(tmp_path, monkeypatch):
    write_config(tmp_path / "a", "format = 1\n")
    with pytest.raises(HardlookError, match="already has an audit.toml"):
        write_config(tmp_path / "a", "format = 2\n")
    assert (tmp_path / "a" / "audit.toml").read_text() == "format = 1\n"
    (tmp_path / "file").write_text("")
    with pytest.raises(HardlookError, match="is a file"):
        write_config(tmp_path / "file", "")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write_config(tmp_path / "b", "format = 1\n")
    assert not (tmp_path / "b" / "audit.toml").exists()


@pytest.mark.parametrize("value", [None, object(), {1, 2}, [1, None], {"a": object()}, float("inf"), 2**70])
def test_what_toml_cannot_hold_is_no_value(value):
    assert as_value(value) is None


# -- classes -------------------------------------------------------------------------------------------------


def data(*names):
    return FoundData(media="image", tables=(), classes=names, order="sorted as text")


@pytest.mark.parametrize(
    "names, model, value, asked",
    [
        (("a", "b"), None, ["a", "b"], False),
        (("a", "b"), run(outputs=2), ["a", "b"], False),
        (("a", "b"), run(outputs=1), ["a", "b"], False),  # one logit for two classes
        (("a", "b"), run(outputs=3), ["a", "b"], True),
        (("0", "1"), run(outputs=4), ["0", "1", "2", "3"], False),  # numbers are their own places
        (("1", "2"), run(outputs=4), ["1", "2"], True),
        (("b", "a"), run(classes=("b", "a", "c"), classes_from="f"), ["b", "a", "c"], False),
        (("0", "1"), run(classes=("x", "y"), classes_from="f"), ["x", "y"], False),
        (("X", "y"), run(classes=("x", "y"), classes_from="f"), ["x", "y"], False),
        ((), None, ["first", "second"], True),
    ],
)
def test_classes_come_from_the_checkpoint_else_from_the_data(names, model, value, asked):
    line, questions = classes_line(data(*names), model, None)
    assert line.value == value and line.asked == asked
    assert bool(questions) == (asked or names == ("X", "y"))
