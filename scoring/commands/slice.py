"""``hardlook slice``: find slices of examples on which the model fails for the same reason."""

from __future__ import annotations

import argparse
import time
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from scoring.commands.console import add_command, audit_argument

if TYPE_CHECKING:
    from scoring.audit import Audit, Run
    from scoring.commands.console import Commands


def add(commands: Commands, given: Collection[str] = ()) -> None:
    """Declare the command."""
    command = add_command(
        commands,
        "slice",
        slice_audit_run,
        "Find slices of examples on which the model fails for the same reason, by clustering influence embeddings, "
        "with the training examples that harm them most (opponents).",
    )
    audit_argument(command)
    command.add_argument(
        "--method",
        default="kmeans",
        choices=["kmeans", "rule", "dbscan", "spectral"],
        help="the clustering method; rule: only slices that satisfy --max-accuracy and --min-size (default: "
        "%(default)s)",
    )
    command.add_argument("--n-slices", type=int, default=25, help="number of slices (default: %(default)s)")
    command.add_argument(
        "--max-accuracy", type=float, default=0.4, help="rule: the highest accuracy of a slice (default: %(default)s)"
    )
    command.add_argument(
        "--min-size",
        type=int,
        default=25,
        help="rule: the smallest number of examples in a slice (default: %(default)s)",
    )
    command.add_argument(
        "--branching", type=int, default=3, help="rule: number of parts per split of the tree (default: %(default)s)"
    )
    command.add_argument("--split", default="test", choices=["train", "test"], help="(default: %(default)s)")
    command.add_argument("--name", help="the name of the slicing (default: the method)")


def slice_audit_run(options: argparse.Namespace) -> int:
    """Find slices, keep them, and print the worst ones."""
    from scoring.audit import Audit
    from scoring.slices.slicing_run import SliceSettings, slice_run, write_embedding_map

    audit = Audit.open(options.audit)
    run = audit.run(options.run)
    start = time.perf_counter()
    settings = SliceSettings(
        method=options.method,
        n_slices=options.n_slices,
        max_accuracy=options.max_accuracy,
        min_size=options.min_size,
        branching=options.branching,
        split=options.split,
        seed=audit.seed,
    )
    with run.lock():
        summary = slice_run(audit, run, settings, options.name)
        _print_slices(summary)
        print(
            "  computing the two-dimensional map of influence embeddings (a minute or more for tens of thousands of "
            "examples) …",
            flush=True,
        )
        write_embedding_map(audit, run, audit.seed)
    print(f"done in {time.perf_counter() - start:.0f} s. next: hardlook dashboard {options.audit} (page Slices)")
    return 0


def slice_audit(audit: Audit, run: Run, methods: list[str]) -> None:
    """Slice a small audit by several methods and lay out its map: the demo's own settings."""
    from scoring.slices.slicing_run import SliceSettings, slice_run, write_embedding_map

    with run.lock():
        for method in methods:
            settings = SliceSettings(method=method, n_slices=12, min_size=5, seed=audit.seed)
            summary = slice_run(audit, run, settings)
            print(f"  slices ({method}): {len(summary['slices'])} of {summary['examples']} test examples")
        print("  computing the two-dimensional map of influence embeddings …", flush=True)
        write_embedding_map(audit, run, audit.seed)


def _print_slices(summary: dict[str, Any], most: int = 5) -> None:
    """The worst slices, one line each."""
    slices = summary["slices"]
    print(
        f"  {len(slices)} slices of {summary['examples']:,} examples (accuracy {summary['accuracy']:.1%}); "
        f"{summary['in_none']:,} examples are in no slice"
    )
    if not slices:
        print(
            "    the model makes no error on these examples, so there is nothing to explain"
            if summary["accuracy"] == 1
            else "    no group of examples satisfies these settings; use --method kmeans, or with --method rule raise "
            "--max-accuracy or lower --min-size"
        )
    for found in slices[:most]:
        shown = [
            "" if found[key] is None else f"{label} {', '.join(list(found[key])[:3])}"
            for key, label in (("labels", "labels"), ("predictions", "predicted"))
        ]
        print(
            f"    slice {found['slice_id']}: {found['size']} examples, accuracy {found['accuracy']:.0%}, "
            f"{'; '.join(shown)}; {len(found['opponents'])} opponents"
        )
