"""How well each score of an audit finds the labels that are known to be wrong: run by hand, never as a timed test.

    python tests/benchmarks/suspicion.py AUDIT [--run NAME] [--split train]

AUDIT is scored and has verified labels (``[truth]``). For every column with a suspicious end: average precision, recall
when 10 % and 20 % are inspected, and how many inspections find 80 % of the errors. The bar of the suspect ranking on
the first 20,000 CIFAR-10 training images with CIFAR-10N's aggregate labels (1,806 errors): average precision 0.71,
recall 0.69 and 0.87, 80 % within 2,900 inspections.
"""

import argparse

import numpy as np
import pyarrow.parquet as pq
from sklearn.metrics import average_precision_score

from scoring.audit import Audit
from scoring.audit.storage import column_facts, read_table
from scoring.data.examples import truth


def found(suspicion: np.ndarray, wrong: np.ndarray) -> tuple[float, float, float, int]:
    """Average precision, recall at 10 % and 20 %, and inspections until 80 % are found; ties in the given order."""
    hits = np.cumsum(wrong[np.argsort(-suspicion, kind="stable")])
    at = [hits[round(share * len(wrong)) - 1] / hits[-1] for share in (0.1, 0.2)]
    return average_precision_score(wrong, suspicion), *at, int(np.searchsorted(hits, 0.8 * hits[-1]) + 1)


def main() -> None:
    """Print one line per column, the best first."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("audit")
    options.add_argument("--run")
    options.add_argument("--split", default="train")
    given = options.parse_args()
    audit = Audit.open(given.audit)
    run = audit.run(given.run)
    examples = read_table(audit.examples_path, ["example_id", "split", "label"]).to_pandas().set_index("example_id")
    examples = examples[(examples["split"] == given.split) & examples["label"].notna()]
    true = truth(audit).set_index("example_id")["true_label"].reindex(examples.index)
    wrong = (true.notna() & (true.astype(str) != examples["label"].astype(str))).to_numpy()
    print(
        f"{audit.name}, run {run.name}: {wrong.sum():,} of {len(wrong):,} labels wrong; chance has AP "
        f"{wrong.mean():.3f}"
    )
    lines = []
    for name in run.score_names():
        frame = read_table(run.score_path(name)).to_pandas().set_index("example_id").reindex(examples.index)
        for field in pq.read_schema(run.score_path(name)):
            end = column_facts(field).get("suspicious")
            if end in ("high", "low") and (known := frame[field.name].notna().to_numpy()).any():
                values = frame[field.name].to_numpy(dtype=float)[known] * (1 if end == "high" else -1)
                lines.append((*found(values, wrong[known]), f"{name}.{field.name}", int(known.sum())))
    print(f"{'score':<42}{'AP':>7}{'10 %':>8}{'20 %':>8}{'80 % after':>12}{'scored':>9}")
    for precision, tenth, fifth, inspections, name, count in sorted(lines, reverse=True):
        print(f"{name:<42}{precision:>7.3f}{tenth:>8.3f}{fifth:>8.3f}{inspections:>12,}{count:>9,}")


if __name__ == "__main__":
    main()
