"""The audit of datasets and a model that a notebook hands over: its ``audit.toml``, written or kept.

The file is written anew each time the same cell runs, as long as nobody has edited it: its first line holds a hash of
the rest. An edited one is kept where it says the same of data and model, and otherwise refused.

Inputs → outputs: datasets by split, model, checkpoints, transform, classes → an ``Audit``. Cost: a copy of arrays and
tables, and of the model's weights where no checkpoints are named. Known limits: one transform for all splits.
"""

from __future__ import annotations

import hashlib
import os
import tomllib
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from scoring.audit import Audit
from scoring.audit.arrays import named_classes
from scoring.audit.atomic import atomic_path
from scoring.audit.audit import CONFIG
from scoring.audit.config import MEDIA
from scoring.audit.errors import HardlookError
from scoring.audit.in_process import find_in_process, is_in_process, keep_in_process
from scoring.data.listed_sources import derived_classes, listed_without_classes
from scoring.models.checkpoints import Checkpoint, find_checkpoints, weights_sha256
from scoring.setup.given_data import GivenData, given_data
from scoring.setup.toml_text import toml_key, toml_lines
from scoring.training.checkpoint_files import plain_tensors, save_checkpoint

MARK = "# written by hardlook.audit, "
PROCESS = uuid.uuid4().hex[:8]
"""Tells what this process wrote from what another did."""

AS_GIVEN = "scoring.models.transforms:as_given"
OWN_WEIGHTS = "checkpoints/handed-over-{run}.pt"

Transform = Callable[[Any], Any] | str | Mapping[str, Any]


def in_memory_audit(
    folder: Path,
    data: Mapping[str, Any],
    *,
    model: nn.Module | Callable[..., nn.Module] | str | None = None,
    checkpoints: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] | None = None,
    transform: Transform | None = None,
    classes: Iterable[object] | None = None,
    media: str | None = None,
    run: str = "main",
) -> Audit:
    """Returns the audit in ``folder``, written from what was handed over.

    ``data``: dataset by split (train, test, pool). ``model``: a module, a function that makes one, or how audit.toml
    names one. ``checkpoints``: paths or globs; without them the model's weights as they are now, or those that a
    Recorder kept in the folder. Raises ``HardlookError`` where kinds, media or transforms contradict each other.
    """
    if media not in (None, *MEDIA):
        raise HardlookError(f"media = {media!r}; needed one of {', '.join(MEDIA)}, or None")
    make_folder(folder)
    given = {split: given_data(folder, split, value, media) for split, value in data.items() if value is not None}
    if not given:
        raise HardlookError("no data was handed over; needed train=, test= or pool=")
    kinds = {each.media for each in given.values()}
    if len(kinds) > 1:
        shown = ", ".join(f"{split} {each.media}" for split, each in given.items())
        raise HardlookError(f"all splits need the same kind of data, found {shown}; name it with media=")
    config: dict[str, Any] = {"format": 1, "media": kinds.pop()}
    tables = [table for each in given.values() for table in each.tables]
    names = named_classes(classes) or _derived(folder, config, tables, given)
    config |= {"classes": names} if names else {}
    model = called_with_tokens(model, transform)
    settings = _run_settings(folder, run, model, checkpoints, _transform(folder, transform, given))
    write_config(folder, config, tables, {run: settings} if settings else {})
    return Audit.open(folder)


def make_folder(folder: Path) -> None:
    """Make an audit's folder. Raises ``HardlookError`` where a file is in its place."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise HardlookError(f"folder: {folder} cannot be a folder, a file is in its place; choose another") from error


def _derived(
    folder: Path, config: Mapping[str, Any], tables: list[dict[str, Any]], given: Mapping[str, GivenData]
) -> list[str]:
    """Class names from the data, in the order of its library: those of the dataset object where it has some, which may
    be more than those that its examples bear. Raises ``HardlookError`` where datasets contradict each other."""
    if unsure := next((each.unsure for each in given.values() if each.unsure), None):
        raise HardlookError(unsure)
    derived = derived_classes(listed_without_classes(Audit(folder.resolve(), {**config, "data": tables})))
    own = {split: each.classes for split, each in given.items() if each.classes}
    if not own:
        return derived
    split, names = next(iter(own.items()))
    if len(set(own.values())) > 1 or not set(derived) <= set(names):
        raise HardlookError(
            f"the splits have other classes than {split} ({', '.join(names[:10])}), or the same in another order; pass "
            "classes=, the names in the order of the model's outputs"
        )
    return list(names)


def _transform(folder: Path, wanted: Transform | None, given: Mapping[str, GivenData]) -> str | dict[str, Any] | None:
    """How audit.toml names the evaluation transform: the one asked for, else the datasets' own."""
    if callable(wanted):
        return keep_in_process(folder, "transform", of_library(wanted))
    if wanted is not None:
        if not isinstance(wanted, (str, Mapping)):
            raise HardlookError(f"transform: found {type(wanted).__name__}; needed a function original → tensor")
        return wanted if isinstance(wanted, str) else dict(wanted)
    if hidden := next((each.hidden for each in given.values() if each.hidden), None):
        raise HardlookError(hidden)
    own = {split: each for split, each in given.items() if each.transform is not None and not each.random}
    if any(each.random for each in given.values()) and not own:
        split = next(split for split, each in given.items() if each.random)
        raise HardlookError(
            f"{split}: the dataset's transform augments at random; pass transform=, the one that evaluation uses"
        )
    plain = next((split for split, each in given.items() if each.as_given), None)
    if own and plain:
        raise HardlookError(
            f"{plain} gives tensors and {next(iter(own))} pictures with a transform; needed datasets of the same kind"
        )
    chosen = own.get("test") or next(iter(own.values()), None)
    if chosen is not None and not all(chosen.transforms_like(each) for each in own.values()):
        raise HardlookError(
            f"the datasets of {' and '.join(own)} have different transforms; pass transform=, the one that evaluation "
            "uses for all of them"
        )
    if chosen is not None:
        return keep_in_process(folder, "transform", chosen.transform or _nothing)
    return AS_GIVEN if plain else None


def _nothing(original: Any) -> Any:
    return original


def _run_settings(
    folder: Path, run: str, model: Any, checkpoints: Any, transform: str | dict[str, Any] | None
) -> dict[str, Any]:
    """The table ``[run.<name>]``: without a model, the transform alone, which a Recorder needs."""
    settings: dict[str, Any] = {} if transform is None else {"transform": transform}
    if model is None:
        if checkpoints is not None:
            raise HardlookError("checkpoints were handed over without a model; pass model= too")
        return settings
    settings["model"] = model if isinstance(model, str) else _kept_model(folder, model)
    patterns = [checkpoints] if isinstance(checkpoints, (str, os.PathLike)) else checkpoints
    patterns = list(patterns) if isinstance(patterns, Iterator) else patterns
    if patterns is not None:
        if not isinstance(patterns, Iterable) or not all(isinstance(each, (str, os.PathLike)) for each in patterns):
            raise HardlookError("checkpoints: needed a path, a glob, or a list of them in the order of training")
        return settings | {"checkpoints": [os.path.abspath(os.path.expanduser(os.fspath(each))) for each in patterns]}
    own = OWN_WEIGHTS.format(run=run)
    recorded = [str(path) for path in folder.glob(f"checkpoints/{run}/*.pt")]
    if recorded and isinstance(model, nn.Module):
        _refuse_other_weights(model, find_checkpoints(recorded, folder)[-1])
    if not recorded:
        if not isinstance(model, nn.Module):
            raise HardlookError("the model has no weights here; pass checkpoints=, a path or a glob")
        if any(each.is_meta for each in model.state_dict().values() if isinstance(each, Tensor)):
            raise HardlookError("the model's weights have no values (device meta); load them, or pass checkpoints=")
        save_checkpoint(folder / own, model, 1)
        return settings | {"checkpoints": own}
    return settings


def _refuse_other_weights(model: nn.Module, last: Checkpoint) -> None:
    """Raises ``HardlookError`` where a model is not the one that a Recorder kept last: which is meant is not known."""
    if weights_sha256(plain_tensors(model)) != last.sha256:
        every = str(last.path.parent / "*.pt")
        raise HardlookError(
            f"the model has other weights than {last.path}, the last that a Recorder kept in this folder; pass "
            f"checkpoints={every!r} to audit those, or choose another folder for this model"
        )


def with_model(
    audit: Audit, model: Any, checkpoints: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] | None = None
) -> Audit:
    """Returns the audit with a model in its first run, for a model that was trained since the audit was made."""
    config = tomllib.loads(audit.config_path.read_text(encoding="utf8"))
    run = next(iter(config.get("run", {})), "main")
    before = config.get("run", {}).get(run, {})
    transform = before.get("transform")
    if is_in_process(transform):
        kept = find_in_process(transform, audit.root)
        model = called_with_tokens(model, getattr(kept, "tokenizer", kept))
    settings = _run_settings(audit.root, run, model, checkpoints, transform)
    top = {key: value for key, value in config.items() if key not in ("data", "run")}
    write_config(audit.root, top, config["data"], {**config.get("run", {}), run: settings})
    return Audit.open(audit.root)


def _kept_model(folder: Path, model: Any) -> str:
    if not callable(model):
        raise HardlookError(
            f"model: found {type(model).__name__}; needed a torch.nn.Module, or a function that makes one"
        )
    return keep_in_process(folder, "model", model)


LONGEST = 512
"""Tokens at which texts are cut where neither tokenizer nor model says less."""


def of_library(transform: Any) -> Callable[[Any], Any]:
    """Returns a tokenizer or an image processor of Hugging Face as a transform; any other transform as it is."""
    if hasattr(transform, "pad_token_id") and hasattr(transform, "padding_side"):
        from scoring.models.huggingface import Tokens

        if transform.pad_token_id is None:
            raise HardlookError("transform: the tokenizer has no padding token; set the one of its training")
        return Tokens(Path(), min(int(transform.model_max_length), LONGEST), transform)
    if hasattr(transform, "image_mean") and hasattr(transform, "preprocess"):
        from scoring.models.huggingface import ProcessedImage

        return ProcessedImage(Path(), transform)
    found: Callable[[Any], Any] = transform
    return found


def called_with_tokens(model: Any, transform: Any) -> Any:
    """Returns a sequence classifier of Hugging Face so that it takes token ids alone, where its transform is a
    tokenizer; any other model as it is."""
    if not type(model).__name__.endswith("ForSequenceClassification") or not hasattr(transform, "pad_token_id"):
        return model
    from scoring.models.huggingface import FromTokens

    return FromTokens(model, transform.pad_token_id, transform.padding_side)


def write_config(
    folder: Path, top: Mapping[str, Any], data: list[dict[str, Any]], runs: Mapping[str, Mapping[str, Any]]
) -> None:
    """Write ``audit.toml``. Raises ``HardlookError`` where an edited one says something else of data or model."""
    lines = [*toml_lines(top)]
    for table in data:
        lines += ["", "[[data]]", *toml_lines(table)]
    for name, settings in runs.items():
        lines += ["", f"[run.{toml_key(name)}]", *toml_lines(settings)]
    body = "\n".join(lines) + "\n"
    path = folder / CONFIG
    if path.is_file() and not _is_own(path.read_text(encoding="utf8")):
        found = Audit.open(folder).config
        wanted: dict[str, Any] = dict(top) | {"data": data, "run": dict(runs)}
        if all(_holds(found.get(key, {}), value) for key, value in wanted.items()):
            return
        raise HardlookError(
            f"{path} was written by hand and differs from what was handed over; open it with "
            f"hardlook.open({str(folder)!r}), or choose another folder"
        )
    with atomic_path(path) as temporary:
        temporary.write_text(
            f"{MARK}{_hash(body)}; once edited, it is kept as it is ({PROCESS})\n{body}", encoding="utf8"
        )


def written_mark(folder: Path) -> str | None:
    """Returns the first line of an ``audit.toml`` as written here, which says by which process and what; None of one
    that was edited."""
    text = (folder / CONFIG).read_text(encoding="utf8")
    return text.partition("\n")[0] if _is_own(text) else None


def _holds(found: Any, wanted: Any) -> bool:
    """Returns whether a table of the file says the same; it may say more."""
    if isinstance(wanted, Mapping):
        return isinstance(found, Mapping) and all(_holds(found.get(key), value) for key, value in wanted.items())
    return found == wanted


def _is_own(text: str) -> bool:
    first, _, body = text.partition("\n")
    return first.startswith(f"{MARK}{_hash(body)};")


def _hash(body: str) -> str:
    return hashlib.sha256(body.encode("utf8")).hexdigest()[:12]
