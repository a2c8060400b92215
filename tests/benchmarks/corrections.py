"""What a review buys on real labels: a simulated reviewer answers with the verified label, then the head is refitted.

    python tests/benchmarks/corrections.py AUDIT [--run NAME] [--inspected 2836] && hardlook refit AUDIT

AUDIT is scored (suspicion, influence) and has verified labels (``[truth]``); it gets a review log of its own, so give
it a copy. The first ``--inspected`` training examples of the suspect ranking are decided: right, or the verified label
instead.
"""

import argparse

from scoring.audit import Audit
from scoring.audit.storage import read_table
from scoring.data.examples import truth
from scoring.reviews import ReviewLog
from scoring.reviews.event import Event


def main() -> None:
    """Write the decisions and say how many labels they change."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("audit")
    options.add_argument("--run")
    options.add_argument("--inspected", type=int, default=2836)
    given = options.parse_args()
    audit = Audit.open(given.audit)
    examples = (
        read_table(audit.examples_path, ["example_id", "split", "label", "fingerprint"])
        .to_pandas()
        .set_index("example_id")
    )
    examples["true"] = truth(audit).set_index("example_id")["true_label"].reindex(examples.index)
    ranked = read_table(audit.run(given.run).score_path("suspicion")).to_pandas().set_index("example_id")["suspicion"]
    train = examples.index[(examples["split"] == "train") & examples["true"].notna()]
    first = examples.loc[ranked.reindex(train).sort_values(ascending=False, kind="stable").index[: given.inspected]]
    decisions = [
        Event(
            client="verified",
            seq=number,
            example_id=row.Index,
            fingerprint=row.fingerprint,
            label=row.label,
            reviewer="verified labels",
            action="decide",
            verdict="given" if row.true == row.label else "other",
            new_label=None if row.true == row.label else row.true,
        )
        for number, row in enumerate(first.itertuples(), 1)
    ]
    with ReviewLog.open(audit.log_url, audit=audit.log_name(audit.log_url)) as log:
        for start in range(0, len(decisions), 500):
            log.append(decisions[start : start + 500])
    changed = sum(decision.verdict == "other" for decision in decisions)
    print(f"{len(decisions):,} inspected, {changed:,} labels changed")


if __name__ == "__main__":
    main()
