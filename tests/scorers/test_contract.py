"""The scorer contract and its registry."""

import subprocess
import sys

import numpy as np
import pytest

from scoring.audit.errors import HardlookError
from scoring.audit.storage import column_facts
from scoring.scorers import Column, Scorer, Shard, find_scorer, registry


def test_the_registry_finds_every_file_in_sorted_order():
    names = list(registry())
    assert names == sorted(names)
    assert {"aum", "data_map", "uncertainty", "vog"} <= set(names)
    assert all(issubclass(scorer, Scorer) for scorer in registry().values())


def test_an_unknown_score_names_the_close_one_or_lists_all():
    with pytest.raises(HardlookError, match="no score 'vgo'; did you mean vog?"):
        find_scorer("vgo")
    with pytest.raises(HardlookError, match="no score 'xyz'; available: .*data_map"):
        find_scorer("xyz")


def test_a_columns_facts_travel_with_its_field():
    column = Column(name="x", title="X", help="What x is.", suspicious="low", detects="label error")
    facts = column_facts(column.arrow_field())
    assert facts == {"title": "X", "help": "What x is.", "family": "", "suspicious": "low", "detects": "label error"}


@pytest.mark.parametrize("wrong", [{"suspicious": "highest"}, {"detects": "errors"}])
def test_a_column_refuses_words_that_mean_nothing(wrong):
    with pytest.raises(HardlookError, match="needed one of"):
        Column(name="x", title="X", help="…", **wrong)


def test_settings_are_fields_with_defaults_and_every_column_explains_itself():
    for scorer in registry().values():
        scorer()
        assert scorer.__doc__
        names = [column.name for column in scorer.columns]
        assert len(set(names)) == len(names) > 0
        assert all(column.title and len(column.help) > 20 for column in scorer.columns)


def test_importing_scoring_and_what_the_dashboard_reads_loads_no_torch():
    code = (
        "import sys, scoring, scoring.audit, scoring.audit.storage, scoring.data.examples, scoring.reviews, "
        "scoring.queue.order, "
        "scoring.evaluation, scoring.corrections.label_patch, scoring.scorers._contract\n"
        "found = {'torch', 'ray', 'umap', 'pynndescent'} & set(sys.modules); sys.exit(str(found) if found else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["aum", "data_map", "el2n", "energy", "forgetting", "self_influence", "uncertainty"])
def test_a_shard_without_what_a_score_needs_is_refused_with_the_need(name):
    nothing = np.array([], dtype=object)
    shard = Shard(example_id=nothing, split=nothing, labels=np.array([], dtype=int), classes=["a", "b"])
    kind = find_scorer(name)
    with pytest.raises(HardlookError, match="uses '(dynamics|features|predictions)', which its needs do not list"):
        kind().score(shard, {})
