"""The report on examples out of distribution, as /compare shows it."""

import os

import numpy as np
import pyarrow as pa
import pytest

from scoring.audit.storage import write_table

from ..synthetic import make_audit
from .test_compare_view import figures, numbers
from .test_views import page, quiet, said  # noqa: F401  pytest finds the fixtures by name

SHOW = {"show": "out of distribution"}


@pytest.fixture(scope="module")
def audit(tmp_path_factory):
    return make_audit(tmp_path_factory.mktemp("outside") / "audit", 60, 3, splits=("train", "test", "pool"))


def write(run, **more):
    curves = [np.linspace(0, 1, 101) ** power for power in (0.2, 0.5, 1.0)]
    table = {
        "score": ["odin", "KDE", "energy"],
        "auroc": [0.83, 0.67, 0.5],
        "aupr_in": [0.9, 0.8, 0.7],
        "aupr_out": [0.6, 0.5, 0.2],
        "inside": [40, 40, 40],
        "outside": [10, 10, 10],
        "classical": [False, True, False],
        "roc": [curve.tolist() for curve in curves],
        **more,
    }
    write_table(run.out_of_distribution_path, pa.table(table), {"out": "split=pool", "in": "split=test"})


def test_without_a_report_it_says_what_to_run(audit):
    audit.run().out_of_distribution_path.unlink(missing_ok=True)
    words = said(page(audit, "compare", **SHOW))
    assert "no out-of-distribution report" in words
    assert f"hardlook ood {audit.root} --run main --out split=pool" in words


def test_the_table_and_the_curves_are_those_of_the_report(audit):
    write(audit.run())
    app = page(audit, "compare", **SHOW)
    words = said(app)
    assert "split=pool" in words and "10 examples" in words and "AUPR out of a random score: 0.2" in words
    table = app.dataframe[0].value
    assert table["score"].tolist() == ["odin", "KDE", "energy"]
    assert table["kind"].tolist() == ["score of this run", "standard OoD detector", "score of this run"]
    assert table["AUROC"].tolist() == [0.83, 0.67, 0.5]
    lines = figures(app)[0]["data"]
    assert [line["name"] for line in lines] == [
        "chance",
        "odin, AUROC 0.830",
        "energy, AUROC 0.500",
        "KDE, AUROC 0.670",
    ]
    np.testing.assert_allclose(numbers(lines[1]["y"]), 100 * np.linspace(0, 1, 101) ** 0.2)
    assert "Each line is the ROC curve of a score" in words


def test_the_address_chooses_the_curves(audit):
    write(audit.run())
    lines = figures(page(audit, "compare", curves="KDE", **SHOW))[0]["data"]
    assert [line["name"] for line in lines] == ["chance", "KDE, AUROC 0.670"]


def test_scores_newer_than_the_report_are_told(audit):
    write(audit.run())
    assert "newer than this report" not in said(page(audit, "compare", **SHOW))
    os.utime(audit.run().out_of_distribution_path, (1, 1))
    words = said(page(audit, "compare", **SHOW))
    assert "newer than this report" in words and "--out split=pool --in split=test" in words


def test_a_report_of_an_older_version_and_one_without_numbers_still_stand(audit):
    nothing = [float("nan")] * 3
    write(audit.run(), auroc=nothing, aupr_in=nothing, aupr_out=nothing)
    assert "A row without numbers" in said(page(audit, "compare", **SHOW))
    write_table(
        audit.run().out_of_distribution_path,
        pa.table(
            {"score": ["odin"], "auroc": [0.8], "aupr_in": [0.9], "aupr_out": [0.6], "inside": [40], "outside": [10]}
        ),
    )
    assert page(audit, "compare", **SHOW).dataframe[0].value["AUROC"].tolist() == [0.8]
