"""``hardlook score``: score every example of a run.

Options of a score are derived from the scorer's fields (``--vog-batch-size 128``).
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import textwrap
import time
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from scoring.commands.console import add_command, audit_argument, bar, device_argument, say

if TYPE_CHECKING:
    from scoring.audit import Audit, Run
    from scoring.commands.console import Commands
    from scoring.pipeline.score_run import Summary


def add(commands: Commands, given: Collection[str] = ()) -> None:
    """Declare the command."""
    command = add_command(
        commands,
        "score",
        score,
        "Score every example of a run: VoG, training dynamics, uncertainty and the others. An interrupted command "
        "continues where it stopped; only changed examples are scored again.",
    )
    command.usage = "%(prog)s AUDIT [options]"
    audit_argument(command)
    only = command.add_argument(
        "--only", metavar="NAMES", help="compute only these scores, e.g. vog,aum; unique beginnings of names do"
    )
    command.add_argument(
        "--quick", action="store_true", help="stop once the queue is ready: no views, no VoG, no influence"
    )
    command.add_argument(
        "--within",
        metavar="TIME",
        type=_seconds,
        help="plan for this time, e.g. 20m, 90s or 2h: influence's products and subset, then views, are lowered until "
        "all fits, and what does not fit is left out; the plan is printed",
    )
    command.add_argument("--anyway", action="store_true", help="score even if `hardlook check` reports an error")
    command.add_argument(
        "--ray",
        metavar="ADDRESS",
        nargs="?",
        const="local",
        help="run the model on Ray workers: on this machine, or on the cluster at ADDRESS",
    )
    command.add_argument(
        "--cross-validate",
        type=int,
        metavar="K",
        help="first train K models, each on all folds but one, to get out-of-fold probabilities",
    )
    device_argument(command)
    if "score" in given:
        _add_settings(command)
        command.formatter_class = argparse.RawDescriptionHelpFormatter
        command.description = textwrap.fill(command.description or "", 100)
        command.epilog = list_of_scores()
        only.help = f"{only.help} (listed at the end)"


def list_of_scores() -> str:
    """Returns every score with the first sentence about it, in the order in which they are computed."""
    from scoring.pipeline.score_order import in_order
    from scoring.scorers import registry

    order = in_order(registry().values(), recorded=True)
    lines = ["scores, in their order (hardlook score --quick stops after suspicion):"]
    for kind in (kind for kinds in order.values() for kind in kinds):
        first = " ".join((kind.__doc__ or "").partition("\n\n")[0].partition(" ``")[0].split())
        lines.append(textwrap.fill(f"  {kind.name:<20} {first}", 110, subsequent_indent=" " * 23))
    return "\n".join(lines)


def _add_settings(command: argparse.ArgumentParser) -> None:
    """One option per field of every scorer; the field's default is the only home of the default."""
    from scoring.scorers import registry

    for name, kind in registry().items():
        fields = dataclasses.fields(kind)
        if not fields:
            continue
        group = command.add_argument_group(f"{name} settings")
        descriptions = setting_descriptions(kind.__doc__ or "")
        for field in fields:
            default = _default_text(field.default)
            group.add_argument(
                f"--{name}-{field.name}".replace("_", "-"),
                dest=f"{name}.{field.name}",
                metavar=_kind(field.default),
                type=_reader(field.default),
                default=None,
                help=f"{descriptions.get(field.name, '')} (default: {default})".strip().replace("%", "%%"),
            )


def _seconds(text: str) -> float:
    """Returns the seconds that a text says.

    >>> [_seconds(text) for text in ("90s", "20m", "2h", "1h30m")]
    [90.0, 1200.0, 7200.0, 5400.0]
    """
    found = re.fullmatch(r"(?=.)(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?", text.strip().lower())
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time; needed a number with its unit, e.g. 90s, 20m or 2h")
    return sum(float(part or 0) * unit for part, unit in zip(found.groups(), (3600, 60, 1), strict=True))


def setting_descriptions(doc: str) -> dict[str, str]:
    """Returns the description of each field in a scorer's docstring: the text after ``name``: up to the next one.

    >>> setting_descriptions("A toy. ``k``: neighbours\\n asked. ``low``, ``high``: quantiles of ``k``; see there.")
    {'k': 'neighbours asked', 'low': 'quantiles of k; see there', 'high': 'quantiles of k; see there'}
    """
    found = {}
    names = r"``\w+``(?:, ``\w+``)*:"
    for part in doc.split("\n\n"):
        for head, body in re.findall(rf"({names}) (.*?)(?= {names}|$)", " ".join(part.split())):
            for name in re.findall(r"``(\w+)``", head):
                found[name] = body.replace("``", "").rstrip(".;, ")
    return found


def _default_text(default: object) -> str:
    """Returns a setting's default as the help of its option shows it.

    >>> [_default_text(default) for default in (True, 0.25, "", 8)]
    ['yes', '0.25', 'empty', '8']
    """
    if isinstance(default, bool):
        return "yes" if default else "no"
    return f"{default:.4g}" if isinstance(default, float) else str(default) or "empty"


def _kind(default: object) -> str:
    """Returns what an option takes, from the type of the default."""
    return {bool: "yes|no", int: "N", float: "X"}.get(type(default), "TEXT")


def _reader(default: object) -> Callable[[str], Any]:
    """Returns how to read an option's text, from the type of the default."""
    if isinstance(default, bool):
        return lambda text: text.lower() in ("1", "true", "yes", "on")
    if isinstance(default, tuple):
        return lambda text: tuple(part for part in text.split(",") if part)
    return type(default) if default is not None else str


def score(options: argparse.Namespace) -> int:
    """Score a run."""
    from scoring.audit import Audit

    audit = Audit.open(options.audit)
    run = audit.run(options.run)
    start = time.perf_counter()
    print(f"hardlook score: {audit.name}, run {run.name}")
    score_audit(audit, run, options, read=True)
    print(f"done in {time.perf_counter() - start:.0f} s. next: hardlook dashboard {options.audit}")
    return 0


def score_audit(audit: Audit, run: Run, options: argparse.Namespace, *, read: bool = False) -> None:
    """Score as the options say, and print what was done and what was left out. ``read``: read the data first."""
    from scoring.pipeline.score_audit import score_audit as compute

    names = (getattr(options, "only", None) or "").split(",")
    summary = compute(
        audit,
        run,
        device=options.device,
        only=[name.strip() for name in names if name.strip()] or None,
        settings=_settings(options),
        quick=getattr(options, "quick", False),
        within=getattr(options, "within", None),
        anyway=getattr(options, "anyway", False),
        workers=getattr(options, "ray", None),
        cross_validate=getattr(options, "cross_validate", None),
        read=read,
        progress=bar,
        say=say,
    )
    print_summary(summary)


def print_summary(summary: Summary) -> None:
    """Prints what each pass did, what was left out, and what the scores have to say of this run."""
    from scoring.pipeline.score_order import left_out

    for done in summary.passes:
        memory = f", peak memory {done['peak_gb']:.2f} GB"
        memory += f" and {done['cuda_gb']:.2f} GB on the device" if "cuda_gb" in done else ""
        print(
            f"  {done['name']}: {done['computed']:,} of {done['of']:,} examples computed in {done['seconds']:.1f} s"
            + (memory if done["computed"] else "")
        )
    for text in left_out(summary.skipped):
        print(f"  {text}")
    for note in summary.notes:
        print(f"  note: {note}")


def _settings(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """The scorer settings that were given: scorer → field → value."""
    found: dict[str, dict[str, Any]] = {}
    for key, value in vars(options).items():
        if "." in key and value is not None:
            scorer, field = key.split(".", 1)
            found.setdefault(scorer, {})[field] = value
    return found
