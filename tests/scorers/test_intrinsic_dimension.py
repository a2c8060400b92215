"""Levina-Bickel against scikit-dimension, by hand, and on data of known dimension."""

import numpy as np
import pytest

from scoring.audit.errors import HardlookError
from scoring.scorers import intrinsic_dimension as module
from scoring.scorers.intrinsic_dimension import intrinsic_dimension, neighbour_radii


def by_the_formula(radii, k1, k2):
    """Equation 8 and 9 as printed, in loops."""
    found = []
    for t in radii:
        m = [1 / (sum(np.log(t[k - 1] / t[j]) for j in range(k - 1)) / (k - 1)) for k in range(k1, k2 + 1)]
        found.append(np.mean(m))
    return np.array(found)


def test_it_is_the_papers_formula():
    x = np.random.default_rng(0).normal(size=(200, 5))
    radii = neighbour_radii(x, 12)
    np.testing.assert_allclose(intrinsic_dimension(radii, 5, 12), by_the_formula(radii, 5, 12), rtol=1e-10)


def test_scikit_dimension_agrees_at_one_k():
    skdim = pytest.importorskip("skdim")
    x = np.random.default_rng(1).normal(size=(300, 4)).astype(np.float32)
    theirs = skdim.id.MLE().fit(x, n_neighbors=15).dimension_pw_
    ours = intrinsic_dimension(neighbour_radii(x, 15), 15, 15)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)


def test_radii_are_those_of_all_pairs():
    x = np.random.default_rng(2).normal(size=(80, 3)).astype(np.float32)
    pairs = np.linalg.norm(x[:, None].astype(float) - x[None], axis=2)
    np.testing.assert_allclose(neighbour_radii(x, 6), np.sort(pairs, axis=1)[:, 1:7], rtol=1e-6)


def test_duplicates_and_equal_radii_are_null_and_stop_nothing():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(60, 3))
    x[1] = x[0]
    found = intrinsic_dimension(neighbour_radii(x, 8), 4, 8)
    assert np.isnan(found[:2]).all() and np.isfinite(found[2:]).all()
    assert np.isnan(intrinsic_dimension(np.full((1, 8), 0.3), 2, 8)).all()
    corners = np.eye(9)  # every pair at √2
    assert np.isnan(intrinsic_dimension(neighbour_radii(corners, 8), 2, 8)).all()


def test_a_plane_in_many_dimensions_has_two():
    rng = np.random.default_rng(4)
    x = rng.random((1500, 2)) @ np.linalg.qr(rng.normal(size=(20, 2)))[0].T
    assert np.median(intrinsic_dimension(neighbour_radii(x, 20))) == pytest.approx(2.0, abs=0.25)


def test_the_example_itself_is_left_out_wherever_approximate_neighbours_put_it():
    x = np.random.default_rng(5).normal(size=(4, 2)).astype(np.float32)
    x[1] = x[0]
    found = np.array([[1, 0, 2, 3], [1, 0, 2, 3], [2, 0, 1, 3], [0, 1, 2, 3]])  # 0 finds its duplicate first
    radii = np.sort(module._distances(x, found), axis=1)
    assert radii[0, 0] == 0.0 and np.isinf(radii[:, -1]).all() and np.isfinite(radii[:, :3]).all()


def test_too_few_neighbours_are_refused():
    with pytest.raises(HardlookError, match="4 neighbours"):
        intrinsic_dimension(np.ones((2, 4)), 2, 5)
