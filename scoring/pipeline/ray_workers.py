"""Scores shards on Ray: on this machine, or on a cluster whose machines have the audit's folder at the same path.

A worker opens the audit and the run by itself and keeps model and inputs from shard to shard; what travels is the
scorer with its fitted state (once), a shard's positions (there) and its table (back). Tables are written by the command
that asked, in the shards' order, so a killed one goes on at the missing shard as it does without Ray.

Cost: some seconds per worker to start, and its own model and batch in memory. Needs the extra ``ray``. Limits: only
passes that run the model are spread; the rest takes less time than starting a worker.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from scoring.audit.errors import HardlookError
from scoring.pipeline.shards import Context, Each
from scoring.scorers import Scorer, State

LOCAL = "local"


class RayWorkers:
    """Workers on Ray, one per processor that it offers; a context manager that leaves Ray when it ends."""

    def __init__(self, address: str = LOCAL) -> None:
        """``address``: "local" starts Ray on this machine; "auto" or "host:port" joins a cluster that runs."""
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
        try:
            import ray
        except ImportError as error:
            raise HardlookError(
                "Ray is not installed; run `pip install 'hardlook[ray]'`, or score without --ray"
            ) from error
        try:
            ray.init(
                address=None if address == LOCAL else address,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise HardlookError(
                f"no Ray cluster answers at {address!r}: {error}; give the address of a running cluster, or omit the "
                "address to start Ray on this machine"
            ) from error
        self.ray = ray
        self.most = max(1, int(ray.cluster_resources().get("CPU", 1)))
        self.started: list[Any] = []

    def __enter__(self) -> RayWorkers:
        return self

    def __exit__(self, *_error: Any) -> None:
        self.ray.shutdown()

    def scoring(self, context: Context, scorer: Scorer, state: State) -> Each:
        """Returns how ``scoring.pipeline.shards.resumable`` gets the tables of its shards from these workers."""

        def each(_compute: Callable[..., Any], shards: Sequence[np.ndarray]) -> Iterator[pa.Table]:
            from ray.util import ActorPool

            given = self.ray.put(((str(context.audit.root), context.run.name, context.device), scorer, state))
            worker = self.ray.remote(num_cpus=1)(ShardWorker)
            wanted = min(self.most, len(shards))
            self.started += [worker.remote() for _ in range(wanted - len(self.started))]
            pool = ActorPool(self.started[:wanted])
            try:
                yield from pool.map(lambda actor, positions: actor.score.remote(given, positions), list(shards))
            except self.ray.exceptions.RayTaskError as error:
                if isinstance(error.cause, HardlookError):
                    raise HardlookError(str(error.cause)) from error
                raise

        return each


class ShardWorker:
    """One worker, for one score after another."""

    def score(self, given: tuple[Any, ...], positions: np.ndarray) -> pa.Table:
        """The table of one shard; ``given``: the run, the scorer and its fitted state."""
        from scoring.pipeline.score_run import score_shard

        run, scorer, state = given
        return score_shard(_opened(*run), scorer, state, positions)


@functools.lru_cache(maxsize=1)
def _opened(root: str, run: str, device: str) -> Context:
    """An audit's run, opened once in a worker."""
    from scoring.audit import Audit

    audit = Audit.open(root)
    return Context(audit, audit.run(run), device=device)
