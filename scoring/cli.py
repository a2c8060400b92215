"""The command line: ``hardlook COMMAND``, one file of ``scoring/commands`` each, found by scanning.

Each command imports only what it needs, shows progress with the remaining time on anything over two seconds, and ends
with what was written, how long it took and the next command. A ``HardlookError`` is printed as one message; anything
else is a bug and keeps its traceback.
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
from collections.abc import Sequence

from scoring.tables import HardlookError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0 done, 1 refused with a message, 2 wrong usage, 130 interrupted."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = parser(given).parse_args(given)
    try:
        return options.command(options) or 0
    except HardlookError as error:
        print(f"hardlook {options.command_name}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; run the same command again to go on where it stopped", file=sys.stderr)
        return 130


def parser(given: Sequence[str] = ()) -> argparse.ArgumentParser:
    """All commands with their help. ``given``: the arguments; a command may add costly options only where it is
    named in them (those of ``score`` load torch)."""
    import scoring
    from scoring import commands as package

    top = argparse.ArgumentParser(prog="hardlook", description="Take a hard look at a labelled dataset through the "
                                  "eyes of the model trained on it.")
    top.add_argument("--version", action="version", version=f"hardlook {scoring.__version__}")
    commands = top.add_subparsers(dest="command_name", metavar="COMMAND", required=True)
    for name in sorted(info.name for info in pkgutil.iter_modules(package.__path__)):
        module = importlib.import_module(f"scoring.commands.{name}")
        if hasattr(module, "add"):
            module.add(commands, given)
    return top


if __name__ == "__main__":
    sys.exit(main())
