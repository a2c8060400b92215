"""``hardlook repeat``: train and score a run again with other seeds or settings, to measure the stability of its
scores.

Each value makes one run that is like the given one but for that setting, and adds its table to audit.toml.
What is trained and scored already is left alone, so the command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from scoring.audit.errors import HardlookError
from scoring.audit.storage import atomic_path
from scoring.commands.console import add_command, audit_argument, device_argument, read_data
from scoring.commands.score import score_audit
from scoring.commands.train import train_and_print

if TYPE_CHECKING:
    from scoring.audit import Audit
    from scoring.commands.console import Commands

SETTINGS = {"seeds": ("seed", "seed"), "batch_sizes": ("batch_size", "batch"), "keep": ("keep", "keep")}
"""Option → the setting of [run.x.training] and the word in the new run's name."""


def add(commands: Commands, given: Collection[str] = ()) -> None:
    """Declare the command."""
    command = add_command(
        commands,
        "repeat",
        repeat,
        "Train and score a run again with other seeds, batch sizes or numbers of checkpoints. Each value becomes a "
        "separate run; /compare shows how stable the scores are.",
    )
    audit_argument(command)
    command.add_argument("--seeds", type=_numbers, default=(), metavar="N,N", help="other seeds, e.g. 1,2")
    command.add_argument(
        "--batch-sizes", type=_numbers, default=(), metavar="N,N", help="other batch sizes, e.g. 32,256"
    )
    command.add_argument(
        "--keep", type=_numbers, default=(), metavar="N,N", help="other numbers of checkpoints, e.g. 3"
    )
    command.add_argument("--only", metavar="NAMES", help="compute only these scores, e.g. vog,aum")
    device_argument(command)


def _numbers(text: str) -> tuple[int, ...]:
    """ "1,2" → (1, 2)."""
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}; needed whole numbers such as 1,2") from error


def repeat(options: argparse.Namespace) -> int:
    """Add, train and score the runs."""
    from scoring.audit import Audit

    audit = Audit.open(options.audit)
    base = audit.run(options.run).name
    wanted = {
        f"{base}-{word}{value}": {setting: value}
        for option, (setting, word) in SETTINGS.items()
        for value in getattr(options, option)
    }
    if not wanted:
        raise HardlookError("nothing to repeat; give other values, for example --seeds 1,2")
    audit = add_runs(audit, base, wanted)
    read_data(audit)
    for name in wanted:
        print(f"hardlook repeat: {audit.name}, run {name}")
        train_and_print(audit, audit.run(name), options.device)
        score_audit(audit, audit.run(name), options)
    print(f"next: hardlook dashboard {options.audit}, page Compare, stability")
    return 0


def add_runs(audit: Audit, base: str, wanted: dict[str, dict[str, int]]) -> Audit:
    """Append a table to audit.toml for each run that it lacks → the audit, read again. All of them or none."""
    from scoring.audit import Audit, read_config

    there = audit.config.get("run", {})
    if base not in there:
        raise HardlookError(
            f"run {base!r} has no table in audit.toml because its predictions were imported, so it cannot be trained "
            "again; repeat a run that names a model"
        )
    new = {name: settings for name, settings in wanted.items() if name not in there}
    for name in wanted.keys() - new.keys():
        given = there[name].get("training", {})
        if any(given.get(key) != value for key, value in wanted[name].items()):
            raise HardlookError(
                f"audit.toml: [run.{name}] already exists with other training settings ({given}); rename it"
            )
    if new:
        path = audit.config_path
        with atomic_path(path) as temporary:
            temporary.write_text(path.read_text(encoding="utf8") + "".join(tables(base, new)), encoding="utf8")
            read_config(temporary)
        print(f"  audit.toml: added {', '.join(f'[run.{name}]' for name in new)}")
    return Audit.open(audit.root)


def tables(base: str, runs: dict[str, dict[str, int]]) -> Sequence[str]:
    """The TOML of runs that are like another."""
    quoted = {name: json.dumps(name, ensure_ascii=False) for name in (base, *runs)}
    return [
        f"\n[run.{quoted[name]}]\nlike = {quoted[base]}\ntraining = {{ "
        + ", ".join(f"{key} = {value}" for key, value in settings.items())
        + " }\n"
        for name, settings in runs.items()
    ]
