"""What /compare and /data-map cost at 60,000 examples: CPU seconds of each read and each table, and peak memory.

    python -m tests.benchmarks.comparing [examples] [folder]

The audit is synthetic (``tests.synthetic``): 10 classes, 28 score columns in 4 files, 15 recorded epochs. Seconds are
of this process's CPU (all threads), so that a busy machine changes them little.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from pathlib import Path

from dashboard.auth.serving import serve_this
from dashboard.queries import data_map_epochs, database, score_frames
from dashboard.queries.selection import Selection
from scoring import evaluation
from tests.synthetic import make_audit, write_dynamics


def measured(what: str, work):
    """Run ``work`` and print its CPU and wall seconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    found = work()
    print(f"{what:<58}{time.process_time() - cpu:7.2f} s CPU {time.perf_counter() - wall:7.2f} s wall")
    return found


def main(n: int, folder: Path) -> None:
    """Make the audit and measure."""
    audit = make_audit(folder / "audit", n, 10, runs=("main", "second"))
    run = audit.run()
    write_dynamics(audit, run, 15)
    serve_this(audit.root)
    columns, selection = database.score_columns(run), Selection("train")
    every = measured(
        f"read {len(columns)} columns", lambda: score_frames.score_frame(audit, run, columns, selection)
    ).values
    main_ones = score_frames.score_frame(audit, run, score_frames.main_variants(columns, "late"), selection).values
    table = measured(
        f"Spearman, {every.shape[1]} columns of {len(every):,}", lambda: evaluation.rank_correlation(every)
    )
    measured("Kendall on a sample of 2,000", lambda: evaluation.rank_correlation(every, "kendall"))
    measured("clustered order", lambda: evaluation.clustered_order(table))
    measured(f"overlap of the top, {main_ones.shape[1]} columns", lambda: evaluation.top_overlap(main_ones))
    measured("disagreement of a pair", lambda: evaluation.disagreement(main_ones.iloc[:, 0], main_ones.iloc[:, -1]))
    wrong = (main_ones["aum.aum"] > main_ones["aum.aum"].quantile(0.92)).to_numpy()
    measured("detection report", lambda: evaluation.detection_report(main_ones, wrong))
    runs = score_frames.runs_with_score(audit, "aum.aum")
    values = measured("one score of two runs", lambda: score_frames.score_by_run(audit, runs, selection))
    measured("deviation per example", lambda: evaluation.deviation_per_example(values))
    for epoch in (1, 15):
        points = measured(
            f"data map after epoch {epoch}",
            lambda epoch=epoch: data_map_epochs.positions(audit, run, "main", epoch, selection),
        )
    measured("its regions", lambda: data_map_epochs.regions(points, data_map_epochs.Quantiles()))
    measured("its progress", lambda: data_map_epochs.progress(audit, run, "main", selection))
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GB")


if __name__ == "__main__":
    where = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(tempfile.mkdtemp())
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 60_000, where)
