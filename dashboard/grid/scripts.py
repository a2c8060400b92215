"""The grid's script modules as the browser loads them: under an address that changes with any of them."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import resources

from starlette.requests import Request
from starlette.responses import Response

from dashboard.requests import FOREVER, missing


@cache
def scripts() -> dict[str, bytes]:
    """The grid's script modules by name."""
    files = resources.files("dashboard.grid").iterdir()
    return {file.name: file.read_bytes() for file in files if file.name.endswith(".js")}


@cache
def scripts_version() -> str:
    """Changes with any of the scripts, so that browsers may keep them for ever."""
    digest = hashlib.sha256()
    for name, data in sorted(scripts().items()):
        digest.update(name.encode() + data)
    return digest.hexdigest()[:16]


async def script(request: Request) -> Response:
    """One script module."""
    data = scripts().get(request.path_params["name"])
    if data is None:
        return missing("There is no such script.")
    headers = {"cache-control": FOREVER, "x-content-type-options": "nosniff"}
    return Response(data, media_type="text/javascript", headers=headers)
