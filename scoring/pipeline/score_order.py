"""The order in which scores are computed: first what the queue is made of, last what takes longest.

    queue       from predictions, features and recorded training: label quality, neighbours, dynamics, …
    suspicion   the ranking; *the queue is ready*
    dynamics    what is recomputed from checkpoints
    views       predictions over views of each example; the ranking is then renewed
    others      one or a few more passes of the model
    vog         gradients at every checkpoint
    influence   a factored Hessian

Kinds of scores → their order. Cost: none. Limits: a score says by its needs where it belongs, or by ``stage``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from scoring.scorers import Scorer

STAGES = ("queue", "suspicion", "dynamics", "views", "others", "vog", "influence")
QUICK = ("queue", "suspicion")
"""The stages that ``--quick`` computes."""


def stage_of(kind: type[Scorer], *, recorded: bool) -> str:
    """Returns the stage of a score; ``recorded``: whether the run's training was recorded."""
    if kind.stage:
        return kind.stage
    if "scores" in kind.needs:
        return "suspicion"
    if "dynamics" in kind.needs and not recorded:
        return "dynamics"
    if {"influence", "training"} & set(kind.needs):
        return "influence"
    return "others" if "checkpoints" in kind.needs else "queue"


def in_order(kinds: Iterable[type[Scorer]], *, recorded: bool) -> dict[str, list[type[Scorer]]]:
    """Stage → its scores: those that read what another one writes come after it, the others by name."""
    found: dict[str, list[type[Scorer]]] = {stage: [] for stage in STAGES}
    for kind in kinds:
        found[stage_of(kind, recorded=recorded)].append(kind)
    for kinds_of_stage in found.values():
        kinds_of_stage.sort(key=lambda kind: (*(need in kind.needs for need in ("neighbours", "influence")), kind.name))
    return found


def left_out(skipped: Mapping[str, str]) -> list[str]:
    """Returns what was left out as sentences, the scores of one reason together.

    >>> left_out({"aum": "aum needs labels, and none is there", "rho": "rho needs labels, and none is there"})
    ['not computed: aum, rho: need labels, and none is there']
    """
    groups: dict[str, list[str]] = {}
    for name, reason in skipped.items():
        groups.setdefault(reason.removeprefix(f"{name} ").removeprefix(f"{name}: "), []).append(name)
    sentences = []
    for reason, names in groups.items():
        told = f"need{reason[5:]}" if len(names) > 1 and reason.startswith("needs ") else reason
        sentences.append(f"not computed: {', '.join(names)}: {told}")
    return sentences
