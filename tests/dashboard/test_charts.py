"""Figures hold the numbers that they were given, in the colours that mean them, and take names as text."""

import pandas as pd
import pytest

from dashboard.charts import common
from dashboard.style.colours import LABEL, WRONG
from dashboard.style.formatting import escaped

from ..synthetic import AWKWARD


def balance(names, splits=("train", "test")):
    return pd.DataFrame(
        [{"label": name, "split": split, "n": 10 + at} for at, name in enumerate(names) for split in splits]
    )


def accuracies(names, splits=("train", "test")):
    rows = [
        {"label": name, "split": split, "n": 10, "accuracy": 0.5, "low": 0.3, "high": 0.8}
        for name in names
        for split in splits
    ]
    return pd.DataFrame(rows)


def deciles(error=0.2):
    rows = [{"decile": d, "n": 10, "error": error, "low": error / 2, "high": min(1.0, error * 2)} for d in range(1, 11)]
    return pd.DataFrame(rows)


def by_class(names):
    return pd.concat([deciles().assign(**{"class": name}) for name in names])


ALL = {
    "class_balance": lambda names: common.class_balance(balance(names), names),
    "class_accuracy": lambda names: common.class_accuracy(accuracies(names), names),
    "class_deciles": lambda names: common.class_deciles(by_class(names), names),
    "error_by_decile": lambda names: common.error_by_decile({name: deciles() for name in names}, 0.1),
    "decisions_per_day": lambda names: common.decisions_per_day(
        pd.DataFrame({"day": "2026-01-01", "reviewer": list(names), "n": range(1, len(names) + 1)})
    ),
}


@pytest.mark.parametrize("chart", ALL)
@pytest.mark.parametrize("names", [["cat"], list(AWKWARD)], ids=["a single class", "awkward names"])
def test_every_chart_stands_and_says_how_to_read_it(chart, names):
    made = ALL[chart](names)
    assert made.figure.to_json()
    sentences = made.reading.removesuffix(".").split(". ")
    assert made.reading.endswith(".") and len(sentences) <= 4
    assert max(len(sentence.split()) for sentence in sentences) <= 25, "one idea a sentence"


@pytest.mark.parametrize("chart", ALL)
def test_names_are_text_in_every_chart(chart):
    text = ALL[chart](["<b>bold</b>", "<a href='javascript:x'>y</a>"]).figure
    shown = []
    for trace in text.data:
        hover = trace.hovertext if trace.hovertext is not None else []
        shown += [str(trace.name), *(str(one) for one in hover)]
    shown += [str(tick) for tick in text.layout.yaxis.ticktext or []]
    assert not any("<b>" in one or "<a " in one for one in shown), shown


def test_bars_are_the_counts_in_the_order_of_the_names():
    figure = common.class_balance(balance(["a", "b"]), ["b", "a"]).figure
    assert [list(trace.x) for trace in figure.data] == [[10, 11], [10, 11]]
    assert [list(trace.y) for trace in figure.data] == [[1, 0], [1, 0]]
    assert list(figure.layout.yaxis.ticktext) == ["b", "a"]
    assert {trace.marker.color for trace in figure.data} == {LABEL.colour}


def test_classes_that_are_not_asked_for_are_not_shown():
    figure = common.class_balance(balance(["a", "b", "c"]), ["b"]).figure
    assert [list(trace.y) for trace in figure.data] == [[0], [0]]


def test_splits_and_stages_differ_by_more_than_colour():
    balanced = common.class_balance(balance(["a"], ("train", "test", "pool")), ["a"]).figure
    assert len({trace.marker.pattern.shape for trace in balanced.data}) == 3
    accurate = common.class_accuracy(accuracies(["a"]), ["a"]).figure
    assert len({trace.marker.symbol for trace in accurate.data}) == 2
    staged = common.error_by_decile({"early": deciles(), "late": deciles()}, 0.1).figure
    assert len({trace.marker.pattern.shape for trace in staged.data}) == 2
    assert {trace.marker.color for trace in staged.data} == {WRONG.colour}


def test_error_bars_reach_the_interval():
    figure = common.error_by_decile({"late": deciles(0.2)}, 0.1).figure
    bar = figure.data[0]
    assert bar.y[0] + bar.error_y.array[0] == pytest.approx(40)
    assert bar.y[0] - bar.error_y.arrayminus[0] == pytest.approx(10)
    assert figure.layout.shapes[0].y0 == pytest.approx(10), "the base rate"


def test_a_bar_names_its_stage_and_decile_for_a_click():
    figure = common.error_by_decile({"early": deciles(), "late": deciles()}, None).figure
    assert list(figure.data[1].customdata[3]) == ["late", 4]
    assert not figure.layout.shapes


def test_empty_deciles_are_gaps_and_not_zeros():
    frame = deciles()
    frame.loc[3, ["n", "error", "low", "high"]] = [0, float("nan"), float("nan"), float("nan")]
    figure = common.error_by_decile({"late": frame}, 0.1).figure
    assert figure.data[0].y[3] != figure.data[0].y[3]
    assert "–" in figure.data[0].hovertext[3]


def test_many_reviewers_are_told_apart():
    frame = pd.DataFrame({"day": "2026-01-01", "reviewer": [f"r{i:02d}" for i in range(16)], "n": 1})
    looks = {(trace.marker.color, trace.marker.pattern.shape) for trace in common.decisions_per_day(frame).figure.data}
    assert len(looks) == 16


def test_a_long_name_is_cut_in_its_middle():
    assert escaped("a" * 100 + "z", 11) == "aaaaa…aaaaz"
