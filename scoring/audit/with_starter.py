"""`python -m scoring.audit.with_starter COMMAND …`: a command of hardlook that ends with the process that started it.

The starter holds the other end of standard input. However it ends, also killed, the system closes that end, and the
command stops as on SIGTERM. Inputs → outputs: a command line → that command's. Cost: one waiting thread. Known limits:
processes that the starter forked hold that end too, so the command ends with the last of them.
"""

import os
import runpy
import signal
import threading


def end_with_the_starter() -> None:
    """Wait until standard input is closed, then stop this process."""
    while os.read(0, 1024):
        continue
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=end_with_the_starter, daemon=True).start()
    runpy.run_module("scoring.cli", run_name="__main__", alter_sys=True)
