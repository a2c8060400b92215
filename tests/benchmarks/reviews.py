"""How long the review log takes: `python tests/benchmarks/reviews.py [EVENTS] [URL]` prints a table.

Appending one event (wall time, it waits for the disk), reading what is new, and the derived tables over a log
of 100,000 events by five reviewers on 60,000 examples, one in a hundred of them an undo. CPU time where
nothing waits. The last figures compare what a queue asks after each event (which examples are decided and how, which
wait for a second reader, which a later model may contradict): folded into the known state, and by a fresh reading of
the whole log.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from dashboard.queries.decisions import group_by_state
from scoring.queue.second_reader_policy import ReviewPolicy
from scoring.queue.standings import Followed, Standings
from scoring.reviews import Event, ReviewLog

REVIEWERS = ("ana", "ben", "cem", "dia", "eva")
EVIDENCE = {
    "run": "main",
    "scores": {"aum": -1.25, "loss": 3.5},
    "rank": 17,
    "prediction": "3",
    "page": "/suspects",
}


def filled(log: ReviewLog, n: int, seed: int = 0) -> None:
    """Append ``n`` events in bulk, as an import would."""
    rng = np.random.default_rng(seed)
    reviewers = rng.choice(REVIEWERS, n).tolist()
    examples = rng.integers(60_000, size=n)
    verdicts = rng.choice(["given", "other", "none", "unsure"], n, p=[0.7, 0.2, 0.05, 0.05]).tolist()
    seqs = dict.fromkeys(REVIEWERS, 0)
    events = []
    for at in range(n):
        who = reviewers[at]
        seqs[who] += 1
        undo = at % 100 == 99 and seqs[who] > 1
        fields = {"action": "undo", "undoes": (who, seqs[who] - 1)} if undo else {"action": "decide"}
        if not undo:
            fields |= {"verdict": verdicts[at], "new_label": "5" if verdicts[at] == "other" else None}
        events.append(
            Event(
                client=who,
                seq=seqs[who],
                example_id=f"train/{examples[at]:05d}.png",
                reviewer=who,
                fingerprint="f" * 64,
                label="3",
                evidence=EVIDENCE,
                **fields,
            )
        )
    for start in range(0, n, 5000):
        log.append(events[start : start + 5000])


def median_ms(work: Callable[[], object], repeats: int, clock: Callable[[], float] = time.process_time) -> float:
    """Median time of one call, in milliseconds."""
    times = []
    for _ in range(repeats):
        start = clock()
        work()
        times.append((clock() - start) * 1000)
    return statistics.median(times)


def measure(url: str, n: int) -> dict[str, float]:
    """All figures for one log, in milliseconds."""
    figures = {}
    with ReviewLog.open(url, "digits") as log:
        start = time.process_time()
        filled(log, n)
        figures["append in bulk, per 1,000 events (CPU)"] = (time.process_time() - start) * 1e6 / n
        seqs = iter(range(1, 10_000))

        def one() -> None:
            log.append(
                [
                    Event(
                        client="tab",
                        seq=next(seqs),
                        example_id="train/00001.png",
                        reviewer="ana",
                        action="decide",
                        verdict="given",
                        label="3",
                        evidence=EVIDENCE,
                    )
                ]
            )

        figures["append of one (wall)"] = median_ms(one, 200, time.perf_counter)
        figures["append of one (CPU)"] = median_ms(one, 200)
        last = int(log.events(after=n).position.iloc[-1])
        figures["events(after=last)"] = median_ms(lambda: log.events(after=last), 50)
        figures["events(after=last - 100)"] = median_ms(lambda: log.events(after=last - 100), 50)
        figures["events(example_id=…)"] = median_ms(lambda: log.events(example_id="train/00002.png"), 50)
        figures["events(), all"] = median_ms(log.events, 1)
        figures["decisions(), first time"] = median_ms(log.decisions, 1)
        figures["decisions(), nothing new"] = median_ms(log.decisions, 20)

        def fresh(table: Callable[[], object]) -> Callable[[], object]:
            return lambda: (one(), table())

        figures["append of one, then decisions()"] = median_ms(fresh(log.decisions), 10)
        figures["append of one, then consensus()"] = median_ms(fresh(log.consensus), 5)
        figures["append of one, then flags()"] = median_ms(fresh(log.flags), 5)
        figures |= folded_figures(log, one)
    return figures


def folded_figures(log: ReviewLog, append_one: Callable[[], None]) -> dict[str, float]:
    """A queue's questions after one event: folded, read anew, and how often the former fits into the latter."""
    policy, standings = ReviewPolicy(), Standings(log)
    start = time.process_time()
    standings.look()
    first = (time.process_time() - start) * 1000
    waiting = Followed(standings, policy.waiting_stands)

    def folded() -> tuple[object, ...]:
        standings.look()
        return standings.states(), dict(waiting.now())

    def anew() -> tuple[object, ...]:
        log.events()  # with the evidence that tells which model was on screen
        consensus, decisions = log.consensus(), log.decisions()
        settled = consensus.loc[consensus["status"] == "adjudicated", "example_id"]
        return group_by_state(consensus, decisions, log.flags()), policy.waiting(decisions, settled)

    folded()
    times: dict[str, list[float]] = {"folded": [], "anew": []}
    for _ in range(7):
        append_one()
        found = {}
        for name, work in (("folded", folded), ("anew", anew)):
            start = time.process_time()
            found[name] = work()
            times[name].append((time.process_time() - start) * 1000)
        if found["folded"] != found["anew"]:
            raise SystemExit("the folded state is not what the log says")
    told = {name: statistics.median(times[name]) for name in ("folded", "anew")}
    return {
        "a queue's state, first reading": first,
        "after one event: read anew": told["anew"],
        "after one event: folded": told["folded"],
        "after one event: read anew / folded (ratio)": told["anew"] / told["folded"],
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("events", type=int, nargs="?", default=100_000)
    parser.add_argument("url", nargs="?", help="default: a new SQLite file")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name, figure in measure(given.url or str(Path(folder) / "reviews.sqlite"), given.events).items():
            print(f"{name:45s} {figure:10.3g}{'' if 'ratio' in name else ' ms'}")


if __name__ == "__main__":
    main()
