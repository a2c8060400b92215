"""Audit and Run: what is audited and where everything about it lies on disk.

An *audit* is a folder with an ``audit.toml``; a *run* is one model's pass over its examples. This is the only module
that knows file names: every other one asks an ``Audit`` or a ``Run`` for a path. All paths inside the folder are
relative to it, so the folder can be moved.

Inputs → outputs: a folder → an ``Audit`` with its configuration checked, key by key; cost: one small file read.
Limits: one label per example; ``audit.toml`` of format 1.
"""

from __future__ import annotations

import contextlib
import difflib
import shutil
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scoring.roles import check_roles
from scoring.settings import check_kinds
from scoring.tables import BlobStore, HardlookError, read_json, write_json

FORMAT = 1
SPLITS = ("train", "test", "pool")
MEDIA = ("image", "vector", "text")
DEFAULT_ISSUES = ("bad image", "duplicate", "several objects", "guideline gap")
TOP_KEYS = ("format", "id", "name", "media", "classes", "issues", "data", "run", "truth", "policy", "goal", "roles",
            "access", "seed")
RUN_KEYS = ("model", "arguments", "transform", "checkpoints", "weights", "expected_accuracy", "layers", "training",
            "description", "l2", "scores", "averaged", "like")
ACCESS_KEYS = ("proxies", "user_header", "url", "claim")
TRUTH_KEYS = ("path", "id_column", "label_column")
GOAL_KEYS = ("error_rate", "confidence", "decisions", "controls")


def _unknown(where: str, given: Mapping, known: tuple[str, ...]) -> None:
    """Refuse keys that mean nothing here, naming the close ones."""
    for key in given:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known keys are {', '.join(known)}"
            raise HardlookError(f"audit.toml: {where} has an unknown key {key!r}; {hint}")


def _want(where: str, key: str, value: Any, kind: type | tuple[type, ...], needed: str) -> Any:
    """``value`` if it is of the kind, else an error that says what was found and what was needed."""
    if not isinstance(value, kind) or isinstance(value, bool):
        raise HardlookError(f"audit.toml: {where}{key} = {value!r}; needed {needed}")
    return value


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
        new, old = (Run(f".{self.name}.{word}", self.root) for word in ("partial", "old"))
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
        """What ranks suspects, and every ranking that was fitted to decisions."""
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

    def cut_path(self, key: str) -> Path:
        """One two-dimensional cut through an example, by what was asked for."""
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
        """What ``run.json`` holds, empty before the first pass."""
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
        from filelock import FileLock, Timeout

        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / ".lock", timeout=wait)
        try:
            lock.acquire()
        except Timeout as error:
            raise HardlookError(
                f"another hardlook command is writing run {self.name!r} of {self.root}; wait for it to end and run "
                "this one again: what is finished is not done twice"
            ) from error
        try:
            yield
        finally:
            lock.release()


@dataclass(frozen=True)
class Audit:
    """One audited dataset: its folder, its checked configuration, and the paths of its files."""

    root: Path
    config: Mapping[str, Any]

    @classmethod
    def open(cls, folder: str | Path) -> Audit:
        """Read and check ``audit.toml``. Anything wrong is one ``HardlookError`` naming key, found and needed."""
        if "\0" in str(folder):
            raise HardlookError(f"{str(folder)!r} is no path: it has a NUL character")
        root = Path(folder).resolve()
        path = root / "audit.toml" if root.is_dir() else root
        if not path.is_file():
            raise HardlookError(f"no audit at {folder}: there is no audit.toml; `hardlook new {folder}` makes one")
        try:
            config = tomllib.loads(path.read_text(encoding="utf-8-sig"))  # some editors begin a file with a mark
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise HardlookError(f"{path} is not valid TOML: {error}") from error
        return cls(path.parent, check_config(config))

    @property
    def name(self) -> str:
        """The audit's title, else its folder's name."""
        return self.config.get("name") or self.root.name

    @property
    def media(self) -> str:
        """image, vector or text."""
        return self.config.get("media", "image")

    @property
    def classes(self) -> list[str]:
        """Class names in the order of the model's outputs."""
        return list(self.config.get("classes", []))

    @property
    def issues(self) -> list[str]:
        """What can be wrong with an example besides its label."""
        return list(self.config.get("issues", DEFAULT_ISSUES))

    @property
    def policy(self) -> dict[str, Any]:
        """``[policy]``: what becomes of an example with each verdict or issue."""
        return dict(self.config.get("policy", {}))

    @property
    def roles(self) -> dict[str, tuple[str, ...]]:
        """``[roles]``: role → names (``scoring.roles``)."""
        return check_roles(self.config.get("roles", {}))

    @property
    def access(self) -> dict[str, Any]:
        """``[access]``: how a server tells who is there: trusted proxies, their header, the public address."""
        return dict(self.config.get("access", {}))

    @property
    def goal(self) -> dict[str, Any]:
        """``[goal]``: how many wrong labels may remain (error_rate), how sure (confidence), within which budget."""
        return dict(self.config.get("goal", {}))

    @property
    def seed(self) -> int:
        """The one seed of everything random about this audit."""
        return int(self.config.get("seed", 0))

    @property
    def sources(self) -> list[dict[str, Any]]:
        """The ``[[data]]`` tables."""
        return [dict(source) for source in self.config.get("data", [])]

    @property
    def truth(self) -> dict[str, Any] | None:
        """``[truth]``: where verified labels lie; never shown to reviewers."""
        return self.config.get("truth")

    def path(self, reference: str) -> Path:
        """A path as audit.toml or a table writes it: absolute, or relative to the audit folder."""
        return (self.root / Path(reference).expanduser()).resolve()

    def reference(self, path: Path) -> str:
        """The inverse of ``path``: relative inside the audit folder, absolute outside."""
        path = Path(path).resolve()
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else path.as_posix()

    @property
    def examples_path(self) -> Path:
        """The example table."""
        return self.root / "examples.parquet"

    @property
    def columns_path(self) -> Path:
        """Of vectors: centre and spread of each column within each class."""
        return self.root / "columns.parquet"

    @property
    def ingest_path(self) -> Path:
        """What the last reading of the data found."""
        return self.root / "examples.json"

    @property
    def ingest_folder(self) -> Path:
        """What reading the data remembers for the next time, and its lock."""
        return self.root / "parts" / "examples"

    @property
    def thumbnails(self) -> BlobStore:
        """Pictures of at most 256 pixels, by example_id."""
        return BlobStore(self.root / "thumbnails.arrow")

    @property
    def originals(self) -> BlobStore:
        """The originals of examples that are not files, by example_id."""
        return BlobStore(self.root / "media.arrow")

    @property
    def log_url(self) -> str:
        """The review log's default place."""
        return f"sqlite:///{self.root / 'reviews.sqlite'}"

    def log_name(self, url: str) -> str:
        """The key under which a review log keeps this audit's events: ``id`` in audit.toml.

        The audit's own log needs none; a log elsewhere, which other audits may share, is refused without one. The
        title (``name``) is no key: it may be edited without losing a decision.
        """
        if "id" in self.config:
            return str(self.config["id"])
        if url == self.log_url:
            return "audit"
        raise HardlookError(
            f"the log at {url.split('@')[-1]} may hold several audits and keeps them apart by their id; add "
            'id = "a-name-that-stays" to audit.toml'
        )

    @property
    def controls_path(self) -> Path:
        """The random order in which controls are drawn, fixed when the audit starts."""
        return self.root / "controls.parquet"

    @property
    def guidelines_path(self) -> Path:
        """The labelling guidelines, where the team keeps some."""
        return self.root / "guidelines.md"

    @property
    def exports_folder(self) -> Path:
        """Where patches go by default."""
        return self.root / "exports"

    @property
    def jobs_folder(self) -> Path:
        """Records of commands that a page started."""
        return self.root / "jobs"

    def run_names(self) -> list[str]:
        """Configured runs in the order of audit.toml, then those that only have files."""
        named = list(self.config.get("run", {}))
        on_disk = sorted(path.parent.name for path in (self.root / "runs").glob("[!.]*/run.json"))
        return named + [name for name in on_disk if name not in named]

    def run(self, name: str | None = None) -> Run:
        """The run of that name; the first one where no name is given."""
        names = self.run_names()
        if name is None:
            if not names:
                raise HardlookError("audit.toml has no [run.<name>] table; add one with model and checkpoints")
            name = names[0]
        if name not in names:
            raise HardlookError(f"there is no run {name!r}; runs are: {', '.join(names) or 'none'}")
        return Run(name, self.root, self.config.get("run", {}).get(name, {}))


def check_config(config: dict[str, Any]) -> dict[str, Any]:
    """Check ``audit.toml`` key by key; returns it. Errors name the key, what was found and what was needed."""
    found = config.get("format")
    if found is None:
        raise HardlookError(f"audit.toml has no format; write `format = {FORMAT}` as its first line")
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        raise HardlookError(f"audit.toml: format = {found!r}; needed {FORMAT}")
    if found > FORMAT:
        raise HardlookError(f"audit.toml is of format {found}, this hardlook knows {FORMAT}; upgrade hardlook")
    _unknown("the top level", config, TOP_KEYS)
    for name, run in _want("", "run", config.get("run", {}), dict, "tables [run.<name>]").items():
        _want("run.", name, run, dict, f"a table [run.{name}]")
    check_kinds(config)
    if config.get("media", "image") not in MEDIA:
        raise HardlookError(f"audit.toml: media = {config['media']!r}; needed one of {', '.join(MEDIA)}")
    _check_classes(config.get("classes", []))
    _check_data(config.get("data"))
    for name, run in config.get("run", {}).items():
        _check_run(name, run)
    check_roles(config.get("roles", {}))
    _unknown("[access]", config.get("access", {}), ACCESS_KEYS)
    if "truth" in config:
        _unknown("[truth]", config["truth"], TRUTH_KEYS)
    if "goal" in config:
        _check_goal(_want("", "goal", config["goal"], dict, "a table [goal]"))
    runs = config.get("run", {})
    return {**config, "run": {name: _like(name, runs) for name in runs}} if runs else config


def _like(name: str, runs: Mapping[str, Any]) -> dict[str, Any]:
    """A run's table with what it takes over from the run that it is ``like``: tables are merged key by key, other keys
    are its own where it has them. Checkpoints are never taken over: another training has its own."""
    own = dict(runs[name])
    other = own.pop("like", None)
    if other is None:
        return own
    if other not in runs or "like" in runs[other]:
        needed = ", ".join(repr(run) for run in runs if "like" not in runs[run]) or "none"
        raise HardlookError(f"audit.toml: [run.{name}] like = {other!r}; needed a run with a table of its own: {needed}")
    base = runs[other]
    merged = {key: {**value, **own[key]} if isinstance(value, dict) and isinstance(own.get(key), dict)
              else own.get(key, value) for key, value in base.items() if key != "checkpoints"}
    return {**own, **merged, "checkpoints": own.get("checkpoints", f"checkpoints/{name}/*.pt")}


def _check_classes(classes: Any) -> None:
    _want("", "classes", classes, list, "a list of class names in the order of the model's outputs")
    for name in classes:
        if not isinstance(name, str) or not name:
            raise HardlookError(f"audit.toml: classes holds {name!r}; needed non-empty strings")
    twice = {name for name in classes if classes.count(name) > 1} if len(set(classes)) < len(classes) else ()
    if twice:
        raise HardlookError(f"audit.toml: class {sorted(twice)[0]!r} stands twice in classes; names must differ")


def _check_data(data: Any) -> None:
    if not isinstance(data, list) or not data:
        raise HardlookError("audit.toml names no data; add a [[data]] table with split and path")
    for number, source in enumerate(data):
        split = source.get("split")
        if split is not None and split not in SPLITS:
            raise HardlookError(f"audit.toml: data[{number}].split = {split!r}; needed one of {', '.join(SPLITS)}")


def can_name_run(name: str) -> bool:
    """Whether a run, and with it a folder, can have this name."""
    return 0 < len(name.encode()) <= 200 and not name.startswith(".") and not any(c in name for c in "/\\\0")


def _check_goal(goal: dict[str, Any]) -> None:
    _unknown("[goal]", goal, GOAL_KEYS)
    for key in ("error_rate", "confidence"):
        if key in goal and not 0 < _want("[goal] ", key, goal[key], float, "a share such as 0.05") < 1:
            raise HardlookError(f"audit.toml: [goal] {key} = {goal[key]}; needed a share between 0 and 1")
    for key in ("decisions", "controls"):
        if key in goal and _want("[goal] ", key, goal[key], int, "a whole number such as 300") < 1:
            raise HardlookError(f"audit.toml: [goal] {key} = {goal[key]}; needed a whole number from 1")


def _check_run(name: str, run: Any) -> None:
    where = f"[run.{name}] "
    if not can_name_run(name):
        raise HardlookError(f"audit.toml: {name!r} cannot name a run: it names a folder; use some letters and digits")
    _unknown(where.strip(), run, RUN_KEYS)
    for key in ("model", "checkpoints", "like"):
        if key in run:
            _want(where, key, run[key], str, "a string")
    if "expected_accuracy" in run:
        value = _want(where, "expected_accuracy", run["expected_accuracy"], (int, float), "a share such as 0.93")
        if not 0 <= value <= 1:
            raise HardlookError(f"audit.toml: {where}expected_accuracy = {value}; needed a share between 0 and 1")
    if "arguments" in run:
        _want(where, "arguments", run["arguments"], dict, "a table of keyword arguments")
