"""What a page and a batch of facts read is counted, so that what grows with the square of anything is seen without a
clock.

Twice the examples are twice the rows of as many files; more classes, and more examples asked for at once, open no more
files.
"""

import itertools

import numpy as np
import pytest

from dashboard.auth import serving
from dashboard.pages import PAGES
from dashboard.presenters import session_facts as facts
from dashboard.presenters.session_facts import session_facts
from dashboard.queries import database
from scoring.audit.storage import read_table

from ..synthetic import make_audit, write_dynamics
from .reads import Reads
from .test_views import page, quiet  # noqa: F401  pytest finds the fixtures by name

FIRST = {
    "overview": 25,
    "grid": 19,
    "deciles": 16,
    "data-map": 29,
    "slices": 5,
    "suspects": 16,
    "reviews": 9,
    "meeting": 2,
    "compare": 13,
}
"""Files that the first visitor of a page has opened; a page that is not here may open as many as the most."""
AGAIN = {
    "overview": 1,
    "grid": 10,
    "deciles": 0,
    "data-map": 5,
    "slices": 0,
    "suspects": 5,
    "reviews": 0,
    "meeting": 1,
    "compare": 0,
}
"""Files that every later visit opens."""
BATCH = 26
"""Files that a batch of facts opens, whatever its size and its classes: each score file three times (what its columns
are, the examples' own values, those of their classes), and what else there is."""


@pytest.fixture(scope="module")
def audits(tmp_path_factory):
    """audits(n, classes, again=0) → an audit, the same for the same numbers."""
    made = {}

    def audit(n, classes, again=0):
        if (n, classes, again) not in made:
            found = make_audit(tmp_path_factory.mktemp("reads"), n, classes, thumbnails=True, runs=("main", "second"))
            write_dynamics(found, found.run())
            made[n, classes, again] = found
        serving.serve_this(made[n, classes, again].root)
        return made[n, classes, again]

    return audit


@pytest.fixture
def reads(monkeypatch):
    return Reads(monkeypatch)


def read_by(reads, work):
    """Files opened and rows in them while ``work()`` runs."""
    reads.clear()
    work()
    return reads.files, reads.rows


fresh = itertools.count(1)


@pytest.mark.parametrize("one", PAGES, ids=lambda one: one.name)
def test_a_page_opens_few_files_and_reads_each_row_a_fixed_number_of_times(audits, reads, one):
    again = next(fresh)  # what another page has read is kept in memory
    counted = {}
    for n, classes in ((200, 4), (400, 4), (400, 8)):
        audit = audits(n, classes, again)
        counted[n, classes] = [read_by(reads, lambda audit=audit: page(audit, one.name)) for _ in range(2)]
    (first, rows), (later, later_rows) = counted[200, 4]
    assert [files for files, _ in counted[400, 4]] == [files for files, _ in counted[400, 8]] == [first, later]
    for size in ((400, 4), (400, 8)):
        assert [n for _, n in counted[size]] == pytest.approx([2 * rows, 2 * later_rows], rel=0.02)
    assert first <= FIRST.get(one.name, max(FIRST.values())), reads.opened
    assert later <= AGAIN.get(one.name, max(AGAIN.values())), reads.opened


@pytest.mark.parametrize(("n", "classes", "size"), [(200, 4, 8), (400, 4, 8), (400, 8, 8), (400, 8, 32)])
def test_a_batch_of_facts_opens_as_many_files_whatever_its_size_and_classes(audits, reads, n, classes, size):
    audit = audits(n, classes, next(fresh))
    run = audit.run()
    ids = read_table(audit.examples_path, ["example_id"])["example_id"].to_pylist()
    files, rows = read_by(reads, lambda: session_facts(audit, run, ids[:size]))
    assert files <= BATCH and rows <= BATCH * n, reads.opened


def test_classes_that_are_known_are_not_read_again(audits, reads):
    audit = audits(400, 4, next(fresh))
    run = audit.run()
    ids = (
        read_table(audit.examples_path, ["example_id", "split"])
        .to_pandas()
        .query("split == 'train'")["example_id"]
        .tolist()
    )
    first, _ = read_by(reads, lambda: session_facts(audit, run, ids[:40]))
    later, _ = read_by(reads, lambda: session_facts(audit, run, ids[40:48]))
    assert first - later == 3 * len(run.score_names()), "the columns, the classes, and for these the examples"


def test_the_groups_of_a_batch_hold_what_each_alone_holds(audits, monkeypatch):
    audit = audits(400, 4, next(fresh))
    run = audit.run()
    files = database.stamp(run.score_path("aum")), database.stamp(audit.examples_path)
    examples = read_table(audit.examples_path, ["example_id", "split", "label"]).to_pandas().set_index("example_id")
    scores = read_table(run.score_path("aum"), ["example_id", "aum"]).to_pandas().set_index("example_id")["aum"]
    groups = [("train", "class 000"), ("test", "class 001"), ("pool", None), ("train", "no such class")]
    monkeypatch.setattr(facts, "MOST_GROUPS", 2)
    for _ in range(2):
        found = facts.class_values(*files, groups)
        for split, label in groups:
            same = examples["label"].isna() if label is None else examples["label"] == label
            own = scores[(same & (examples["split"] == split)).reindex(scores.index)].dropna()
            np.testing.assert_array_equal(found[split, label]["aum"], np.sort(own.to_numpy()))
    assert len(facts._kept) == 2
