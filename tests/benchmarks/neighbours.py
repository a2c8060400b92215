"""Exact search of nearest neighbours against NN-descent: run by hand, never as a timed test.

    python tests/benchmarks/neighbours.py [--n 60000] [--features 84 512] [--k 200]

Points in 50 clouds, as features of a classifier lie. Printed: process CPU seconds on one thread of the k nearest of all
among all, exactly and by NN-descent, the share of the exact neighbours that the latter finds, and the same for the
distances of intrinsic dimension. What numba compiles first, which every process does anew, stands apart.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from scoring.data.nearest_neighbours import nearest
from scoring.scorers.intrinsic_dimension import neighbour_radii


def clouds(n: int, features: int) -> np.ndarray:
    """(n, features) float32."""
    rng = np.random.default_rng(0)
    return (rng.normal(size=(50, features))[rng.integers(0, 50, n)] + rng.normal(size=(n, features))).astype(np.float32)


def timed(search):
    start = time.process_time()
    found = search()
    return found, time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=60_000)
    parser.add_argument("--features", type=int, nargs="+", default=[84, 512])
    parser.add_argument("--k", type=int, default=200)
    options = parser.parse_args()
    few = clouds(200, 8)
    _, compiling = timed(lambda: (nearest(few, few, 5, exact=0), neighbour_radii(few, 20, exact=0)))
    print(f"compiling: {compiling:.1f} s")
    own = np.arange(options.n)
    for features in options.features:
        points = clouds(options.n, features)
        exact, slow = timed(lambda: nearest(points, points, options.k, own=own, exact=options.n))
        near, fast = timed(lambda: nearest(points, points, options.k, own=own, exact=0))
        sample = range(0, options.n, max(1, options.n // 1000))
        recall = np.mean([np.isin(exact.positions[i], near.positions[i]).mean() for i in sample])
        print(
            f"{options.n:,} x {features}, {options.k} nearest: exact {slow:.1f} s, NN-descent {fast:.1f} s "
            f"({fast / slow:.2f}), recall {recall:.4f}"
        )
        _, slow = timed(lambda: neighbour_radii(points, 20, exact=options.n))
        _, fast = timed(lambda: neighbour_radii(points, 20, exact=0))
        print(
            f"{options.n:,} x {features}, radii of 20: exact {slow:.1f} s, NN-descent {fast:.1f} s ({fast / slow:.2f})"
        )


if __name__ == "__main__":
    main()
