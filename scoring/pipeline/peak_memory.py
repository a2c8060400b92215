"""Measures the peak memory of this process during a pass.

On Linux the kernel's high-water mark of resident memory (VmHWM) is set back at the start of each pass, so that every
pass has its own; elsewhere it is the process's peak so far. On a CUDA device torch's own peak stands beside it. Cost:
two small reads. Limits: what worker processes hold (Ray, data loaders) is not in it.
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CLEAR, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


@contextlib.contextmanager
def peak_memory() -> Iterator[dict[str, float]]:
    """``with peak_memory() as found``: afterwards ``found`` has ``peak_gb``, and ``cuda_gb`` where CUDA is in use."""
    found: dict[str, float] = {}
    with contextlib.suppress(OSError):
        CLEAR.write_text("5")
    cuda = _cuda()
    if cuda:
        cuda.reset_peak_memory_stats()
    try:
        yield found
    finally:
        found["peak_gb"] = round(_resident() / 2**30, 3)
        if cuda:
            found["cuda_gb"] = round(cuda.max_memory_allocated() / 2**30, 3)


def _cuda() -> Any:
    torch = sys.modules.get("torch")
    return torch.cuda if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized() else None


def _resident() -> int:
    """Bytes of the high-water mark."""
    with contextlib.suppress(OSError):
        kilobytes = re.search(r"VmHWM:\s+(\d+) kB", STATUS.read_text())
        if kilobytes:
            return int(kilobytes[1]) << 10
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10
