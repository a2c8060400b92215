"""What was tried to break an audit, and what held, as a Markdown table: ``python -m tests.bad_days [--times N]``.

Each row is a campaign of the tests: damaged files, killed commands, hostile requests, bad events, two at once, names of
exports, a log that goes away. ``times``: of each thing. What did not hold is printed below the table.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import random
import sys
import tempfile
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from scoring.audit import Audit
from scoring.corrections.file_names import LONGEST, file_names
from scoring.reviews import Event, LogUnavailable, ReviewLog

from . import at_once, damage, kills_cases
from .conftest import hardlook
from .dashboard.test_routes import app_of, send
from .kills_cases import CASES, SCORES
from .small_audits import write_small_audit

PATHS = ("thumb", "image", "map", "example", "alike", "history", "news", "states", "events", "last")
TEXTS = ("", "..", "../audit.toml", "\0", "x" * 5000, "<script>", "'; DROP TABLE x; --", "NaN", "-1", "9" * 40, "ü/?#&")


@dataclass
class Row:
    """A line of the table: a kind of bad day, how often it was tried, and what did not hold."""

    kind: str
    what: str
    tried: int = 0
    faults: list[str] = field(default_factory=list)

    def text(self) -> str:
        """The line in Markdown."""
        return f"| {self.kind} | {self.what} | {self.tried:,} | {self.tried - len(self.faults):,} |"


def damaged(root: Path, times: int) -> Iterator[Row]:
    """Flipped bits, cuts, zeros and noise in each artefact, by kind of file."""
    folder = write_small_audit(root / "audit")
    hardlook("score", folder, *SCORES, "--anyway")
    for kind, counts in damage.campaign(folder, times).items():
        bad = [name for name in ("unseen", "foreign", "ended") for _ in range(counts[name])]
        yield Row("damaged file", kind, sum(counts.values()), bad)


def killed(root: Path, times: int) -> Iterator[Row]:
    """SIGKILL before changes of files and at random moments, each command run again."""
    for name in CASES:
        runs = kills_cases.campaign(root, {name: (times, max(1, times // 4))})[name]
        found = {int(one.split()[1]): one for one in kills_cases.faults(name, root / name, runs)}
        yield Row("killed command", name, len(runs), list(found.values()))


def requests(root: Path, times: int) -> Iterator[Row]:
    """Requests that no page sends: each gets an answer that is no failure of the server."""
    audit = Audit.open(at_once.start(root / "requests") / "audit")
    client, draw = app_of(audit), random.Random(0)
    row = Row("hostile request", "any route")
    for _ in range(10 * times):
        path = "/hardlook/" + draw.choice(PATHS)
        query = {draw.choice(("id", "run", "after", "split", TEXTS[4])): draw.choice(TEXTS)}
        body = draw.choice((b"", b"[]", b"{", b"\xff", b"[" * 5000, json.dumps({"events": [query]}).encode()))
        reply = client.get(path, query) if draw.random() < 0.5 else client.post(path, body)
        row.tried += 1
        if reply.status >= 500:
            row.faults.append(f"{path} {query} {body[:40]!r}: {reply.status}")
    yield row
    yield bad_events(audit, times)


def bad_events(audit: Audit, times: int) -> Row:
    """Events with one field spoilt, each sent with a good one, which is written whatever becomes of the other."""
    client, draw, row = app_of(audit), random.Random(1), Row("bad event", "one field spoilt, beside a good event")
    for at in range(5 * times):
        good = {"client": "tab", "seq": at + 1, "example_id": "train/a/0.png", "action": "comment", "note": str(at)}
        spoilt = {**good, "client": "bad", draw.choice([*good]): draw.choice([None, -1, 1.5, [], {}, *TEXTS])}
        reply = send(client, spoilt, good)
        row.tried += 1
        known = [one.get("seq") for one in reply.json["saved"]] if reply.status == 200 else []
        if at + 1 not in known:
            row.faults.append(f"{spoilt!r:.80}: {reply.status} {reply.text:.200}")
    return row


def two(root: Path, times: int) -> Iterator[Row]:
    """Two commands at once, and exports beside appends."""
    folder = at_once.start(root / "start")
    few = max(1, times // 4)
    for name in at_once.PAIRS:
        found = [at_once.fault(folder, name) for _ in range(few)]
        yield Row("two at once", name, few, [one for one in found if one])
    found = [at_once.prefix_fault(folder, 400) for _ in range(few)]
    yield Row("two at once", "export while decisions arrive", few, [one for one in found if one])


def names(_root: Path, times: int) -> Iterator[Row]:
    """Names of classes and examples that no file can have."""
    draw, row = random.Random(2), Row("names of exports", "drawn from all of Unicode")
    for _ in range(100 * times):
        texts = ["".join(chr(draw.choice((draw.randrange(0xD800), draw.randrange(128)))) for _ in range(6)), *TEXTS]
        found = file_names(texts)
        same = {unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold()) for name in found}
        row.tried += 1
        if len(same) < len(texts) or any(not 0 < len(one.encode()) <= LONGEST or {*one} & {*"/\\\0"} for one in found):
            row.faults.append(repr(texts))
    yield row


def log_away(root: Path, times: int) -> Iterator[Row]:
    """A log that is moved away in use: nothing is acknowledged meanwhile, and all of it is there when it is back."""
    row, path, away = Row("log goes away", "moved in use, and back"), root / "reviews.sqlite", root / "away"
    away.mkdir()
    with ReviewLog.open(path, "digits") as log:
        for at in range(times):
            one = Event(client="tab", seq=at + 1, example_id="a", reviewer="ana", action="decide", verdict="given")
            log.append([one] if at == 0 else [])
            for left in root.glob("reviews.sqlite*"):
                left.rename(away / left.name)
            row.tried += 1
            with contextlib.suppress(LogUnavailable):
                row.faults.append(f"{log.append([one])} was acknowledged without a log")
            for left in away.iterdir():
                left.rename(root / left.name)
            if log.append([one]) != {"tab": at + 1}:
                row.faults.append(f"event {at + 1} is lost")
    yield row


CAMPAIGNS = (damaged, killed, requests, two, names, log_away)


def table(times: int, campaigns: tuple = CAMPAIGNS) -> list[Row]:
    """All rows."""
    rows = []
    for campaign in campaigns:
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            rows += campaign(Path(folder), times)
    return rows


def markdown(rows: list[Row]) -> str:
    """The rows as a table, and below it what did not hold."""
    lines = ["| bad day | what | tried | held |", "|---|---|---:|---:|", *(row.text() for row in rows)]
    lines += [f"\n{row.kind}, {row.what}: {fault}" for row in rows for fault in row.faults]
    return "\n".join(lines)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--only", choices=[one.__name__ for one in CAMPAIGNS])
    given = parser.parse_args()
    chosen = tuple(one for one in CAMPAIGNS if given.only in (None, one.__name__))
    sys.stdout.write(markdown(table(given.times, chosen)) + "\n")


if __name__ == "__main__":
    main()
