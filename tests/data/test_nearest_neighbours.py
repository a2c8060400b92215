"""Distances of found neighbours: computed in parts that a processor's cache holds, whatever the parts."""

import numpy as np
import pytest

from scoring.data import nearest_neighbours


@pytest.mark.parametrize(("d", "k"), [(1, 1), (3, 11), (64, 51), (1568, 201)])
def test_distances_are_the_same_bits_however_many_are_computed_at_once(monkeypatch, d, k):
    rng = np.random.default_rng(0)
    base, queries = (nearest_neighbours._directions(rng.normal(size=(300, d))) for _ in range(2))
    found = rng.integers(0, 300, (300, k))
    once = nearest_neighbours._cosine(queries, base, found)
    for size in (1, 1 << 40):
        monkeypatch.setattr(nearest_neighbours, "CACHED", size)
        assert nearest_neighbours._cosine(queries, base, found).tobytes() == once.tobytes()
    assert once[5, 0] == pytest.approx(1 - np.dot(queries[5].astype(float), base[found[5, 0]].astype(float)), abs=1e-6)
