"""Checkpoint files of a recorded training: paths, writing and retention.

An epoch and a model in, one file of plain tensors out, ``{"state_dict": …, "epoch": e}`` (or safetensors,
where the run's glob asks for it), written to a temporary file and renamed: a kill leaves whole checkpoints
only. The names follow the glob that audit.toml gives as ``checkpoints``, so that what was recorded is what is
scored.

Cost: one copy of the weights on the disk per kept epoch. Limits: a glob with exactly one ``*``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from scoring.audit import Run
from scoring.audit.errors import HardlookError
from scoring.audit.storage import atomic_path

ENDS = 3
"""The early and the late stage of VoG are the first and the last three checkpoints."""


def thin(epochs: Sequence[int], *, every: int = 1, keep: int | None = None) -> list[int]:
    """Returns which of these epochs' checkpoints stay: the first, every so many after it, the latest; at most
    ``keep``.

    Beyond ``keep`` the first three and the last three stay, and of the rest the most crowded goes first.

    >>> thin(range(1, 12), every=5), thin(range(1, 12), keep=8)
    ([1, 6, 11], [1, 2, 3, 5, 7, 9, 10, 11])
    """
    epochs = sorted(epochs)
    kept = [epoch for epoch in epochs if (epoch - epochs[0]) % every == 0 or epoch == epochs[-1]]
    ends = min(ENDS, (keep or 0) // 2)
    while keep is not None and len(kept) > keep:
        inner = range(ends, len(kept) - ends)
        kept.pop(min(inner, key=lambda at: (kept[at + 1] - kept[at - 1], at)))
    return kept


def check_thinning(every: int, keep: int | None) -> None:
    """Refuse settings of ``thin`` that would keep nothing to compare."""
    if every < 1:
        raise HardlookError(
            f"Recorder(every={every}); needed at least 1, the number of epochs from one checkpoint to the next"
        )
    if keep is not None and keep < 2:
        raise HardlookError(f"Recorder(keep={keep}); needed at least 2 checkpoints, or None to keep them all")


def bare(model: nn.Module) -> nn.Module:
    """The model itself, without what torch.compile or data parallelism wrapped around it."""
    while True:
        inner = getattr(model, "_orig_mod", None)
        if inner is None and isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            inner = model.module
        if inner is None:
            return model
        model = inner


def plain_tensors(model: nn.Module) -> dict[str, Tensor]:
    """The state dict as tensors on the CPU that share no memory; modules' extra state is left out."""
    state = bare(model).state_dict()
    return {name: value.detach().cpu().clone() for name, value in state.items() if isinstance(value, Tensor)}


def save_checkpoint(path: Path, model: nn.Module, epoch: int) -> None:
    """Write the model's weights and the epoch, atomically; readable with ``weights_only=True``."""
    with atomic_path(path) as temporary:
        if path.suffix == ".safetensors":
            save_file(plain_tensors(model), str(temporary), metadata={"epoch": str(epoch)})
        else:
            torch.save({"state_dict": plain_tensors(model), "epoch": epoch}, temporary)


class CheckpointFiles:
    """The files of one run's checkpoints, by epoch, under the names that its glob matches."""

    def __init__(self, run: Run):
        given = run.config.get("checkpoints", f"checkpoints/{run.name}/*.pt")
        patterns = [given] if isinstance(given, str) else given
        if len(patterns) > 1:
            raise HardlookError(
                f"audit.toml: [run.{run.name}] checkpoints lists {len(patterns)} patterns, so the path of a new "
                f'checkpoint is unclear; needed one with exactly one *, for instance "checkpoints/{run.name}/*.pt"'
            )
        self.pattern = patterns[0]
        self.root = run.root
        if self.pattern.count("*") != 1 or re.search(r"[?\[]", self.pattern):
            raise HardlookError(
                f"audit.toml: [run.{run.name}] checkpoints = {self.pattern!r} does not determine the path of a new "
                f'checkpoint; needed exactly one *, for instance "checkpoints/{run.name}/*.pt"'
                + (
                    ""
                    if "*" in self.pattern
                    else f". To start training from that file, write weights = {self.pattern!r} instead"
                )
            )
        before, after = self.pattern.split("*")
        self._before = before + ("" if re.search(r"[^/]$", before) else "epoch-")
        self._after = after

    def path(self, epoch: int) -> Path:
        """Returns where the checkpoint of an epoch lies: ``checkpoints/main/epoch-0001.pt``."""
        return self.root / f"{self._before}{epoch:04d}{self._after}"

    def epochs(self) -> dict[int, Path]:
        """The checkpoints on the disk that bear our names, by epoch."""
        found = {}
        for path in self._matches():
            match = re.search(r"(\d{4,})" + re.escape(self._after) + "$", path.as_posix())
            if match and path == self.path(int(match[1])):
                found[int(match[1])] = path
        return dict(sorted(found.items()))

    def _matches(self) -> list[Path]:
        """Everything that the glob matches, which may be relative to the audit or absolute."""
        anchor = Path(self.pattern).anchor
        return list(Path(anchor or self.root).glob(self.pattern.removeprefix(anchor)))

    def foreign(self) -> list[Path]:
        """Files of other names that the glob matches: they would be scored as epochs of this training."""
        return sorted(set(self._matches()) - set(self.epochs().values()))

    def remove_all_but(self, epochs: Sequence[int]) -> None:
        """Remove our checkpoints of all other epochs."""
        for epoch, path in self.epochs().items():
            if epoch not in epochs:
                path.unlink()

    def refuse_foreign(self) -> None:
        """Raise where the glob also matches files that no Recorder wrote."""
        foreign = self.foreign()
        if foreign:
            shown = ", ".join(path.name for path in foreign[:4])
            raise HardlookError(
                f"{foreign[0].parent} holds {shown}{', …' if len(foreign) > 4 else ''}, which checkpoints = "
                f"{self.pattern!r} would count as epochs of this training; move them, change the pattern, or give "
                "Recorder(checkpoints=False) and save your own"
            )
