"""The command line: ``hardlook COMMAND``, one file of ``scoring/commands`` each, found by scanning.

Each command imports only what it needs, shows progress with the remaining time on anything over two seconds, and ends
with what was written, how long it took and the next command. A ``HardlookError`` is printed as one message, and so is
what the operating system refuses (a full disk, a folder that cannot be written, a name that is too long, memory);
anything else is a bug and keeps its traceback.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import io
import os
import pkgutil
import sys
from collections.abc import Sequence

from scoring.audit.errors import HardlookError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0 done, 1 refused with a message, 2 wrong usage, 130 interrupted."""
    if arguments is None:
        _read_names_as_utf8()
    given = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):  # a terminal that knows no "…" or a file name's odd bytes stops nothing
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if not given:
        parser().print_help()
        return 2
    options = argparse.Namespace(command_name="")
    try:
        options = parser(given).parse_args(given)
        return options.command(options) or 0
    except HardlookError as error:
        print(f"hardlook {options.command_name}: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # `hardlook … | head`: nobody listens any more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (OSError, MemoryError) as error:
        print(f"hardlook {options.command_name}: {system_refusal(error)}", file=sys.stderr)
        return 1
    except RuntimeError as error:
        if "can't start new thread" not in str(error):
            raise
        print(f"hardlook {options.command_name}: {NO_THREADS}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; run the same command again to continue from where it stopped", file=sys.stderr)
        return 130


FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
CLOSED = {errno.EACCES, errno.EPERM, errno.EROFS}
AGAIN = "finished work is kept; run the same command again to continue"
NO_THREADS = (
    "the system allows this user no further thread; end other programs, raise the limit (`ulimit -u`, or pids.max of a "
    f"container), or set OMP_NUM_THREADS=1; {AGAIN}"
)


def _read_names_as_utf8() -> None:
    """Start this command again in UTF-8 mode where the locale is ASCII: names of files would be read as other texts
    than in the user's shell, and ids and classes with them."""
    if sys.getfilesystemencoding().lower() not in ("utf-8", "utf8") and not sys.flags.utf8_mode:
        sys.stdout.flush()
        command = [sys.executable, "-X", "utf8", *sys.orig_argv[1:]]
        os.execve(sys.executable, command, {**os.environ, "PYTHONUTF8": "1"})


def system_refusal(error: OSError | MemoryError) -> str:
    """Returns one sentence on what the operating system refused and what to do.

    >>> print(system_refusal(OSError(errno.ENOSPC, "No space left on device", "/a")))
    No space left on device: /a; free some disk space; finished work is kept; run the same command again to continue
    """
    if isinstance(error, MemoryError):
        details = str(error) or "no details given"
        return f"out of memory ({details}); use a machine with more memory, or smaller inputs or batches; {AGAIN}"
    what = error.strerror or str(error) or type(error).__name__
    names = " → ".join(
        str(name) if len(str(name)) < 200 else f"{str(name)[:80]}…"
        for name in (error.filename, error.filename2)
        if name is not None
    )
    if error.errno in FULL:
        way = f"free some disk space; {AGAIN}"
    elif error.errno in CLOSED:
        way = f"make the folder writable for your user, or work on a copy; {AGAIN}"
    elif error.errno == errno.ENAMETOOLONG:
        way = "shorten the path"
    else:
        way = "check that the file or folder exists and can be read and written"
    return f"{what}{f': {names}' if names else ''}; {way}"


FIRST_STEPS = """first steps:
  hardlook demo                 audit a small sample dataset, from training to the dashboard
  hardlook new my-audit --train PATH --checkpoints GLOB     look at your data and model, write audit.toml
  hardlook train my-audit       train the model (only if you have no checkpoints of several epochs)
  hardlook check my-audit       check that the model gets the same inputs as in training
  hardlook score my-audit       score every example
  hardlook dashboard my-audit   review the examples in the browser
  hardlook export my-audit      write the corrected labels; hardlook apply writes them into the dataset

`hardlook COMMAND --help` shows the options of a command.
"""


def parser(given: Sequence[str] = ()) -> argparse.ArgumentParser:
    """Returns the parser of all commands. ``given``: the arguments; a command may add costly options only where it is
    named in them (those of ``score`` load torch)."""
    import scoring
    from scoring import commands as package

    top = argparse.ArgumentParser(
        prog="hardlook",
        description="Take a hard look at a labelled dataset through the eyes of the model trained on it.",
        epilog=FIRST_STEPS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"hardlook {scoring.__version__}")
    commands = top.add_subparsers(dest="command_name", metavar="COMMAND", required=True)
    for name in sorted(info.name for info in pkgutil.iter_modules(package.__path__)):
        module = importlib.import_module(f"scoring.commands.{name}")
        if hasattr(module, "add"):
            module.add(commands, given)
    return top


if __name__ == "__main__":
    sys.exit(main())
