"""The dashboard beside a notebook: `hardlook dashboard` in a process of its own, and its page in a frame.

Inputs → outputs: an audit's folder → a running server with its address. Cost: a process of some 250 MB, ready in a few
seconds; it ends with this process, however that ends (``with_starter``). Known limits: the frame loads in a browser on
the same machine; elsewhere the address has to be forwarded.
"""

from __future__ import annotations

import atexit
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from scoring.audit.errors import HardlookError

ADDRESS = re.compile(r"https?://\S+")
STARTS_WITHIN = 90.0
"""Seconds."""


class Served:
    """A running dashboard. Printed in a notebook it is the dashboard itself, in a frame of ``height`` pixels."""

    def __init__(self, folder: Path, port: int = 0, height: int = 900) -> None:
        if not isinstance(port, int) or not 0 <= port < 65536:
            raise HardlookError(f"port = {port!r}; needed a number up to 65535, or 0 for any free one")
        self.folder, self.height = folder, height
        self._output = tempfile.TemporaryFile("w+", encoding="utf8")  # noqa: SIM115  closed with the server
        command = [sys.executable, "-m", "scoring.audit.with_starter", "dashboard", str(folder), "--port", str(port)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=self._output, stderr=subprocess.STDOUT, text=True
        )
        atexit.register(self.close)
        self.url = self._address()

    def _address(self) -> str:
        """Returns the address once the server says it. Raises ``HardlookError`` with what it said instead."""
        until, text = time.monotonic() + STARTS_WITHIN, ""
        while time.monotonic() < until:
            ended = self._process.poll() is not None
            self._output.seek(0)
            text = self._output.read()
            if (found := ADDRESS.search(text)) and not ended:
                return found[0]
            if ended:
                break
            time.sleep(0.05)
        self.close()
        raise HardlookError(f"the dashboard did not start: {text.strip()[-500:] or 'it said nothing'}")

    @property
    def running(self) -> bool:
        """Returns whether the server still runs."""
        return self._process.poll() is None

    def close(self) -> None:
        """Stop the server; what was decided is in the review log."""
        atexit.unregister(self.close)
        if self.running:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._output.close()

    def __repr__(self) -> str:
        return f"the dashboard of {self.folder}: {self.url if self.running else 'closed'}"

    def _repr_html_(self) -> str:
        if not self.running:
            return f"<p>{self!r}</p>"
        return (
            f'<p>The dashboard is at <a href="{self.url}" target="_blank">{self.url}</a>.</p>'
            f'<iframe src="{self.url}" width="100%" height="{self.height}" style="border:0" title="hardlook"></iframe>'
        )
