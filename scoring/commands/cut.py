"""``hardlook cut``: compute the decision plane of one example of vector data."""

from __future__ import annotations

import argparse
from collections.abc import Collection
from typing import TYPE_CHECKING

from scoring.commands.console import add_command, audit_argument, bar, device_argument

if TYPE_CHECKING:
    from scoring.commands.console import Commands


def add(commands: Commands, given: Collection[str] = ()) -> None:
    """Declare the command."""
    command = add_command(
        commands,
        "cut",
        cut,
        "Compute the decision plane of one example of vector data: vary two columns over a grid and record the "
        "model's decision at every point. The page of the opened example shows it.",
    )
    audit_argument(command)
    command.add_argument("--example", required=True, metavar="ID", help="the example_id")
    command.add_argument(
        "--x", metavar="COLUMN", help="the column on the x axis (default: the column that deviates most)"
    )
    command.add_argument(
        "--y", metavar="COLUMN", help="the column on the y axis (default: the column that deviates second most)"
    )
    command.add_argument("--side", type=int, default=61, help="grid points per column (default: %(default)s)")
    device_argument(command)


def cut(options: argparse.Namespace) -> int:
    """Compute the cut, keep it and say what it shows."""
    from scoring.audit import Audit
    from scoring.pipeline.decision_plane import write_plane
    from scoring.pipeline.shards import Context

    audit = Audit.open(options.audit)
    context = Context(audit, audit.run(options.run), device=options.device, progress=bar)
    found = write_plane(context, options.example, options.x, options.y, options.side)
    decided = [found["classes"][at] for at in found["decisions"]]
    shares = sorted(((decided.count(name) / len(decided), name) for name in set(decided)), reverse=True)
    print(
        f"  {options.example}: {found['x']} from {found['xs'][0]:.4g} to {found['xs'][-1]:.4g}, {found['y']} from "
        f"{found['ys'][0]:.4g} to {found['ys'][-1]:.4g}"
    )
    print("  decisions: " + ", ".join(f"{name} {share:.0%}" for share, name in shares))
    print(
        f"  with {len(found['points']['x'])} labelled examples for comparison; open {options.example} in the "
        "dashboard to see the plane"
    )
    return 0
