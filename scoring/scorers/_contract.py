"""The contract of a score, and the registry of all scores.

A *scorer* is a frozen dataclass whose field defaults are the only home of its settings: the command line derives its
options from the fields, and ``asdict`` goes into the file that it writes. Adding a score means adding one file to
``scoring/scorers``: the registry finds every ``Scorer`` subclass in the package's modules, in sorted order.

``score`` sees one *shard* at a time (a few thousand examples that fit in memory) and must treat each example
independently of the others, so that any sharding and any worker gives the same numbers; ``finish`` sees all rows once
(class z-scores, ranks). Missing values are NaN in arrays and null in files.

Every scorer keeps ``scoring.scorers._checks``: what it declares is checked when it is registered, what it returns after
each shard. Cost: the registry imports the scorer modules, and through them torch.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa

from scoring.audit.errors import HardlookError
from scoring.audit.storage import describe_column
from scoring.scorers._checks import check_scorer, meant

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

    from torch import Tensor

    from scoring.audit import Audit, Run
    from scoring.audit.progress import Progress
    from scoring.models import AuditedModel, Checkpoint
    from scoring.models.inputs import Inputs

Part = TypeVar("Part")

SUSPICIOUS = ("high", "low", "measured", None)
DETECTS = ("difficulty", "label error", "out of distribution", None)

Columns = dict[str, np.ndarray]
"""A scorer's output: column name → (n,) float32, in the order of the shard's examples; NaN = not computed. A name
among the scorer's ``vectors`` holds (n, r)."""

State = Any
"""What ``fit`` prepares for ``score``: anything that can be pickled. Each scorer names its own type."""


class RunContext(Protocol):
    """The run that a scorer prepares for, opened for computing; ``scoring.pipeline.shards.Context`` is one.

    Arrays are aligned with the n ``examples``: ``labels`` (n,) are indices into the audit's classes, −1 for none;
    ``predicted`` is (n,) class indices and (n, c) probabilities; ``features`` (n, d). ``head`` is what was measured of
    the model's head, ``key`` names what every number of the run depends on.
    """

    audit: Audit
    run: Run

    @property
    def progress(self) -> Progress:
        """Shows how far a long pass is."""

    @property
    def say(self) -> Callable[[str], object]:
        """Shows a sentence while the command runs."""

    @property
    def examples(self) -> pd.DataFrame:
        """The readable examples: example_id, split, label, fingerprint and more."""

    @property
    def labels(self) -> np.ndarray:
        """(n,) class indices."""

    @property
    def predicted(self) -> tuple[np.ndarray, np.ndarray]:
        """(n,) predicted class indices, (n, c) probabilities."""

    @property
    def features(self) -> np.ndarray:
        """(n, d) inputs of the head."""

    @property
    def dynamics(self) -> dict[str, np.ndarray]:
        """Recorded columns, (epochs, n) each."""

    def shard(self, scorer: Scorer, positions: np.ndarray) -> Shard:
        """A shard of some of the run's examples, for what a scorer measures on a sample before it begins."""

    @property
    def head(self) -> dict[str, Any]:
        """Name, linear, bias, scale, reason."""

    @property
    def key(self) -> str:
        """A digest of weights, code, transform and classes."""

    @property
    def model(self) -> AuditedModel:
        """The audited model."""

    @property
    def checkpoints(self) -> list[Checkpoint]:
        """Its checkpoints, in order."""

    @property
    def inputs(self) -> Inputs:
        """The examples as the model receives them."""

    @property
    def pool(self) -> ThreadPoolExecutor:
        """Threads that read inputs."""

    def aligned(self, path: Path) -> np.ndarray:
        """(n, r) vectors of a file."""

    def note(self, text: str) -> None:
        """Keep a sentence with the score."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of a score and everything that a page needs to explain it.

    ``suspicious`` names the end that deserves a look: "high", "low", "measured" (the direction is found per run), or
    None for a number that ranks nothing. ``family`` groups columns that say nearly the same thing; a combined ranking
    takes one column per family. ``stage``, ``index`` and ``form`` are the choices that VoG-like scores come in.
    """

    name: str
    title: str
    help: str
    family: str = ""
    unit: str | None = None
    suspicious: str | None = None
    detects: str | None = None
    stage: str | None = None
    index: str | None = None
    form: str | None = None
    normalised: str | None = None
    uses_label: bool | None = None
    """Whether the number takes the given label: scores without it are compared with those with it. None: by
    ``index``."""

    def __post_init__(self) -> None:
        if self.suspicious not in SUSPICIOUS:
            raise HardlookError(f"column {self.name!r}: suspicious={self.suspicious!r}, needed one of {SUSPICIOUS}")
        if self.detects not in DETECTS:
            raise HardlookError(f"column {self.name!r}: detects={self.detects!r}, needed one of {DETECTS}")

    def arrow_field(self) -> pa.Field:
        """The column as a float32 Arrow field that carries its own explanation."""
        facts = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "name"}
        return describe_column(pa.field(self.name, pa.float32()), **facts)


@dataclass(kw_only=True)
class Shard:
    """Some examples, with what a scorer's ``needs`` ask for. Arrays are aligned with ``example_id``.

    ``labels`` and ``predictions`` are indices into ``classes``, −1 for none. ``inputs`` is the batch of transformed
    inputs (a tensor, n first), loaded only for scorers that need checkpoints or features. ``model`` is a
    ``scoring.models.AuditedModel`` and ``checkpoints`` its ordered checkpoints. ``dynamics`` maps the recorded
    columns (p_label, margin, error_norm, loss, correct, train_margin) to (epochs, n) arrays.
    """

    example_id: np.ndarray
    split: np.ndarray
    labels: np.ndarray
    classes: list[str]
    seed: int = 0
    predictions: np.ndarray | None = None
    probabilities: np.ndarray | None = None
    inputs: Tensor | None = None
    model: AuditedModel | None = None
    checkpoints: list[Checkpoint] = field(default_factory=list)
    features: np.ndarray | None = None
    influence: np.ndarray | None = None
    dynamics: Mapping[str, np.ndarray] | None = None
    notes: list[str] = field(default_factory=list)
    """What ``score`` found out about this run, a sentence each: a fast path that did not prove itself and was left,
    values that are null and why. Kept in the score's file and shown in the summary and on /overview; the same sentence
    counts once."""

    def note(self, text: str) -> None:
        """Keep a sentence about this run, once."""
        if text not in self.notes:
            self.notes.append(text)

    def __len__(self) -> int:
        return len(self.example_id)


def needed(part: Part | None, need: str) -> Part:
    """Returns a part of a shard that the scorer's ``needs`` ask for; ``HardlookError`` where they do not.

    >>> needed(None, "features")
    Traceback (most recent call last):
    scoring.audit.errors.HardlookError: this score uses 'features', which its needs do not list; add it to its needs
    """
    if part is None:
        raise HardlookError(f"this score uses {need!r}, which its needs do not list; add it to its needs")
    return part


@dataclass(frozen=True, kw_only=True)
class Scorer:
    """Base of all scores: a name, what it needs, its columns, and one method that scores a shard."""

    name: ClassVar[str] = ""
    needs: ClassVar[tuple[str, ...]] = ()
    """Of ``scoring.scorers._checks.NEEDS``."""
    columns: ClassVar[tuple[Column, ...]] = ()
    least: ClassVar[Mapping[str, int]] = {}
    """How many of a need are needed at least, e.g. ``{"checkpoints": 2}``."""
    stage: ClassVar[str] = ""
    """When it is computed (``scoring.pipeline.score_order.STAGES``); empty: as its needs say."""
    together: ClassVar[bool] = False
    """Whether every row depends on all training examples: one that changes means scoring all of them anew."""
    vectors: ClassVar[tuple[str, ...]] = ()
    """Outputs of ``score`` that are (n, r) vectors and no columns: each is kept as ``runs/<run>/<name>.arrow``."""

    def lacks(self, context: RunContext) -> str | None:
        """Returns why this scorer cannot run here though its ``needs`` are met, in one sentence; None where it can.
        Optional."""
        return None

    def depends(self, context: RunContext) -> Any:
        """Returns what the scores depend on besides the model, the settings and each example by itself (the labels of
        all others, say), as JSON can write it: where it changes, everything is scored anew. Optional."""
        return

    def sized(self, context: RunContext) -> Scorer:
        """Returns the scorer with settings that fit this run's size and this machine; what it chooses must be kept, so
        that the next call chooses the same. Optional."""
        return self

    def key_settings(self) -> dict[str, Any]:
        """Returns the settings on which the numbers depend. Optional: all of them."""
        return asdict(self)

    def fit(self, context: RunContext, workdir: Path) -> State:
        """Prepare once, resumably; the state that it returns must live in files under ``workdir``. Optional."""
        return None

    def score(self, shard: Shard, state: State) -> Columns:
        """Score each example of the shard, independently of the others: every declared column and vector, but those
        that ``finish`` adds."""
        raise NotImplementedError(f"{type(self).__name__}.score")

    def finish(self, columns: Columns, examples: pd.DataFrame) -> Columns:
        """Complete the columns once all rows are there (class z-scores, ranks) → all that are declared. Optional.

        ``examples``: a data frame aligned with the columns: example_id, split, label, prediction.
        """
        return columns


@cache
def registry() -> dict[str, type[Scorer]]:
    """Every scorer by name, found by scanning ``scoring/scorers``, in sorted order."""
    package = importlib.import_module("scoring.scorers")
    kinds: list[type[Scorer]] = []
    for module in sorted(info.name for info in pkgutil.iter_modules(package.__path__) if not info.name.startswith("_")):
        members = vars(importlib.import_module(f"scoring.scorers.{module}")).values()
        kinds += [
            kind
            for kind in members
            if isinstance(kind, type)
            and issubclass(kind, Scorer)
            and kind.name
            and kind.__module__ == f"scoring.scorers.{module}"
        ]
    return registered(kinds)


def registered(kinds: Iterable[type[Scorer]]) -> dict[str, type[Scorer]]:
    """The scorers by name, sorted; one that breaks the contract or takes another's name or vectors is an error."""
    found: dict[str, type[Scorer]] = {}
    writers: dict[str, str] = {}
    for kind in dict.fromkeys(kinds):
        check_scorer(kind)
        if kind.name in found:
            both = " and ".join(one.__module__ for one in (found[kind.name], kind))
            raise HardlookError(f"two scorers are called {kind.name!r}, in {both}; rename one")
        for vector in kind.vectors:
            if other := writers.get(vector):
                raise HardlookError(f"scorers {other!r} and {kind.name!r} both write vector {vector!r}; rename one")
            writers[vector] = kind.name
        found[kind.name] = kind
    return dict(sorted(found.items()))


def find_scorer(name: str) -> type[Scorer]:
    """The scorer of that name; an unknown one is an error that lists them all."""
    scorers = registry()
    if name not in scorers:
        raise HardlookError(f"there is no score {name!r}{meant(name, scorers)}")
    return scorers[name]
