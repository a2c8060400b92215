"""The command line: ``hardlook demo | new | check | train | score | slice | refit | dashboard | export | convert``.

Each command imports only what it needs, shows progress with the remaining time on anything over two seconds, and ends
with what was written, how long it took and the next command. Options of a score are derived from the scorer's fields
(``--vog-batch-size 128``). A ``HardlookError`` is printed as one message; anything else is a bug and keeps its
traceback.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import re
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from scoring.tables import HardlookError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0 done, 1 refused with a message, 2 wrong usage, 130 interrupted."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = parser(given).parse_args(given)
    try:
        return options.command(options) or 0
    except HardlookError as error:
        print(f"hardlook {options.name}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; run the same command again to go on where it stopped", file=sys.stderr)
        return 130


def parser(given: Sequence[str] = ()) -> argparse.ArgumentParser:
    """All commands with their help; score's options are added only where ``score`` is given, since they load torch."""
    import scoring

    top = argparse.ArgumentParser(prog="hardlook", description="Take a hard look at a labelled dataset through the "
                                  "eyes of the model trained on it.")
    top.add_argument("--version", action="version", version=f"hardlook {scoring.__version__}")
    commands = top.add_subparsers(dest="name", metavar="COMMAND", required=True)
    _demo(commands)
    _new(commands)
    _check(commands)
    _train(commands)
    _score(commands, with_settings="score" in given)
    _dashboard(commands)
    _slice(commands)
    _refit(commands)
    _export(commands)
    _convert(commands)
    return top


def _command(commands, name: str, function, text: str) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=text, description=text)
    command.set_defaults(command=function)
    return command


def _audit(command: argparse.ArgumentParser, *, run: bool = True) -> None:
    command.add_argument("audit", metavar="AUDIT", help="the audit's folder (holds audit.toml)")
    if run:
        command.add_argument("--run", metavar="NAME", help="the run (default: the first one in audit.toml)")


def _device(command: argparse.ArgumentParser) -> None:
    command.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda", "mps"],
                         help="where the model runs (default: auto)")


def _demo(commands) -> None:
    command = _command(commands, "demo", demo, "Audit 1,797 real digits with planted label errors, from training to "
                       "the dashboard, in about two minutes.")
    command.add_argument("--audit", metavar="DIR", default="hardlook-demo", help="where to put it (default: %(default)s)")
    command.add_argument("--no-dashboard", action="store_true", help="stop after scoring")
    command.add_argument("--port", type=int, default=8501, help="the dashboard's port (default: %(default)s)")
    _device(command)


def _new(commands) -> None:
    command = _command(commands, "new", new, "Start an audit of your own: a folder with an audit.toml to fill in and "
                       "an example model file.")
    command.add_argument("audit", metavar="DIR", help="the folder to make")


def _check(commands) -> None:
    command = _command(commands, "check", check, "Look for what would silently spoil every number: random transforms, "
                       "permuted classes, BGR, missing /255 or normalisation.")
    _audit(command)
    _device(command)


def _train(commands) -> None:
    command = _command(commands, "train", train, "Train the run's model with the Recorder: from the factory, or from "
                       "given weights with head and last block re-initialised.")
    _audit(command)
    command.add_argument("--epochs", type=int, help="how many epochs (default: audit.toml's, else 15)")
    command.add_argument("--resume", action="store_true", help="go on after the last recorded epoch")
    command.add_argument("--overwrite", action="store_true", help="train again, replacing the recorded training")
    _device(command)


def _score(commands, with_settings: bool) -> None:
    command = _command(commands, "score", score, "Score every example of a run: VoG, training dynamics, uncertainty. "
                       "Goes on where it was stopped; scores only what changed.")
    _audit(command)
    command.add_argument("--only", metavar="NAMES", help="only these scores, e.g. vog,aum")
    command.add_argument("--anyway", action="store_true", help="score even though `hardlook check` found a mistake")
    _device(command)
    if with_settings:
        _add_settings(command)


def _add_settings(command: argparse.ArgumentParser) -> None:
    """One option per field of every scorer; the field's default is the only home of the default."""
    from scoring.scorer import registry

    for name, kind in registry().items():
        fields = dataclasses.fields(kind)
        group = command.add_argument_group(f"{name} settings") if fields else None
        for field in fields:
            group.add_argument(f"--{name}-{field.name}".replace("_", "-"), dest=f"{name}.{field.name}",
                               metavar=str(field.default), type=_reader(field.default), default=None,
                               help=f"default {field.default}")


def _reader(default):
    """How to read an option's text, from the type of the default."""
    if isinstance(default, bool):
        return lambda text: text.lower() in ("1", "true", "yes", "on")
    if isinstance(default, tuple):
        return lambda text: tuple(part for part in text.split(",") if part)
    return type(default) if default is not None else str


def _slice(commands) -> None:
    command = _command(commands, "slice", slice_, "Find slices where the model fails for the same reason, from the "
                       "influence embeddings, with their opponents in training.")
    _audit(command)
    command.add_argument("--method", default="kmeans", choices=["kmeans", "rule", "dbscan", "spectral"],
                         help="kmeans, dbscan, spectral, or rule: every slice satisfies the rule (default: %(default)s)")
    command.add_argument("--n-slices", type=int, default=25, help="how many slices (default: %(default)s)")
    command.add_argument("--max-accuracy", type=float, default=0.4, help="rule: at most (default: %(default)s)")
    command.add_argument("--min-size", type=int, default=25, help="rule: at least (default: %(default)s)")
    command.add_argument("--branching", type=int, default=3, help="rule: parts per split (default: %(default)s)")
    command.add_argument("--split", default="test", choices=["train", "test"], help="(default: %(default)s)")
    command.add_argument("--name", help="keep the slicing under this name (default: the method)")


def _refit(commands) -> None:
    command = _command(commands, "refit", refit_, "Preview what the review's corrections do: predicted change of loss, "
                       "and the head refitted on original, reviewed and placebo labels.")
    _audit(command)
    command.add_argument("--log", metavar="URL", help="the review log (default: reviews.sqlite in the audit)")
    _device(command)


def _dashboard(commands) -> None:
    command = _command(commands, "dashboard", dashboard, "Open the audit in the browser.")
    _audit(command, run=False)
    command.add_argument("--host", default="127.0.0.1", help="the address to serve on (default: %(default)s)")
    command.add_argument("--port", type=int, default=8501, help="the port (default: %(default)s)")
    command.add_argument("--log", metavar="URL", help="the review log (default: reviews.sqlite in the audit)")


def _export(commands) -> None:
    command = _command(commands, "export", export, "Write the corrected labels: one patch per split.")
    _audit(command, run=False)
    command.add_argument("--out", metavar="PATH", help="the folder to write to (default: exports in the audit)")
    command.add_argument("--format", choices=["csv", "parquet"], default="csv", help="(default: %(default)s)")
    command.add_argument("--log", metavar="URL", help="the review log (default: reviews.sqlite in the audit)")


def _convert(commands) -> None:
    command = _command(commands, "convert", convert, "Extract the tensors of checkpoints that need unpickling, in a "
                       "process of its own. Unpickling runs code: only for files you trust.")
    command.add_argument("checkpoints", metavar="CKPT", nargs="+")
    command.add_argument("--trust", action="store_true", help="yes, I trust where these files come from")
    command.add_argument("--out", metavar="DIR", help="where to write (default: beside each checkpoint)")


# -- what the commands do ----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def bar(what: str, total: int) -> Iterator:
    """A progress bar with remaining time, shown once a pass takes more than two seconds."""
    from tqdm import tqdm

    with tqdm(total=total, desc=f"  {what}", unit=" examples", delay=2, leave=False, dynamic_ncols=True) as shown:
        yield shown.update


def demo(options) -> int:
    """Train, score and open the sample project."""
    start = time.perf_counter()
    folder = Path(options.audit)
    made = copy_sample(folder)
    print(f"hardlook demo: {'made' if made else 'using'} {folder}")
    from sample_data import data as sample

    if not (folder / "data" / "truth.csv").is_file():
        sample.write(folder / "data")
    from scoring.audit import Audit

    audit = Audit.open(folder)
    _read_data(audit)
    _train_run(audit, audit.run(), options.device)
    _score_audit(audit, audit.run(), options)
    _slice_audit(audit, audit.run(), ["kmeans", "rule"])
    _report_truth(audit)
    print(f"\ndone in {time.perf_counter() - start:.0f} s. The audit is in {folder}.")
    command = f"hardlook dashboard {folder}"
    if options.no_dashboard:
        print(f"next: {command}")
        return 0
    print(f"opening the dashboard (again later: {command})")
    from dashboard.server import serve

    serve(folder, port=options.port)
    return 0


def copy_sample(folder: Path) -> bool:
    """Copy the sample project's files into ``folder``; files that are there are kept. Returns whether any was new."""
    from importlib.resources import files

    if folder.exists() and not folder.is_dir():
        raise HardlookError(f"{folder} is a file; name a folder for the audit")
    folder.mkdir(parents=True, exist_ok=True)
    new_one = False
    for source in files("sample_data").iterdir():
        if source.name.endswith((".py", ".toml", ".md")) and source.name != "__init__.py":
            target = folder / source.name
            if not target.exists():
                target.write_bytes(source.read_bytes())
                new_one = True
    return new_one


def new(options) -> int:
    """Start an audit: the sample's files, to be edited."""
    folder = Path(options.audit)
    if (folder / "audit.toml").exists():
        raise HardlookError(f"{folder} already has an audit.toml; edit it, or name another folder")
    copy_sample(folder)
    print(f"made {folder} with audit.toml, model.py and data.py: a working project about digits to edit into yours.\n"
          f"1. in audit.toml, name your data, classes, model, transform and checkpoints\n"
          f"2. hardlook check {folder}\n"
          f"3. hardlook score {folder}      (no checkpoints of several epochs? first: hardlook train {folder})\n"
          f"4. hardlook dashboard {folder}\n"
          f"To try it with the digits as it is: python {folder}/data.py, then hardlook train {folder}")
    return 0


def _read_data(audit) -> None:
    """Read the data (again) and say what was found, what changed and what cannot be used."""
    from scoring.examples import ingest

    found = ingest(audit, progress=bar)
    splits = ", ".join(f"{split} {facts['examples']:,}" for split, facts in found.splits.items())
    changes = [f"{count:,} {name}" for name in ("added", "changed", "relabelled", "removed")
               if (count := getattr(found, name)) and count < found.examples]
    print(f"  data: {found.examples:,} examples ({splits})" + (f"; {', '.join(changes)}" if changes else "")
          + f" ({found.seconds:.1f} s)")
    if found.problems:
        print(f"  data: {len(found.problems):,} examples cannot be used and get null scores:")
        for problem in found.problems[:5]:
            print(f"    {problem['example_id']}: {problem['problem']}")
        if len(found.problems) > 5:
            print(f"    … and {len(found.problems) - 5:,} more, in {audit.ingest_path}")
    if groups := found.duplicates.get("groups"):
        print(f"  data: {groups:,} groups of exact duplicates, {found.duplicates.get('across_splits', 0):,} across "
              f"splits, {found.duplicates.get('conflicting', 0):,} with conflicting labels (see /overview)")


def _context(audit, run, device: str):
    """A run opened for computing, with its order of checkpoints told."""
    from scoring.checkpoints import describe_order
    from scoring.shards import Context

    context = Context(audit, run, device=device, progress=bar, say=lambda text: print(f"  {text}"))
    if run.config:
        print(f"  checkpoints: {describe_order(context.checkpoints)}")
    return context


def check(options) -> int:
    """Print every finding and where the picture is."""
    from scoring.audit import Audit

    audit = Audit.open(options.audit)
    run = audit.run(options.run)
    _read_data(audit)
    return 1 if _check_run(_context(audit, run, options.device), quiet=False) else 0


def _check_run(context, quiet: bool) -> list:
    """Run the check and print it; returns the findings that are errors."""
    from scoring.check import check_run

    findings = check_run(context)
    for finding in findings:
        if not quiet or finding.level != "ok":
            print(f"  check: {finding.level}: {finding.text}")
    if context.run.check_picture.is_file() and not quiet:
        print(f"  check: sixteen inputs as the model sees them: {context.run.check_picture}")
    return [finding for finding in findings if finding.level == "error"]


def train(options) -> int:
    """Train a run with the Recorder."""
    from scoring.audit import Audit

    audit = Audit.open(options.audit)
    run = audit.run(options.run)
    _read_data(audit)
    _train_run(audit, run, options.device, epochs=options.epochs, resume=options.resume, overwrite=options.overwrite)
    print(f"next: hardlook score {options.audit}" + (f" --run {run.name}" if options.run else ""))
    return 0


def _train_run(audit, run, device: str, **settings) -> None:
    """Train and say what was written."""
    from scoring.trainer import train_run

    start = time.perf_counter()
    with run.lock():
        told = train_run(audit, run, device=device, progress=bar, **settings)
    print(f"  training: {told} ({time.perf_counter() - start:.1f} s)")


def score(options) -> int:
    """Score a run."""
    from scoring.audit import Audit

    audit = Audit.open(options.audit)
    run = audit.run(options.run)
    start = time.perf_counter()
    print(f"hardlook score: {audit.name}, run {run.name}")
    _read_data(audit)
    _score_audit(audit, run, options)
    print(f"done in {time.perf_counter() - start:.0f} s. next: hardlook dashboard {options.audit}")
    return 0


def _score_audit(audit, run, options) -> None:
    """Check and score under the run's lock, and print what was done, what was left out and which ends are hard."""
    from scoring.check import refuse_errors
    from scoring.compute import score_run

    only = [name.strip() for name in (getattr(options, "only", None) or "").split(",") if name.strip()]
    with run.lock():
        context = _context(audit, run, options.device)
        if run.config:
            from scoring.check import check_run

            findings = check_run(context)
            for finding in findings:
                print(f"  check: {finding.level}: {finding.text}")
            if not getattr(options, "anyway", False):
                refuse_errors(findings)
        summary = score_run(context, only or None, _settings(options))
    for done in summary.passes:
        print(f"  {done['name']}: {done['computed']:,} of {done['of']:,} examples computed in {done['seconds']:.1f} s")
    for name, reason in summary.skipped.items():
        print(f"  {name}: left out: {reason}")
    for note in summary.notes:
        print(f"  note: {note}")


def slice_(options) -> int:
    """Find slices, keep them, and print the worst ones."""
    from scoring.audit import Audit
    from scoring.slicing import SliceSettings, lay_out, slice_run

    audit = Audit.open(options.audit)
    run = audit.run(options.run)
    start = time.perf_counter()
    settings = SliceSettings(method=options.method, n_slices=options.n_slices, max_accuracy=options.max_accuracy,
                             min_size=options.min_size, branching=options.branching, split=options.split,
                             seed=audit.seed)
    with run.lock():
        summary = slice_run(audit, run, settings, options.name)
        lay_out(audit, run, audit.seed)
    _print_slices(summary)
    print(f"done in {time.perf_counter() - start:.0f} s. next: hardlook dashboard {options.audit} (page Slices)")
    return 0


def refit_(options) -> int:
    """Predict and check the effect of the corrections; keep it for the page and print it."""
    from scoring.audit import Audit
    from scoring.corrections import embedder, preview
    from scoring.reviews import ReviewLog
    from scoring.shards import Context
    from scoring.tables import write_json

    audit = Audit.open(options.audit)
    run = audit.run(options.run)
    url = options.log or audit.log_url
    with run.lock(), ReviewLog.open(url, audit=audit.log_name(url)) as log:
        print("  refitting the head on original, reviewed and placebo labels …", flush=True)
        found = preview(audit, run, log, embedder(Context(audit, run, device=options.device, progress=bar)))
        write_json(run.refit_path, found)
    edits, judged = found["edits"], found["judged_on"]
    print(f"  {edits['relabelled']} training labels changed, {edits['removed']} examples removed, of {edits['train']:,}; "
          f"judged on {judged['examples']:,} {judged['how']}")
    print(f"  {'group':<24}{'n':>6}  original  reviewed   placebo  gain (95 % interval)       predicted Δloss")
    for row in found["groups"]:
        print("  " + _refit_row(row))
    return 0


def _refit_row(row: dict) -> str:
    """One group of the refit as a line of the table."""
    if not row["n"]:
        return f"{row['group'][:23]:<24}{0:>6}"
    return (f"{row['group'][:23]:<24}{row['n']:>6}  {row['original']:>8.1%}  {row['reviewed']:>8.1%}  "
            f"{row['placebo']:>8.1%}  {row['gain']:>+6.1%} ({row['gain_low']:+.1%} to {row['gain_high']:+.1%})"
            f"  {row['change']:>+10.4f}")


def _slice_audit(audit, run, methods: list[str]) -> None:
    """Slice a small audit by several methods and lay out its map: the demo's own settings."""
    from scoring.slicing import SliceSettings, lay_out, slice_run

    with run.lock():
        for method in methods:
            settings = SliceSettings(method=method, n_slices=12, min_size=5, seed=audit.seed)
            summary = slice_run(audit, run, settings)
            print(f"  slices ({method}): {len(summary['slices'])} of {summary['examples']} test examples")
        print("  laying out the map of influence embeddings …", flush=True)
        lay_out(audit, run, audit.seed)


def _print_slices(summary: dict, most: int = 5) -> None:
    """The worst slices, one line each."""
    slices = summary["slices"]
    print(f"  {len(slices)} slices of {summary['examples']:,} examples (accuracy {summary['accuracy']:.1%}); "
          f"{summary['in_none']:,} examples in none")
    for found in slices[:most]:
        shown = ["" if found[key] is None else f"{label} {', '.join(list(found[key])[:3])}"
                 for key, label in (("labels", "labels"), ("predictions", "predicted"))]
        print(f"    slice {found['slice_id']}: {found['size']} examples, accuracy {found['accuracy']:.0%}, "
              f"{'; '.join(shown)}; {len(found['opponents'])} opponents")


def _settings(options) -> dict[str, dict]:
    """The scorer settings that were given: scorer → field → value."""
    found: dict[str, dict] = {}
    for key, value in vars(options).items():
        if "." in key and value is not None:
            scorer, field = key.split(".", 1)
            found.setdefault(scorer, {})[field] = value
    return found


def _report_truth(audit) -> None:
    """Where the truth is known: how many of the errors the first 5 % and 10 % of each ranking hold, beside chance."""
    from scoring.queues import default_order, order_by, truth_report

    run = audit.run()
    orders = [default_order(audit, run, "train"), order_by(run, "self_influence.cook")]
    reports = [(order, truth_report(audit, run, order, "train")) for order in orders]
    if reports[0][1] is None:
        return
    table, wrong, total = reports[0][1]
    chance = " and ".join(f"{value:.0f}" for value in table["chance"])
    print(f"\n  the truth is known here: {wrong} of {total:,} training labels are wrong; of them, the first 5 % and 10 % "
          f"hold\n    {'by chance':<40}{chance}")
    for (order, (table, *_)), name in zip(reports, ("the suspect ranking", "self-influence"), strict=True):
        found = " and ".join(f"{row.found} ({row.recall:.0%})" for row in table.itertuples())
        print(f"    {f'{name} ({order.score})':<40}{found}")


def dashboard(options) -> int:
    """Serve the audit in the browser."""
    from dashboard.server import serve

    serve(options.audit, host=options.host, port=options.port, log=options.log)
    return 0


def export(options) -> int:
    """Write the patches of corrected labels."""
    from scoring.audit import Audit
    from scoring.examples import read_examples
    from scoring.patches import export_patches, missing_examples, read_patch
    from scoring.reviews import ReviewLog

    audit = Audit.open(options.audit)
    out = Path(options.out) if options.out else audit.exports_folder
    url = options.log or audit.log_url
    with ReviewLog.open(url, audit=audit.log_name(url)) as log:
        paths = export_patches(read_examples(audit), log, out, fmt=options.format, policy=audit.policy)
        gone = missing_examples(read_examples(audit), log)
    rows = {path: len(read_patch(path)) for path in paths}
    for path, count in rows.items():
        print(f"wrote {path} ({count:,} decided examples)")
    if gone:
        print(f"left out {len(gone)} decisions about examples that the dataset no longer has, the first: {gone[0]}")
    if not sum(rows.values()):
        print("no example has a decision yet; decide in `hardlook dashboard`")
    return 0


def convert(options) -> int:
    """Extract tensors from checkpoints that need unpickling."""
    from scoring.conversion import convert_checkpoint

    for name in options.checkpoints:
        path = Path(name)
        out = (Path(options.out) if options.out else path.parent) / f"{path.stem}.safetensors"
        convert_checkpoint(path, out, trust=options.trust)
        print(f"wrote {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
