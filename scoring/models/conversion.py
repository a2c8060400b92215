"""Converts checkpoints that hold objects to safetensors, in a separate process, without building the objects.

A path → a new file with the tensors and the epoch. The child process unpickles with every class and function
replaced by an inert stand-in, save for those that make tensors and plain containers: a whole pickled
``nn.Module`` comes apart into its parameters although its class is not there, hyperparameters are dropped,
and a call that the file asks for (``os.system``…) is recorded instead of made. What a program must be run for
(TorchScript) is run, in that process alone, which is why the user has to say that the file is trusted.

Cost: one start of Python and torch, and one copy of the weights in memory. Known limits: a class that
rebuilds its tensors by code of its own (``__reduce__``) cannot be taken apart.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from scoring.audit.errors import HardlookError, first_line
from scoring.audit.storage import atomic_path, remove_abandoned_of
from scoring.models.checkpoint_facts import FACTS
from scoring.models.checkpoint_folders import weight_files
from scoring.models.checkpoint_formats import READABLE, format_of, found_instead
from scoring.models.checkpoint_reader import AVERAGE, open_safetensors, read_state_dict
from scoring.models.described_pickles import described
from scoring.models.state_dicts import StateDict, holds_both, pick_state_dict
from scoring.models.unpickling import INERT_PICKLE, InertUnpickler, StandIn, undecoded_as


def convert_checkpoint(
    path: str | Path,
    out: str | Path | None = None,
    *,
    trust: bool = False,
    folder: str | Path | None = None,
    weights: str = "both",
) -> Path:
    """Take the weights out of a pickled checkpoint and write them, with epoch and step, as safetensors.

    ``weights``: "plain" (the trained ones), "ema" (their average) or "both", what there is of the two.
    ``out`` defaults to the same name with ``.safetensors``; ``folder`` is put on the path of the process, for
    programs that need it. Raises `HardlookError` without ``trust``, where ``out`` exists with other weights,
    or where no weights could be found.
    """
    path = Path(path)
    if path.is_dir():
        files = weight_files(path)  # folders of other tools are refused here, with what makes weights of them
        raise HardlookError(
            f"{path} is a folder; name the folder in audit.toml, or convert the file in it: hardlook convert "
            f"{files[0]} --trust"
        )
    if not path.is_file():
        raise HardlookError(f"there is no checkpoint {path}")
    _refuse_format(path)
    if not trust:
        raise HardlookError(
            f"{path} may run code when it is read; if you trust the file:  hardlook convert {path} --trust"
        )
    out = Path(out) if out is not None else path.with_suffix(".safetensors")
    _refuse_overwriting(path, out)
    remove_abandoned_of(out)
    with atomic_path(out) as partial:
        _in_own_process(path, partial, folder, weights)
        read_state_dict(partial)  # nothing takes the name of a checkpoint that cannot be read as one
    return out


def describe_contents(converted: Path) -> str:
    """Returns what a conversion wrote: which weights, and the notes of the reading."""
    _, stated = open_safetensors(converted)
    kinds = {
        "plain": "the trained weights",
        "ema": "averaged (EMA) weights",
        "both": "the trained weights and their average (EMA)",
    }
    return "; ".join([kinds[stated["hardlook_kind"]], *json.loads(stated["notes"])])


def _refuse_format(path: Path) -> None:
    """Only pickled files are converted."""
    kind = format_of(path)
    if kind == "safetensors":
        raise HardlookError(f"{path} is a safetensors file already, which needs no conversion; name it in audit.toml")
    if kind not in READABLE:
        raise HardlookError(f"{path} is not a checkpoint: {found_instead(path)}")


def _refuse_overwriting(path: Path, out: Path) -> None:
    """Only an earlier conversion of the same file may be written again."""
    if not out.exists():
        return
    with contextlib.suppress(SafetensorError, OSError), safe_open(out, framework="pt") as file:
        if (file.metadata() or {}).get("source") == path.name and out.resolve() != path.resolve():
            return
    raise HardlookError(f"{out} already exists and is not an earlier conversion of {path}; give another --out")


def _in_own_process(path: Path, partial: Path, folder: str | Path | None, weights: str) -> None:
    """Run this module as a program; its last line of error is ours."""
    here = [str(Path(__file__).resolve().parents[2])]
    places = [*([str(Path(folder).resolve())] if folder else []), *filter(None, sys.path), *here]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(places))}
    command = [
        sys.executable,
        "-P",
        "-m",
        "scoring.models.conversion",
        str(path.resolve()),
        str(partial.resolve()),
        weights,
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        errors = done.stderr.strip().splitlines() or [f"the process ended with {done.returncode}"]
        raise HardlookError(f"{path} could not be converted: {errors[-1].removeprefix('HardlookError: ')}")


# -- inside the process --------------------------------------------------------------------------------------


def take_apart(path: Path, weights: str = "plain") -> StateDict:
    """The weights of a checkpoint that holds objects. Only ever called in a process of its own."""
    return _pick(path, _content(path, _load(path)), weights)


def _content(path: Path, raw: Any) -> Mapping[str, Any]:
    content = _plain(raw)
    if not isinstance(content, Mapping):
        raise HardlookError(
            f"no weights were found in {path}; where it was written, run torch.save(model.state_dict(), path)"
        )
    return content


def _pick(path: Path, content: Mapping[str, Any], weights: str) -> StateDict:
    return pick_state_dict(path, content, {}, weights)


def _load(path: Path) -> Any:
    """Returns what the file holds, with stand-ins; torch runs TorchScript as the program that it is."""
    try:
        with path.open("rb") as file:  # a path that ends in .safetensors would go to the safetensors library
            return torch.load(file, map_location="cpu", weights_only=False, pickle_module=INERT_PICKLE)
    except RuntimeError as error:
        if "magic number" not in str(error):
            raise
    with path.open("rb") as file:  # pickle.dump, not torch.save
        return InertUnpickler(file).load()


def _plain(value: Any, depth: int = 0) -> Any:
    """Objects as what they hold: a module as its state dict, others as mappings of their attributes and
    items."""
    if isinstance(value, torch.nn.Module):
        return dict(value.state_dict())
    if isinstance(value, StandIn):
        module = _module_parts(value)
        if module is not None:
            return dict(_state(module))
        own = {name: item for name, item in vars(value).items() if name not in ("_parts", "_items")}
        value = {**own, **vars(value).get("_items", {})}
    if isinstance(value, Mapping) and depth < 3:
        return {name: _plain(item, depth + 1) for name, item in value.items() if isinstance(name, str)}
    return _tensor_of(value)


def _tensor_of(value: Any) -> Any:
    """numpy arrays as tensors, for state dicts that were saved as arrays; everything else as it is."""
    if type(value).__module__ == "numpy" and hasattr(value, "dtype") and value.dtype.kind in "fiub":
        return torch.as_tensor(value) if getattr(value, "shape", ()) else value.item()
    return value


def _module_parts(value: StandIn) -> Mapping[str, Any] | None:
    """The attributes of a pickled module: its own, or the first argument of what would have rebuilt it
    (torch.fx)."""
    candidates = [value.__dict__, *(part for part in value._parts if isinstance(part, Mapping))]
    return next((c for c in candidates if isinstance(c.get("_modules"), Mapping) and "_parameters" in c), None)


def _state(module: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """Returns what ``state_dict()`` would give: parameters, persistent buffers, children."""
    passing = module.get("_non_persistent_buffers_set") or ()
    own = {
        **module["_parameters"],
        **{name: b for name, b in module["_buffers"].items() if name not in passing},
    }
    for name, tensor in own.items():
        if tensor is not None:
            yield prefix + name, tensor if isinstance(tensor, torch.Tensor) else undecoded_as(type(tensor))
    for name, child in module["_modules"].items():
        parts = _module_parts(child) if isinstance(child, StandIn) else None
        if parts is not None:
            yield from _state(parts, f"{prefix}{name}.")


def write_converted(
    state: StateDict, out: Path, average: StateDict | None = None, stated: Mapping[str, str] | None = None
) -> None:
    """safetensors, with epoch, step and source in its header; each tensor on its own, ties undone.

    ``average``: the moving average of the weights in ``state``, which is written beside them. ``stated``: more of the
    header, what the file says of itself (`scoring.models.described_pickles`).
    """
    from safetensors.torch import save_file

    facts = {
        "epoch": state.epoch,
        "global_step": state.step,
        "hardlook_kind": "both" if average else state.kind,
        "source": state.path.name,
        "notes": json.dumps([] if average else state.notes),
        **(stated or {}),
    }
    tensors = {
        **state.tensors,
        **{AVERAGE + name: item for name, item in (average.tensors if average else {}).items()},
    }
    tensors = {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}
    save_file(tensors, out, metadata={name: str(value) for name, value in facts.items() if value is not None})


def _convert(path: Path, out: Path, weights: str) -> None:
    """Extracts the requested weights of a file and writes them."""
    raw = _load(path)
    content = _content(path, raw)
    both = weights == "both" and holds_both(content)
    state = _pick(path, content, "ema" if weights == "ema" else "plain")
    facts, dropped = described(raw)
    stated = {FACTS: json.dumps(facts), "dropped": json.dumps(dropped)} if facts or dropped else {}
    write_converted(state, out, _pick(path, content, "ema") if both else None, stated)


def main(arguments: list[str]) -> int:
    """``python -m scoring.models.conversion CHECKPOINT OUT plain|ema|both``: the child process."""
    path, out, weights = Path(arguments[0]), Path(arguments[1]), arguments[2]
    try:
        _convert(path, out, weights)
    except Exception as error:  # noqa: BLE001  whatever a strange file does, the parent gets one line
        sys.stderr.write(f"{type(error).__name__}: {first_line(error)}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
