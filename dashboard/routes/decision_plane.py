"""The decision plane of an opened example: read from the file of `hardlook cut`, or computed in a job.

    GET  /hardlook/cut?id=…&x=…&y=…[&run=…][&score=…]   {state: ready, cut}, none, running or failed
    POST /hardlook/cut   {id, x, y, run}                starts `hardlook cut …` in a separate process

The size of a point is its rank by a score among the points shown (DuckDB's ``percent_rank``). A plane of an earlier
checkpoint or of other content counts as none. Cost: one small file and one look-up per score. Limit: a read-only server
starts nothing, and returns the command to type.
"""

from __future__ import annotations

from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from dashboard import jobs
from dashboard.blinding import model_output
from dashboard.queries import database
from dashboard.queries.score_columns import ScoreColumn, find_column
from dashboard.queries.selection import identifier, source
from dashboard.routes.http import json_reply, read_body, refusal, run_named
from dashboard.style.formatting import command_line
from scoring.audit import Audit, Run
from scoring.audit.errors import HardlookError
from scoring.audit.storage import read_json
from scoring.data.column_statistics import cut_key

DEFAULT_SCORES = ("influence.self_influence", "self_influence.cook", "uncertainty.loss")
"""Default scores for the size of points; the first one that the run has is used."""

LONGEST = 1000


def plane_routes() -> list[Route]:
    """Returns the two routes."""
    return [Route("/hardlook/cut", read_plane), Route("/hardlook/cut", start_plane, methods=["POST"])]


async def read_plane(request: Request) -> Response:
    """Returns the decision plane, or the state of its job."""
    query = request.query_params
    example_id, x, y = (query.get(name, "") for name in ("id", "x", "y"))
    run = run_named(query.get("run"))
    if run is None or not (example_id and x and y):
        return PlainTextResponse("the request needs id, x and y, and a run of this audit", status_code=400)
    return await run_in_threadpool(
        lambda: json_reply(plane_state(database.open_audit(), run, example_id, x, y, query.get("score")))
    )


async def start_plane(request: Request) -> Response:
    """Starts the command that computes a decision plane."""
    if reason := refusal(request) or jobs.refusal():
        return PlainTextResponse(reason, status_code=403)
    body = await read_body(request) or {}
    given = [body.get(name) for name in ("id", "x", "y")]
    words = [one for one in given if isinstance(one, str) and 0 < len(one) <= LONGEST]
    if len(words) < len(given):
        return PlainTextResponse("needed {id, x, y, run} as JSON", status_code=400)
    name = body.get("run")
    run = run_named(name) if name is None or isinstance(name, str) else None
    if run is None:
        return PlainTextResponse("this audit has no such run", status_code=400)
    if reason := await run_in_threadpool(model_output.refusal, database.open_audit(), words[:1]):
        return PlainTextResponse(reason, status_code=403)
    try:
        await run_in_threadpool(jobs.start, database.open_audit(), run.name, "cut", *_options(*words))
    except HardlookError as error:
        return PlainTextResponse(str(error), status_code=409)
    return json_reply({"state": "running", "line": "starting …"})


def _options(example_id: str, x: str, y: str) -> list[str]:
    """Returns the options as one word each, because ids and columns may begin with a dash."""
    return [f"--example={example_id}", f"--x={x}", f"--y={y}"]


def plane_state(audit: Audit, run: Run, example_id: str, x: str, y: str, score: str | None) -> dict[str, Any]:
    """Returns the state of a decision plane: ready with its data, none, running, or failed with the reason."""
    if reason := model_output.refusal(audit, [example_id]):
        return {"state": "none", "line": None, "command": None, "refusal": reason}
    found = stored_plane(audit, run, example_id, x, y)
    if found is not None:
        return {"state": "ready", "cut": found, **point_sizes(run, found["points"]["example_id"], score)}
    options = _options(example_id, x, y)
    mine = next(
        (
            job
            for job in jobs.jobs(audit)
            if job.run == run.name and job.name == "cut" and list(job.command[-3:]) == options
        ),
        None,
    )
    if mine is not None and mine.is_live:
        return {"state": "running", "line": mine.last_line()[:300] or "starting …"}
    typed = command_line("cut", audit, "--run", run.name, *options)
    answer = {"state": "none", "line": None, "command": typed, "refusal": jobs.refusal()}
    if mine is None or mine.state not in ("failed", "lost"):
        return answer
    line = (mine.last_line() or "it ended without a message")[:LONGEST]
    return {**answer, "state": "failed", "line": line}


def stored_plane(audit: Audit, run: Run, example_id: str, x: str, y: str) -> dict[str, Any] | None:
    """Returns the stored plane if it belongs to the run's present checkpoint and the example's present content, else
    None."""
    found = read_json(run.cut_path(cut_key(example_id, x, y)), {})
    last = (run.record().get("checkpoints") or [{}])[-1].get("sha256")
    if not found or found.get("checkpoint") != last:
        return None
    row = database.details(audit, None, [example_id])
    same = len(row) and row.iloc[0].get("fingerprint") == found.get("fingerprint")
    return _without_hidden(audit, found) if same else None


def _without_hidden(audit: Audit, found: dict[str, Any]) -> dict[str, Any]:
    """Returns the plane without hidden examples, whose position would reveal the model's output."""
    hidden = model_output.hidden_reasons(audit, found["points"]["example_id"])
    rows = [at for at, one in enumerate(found["points"]["example_id"]) if one not in hidden]
    return {**found, "points": {name: [values[at] for at in rows] for name, values in found["points"].items()}}


def point_sizes(run: Run, ids: list[str], score: str | None) -> dict[str, Any]:
    """Returns sizes from 0 to 1 (null without a score), the score used, and the scores to choose from."""
    columns = database.score_columns(run)
    column = next(filter(None, (find_column(columns, name) for name in (score, *DEFAULT_SCORES) if name)), None)
    names = [{"address": one.address, "title": one.title} for one in columns]
    if column is None:
        return {"sizes": [None] * len(ids), "score": None, "scores": names}
    return {
        "sizes": _ranks(run, column, ids),
        "scores": names,
        "score": {"address": column.address, "title": column.title, "help": column.help},
    }


def _ranks(run: Run, column: ScoreColumn, ids: list[str]) -> list[float | None]:
    """Returns for each example the share of the others with a lower score."""
    path, name = run.score_path(column.scorer), identifier(column.name)
    table = database.sql(
        f"SELECT example_id, percent_rank() OVER (ORDER BY {name}) r FROM {source(path)} WHERE {name} IS NOT NULL AND "
        f"NOT isnan({name}) AND example_id IN (SELECT unnest(?::VARCHAR[]))",
        [ids],
    )
    known = dict(zip(table["example_id"].to_pylist(), table["r"].to_pylist(), strict=True))
    return [None if known.get(one) is None else round(known[one], 3) for one in ids]
