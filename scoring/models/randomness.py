"""Protects the global random generators while user code runs.

Augmentations and dropout draw from the global generators of torch, numpy and Python; hardlook itself uses none of them.
Inputs → output: a seed, or None → a context manager. Cost: one copy of the generators' states.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

import numpy as np
import torch


@contextlib.contextmanager
def own_randomness(seed: int | None = None) -> Iterator[None]:
    """Give torch's, numpy's and Python's global generators back as they were; inside, seed them where asked
    to.

    Code of others (augmentations, dropout) draws from the global generators, so they are lent, never left
    changed.
    """
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002  others draw from it
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        try:
            if seed is not None:
                torch.manual_seed(seed)
                np.random.seed(seed % 2**32)  # noqa: NPY002  others draw from it
                random.seed(seed)
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002  others draw from it
