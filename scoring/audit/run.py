"""A run: one model scored over the examples of an audit, and the paths of its files.

``Run`` is one of the two rooms that know file names (``Audit`` in ``scoring.audit`` is the other): everybody
else asks it for a path. ``replaced`` writes a run anew beside the old one, ``lock`` keeps a second writer
out, ``record`` holds what was done.

Inputs → outputs: a name, the audit's folder and the table ``[run.<name>]`` → paths, and the small record
``run.json``. Cost: nothing is read before it is asked for. Limit: the lock is one of files, as good as the
file system's.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scoring.audit.errors import HardlookError
from scoring.audit.storage import BlobStore, read_json, read_metadata, remove_abandoned, write_json


def can_name_run(name: str) -> bool:
    """Returns whether a run, and with it a folder, can have this name."""
    return 0 < len(name.encode()) <= 200 and not name.startswith(".") and not any(c in name for c in "/\\\0")


@dataclass(frozen=True)
class Run:
    """One model's pass over the examples of an audit: its configuration and its folder ``runs/<name>``.

    A run that only has files (imported predictions, say) has an empty ``config``.
    """

    name: str
    root: Path
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """``runs/<name>`` inside the audit."""
        return self.root / "runs" / self.name

    @contextlib.contextmanager
    def replaced(self) -> Iterator[Run]:
        """A run to write files into, which takes this one's place, old files and all, when the block ends well."""
        self.put_back()
        new, old = (Run(f".{self.name}.{word}", self.root) for word in ("partial", "old"))
        with self._locked(self.root / "runs" / f".{self.name}.lock", 0.0):
            for run in (new, old):
                shutil.rmtree(run.folder, ignore_errors=True)
            try:
                yield new
                if self.folder.is_dir():
                    self.folder.rename(old.folder)
                new.folder.rename(self.folder)
            finally:
                for run in (new, old):
                    shutil.rmtree(run.folder, ignore_errors=True)

    def put_back(self) -> None:
        """Give a run its name back whose replacement was killed between its two renames."""
        old = Run(f".{self.name}.old", self.root).folder
        if self.folder.is_dir() or not old.is_dir():
            return
        with contextlib.suppress(HardlookError, OSError):  # another command is between them, or the disk is read-only
            with self._locked(self.root / "runs" / f".{self.name}.lock", 0.0):
                old.rename(self.folder)

    @property
    def record_path(self) -> Path:
        """``run.json``: checkpoints with sha256, parameters, versions, timings, measured directions."""
        return self.folder / "run.json"

    @property
    def predictions_path(self) -> Path:
        """Per example, from the last checkpoint."""
        return self.folder / "predictions.parquet"

    def vectors_path(self, name: str) -> Path:
        """One vector per example: logits, features, influence, out_of_fold."""
        return self.folder / f"{name}.arrow"

    @property
    def logits_path(self) -> Path:
        """Per example (c,) logits of the last checkpoint."""
        return self.vectors_path("logits")

    @property
    def features_path(self) -> Path:
        """Per example (d,) input of the head at the last checkpoint."""
        return self.vectors_path("features")

    @property
    def out_of_fold_path(self) -> Path:
        """Per example, class probabilities of a model that was not trained on it."""
        return self.vectors_path("out_of_fold")

    @property
    def influence_path(self) -> Path:
        """Per example (r,) influence embedding."""
        return self.vectors_path("influence")

    @property
    def import_path(self) -> Path:
        """Which table is being imported; it is gone once the run is scored."""
        return self.folder / "importing.json"

    @property
    def factors_path(self) -> Path:
        """The factored Hessian."""
        return self.folder / "factors.safetensors"

    @property
    def neighbours_path(self) -> Path:
        """Nearest neighbours on features."""
        return self.folder / "neighbours.parquet"

    @property
    def near_duplicates_path(self) -> Path:
        """The members of every group of near duplicates by features."""
        return self.folder / "near_duplicates.parquet"

    @property
    def second_split_path(self) -> Path:
        """Second-split forgetting and first-split learning times."""
        return self.folder / "second_split.parquet"

    @property
    def irreducible_path(self) -> Path:
        """Losses of a model that was not trained on the example."""
        return self.folder / "irreducible.parquet"

    @property
    def self_supervised_path(self) -> Path:
        """Loss, gradient and displacement in a training without labels."""
        return self.folder / "self_supervised.parquet"

    @property
    def out_of_distribution_path(self) -> Path:
        """The last report of ``hardlook ood``."""
        return self.folder / "out_of_distribution.parquet"

    @property
    def map_path(self) -> Path:
        """UMAP coordinates of the influence embeddings."""
        return self.folder / "map.parquet"

    @property
    def refit_path(self) -> Path:
        """The last preview of what the corrections do."""
        return self.folder / "refit.json"

    @property
    def rankings_path(self) -> Path:
        """Returns what ranks suspects, and every ranking that was fitted to decisions."""
        return self.folder / "rankings.json"

    @property
    def check_path(self) -> Path:
        """The last report of ``hardlook check``."""
        return self.folder / "check.json"

    @property
    def check_picture(self) -> Path:
        """Sixteen inputs as the model sees them."""
        return self.folder / "check.png"

    @property
    def scores_folder(self) -> Path:
        """One Parquet file per scorer."""
        return self.folder / "scores"

    def score_path(self, scorer: str) -> Path:
        """The scores that one scorer wrote."""
        return self.scores_folder / f"{scorer}.parquet"

    def failed_path(self, scorer: str) -> Path:
        """The traceback of a score that failed on this run's model and was left out."""
        return self.folder / "failed" / f"{scorer}.txt"

    def parts_folder(self, what: str) -> Path:
        """Unfinished shards of a pass or a scorer."""
        return self.folder / "parts" / what

    @property
    def maps(self) -> BlobStore:
        """Per-pixel VoG maps of the extremes of each class and the top of the queue."""
        return BlobStore(self.folder / "maps.arrow")

    @property
    def slices_folder(self) -> Path:
        """One Parquet file and one summary per slicing."""
        return self.folder / "slices"

    def slices_path(self, name: str) -> Path:
        """Members of one slicing: slice_id, example_id, distance to the centre."""
        return self.slices_folder / f"{name}.parquet"

    def slices_summary_path(self, name: str) -> Path:
        """Summary and opponents of one slicing."""
        return self.slices_folder / f"{name}.json"

    def slicing_summary(self, name: str) -> dict[str, Any]:
        """The summary of one slicing: the one kept with its members, which no kill can part from them; slicings of
        earlier versions have it beside them."""
        kept = read_metadata(self.slices_path(name)).get("summary") if self.slices_path(name).is_file() else None
        return kept or read_json(self.slices_summary_path(name), {})

    def cut_path(self, key: str) -> Path:
        """The path of one decision plane, by its arguments."""
        return self.folder / "cuts" / f"{key}.json"

    def dynamics_folder(self, training: str = "main") -> Path:
        """Per-epoch tables of one recorded training."""
        return self.folder / "dynamics" / training

    def dynamics_files(self, training: str | None = None) -> list[Path]:
        """The per-epoch tables in order: of one training, else of ``main``, else of ``checkpoints``."""
        for name in [training] if training else ["main", "checkpoints"]:
            found = sorted(self.dynamics_folder(name).glob("epoch-*.parquet"))
            if found:
                return found
        return []

    def training_names(self) -> list[str]:
        """The recorded trainings of this run, ``main`` first, then ``checkpoints``, then the others by name."""
        found = sorted({path.parent.name for path in self.folder.glob("dynamics/*/epoch-*.parquet")})
        return sorted(found, key=lambda name: (name != "main", name != "checkpoints", name))

    def mean_probabilities_path(self, training: str) -> Path:
        """Per example, the class probabilities averaged over the epochs of one training."""
        return self.dynamics_folder(training) / "mean_probabilities.arrow"

    def record(self) -> dict[str, Any]:
        """Returns what ``run.json`` holds, empty before the first pass."""
        return read_json(self.record_path, {})

    def add_to_record(self, **facts: Any) -> None:
        """Set keys of ``run.json``, keeping the rest."""
        write_json(self.record_path, {**self.record(), **facts})

    def score_names(self) -> list[str]:
        """The scorers that have written a file, sorted."""
        return sorted(path.stem for path in self.scores_folder.glob("*.parquet"))

    def slicing_names(self) -> list[str]:
        """The slicings kept under a name, sorted."""
        return sorted(path.stem for path in self.slices_folder.glob("*.parquet"))

    @contextlib.contextmanager
    def lock(self, wait: float = 0.0) -> Iterator[None]:
        """Hold the run for writing. A second writer waits ``wait`` seconds, then leaves with a clear error."""
        with self._locked(self.folder / ".lock", wait):
            remove_abandoned(self.folder)
            yield

    @contextlib.contextmanager
    def _locked(self, path: Path, wait: float) -> Iterator[None]:
        """Hold a lock of this run."""
        from filelock import FileLock, Timeout

        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path, timeout=wait)
        try:
            lock.acquire()
        except Timeout as error:
            raise HardlookError(
                f"another hardlook command is writing run {self.name!r} of {self.root}; wait for it to end, then run "
                "this command again (finished work is not repeated)"
            ) from error
        try:
            yield
        finally:
            lock.release()
