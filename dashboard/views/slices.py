"""/slices: groups of examples that the training set influences similarly, least accurate first.

The slicing is a saved one or is found on the page with other settings. It is shown as cards or as a map. An opened
slice, or a selection on the map, is shown beside its opponents and proponents in the training set.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd
import streamlit as st

from dashboard.auth.serving import serving
from dashboard.blinding import model_output, second_reader
from dashboard.charts import slice_charts
from dashboard.panels import jobs, slice_cards
from dashboard.panels.embedding_map import show_map
from dashboard.panels.influential_examples import show_influential
from dashboard.presenters import corrected_metrics, influences
from dashboard.queries import database, slicings
from dashboard.queries.selection import MetaFilter
from dashboard.queries.slicings import Slicing
from dashboard.style.formatting import command_line, count, number, percent, plain, quoted
from dashboard.widgets import grouping, inputs, page_frame
from scoring.audit import Audit, Run
from scoring.audit.errors import HardlookError
from scoring.queue import blinding as hiding
from scoring.slices.slicing_run import METHODS, SliceSettings

OTHER = "other settings"
REFUSAL = "_keep_refused"
CARDS, MAP = VIEWS = ("cards", "map")
CARDS_PER_PAGE = 24
MOST_ROWS = 12
DISTANCE_HELP = (
    "Cosine distance to the slice's centre (1 − cosine similarity): 0 is at the centre, 2 is opposite. "
    "The nearest members come first."
)
METHOD_HELP = (
    "kmeans: a fixed number of slices. rule: splits the examples until a slice has at most this accuracy, but at least "
    "this size. dbscan: dense regions; their number is not fixed. spectral: clusters of the nearest-neighbour graph."
)


def show() -> None:
    """Shows the page."""
    audit, run, meta, columns = page_frame.scored_run()
    lacks = influences.missing_embeddings(audit, run)
    if lacks:
        inputs.empty(*lacks)
        return jobs.show_job(audit, run, "Compute influence embeddings", "score", "--only", "influence,self_influence")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        name = pick_slicing(run)
        shown = inputs.switch("Show", VIEWS, "show", CARDS)
        settings = pick_settings(audit) if name is None else None
    try:
        slicing = slicings.read_saved(run, name or "") if settings is None else find_now(audit, run, settings)
    except HardlookError as error:
        st.error(quoted(str(error), longest=1000), icon=":material/error:")
        return None
    if second_reader.is_blind_split(audit, slicing.settings.split):
        return inputs.empty(
            f"{hiding.TEST} Slices of test would reveal it. Choose a slicing of train, or find one under “other "
            "settings”."
        )
    if settings is not None:
        offer_to_keep(audit, run, settings)
    describe(slicing, audit, run)
    if shown == MAP:
        return show_map(audit, run, meta, columns, slicing)
    return show_slices(audit, run, meta, slicing, name)


# -- which slicing ---------------------------------------------------------------------------------------------------


def pick_slicing(run: Run) -> str | None:
    """Returns the name of a saved slicing; None for other settings."""
    names = [name for name in run.slicing_names() if name != OTHER]
    chosen = inputs.choose(
        "Slicing",
        [*names, OTHER],
        "slicing",
        (names or [OTHER])[0],
        width=200,
        help="Choose a saved slicing by name, or “other settings” to find new slices on this page.",
    )
    return None if chosen == OTHER else chosen


def pick_settings(audit: Audit) -> SliceSettings:
    """Returns the settings for finding slices; they are in the address."""
    start = SliceSettings(seed=audit.seed)
    method = inputs.switch("Method", METHODS, "method", start.method, help=METHOD_HELP)
    settings = replace(start, method=method, split=inputs.pick_split(audit, start.split, labelled=True) or start.split)
    if method == "rule":
        return replace(
            settings,
            max_accuracy=_number("Maximum accuracy", "max_accuracy", start.max_accuracy, 0.0, 1.0, step=0.05),
            min_size=_number("Minimum size", "min_size", start.min_size, 1, 1_000_000),
            branching=_number("Branches per split", "branching", start.branching, 2, 20),
        )
    if method == "dbscan":
        return settings
    return replace(settings, n_slices=_number("Number of slices", "n_slices", start.n_slices, 1, 1000))


def _number(label: str, key: str, default: Any, low: Any, high: Any, **more: Any) -> Any:
    return st.number_input(label, low, high, default, key=key, bind="query-params", width=140, **more)


def find_now(audit: Audit, run: Run, settings: SliceSettings) -> Slicing:
    """Returns slices with these settings; the last few results are cached."""
    with st.spinner("Finding slices …"):
        return slicings.find_unsaved(audit, run, settings)


def offer_to_keep(audit: Audit, run: Run, settings: SliceSettings) -> None:
    """Shows the form that saves the slicing under a name."""
    if serving().identity.read_only:
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        name = st.text_input("Save as", key="keep_as", placeholder=f"{settings.method} 2", width=200)
        st.button("Save", icon=":material/save:", disabled=not name, on_click=keep, args=(audit, run, settings, name))
    if refusal := st.session_state.pop(REFUSAL, None):
        st.error(quoted(refusal, longest=1000), icon=":material/error:")


def keep(audit: Audit, run: Run, settings: SliceSettings, name: str) -> None:
    """Saves a slicing and selects it. This runs before the page, because only then may the list's value be set."""
    try:
        slicings.save(audit, run, settings, name)
    except HardlookError as error:
        st.session_state[REFUSAL] = str(error)
    else:
        st.session_state["slicing"] = name.strip()


def describe(slicing: Slicing, audit: Audit, run: Run) -> None:
    """Shows how the slices were found, how many examples they hold, and whether they are out of date."""
    settings, summary = slicing.settings, slicing.summary
    ways = {
        "rule": f"accuracy at most {percent(settings.max_accuracy)}, at least "
        f"{count(settings.min_size, 'example')} per slice, {settings.branching} branches per split",
        "dbscan": "dense regions",
    }
    way = ways.get(settings.method, f"{count(settings.n_slices, 'slice')} requested")
    none = f"; {summary['in_none']:,} in no slice" if summary["in_none"] else ""
    st.caption(
        f"**{count(len(slicing.slices), 'slice')}** of {count(summary['examples'], f'{settings.split} example')} "
        f"({percent(summary['accuracy'])} predicted right{none}). Method: {settings.method}, {way}. Slices are "
        "clusters of influence embeddings: the training set influences the members of a slice in a similar way."
    )
    if slicing.stale:
        inputs.warn(
            "The influence embeddings are newer than this slicing. This command finds the slices again: "
            f"`{command_line('slice', audit, '--run', run.name, '--method', settings.method)}`"
        )


# -- cards and an opened slice ---------------------------------------------------------------------------------------


def show_slices(audit: Audit, run: Run, meta: tuple[MetaFilter, ...], slicing: Slicing, name: str | None) -> None:
    """Shows the opened slice, or all of them as cards."""
    one = slicing.find(st.query_params.get("slice"))
    if one is not None:
        return show_slice(audit, run, meta, slicing, one, name)
    if not slicing.slices:
        return inputs.empty(
            "No slice satisfies these settings. Allow a higher accuracy or a smaller size, or choose another method."
        )
    return show_all(audit, run, meta, slicing, name)


def show_all(audit: Audit, run: Run, meta: tuple[MetaFilter, ...], slicing: Slicing, name: str | None) -> None:
    """Shows a page of cards; with metadata filters only slices with members that pass them."""
    slices, members = slicing.slices, None
    if meta:
        passing = slicing.members["example_id"].isin(database.matching(audit, meta))
        members = slicing.members[passing].groupby("slice_id").size().to_dict()
        slices = [one for one in slices if members.get(one["slice_id"])]
        st.caption(
            f"{count(len(slices), 'slice')} of {len(slicing.slices):,} have members that match the filters. The "
            "numbers on each card are about the whole slice."
        )
    page = inputs.pick_page(len(slices), CARDS_PER_PAGE, (run.name, name, slicing.settings, meta), key="cards_page")
    st.caption(slice_cards.READING)
    grouped = page_frame.current_grouping()
    if grouped is not None:
        show_groups(audit, slicing, slices, grouped)
    part = slices[(page - 1) * CARDS_PER_PAGE : page * CARDS_PER_PAGE]
    both = corrected_metrics.slice_accuracy_texts(audit, run, slicing.members)
    opened = slice_cards.show_cards(audit, run, part, members, key="slices", corrected=both)
    if opened is not None:
        st.query_params["slice"] = str(opened)
        st.rerun()


def show_groups(audit: Audit, slicing: Slicing, slices: list[Any], grouped: grouping.Grouping) -> None:
    """Shows how the members of the slices spread over the groups of the metadata column chosen in the sidebar."""
    with st.expander(f"Slices by {plain(grouped.column)}", expanded=True):
        table = slicings.by_group(slicing, slices, grouping.group_by_example(audit, grouped), grouped.names)
        if table.empty:
            return inputs.empty("No member of these slices is in a group of this column.")
        table["accuracy"] = ["–" if value is None else percent(value) for value in table["accuracy"]]
        st.dataframe(table, hide_index=True, placeholder=inputs.NONE, height="content" if len(table) < 9 else 320)
        st.caption(
            "Number of members of each slice in each group, least accurate slice first. If nearly all members of "
            "an inaccurate slice are in one group, the model fails on that group."
        )
        grouping.explain(grouped)
    return None


def show_slice(
    audit: Audit, run: Run, meta: tuple[MetaFilter, ...], slicing: Slicing, one: dict[str, Any], name: str | None
) -> None:
    """Shows one slice: its numbers, its members between its opponents and proponents."""
    members = slicing.ids(one["slice_id"])
    members, left_out = model_output.drop_hidden_rows(audit, members, members["example_id"].tolist())
    if left_out:
        st.caption(left_out)
    if meta:
        members = members[members["example_id"].isin(database.matching(audit, meta))]
    passing = f" · {len(members):,} match the filters" if meta else ""
    both = corrected_metrics.slice_accuracy_texts(audit, run, slicing.members).get(one["slice_id"])
    head(one, f"{passing} · {both}" if both else passing)
    if members.empty:
        return inputs.empty(left_out or "No member of this slice matches the metadata filters in the sidebar.")
    texts = {row.example_id: (f"distance {number(row.distance)}", DISTANCE_HELP) for row in members.itertuples()}
    about = {"slicing": name or OTHER, "slice": one["slice_id"]}
    show_influential(
        audit, run, members["example_id"].tolist(), "Members", key="slice_grid", scores=texts, evidence=about
    )
    show_facts(one)
    return None


def head(one: dict[str, Any], passing: str) -> None:
    """Shows the way back, and the slice in numbers."""
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button("All slices", icon=":material/arrow_back:"):
            del st.query_params["slice"]
            st.rerun()
        title = f"{slice_cards.title(one)} · {slice_cards.accuracy_text(one)} · {count(one['size'], 'example')}"
        st.subheader(title, anchor=False, width="content")
        numbers = f"{slice_cards.interval_text(one)} · {slice_cards.distance_text(one)}{passing}"
        st.caption(numbers, help=slice_cards.DISTANCE_HELP, width="content")


def show_facts(one: dict[str, Any]) -> None:
    """Shows labels against predictions, and the frequent metadata values of the members."""
    left, right = st.columns([3, 2])
    with left:
        st.subheader("Labels and predictions", anchor=False)
        rows = slice_cards.histogram(one["labels"], one["predictions"], MOST_ROWS)
        inputs.show_chart(slice_charts.labels_and_predictions(rows["rows"]), "slice_classes")
        if rows["rest"]:
            st.caption(f"{rows['rest']} with fewer examples")
    with right:
        st.subheader("Frequent metadata values", anchor=False)
        table = pd.DataFrame(one["overrepresented"])
        if table.empty:
            st.caption(
                "No metadata value is significantly more frequent in this slice than in all examples (false "
                "discovery rate 5 %)."
            )
            return
        shown = table.assign(**{name: [percent(value) for value in table[name]] for name in ("share", "base_share")})
        shown["lift"] = [number(value) for value in table["lift"]]
        shown["q_value"] = [number(value) for value in table["q_value"]]
        words = {"share": "in the slice", "base_share": "in all", "lift": "ratio", "q_value": "q"}
        st.dataframe(
            shown[["column", "value", "n", *words]].rename(columns=words), hide_index=True, placeholder=inputs.NONE
        )
        st.caption(
            "Metadata values that are significantly more frequent in the slice than in all examples. “ratio” "
            "divides the two shares. q is the smallest false discovery rate at which the row is significant."
        )


show()
