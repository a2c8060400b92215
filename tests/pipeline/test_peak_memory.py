"""The peak of a pass is its own."""

import sys

import numpy as np
import pytest

from scoring.pipeline.peak_memory import peak_memory


@pytest.mark.skipif(sys.platform != "linux", reason="other systems know the peak of the whole process only")
def test_a_pass_that_takes_much_memory_shows_it_and_the_next_one_does_not():
    with peak_memory() as before:
        pass
    with peak_memory() as large:
        np.ones(40 << 20).sum()  # 320 MB
    with peak_memory() as after:
        pass
    assert large["peak_gb"] - before["peak_gb"] == pytest.approx(0.3125, abs=0.05)
    assert after["peak_gb"] < large["peak_gb"] - 0.2
