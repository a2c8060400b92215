"""A scorer that breaks its contract is named when it is registered, or after its first shard; nothing is dropped in
silence."""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pytest
import torch

from scoring.audit import Audit
from scoring.audit.errors import HardlookError
from scoring.audit.storage import read_table, read_vectors
from scoring.pipeline import score_run
from scoring.pipeline.score_run import make_scorer, score_one
from scoring.pipeline.shards import Context, column_vectors
from scoring.scorers import Column, Scorer, registered, registry
from scoring.scorers._checks import check_finished, check_scored


def column(name):
    return Column(name=name, title=name, help="A toy's column.")


@dataclass(frozen=True, kw_only=True)
class Toy(Scorer):
    """A score that returns what ``returns`` says."""

    name = "toy"
    columns = (column("value"), column("rank"))
    returns: ClassVar = {}

    def score(self, shard, state):
        return {name: make(len(shard)) for name, make in self.returns.items()}


def toy(**attributes):
    """A toy scorer, some attributes of which are others."""
    return dataclass(frozen=True, kw_only=True)(type("Toy", (Toy,), {"__module__": __name__, **attributes}))


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"needs": ("prediction",)}, "needs 'prediction', which is not a known need; did you mean predictions?"),
        ({"needs": ("xyz",)}, "needs 'xyz', which is not a known need; available: labels, checkpoints, predictions"),
        ({"needs": "labels"}, "needs = 'labels'; needed a tuple"),
        (
            {"needs": ("dynamics",), "least": {"dynamic": 2}},
            "least names 'dynamic', which is not among its needs; did you mean dyn",
        ),
        ({"least": {"checkpoints": 2}}, "least names 'checkpoints', which is not among its needs; available: none"),
        ({"needs": ("dynamics",), "least": {"dynamics": 0}}, "least of dynamics is 0"),
        ({"columns": ()}, "declares no column"),
        ({"columns": (column("a"), column("b"), column("a"))}, "declares 'a' 2 times"),
        ({"vectors": ("value",)}, "declares 'value' as a column and as a vector"),
        ({"columns": (column("label"),)}, "column 'label' is one that every score's file has"),
        ({"vectors": ("logits",)}, "vector 'logits' would overwrite the run's own logits.arrow"),
        ({"name": "my/toy"}, "the name becomes a file's and an option's"),
        (
            {"k": None, "__annotations__": {"k": "int | None"}},
            "setting 'k' has the default None; needed a bool, an int",
        ),
        ({"k": (1, 2), "__annotations__": {"k": "tuple"}}, r"setting 'k' has the default \(1, 2\)"),
        ({"k": field(default_factory=list), "__annotations__": {"k": "list"}}, "setting 'k' has no plain default"),
    ],
)
def test_a_declaration_that_contradicts_itself_is_refused_where_it_is_registered(attributes, reason):
    with pytest.raises(HardlookError, match=f"scorer '.*toy' .*Toy.*{reason}"):
        registered([toy(**attributes)])


def test_a_class_that_is_no_dataclass_of_its_own_is_refused():
    class Plain(Toy):
        k: int = 3

    with pytest.raises(HardlookError, match="is not a dataclass, so it has no settings"):
        registered([Plain])


def test_two_scorers_share_neither_a_name_nor_a_vector():
    with pytest.raises(HardlookError, match="two scorers are called 'toy'"):
        registered([toy(), toy()])
    with pytest.raises(HardlookError, match="scorers 'toy' and 'other' both write vector 'v'"):
        registered([toy(vectors=("v",)), toy(name="other", vectors=("v",))])


def test_all_that_are_shipped_keep_it():
    assert registered(registry().values()) == registry()


@pytest.mark.parametrize(("value", "said"), [("64", "needed an int"), (True, "needed an int"), (6.5, "needed an int")])
def test_a_setting_of_another_type_is_refused(value, said):
    with pytest.raises(HardlookError, match=f"vog: batch_size = .*{said}, as its default 64 is"):
        make_scorer(registry()["vog"], {"batch_size": value})
    assert make_scorer(registry()["energy"], {"temperature": 2}).temperature == 2


def zeros(n):
    return np.zeros(n)


@pytest.mark.parametrize(
    ("returns", "reason"),
    [
        ({"value": zeros, "ranks": zeros}, "returned 'ranks', which toy does not declare; did you mean rank?"),
        ({"value": zeros}, "did not return 'rank', which is declared; available: value"),
        ({}, "did not return 'value', which is declared; available: none"),
        (
            {"value": zeros, "rank": lambda n: np.zeros(n + 1)},
            r"rank has shape \(.*\); needed \(.*,\), one row per example",
        ),
        ({"value": zeros, "rank": lambda n: np.zeros((n, 1))}, r"rank has shape \(.*, 1\)"),
        ({"value": zeros, "rank": lambda n: 0.5}, r"rank has shape \(\)"),
        ({"value": zeros, "rank": lambda n: ["a"] * n}, "rank holds <U1; needed numbers"),
        (
            {"value": zeros, "rank": lambda n: [None] * n},
            "rank holds object; needed numbers, with NaN for missing values",
        ),
        ({"value": zeros, "rank": lambda n: np.zeros(n) + 1j}, "rank holds complex128; needed numbers"),
        (
            {"value": zeros, "rank": lambda n: torch.zeros(n, requires_grad=True)},
            "rank, a Tensor, cannot become an array: Can't call numpy",
        ),
        ({"value": zeros, "rank": lambda n: [[0]] * (n - 1) + [[0, 0]]}, "rank, a list, cannot become an array"),
    ],
)
def test_what_score_returns_is_checked_after_the_first_shard(sample_copy, monkeypatch, returns, reason):
    seen = []
    kind = toy(
        returns=returns, score=lambda self, shard, state: seen.append(len(shard)) or Toy.score(self, shard, state)
    )
    monkeypatch.setattr(score_run, "cut", lambda at, size: [at[:50], at[50:]])
    audit = Audit.open(sample_copy)
    with pytest.raises(HardlookError, match=f"toy.score:? {reason}"):
        score_one(Context(audit, audit.run(), device="cpu"), kind())
    assert seen == [50]
    assert not audit.run().score_path("toy").exists()


def test_a_declared_vector_that_is_not_returned_is_an_error():
    with pytest.raises(HardlookError, match="toy.score did not return 'embedding', which is declared"):
        check_scored(toy(vectors=("embedding",))(), {"value": zeros(3), "rank": zeros(3)}, 3, finishes=False)


def test_vectors_of_two_lengths_are_an_error():
    import pyarrow as pa

    from scoring.pipeline.shards import vector_column

    tables = [pa.table({"v": vector_column(np.zeros((4, width)))}) for width in (2, 4)]
    with pytest.raises(HardlookError, match="the vectors 'v' have 2 entries in one shard and 4 in another"):
        column_vectors(tables, "v")


def test_a_column_that_only_finish_fills_is_fine_and_one_that_nobody_fills_is_not(sample_copy):
    def finish(self, columns, examples):
        return columns | {"rank": columns["value"].argsort()}

    ids = {"value": np.arange}
    audit = Audit.open(sample_copy)
    context = Context(audit, audit.run(), device="cpu")
    score_one(context, toy(returns=ids, finish=finish)())
    table = read_table(audit.run().score_path("toy"))
    assert table["rank"].to_pylist() == list(range(len(context.examples)))
    with pytest.raises(HardlookError, match="toy.finish did not return 'rank', which is declared"):
        check_finished(toy(), {"value": zeros(2)}, 2)
    with pytest.raises(
        HardlookError, match="toy.finish returned 'rang', which toy does not declare; did you mean rank?"
    ):
        check_finished(toy(), {"value": zeros(2), "rank": zeros(2), "rang": zeros(2)}, 2)
    with pytest.raises(HardlookError, match="toy.finish returned a NoneType; needed a dict"):
        check_finished(toy(), None, 2)


def test_infinite_values_are_null_and_said(sample_copy):
    audit = Audit.open(sample_copy)
    context = Context(audit, audit.run(), device="cpu")
    returns = {"value": lambda n: np.where(np.arange(n) == 1, np.inf, 0), "rank": zeros}
    score_one(context, toy(returns=returns)())
    table = read_table(audit.run().score_path("toy"))
    assert (table["value"].null_count, table["rank"].null_count) == (1, 0)
    assert context.notes == ["value is infinite for some examples, and stored as null there"]


def test_one_that_needs_influence_gets_the_vectors_of_its_examples(sample_copy):
    audit = Audit.open(sample_copy)
    context = Context(audit, audit.run(), device="cpu")
    kind = toy(
        needs=("influence",),
        score=lambda self, shard, state: {"value": shard.influence[:, 0], "rank": zeros(len(shard))},
    )
    registered([kind])
    score_one(context, kind())
    ids, vectors = read_vectors(audit.run().influence_path)
    first = dict(zip(ids, vectors[:, 0], strict=True))
    table = read_table(audit.run().score_path("toy"))
    wanted = [first[one] for one in table["example_id"].to_pylist()]
    np.testing.assert_array_equal(table["value"].to_numpy(), wanted)
    assert np.isfinite(wanted).any()
