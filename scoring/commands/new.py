"""``hardlook new``: write the audit.toml of a new audit, from what lies at the paths that are named."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from scoring.audit.errors import HardlookError
from scoring.commands.console import add_command

if TYPE_CHECKING:
    from scoring.commands.console import Commands

SAMPLES = {
    "digits": "images",
    "cancer": "vectors: rows of a table",
    "docstrings": "texts",
    "blobs": "vectors with two columns: the toy problem of the VoG paper",
}
"""Name of each sample project → what its examples are."""

PATHS = ("train", "test", "pool")


def add(commands: Commands, given: Collection[str] = ()) -> None:
    """Declare the command."""
    command = add_command(
        commands,
        "new",
        new,
        "Write the audit.toml of a new audit from what lies at the paths that you name: data, checkpoints, model, "
        "transform and classes. With DIR alone, a commented template to fill in.",
    )
    command.add_argument("audit", metavar="DIR", nargs="?", help="the folder to create")
    what = "a folder with one folder per class, a table (CSV, Parquet), an .npz, a saved dataset"
    command.add_argument("--train", metavar="PATH", help=f"the training data: {what}; its splits are found below it")
    command.add_argument("--test", metavar="PATH", help="the held-out data, likewise")
    command.add_argument("--pool", metavar="PATH", help="unlabelled data, likewise")
    command.add_argument(
        "--model",
        metavar="MODEL",
        help="the code that builds it (train.py:LitClass, package.module:factory), a name (resnet18, timm:resnet18, "
        "fastai:resnet18), or a Hugging Face folder; often found in the checkpoints",
    )
    command.add_argument(
        "--arguments", metavar="TABLE", help="what that code is called with, where no file says it: '{ width = 8 }'"
    )
    command.add_argument(
        "--checkpoints", metavar="GLOB", help="the checkpoints: a file, a folder or a pattern in quotes"
    )
    command.add_argument(
        "--transform",
        metavar="SPEC",
        help="the evaluation transform: imagenet, a table '{ resize = 64 }', file.py:callable",
    )
    command.add_argument(
        "--classes", metavar="NAMES", help="the class names in the order of the outputs: a,b,c or a file"
    )
    descriptions = "; ".join(f"{name} ({what})" for name, what in SAMPLES.items())
    command.add_argument("--sample", choices=list(SAMPLES), help=f"copy a complete sample project: {descriptions}")


def new(options: argparse.Namespace) -> int:
    """Write a new audit: what was found, a template, or a sample."""
    if options.audit is None:
        print(USAGE)
        return 2
    folder = Path(options.audit)
    from scoring.setup.written_config import refuse_existing, write_config

    refuse_existing(folder)
    named = [
        name for name in (*PATHS, "model", "arguments", "checkpoints", "transform", "classes") if getattr(options, name)
    ]
    if options.sample is not None:
        if named:
            raise HardlookError(f"--sample copies a project of its own; leave it out, or --{named[0]}")
        return _sample(folder, options.sample)
    if not named:
        from scoring.setup.template import TEMPLATE

        print(f"wrote {write_config(folder, TEMPLATE)}: a template to fill in (hardlook new --help: let it be found)")
        print(f"next: edit it, then run hardlook check {folder}")
        return 0
    if not any(getattr(options, name) for name in PATHS):
        raise HardlookError(f"--{named[0]} alone describes no audit; name its data too: --train PATH (and --test PATH)")
    return _found(folder, options)


def _found(folder: Path, options: argparse.Namespace) -> int:
    """Write what is found at the paths, say what it is, and take a first look where the model is known."""
    from scoring.setup.found_audit import find_audit
    from scoring.setup.places import existing
    from scoring.setup.written_config import write_config

    paths = {name: getattr(options, name) for name in PATHS}
    for name, path in paths.items():
        if path is not None:
            existing(path, f"--{name}")
    with _made(folder):
        found = find_audit(
            paths,
            folder,
            model=options.model,
            arguments=options.arguments,
            checkpoints=options.checkpoints,
            transform=options.transform,
            classes=options.classes,
        )
        path = write_config(folder, found.text)
    for sentence in found.said:
        print(f"  found: {sentence}")
    for question in found.asked:
        print(f"  to decide: {question}")
    print(f"wrote {path}")
    if not found.complete:
        then = f"hardlook train {folder}" if found.untrained else f"hardlook check {folder}"
        print(f"next: write what is to decide into {path}, then run {then}" if found.asked else f"next: {then}")
        return 0
    return _look(folder)


def _look(folder: Path) -> int:
    """A few examples through the model, and the next command; what fails is one sentence."""
    from scoring.audit import Audit
    from scoring.setup.first_look import first_look

    try:
        look = first_look(Audit.open(folder))
    except HardlookError as error:
        raise HardlookError(
            f"{folder}/audit.toml is written, but a first look with it fails: {error}; correct the file, then run "
            f"hardlook check {folder}"
        ) from error
    for sentence in look.sentences(str(folder)):
        print(f"  first look: {sentence}")
    print(f"next: hardlook score {folder}, then hardlook dashboard {folder}")
    return 0


@contextlib.contextmanager
def _made(folder: Path) -> Iterator[None]:
    """The folder while it is filled; taken away again where it was made for nothing."""
    there = folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        if not there:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise


USAGE = """hardlook new DIR --train PATH [--test PATH] [--pool PATH] [--checkpoints GLOB] [--model MODEL]
                 [--arguments TABLE] [--transform SPEC] [--classes NAMES]
                              write DIR/audit.toml from what is found there
hardlook new DIR              write a commented template to fill in
hardlook new DIR --sample digits
                              copy a complete sample project (hardlook demo runs it)

`hardlook new --help` explains each option."""


def _sample(folder: Path, name: str) -> int:
    """Copy a sample project, and print its commands."""
    copy_sample(folder, name)
    made = ", ".join(path.name for path in sorted(folder.iterdir()) if path.is_file())
    print(
        f"created {folder} with {made}: a working audit of the {name} sample\n"
        f"next: python {folder}/data.py, then hardlook train {folder}, hardlook score {folder} and hardlook dashboard "
        f"{folder}"
    )
    return 0


def copy_sample(folder: Path, name: str = "digits") -> bool:
    """Copy a sample project's files into ``folder``; files that are there are kept. Returns whether any was new."""
    from importlib.resources import files

    if folder.exists() and not folder.is_dir():
        raise HardlookError(f"{folder} is a file; give a folder for the audit")
    folder.mkdir(parents=True, exist_ok=True)
    new_one = False
    home = files("sample_data")
    for source in (home if name == "digits" else home / name).iterdir():
        target = folder / source.name
        if source.name.endswith((".py", ".toml", ".md")) and source.name != "__init__.py" and not target.exists():
            target.write_text(source.read_text(encoding="utf8"), encoding="utf8")
            new_one = True
    return new_one
