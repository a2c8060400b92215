"""The classes that a run's logits and probabilities are of, in their order.

``classes`` of audit.toml may be put into another order after a run was scored; its logits stay in the order of then,
which ``run.json`` keeps. Inputs → output: an audit and a run → class names. Cost: one small file read. Limits: runs
that earlier versions scored keep no classes; theirs are taken to be those of audit.toml.
"""

from __future__ import annotations

from scoring.audit.audit import Audit
from scoring.audit.run import Run


def scored_classes(audit: Audit, run: Run) -> list[str]:
    """Class names in the order of the run's outputs."""
    return list(run.record().get("classes") or audit.classes)
