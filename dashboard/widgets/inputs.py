"""Widgets whose values are in the page's address, so that a link shows a colleague the same view.

Each is a thin Streamlit widget bound to one query parameter. A value that does not exist any more (another run, fewer
classes) falls back to the default. Options are untrusted text and escaped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, overload
from urllib.parse import quote, urlencode

import streamlit as st

from dashboard.charts.common import Chart
from dashboard.queries import database
from dashboard.queries.score_columns import PREFERRED, STEP_HELP, STEP_WORDS, Score, ScoreColumn, group_columns
from dashboard.queries.selection import META, MetaFilter, Selection, decision_words
from dashboard.style.formatting import plain
from scoring.audit import SPLITS, Audit, Run

STEP_KEYS = {"stage": "stage", "index": "by", "form": "form", "normalised": "scale"}
NOTHING = "(nothing recorded)"
NONE = "–"
"""The sign for a missing value in tables, as in ``formatting.number``."""
MANY_CLASSES = 30


def empty(found: str, run_this: str | None = None) -> None:
    """Shows an empty state: what is missing, and the command that creates it."""
    st.info(found, icon=":material/info:")
    if run_this:
        st.code(run_this, language="bash")


def warn(sentence: str) -> None:
    """Shows a warning in one line, because a box would push the images down."""
    st.markdown(f":orange[:material/warning:] {sentence}")


def remark(sentence: str | None) -> None:
    """Shows a caption, if there is one."""
    if sentence:
        st.caption(sentence)


def show_chart(chart: Chart, key: str, **options: Any) -> Any:
    """Shows a chart with its text on how to read it, and returns its selection."""
    event = st.plotly_chart(chart.figure, key=key, config={"displayModeBar": False}, alt=chart.reading, **options)
    st.caption(chart.reading)
    return event


@overload
def choose(label: str, options: Sequence[str], key: str, default: str, **more: Any) -> str: ...


@overload
def choose(label: str, options: Sequence[str], key: str, default: None = None, **more: Any) -> str | None: ...


def choose(label: str, options: Sequence[str], key: str, default: str | None = None, **more: Any) -> str | None:
    """Returns the choice from a searchable list, bound to ``?key=``. Without a default it can be empty, and then is
    None."""
    options = list(options)
    index = options.index(default) if default in options else None
    value = st.selectbox(label, options, index=index, key=key, bind="query-params", **more)
    return value if value in options else default


def switch(label: str, options: Sequence[str], key: str, default: str, **more: Any) -> str:
    """Returns the choice from a few options side by side, bound to ``?key=``; a single option is not shown."""
    options = list(options)
    default = default if default in options else options[0]
    if len(options) == 1:
        return default
    value = st.segmented_control(label, options, default=default, required=True, key=key, bind="query-params", **more)
    return value if value in options else default


def pick_run(audit: Audit) -> Run | None:
    """Returns the chosen run; None if the audit has none."""
    names = audit.run_names()
    if not names:
        return None
    name = choose("Run", names, "run", names[0], help="A run holds one model's predictions and scores.")
    return audit.run(name)


def pick_split(audit: Audit, default: str | None = None, labelled: bool = False) -> str | None:
    """Returns train, test or pool, among the splits of the audit (with labels); None for all of them."""
    counts = database.counts(audit, Selection(), ["split"])
    there = set(counts["split"][(counts["labelled"] > 0) | (not labelled)])
    options = [split for split in SPLITS if split in there]
    value = switch("Split", ["all", *options], "split", default or "all") if len(options) > 1 else "all"
    return None if value == "all" else value


def pick_class(audit: Audit, label: str = "Class") -> str | None:
    """Returns the chosen class, None for all; the list is searchable, for a thousand classes."""
    return choose(label, audit.classes, "class", placeholder=f"All {len(audit.classes):,}", width=130)


def pick_score(
    columns: Sequence[ScoreColumn], default: ScoreColumn, fixed: Mapping[str, str] | None = None
) -> ScoreColumn:
    """Returns the chosen score; a variant is chosen step by step.

    ``default``: the score of an address without parameters. ``fixed``: steps that the page sets (the stage, if a page
    compares stages).
    """
    scores = group_columns(columns)
    home = next(score for score in scores if default in score.columns)
    title = choose("Score", [score.title for score in scores], "score", home.title, width=200)
    score = next(score for score in scores if score.title == title)
    return _pick_variant(score, default if score is home else None, fixed or {})


def _pick_variant(score: Score, default: ScoreColumn | None, fixed: Mapping[str, str]) -> ScoreColumn:
    left = list(score.columns)
    for step in score.steps:
        values = list(dict.fromkeys(column.steps.get(step, "") for column in left))
        start = default.steps.get(step) if default else PREFERRED[step]
        value = fixed[step] if fixed.get(step) in values else None
        if value is None:
            value = switch(STEP_WORDS[step], values, STEP_KEYS[step], start or values[0], help=STEP_HELP[step])
        left = [column for column in left if column.steps.get(step, "") == value]
    return left[0]


def score_parameters(columns: Sequence[ScoreColumn], column: ScoreColumn) -> dict[str, str]:
    """Returns the query parameters with which ``pick_score`` shows a column: for links from other pages."""
    score = next(score for score in group_columns(columns) if column in score.columns)
    return {"score": score.title} | {STEP_KEYS[step]: column.steps.get(step, "") for step in score.steps}


def pick_decision(all_of_them: str = "Any") -> str | None:
    """Returns the chosen state of decision; None for ``all_of_them``."""
    decisions = {words: decision for decision, words in decision_words().items()}
    value = choose("Decision", list(decisions), "decision", placeholder=all_of_them, width=150)
    return None if value is None else decisions[value]


def pick_page(n: int, size: int, signature: Any, *, key: str = "page", grid: str | None = None) -> int:
    """Returns the chosen page of ``n`` examples, from 1; the first one after a change of the content (``signature``).

    grid: the key of the example grid on the page, whose PageUp and PageDown turn it.
    """
    pages = max(1, -(-n // size))
    before = st.session_state.get(f"_{key}_of_{grid}")
    st.session_state[f"_{key}_of_{grid}"] = signature
    turn = int((st.session_state.get(grid) or {}).get("turn") or 0) if grid else 0
    here = st.session_state.get(key, 1)
    if before is not None and before != signature and here != 1:
        st.session_state[key] = 1
    elif turn and 1 <= here + turn <= pages:
        st.session_state[key] = here + turn
    elif turn:
        st.toast("This is the first page." if turn < 0 else "This is the last page.")
    return st.pagination(pages, key=key, bind="query-params") if pages > 1 else 1


def guidelines(audit: Audit) -> str | None:
    """Returns the team's labelling guidelines as text, for the grid's help; None if there are none."""
    path = audit.guidelines_path
    return path.read_text(encoding="utf8", errors="replace") if path.is_file() else None


def pick_meta(audit: Audit) -> tuple[MetaFilter, ...]:
    """Returns filters by any metadata column: first the columns, then for each its values, its range or a part of
    its text."""
    columns = [name.removeprefix(META) for name in database.meta_columns(audit)]
    if not columns:
        return ()
    chosen = st.multiselect("Filter by", columns, key="filter", bind="query-params", placeholder="Any metadata column")
    found = [_pick_meta_values(audit, META + name) for name in chosen if name in columns]
    return tuple(meta for meta in found if meta is not None)


def _pick_meta_values(audit: Audit, column: str) -> MetaFilter | None:
    kind, values, bounds = database.meta_choices(audit, column)
    label = plain(column.removeprefix(META))
    if kind == "values":
        words = [NOTHING if value is None else value for value in values]
        some = st.multiselect(label, words, key=column, bind="query-params", placeholder="Any value")
        picked = tuple(None if word == NOTHING else word for word in some if word in words)
        return MetaFilter(column, values=picked) if picked else None
    if bounds is not None:
        low, high = st.columns(2)
        hint = f"from {bounds[0]:.3g}", f"to {bounds[1]:.3g}"
        start = low.number_input(
            f"{label} from", value=None, key=f"{column}.from", bind="query-params", placeholder=hint[0]
        )
        end = high.number_input("to", value=None, key=f"{column}.to", bind="query-params", placeholder=hint[1])
        return MetaFilter(column, low=start, high=end) if start is not None or end is not None else None
    part = st.text_input(label, key=column, bind="query-params", placeholder="Part of the text")
    return MetaFilter(column, contains=part) if part else None


def meta_parameters(meta: Sequence[MetaFilter]) -> dict[str, Any]:
    """Returns the query parameters that ``pick_meta`` reads back as these filters."""
    found: dict[str, Any] = {"filter": [one.column.removeprefix(META) for one in meta]} if meta else {}
    for one in meta:
        if one.values:
            found[one.column] = [NOTHING if value is None else value for value in one.values]
        found |= {f"{one.column}.from": str(one.low)} if one.low is not None else {}
        found |= {f"{one.column}.to": str(one.high)} if one.high is not None else {}
        found |= {one.column: one.contains} if one.contains else {}
    return found


def address(page: str, parameters: Mapping[str, Any]) -> str:
    """Returns the address of a page with its state, relative to any other page.

    >>> address("grid", {"class": "a b", "decile": 3, "run": None})
    '/grid?class=a%20b&decile=3'
    """
    there = {key: value for key, value in parameters.items() if value not in (None, "", ())}
    return f"/{page}?{urlencode(there, doseq=True, quote_via=quote, safe='')}" if there else f"/{page}"
