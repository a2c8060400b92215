"""Where the real data of the benchmarks lies: HARDLOOK_DATA, else ../shared/data beside the project."""

from __future__ import annotations

import os
from pathlib import Path


def data_file(name: str) -> Path:
    """The path of a file; ends the script with the reason where it is not there."""
    folder = Path(os.environ.get("HARDLOOK_DATA") or Path(__file__).parents[3] / "shared" / "data")
    if not (folder / name).is_file():
        raise SystemExit(
            f"there is no {folder / name}: set HARDLOOK_DATA to the folder of the real data; nothing was measured"
        )
    return folder / name
