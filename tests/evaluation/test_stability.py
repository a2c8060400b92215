"""Stability of scores over runs, against hand computations and scipy."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from scoring.evaluation import (
    decile_band,
    decile_errors_by_run,
    deviation_per_example,
    error_by_decile,
    run_agreement,
)


def test_pairs_of_runs_are_correlated_as_scipy_does():
    rng = np.random.default_rng(0)
    base = rng.normal(size=200)
    values = pd.DataFrame({run: base + rng.normal(size=200) for run in ("main", "one", "two")})
    values.loc[:9, "two"] = np.nan
    table = run_agreement(values).set_index(["run_a", "run_b"])
    assert list(table.index) == [("main", "one"), ("main", "two"), ("one", "two")]
    assert table.loc[("main", "two"), "n"] == 190
    assert table.loc[("main", "one"), "rho"] == pytest.approx(stats.spearmanr(values["main"], values["one"]).statistic)
    assert run_agreement(values[["main"]]).empty


def test_deviation_per_example_by_hand_and_missing_runs_left_out():
    values = pd.DataFrame({"a": [1.0, 5.0, 2.0], "b": [3.0, np.nan, 2.0]}, index=list("xyz"))
    found = deviation_per_example(values)
    assert found["mean"].tolist() == [2, 5, 2]
    assert found["deviation"].tolist()[::2] == pytest.approx([np.sqrt(2), 0])
    assert np.isnan(found.loc["y", "deviation"]) and found.loc["y", "runs"] == 1
    assert found.loc["x", "place"] == 0.5  # lowest of three in a, highest of two in b


def test_places_do_not_depend_on_a_runs_scale():
    rng = np.random.default_rng(0)
    base = rng.normal(size=50)
    found = deviation_per_example(pd.DataFrame({"small": base, "large": 1000 * base + 3}))
    assert found["place_deviation"].max() == pytest.approx(0, abs=1e-12)
    assert found["deviation"].max() > 1


def test_each_run_has_its_own_deciles_and_the_band_is_theirs():
    rng = np.random.default_rng(0)
    ids = [f"{at}" for at in range(300)]
    scores = {run: pd.Series(rng.normal(size=300), ids) for run in ("a", "b", "c")}
    errors = {run: pd.Series(rng.random(300) < 0.3, ids, dtype=object) for run in scores}
    errors["c"].iloc[:20] = None
    by_run = decile_errors_by_run(scores, errors)
    assert by_run.groupby("run")["n"].sum().to_dict() == {"a": 300, "b": 300, "c": 280}
    expected = error_by_decile(scores["a"].to_numpy(), errors["a"].to_numpy(dtype=bool))
    np.testing.assert_allclose(by_run.loc[by_run["run"] == "a", "error"], expected["error"])
    band = decile_band(by_run)
    fifth = by_run.loc[by_run["decile"] == 5, "error"]
    row = band[band["decile"] == 5].iloc[0]
    assert row["mean"] == pytest.approx(np.mean(fifth)) and row["deviation"] == pytest.approx(np.std(fifth, ddof=1))
    assert row["high"] - row["low"] == pytest.approx(2 * row["deviation"])


def test_one_run_has_a_mean_and_no_band():
    ids = list("abcdefghijkl")
    by_run = decile_errors_by_run({"a": pd.Series(range(12), ids)}, {"a": pd.Series([True] * 6 + [False] * 6, ids)})
    band = decile_band(by_run)
    assert len(band) == 10 and band["mean"][0] == 1 and band["low"].isna().all()
    assert decile_band(decile_errors_by_run({}, {})).empty
