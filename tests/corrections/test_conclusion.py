"""The sentence that ends a refit, and its sample size against simulation and against the interval itself."""

import numpy as np
import pytest

from dashboard.panels.refit_effect import verdict
from scoring.corrections.effect.conclusion import conclusion, needed_examples, wanting
from scoring.corrections.effect.head_refit import paired_interval


def row_of(differences, over=None):
    low, high = paired_interval(differences)
    over = differences if over is None else over
    over_low, over_high = paired_interval(over)
    return {
        "n": len(differences),
        "gain": float(np.mean(differences)),
        "gain_low": low,
        "gain_high": high,
        "over_placebo": float(np.mean(over)),
        "over_placebo_low": over_low,
        "over_placebo_high": over_high,
    }


@pytest.mark.parametrize("better, worse, n", [(13, 12, 267), (30, 20, 500), (4, 2, 60), (12, 13, 267), (1, 0, 40)])
def test_at_the_number_the_interval_just_excludes_zero(better, worse, n):
    """The same shares of better and worse among n' examples: the interval's nearer end crosses 0 there."""
    differences = np.r_[np.ones(better), -np.ones(worse), np.zeros(n - better - worse)]
    row = row_of(differences)
    assert row["gain_low"] < 0 < row["gain_high"]
    needed = needed_examples(row["gain"], row["gain_low"], row["gain_high"], n)

    def nearer_end(size):
        """Of the interval where the shares are exactly these, which a count need not allow."""
        total, squares = size * (better - worse) / n, size * (better + worse) / n
        mean = total / (size + 2)
        half = 1.959964 * np.sqrt(((squares + 1) / (size + 2) - mean**2) / (size + 2))
        return abs(mean) - half

    assert nearer_end(needed) >= 0 > nearer_end(needed - 1)


def test_at_the_number_about_half_of_all_samples_show_the_gain():
    rng = np.random.default_rng(5)
    shares = [0.06, 0.03, 0.91]
    large = rng.choice([1.0, -1.0, 0.0], 200_000, p=shares)
    row = row_of(large)
    needed = needed_examples(row["gain"], row["gain_low"], row["gain_high"], len(large))
    assert needed == pytest.approx(1.959964**2 * (0.09 - 0.03**2) / 0.03**2, rel=0.1)
    for size, expected in ((needed, 0.5), (2 * needed, 0.8)):
        samples = rng.choice([1.0, -1.0, 0.0], (2_000, size), p=shares)
        shown = np.mean([paired_interval(sample)[0] > 0 for sample in samples])
        assert shown == pytest.approx(expected, abs=0.05)


def test_a_cut_interval_still_gives_its_width():
    few = np.array([1.0, 1.0, 1.0, -1.0])
    row = row_of(few)
    assert row["gain_high"] == 1.0
    needed = needed_examples(row["gain"], row["gain_low"], row["gain_high"], 4)
    assert paired_interval(np.tile(few, needed // 4 + 1))[0] > 0 >= paired_interval(np.tile(few, needed // 4 - 1))[0]


def test_the_sentences():
    few = row_of(np.r_[np.ones(13), -np.ones(12), np.zeros(242)])
    said = conclusion(few)
    assert said.startswith("not shown: +0.4 %, −3.3 to 4.1 on 267 test examples; about ")
    assert pytest.approx(25_600, rel=0.01) == 1.959964**2 * (25 / 267 - (1 / 267) ** 2) / (1 / 267) ** 2
    assert said.endswith("about 26,000 would be needed")
    helps = np.r_[np.ones(60), -np.ones(10), np.zeros(400)]
    assert conclusion(row_of(helps)) == (
        "shown: +10.6 %, 7.2 to 14.0 on 470 test examples, and more than as many random edits gain"
    )
    as_random = conclusion(row_of(helps, over=np.r_[np.ones(11), -np.ones(10), np.zeros(449)]))
    assert (
        as_random.startswith("not shown to be more than random edits gain: +10.6 %") and "would be needed" in as_random
    )
    assert conclusion(row_of(-helps)).startswith("shown to harm: −10.6 %, −14.0 to −7.2 on 470 test examples; check")
    nothing = row_of(np.r_[np.ones(5), -np.ones(5), np.zeros(90)])
    assert conclusion(nothing).endswith("on 100 test examples; no number of examples shows a change of 0")
    assert conclusion({"n": 0, "gain": None}) == "not measured: there is no test example in this group"
    assert wanting(few | {"over_placebo": 1e-5}, "over_placebo") == "more than 10,000,000 would be needed"


def test_the_page_says_what_would_be_needed():
    few = row_of(np.r_[np.ones(13), -np.ones(12), np.zeros(242)])
    assert verdict(few).endswith("includes 0; about 26,000 would be needed to show a change of this size.")
    assert verdict(row_of(np.r_[np.ones(5), -np.ones(5), np.zeros(90)])).endswith("includes 0.")
