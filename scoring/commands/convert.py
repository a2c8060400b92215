"""``hardlook convert``: extract the tensors from checkpoints that need unpickling."""

from __future__ import annotations

import argparse
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from scoring.commands.console import add_command

if TYPE_CHECKING:
    from scoring.commands.console import Commands


def add(commands: Commands, given: Collection[str] = ()) -> None:
    """Declare the command."""
    command = add_command(
        commands,
        "convert",
        convert,
        "Extract the tensors from checkpoints that need unpickling, in a separate process. Unpickling runs code, so "
        "use this only on files you trust.",
    )
    command.add_argument("checkpoints", metavar="CKPT", nargs="+")
    command.add_argument("--trust", action="store_true", help="confirm that you trust the source of these files")
    command.add_argument("--out", metavar="DIR", help="the output folder (default: the folder of each checkpoint)")
    command.add_argument(
        "--weights",
        choices=["both", "plain", "ema"],
        default="both",
        help="plain: the trained weights; ema: their moving average; both: whichever of the two exist (default: both)",
    )


def convert(options: argparse.Namespace) -> int:
    """Extract tensors from checkpoints that need unpickling."""
    from scoring.models.conversion import convert_checkpoint, describe_contents

    written = []
    for name in options.checkpoints:
        path = Path(name)
        out = (Path(options.out) if options.out else path.parent) / f"{path.stem}.safetensors"
        convert_checkpoint(path, out, trust=options.trust, weights=options.weights)
        print(f"wrote {out}: {describe_contents(out)}")
        written.append(out)
    named, given = ("it", written[0]) if len(written) == 1 else ("them", f"'{written[0].parent / '*.safetensors'}'")
    print(
        f"next: hardlook new AUDIT --train PATH --checkpoints {given}, or add {named} to checkpoints in audit.toml, "
        "then run hardlook check AUDIT"
    )
    return 0
