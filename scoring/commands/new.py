"""``hardlook new``: start an audit of your own."""

from __future__ import annotations

from pathlib import Path

from scoring.commands.console import add_command
from scoring.tables import HardlookError


SAMPLES = {"digits": "pictures", "cancer": "vectors: rows of a table", "docstrings": "texts",
           "blobs": "vectors in the plane: the papers' toy problem"}
"""Name of each sample project → what its examples are."""


def add(commands, given=()) -> None:
    """Declare the command."""
    command = add_command(commands, "new", new, "Start an audit of your own: a folder with an audit.toml to fill in and "
                       "an example model file.")
    command.add_argument("audit", metavar="DIR", help="the folder to make")
    told = "; ".join(f"{name} ({what})" for name, what in SAMPLES.items())
    command.add_argument("--sample", choices=list(SAMPLES), default="digits",
                         help=f"which project to start from: {told} (default: %(default)s)")


def new(options) -> int:
    """Start an audit: the sample's files, to be edited."""
    folder = Path(options.audit)
    if (folder / "audit.toml").exists():
        raise HardlookError(f"{folder} already has an audit.toml; edit it, or name another folder")
    copy_sample(folder, options.sample)
    made = ", ".join(path.name for path in sorted(folder.iterdir()) if path.is_file())
    print(f"made {folder} with {made}: a working project about {options.sample} to edit into yours.\n"
          f"1. in audit.toml, name your data, classes, model, transform and checkpoints; drop what is only about the "
          f"sample ([truth], [run.main.scores.…], expected_accuracy)\n"
          f"2. hardlook train {folder}      (only where no checkpoints of several epochs were kept)\n"
          f"3. hardlook check {folder}\n"
          f"4. hardlook score {folder}\n"
          f"5. hardlook dashboard {folder}\n"
          f"A model that is not PyTorch's: drop [run.main], then hardlook import-predictions {folder} predictions.csv\n"
          f"To try it with the {options.sample} as it is: python {folder}/data.py, then hardlook train {folder}")
    return 0


def copy_sample(folder: Path, name: str = "digits") -> bool:
    """Copy a sample project's files into ``folder``; files that are there are kept. Returns whether any was new."""
    from importlib.resources import files

    if folder.exists() and not folder.is_dir():
        raise HardlookError(f"{folder} is a file; name a folder for the audit")
    folder.mkdir(parents=True, exist_ok=True)
    new_one = False
    home = files("sample_data")
    for source in (home if name == "digits" else home / name).iterdir():
        if source.name.endswith((".py", ".toml", ".md")) and source.name != "__init__.py":
            target = folder / source.name
            if not target.exists():
                target.write_bytes(source.read_bytes())
                new_one = True
    return new_one
