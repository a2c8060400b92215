"""The route of the grid's script modules."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from dashboard.grid.scripts import scripts
from dashboard.routes.http import FOREVER, missing


async def script(request: Request) -> Response:
    """Returns one script module."""
    data = scripts().get(request.path_params["name"])
    if data is None:
        return missing("There is no such script.")
    headers = {"cache-control": FOREVER, "x-content-type-options": "nosniff"}
    return Response(data, media_type="text/javascript", headers=headers)
