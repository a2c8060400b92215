"""Intervals cover, the stopping rule may be looked at at any time, and the known traps are known."""

from functools import cache

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from scoring.audit import Audit
from scoring.audit.storage import read_table
from scoring.queue.estimates import (
    clopper_pearson,
    control_answers,
    double_reads,
    effort,
    rate_by_cluster,
    rate_of_strata,
    rate_ratio,
    readers_table,
    rogan_gladen,
    total_bounds,
)
from scoring.queue.estimates.effort import _by_rank
from scoring.queue.estimates.intervals import exact_without_replacement, mid_p
from scoring.queue.random_controls import fix_controls, plan
from scoring.reviews import Event, ReviewLog

RATES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4)
AUDITS = 1000


# -- against something independent ------------------------------------------------------------------


@pytest.mark.parametrize(("errors", "n"), [(0, 30), (3, 59), (30, 30), (12, 400)])
def test_the_exact_interval_is_scipys(errors, n):
    theirs = stats.binomtest(errors, n).proportion_ci(method="exact")
    np.testing.assert_allclose(clopper_pearson(errors, n), (theirs.low, theirs.high), atol=1e-9)
    low, high = mid_p(errors, n)
    assert theirs.low <= low + 1e-9 and high - 1e-9 <= theirs.high


def test_without_replacement_a_census_leaves_nothing_open():
    assert exact_without_replacement(7, 100, 100) == (0.07, 0.07)
    low, high = exact_without_replacement(3, 59, 10**6)
    theirs = stats.binomtest(3, 59).proportion_ci(method="exact")
    np.testing.assert_allclose((low, high), (theirs.low, theirs.high), rtol=1e-3)


@pytest.mark.parametrize(("n", "errors"), [(40, 0), (40, 3), (90, 20)])
def test_one_stratum_is_the_prior_posterior_ratio_of_waudby_smith_and_ramdas(n, errors):
    size, totals = 200, np.arange(201)
    draw = stats.hypergeom.pmf(errors, size, totals, n)
    evidence = 0.0
    for a, b in ((1, 60), (0.5, 0.5), (0.5, 2)):  # the three priors of K, each a beta-binomial
        prior = stats.betabinom.pmf(totals, size, a, b)
        evidence += (prior * draw).sum() / 3
    with np.errstate(divide="ignore"):
        inside = totals[evidence / draw < 20]
    assert total_bounds([size], [n], [errors]) == (inside.min(), inside.max())


def test_the_best_division_among_strata_is_that_of_brute_force():
    from scoring.queue.estimates.confidence_sequence import log_evidence, log_likelihood

    sizes, drawn, errors = [8, 12, 20], [3, 4, 6], [2, 1, 0]
    best = np.full(41, -np.inf)
    tables = [log_likelihood(np.arange(size + 1), size, n, e) for size, n, e in zip(sizes, drawn, errors, strict=True)]
    for i, first in enumerate(tables[0]):
        for j, second in enumerate(tables[1]):
            best[i + j : i + j + 21] = np.maximum(best[i + j : i + j + 21], first + second + tables[2])
    kept = np.flatnonzero(best > log_evidence(drawn, errors, 0.05) + np.log(0.05))
    assert total_bounds(sizes, drawn, errors) == (kept.min(), kept.max())


def test_what_is_decided_by_rank_narrows_the_bound_and_open_answers_widen_it():
    low, high = total_bounds([100, 900], [10, 90], [4, 0])
    narrower = total_bounds([100, 900], [10, 90], [4, 0], known_wrong=[30, 0], known_right=[70, 0])
    assert low <= narrower[0] and narrower[1] < high and narrower[0] >= 30
    wider = total_bounds([100, 900], [10, 90], [4, 0], open_answers=[0, 5])
    assert wider[0] <= low and wider[1] > high
    assert total_bounds([50], [50], [3]) == (3, 3)


def test_the_rate_is_horvitz_thompsons():
    sizes, drawn, errors = np.array([100, 300, 600]), np.array([20, 30, 60]), np.array([10, 3, 0])
    value, low, high = rate_of_strata(sizes, drawn, errors)
    weights = np.concatenate([np.full(e, size / n) for size, n, e in zip(sizes, drawn, errors, strict=True)])
    assert value == pytest.approx(weights.sum() / 1000)
    assert low < value < high
    assert np.isnan(rate_of_strata([10], [0], [0])[0])


# -- coverage ---------------------------------------------------------------------------------------


def simulate(rate, generator, n=4000, controls=400, audits=AUDITS):
    """Audits of one dataset whose errors sit among the suspects → sizes, drawn, (audits, strata) errors, true total."""
    sizes = np.array([200, 800, 3000])
    share = np.array([6.0, 1.5, 0.5]) * rate
    totals = np.round(np.minimum(share, 0.95) * sizes).astype(int)
    totals[2] += round(rate * n) - totals.sum()
    drawn = sizes * controls // n
    return sizes, drawn, generator.hypergeometric(totals, sizes - totals, drawn, (audits, 3)), totals.sum()


@pytest.mark.parametrize("rate", RATES)
def test_fixed_size_intervals_cover(rate):
    sizes, drawn, errors, total = simulate(rate, np.random.default_rng(int(rate * 1000)))
    value, low, high = rate_of_strata(sizes, drawn, errors)
    covered = ((low <= total / sizes.sum() + 1e-12) & (total / sizes.sum() <= high + 1e-12)).mean()
    assert covered >= 0.93
    if rate * drawn.sum() >= 10:
        assert covered <= 0.97
    assert abs(value.mean() - total / sizes.sum()) < 4 * value.std() / np.sqrt(AUDITS) + 1e-9


@cache
def bounds_of(sizes, drawn, errors):
    return total_bounds(sizes, drawn, errors)


def streams(sizes, totals, drawn, generator, audits):
    """(audits, strata, controls) bool: answers of each stratum's random order, without replacement."""
    return [
        np.stack([generator.permutation(size)[:n] < total for _ in range(audits)])
        for size, total, n in zip(sizes, totals, drawn, strict=True)
    ]


@pytest.mark.parametrize("rate", RATES)
def test_the_sequence_covers_at_every_look_at_once(rate):
    generator, sizes = np.random.default_rng(7), (40, 360)
    totals = (min(int(200 * rate), 38), round(400 * rate) - min(int(200 * rate), 38))
    answers = streams(sizes, totals, (20, 180), generator, AUDITS)
    held, sharp = np.ones(AUDITS, bool), []
    for look in range(1, 11):
        n = (2 * look, 18 * look)
        errors = np.stack([part[:, :k].sum(1) for part, k in zip(answers, n, strict=True)], 1)
        found, which = np.unique(errors, axis=0, return_inverse=True)
        bounds = np.array([bounds_of(sizes, n, tuple(row)) for row in found])[which.ravel()]
        held &= (bounds[:, 0] <= sum(totals)) & (sum(totals) <= bounds[:, 1])
        sharp.append((bounds[:, 1] - bounds[:, 0]).mean())
    assert held.mean() >= 0.93  # at all ten looks together
    assert sharp[-1] < 0.6 * sharp[0]


# -- the known traps --------------------------------------------------------------------------------


def test_peeking_breaks_fixed_intervals_and_not_the_sequence():
    generator, audits, size, total = np.random.default_rng(3), AUDITS, 4000, 200  # the goal itself: 5 % are wrong
    answers = streams((size,), (total,), (600,), generator, audits)[0].cumsum(1)
    naive, valid = np.zeros(audits, bool), np.zeros(audits, bool)
    for n in range(10, 601, 10):
        errors = answers[:, n - 1]
        naive |= stats.beta.ppf(0.95, errors + 1, n - errors) < 0.05  # an exact one-sided bound, looked at each time
        for count in np.unique(errors[errors < 0.05 * n]):
            valid |= (errors == count) & (bounds_of((size,), (n,), (int(count),))[1] < total)
    assert 0.10 < naive.mean() < 0.20  # three times what it promises
    assert valid.mean() <= 0.05


def test_reviewers_own_errors_turn_one_percent_into_nearly_four_and_are_corrected():
    generator, true, n = np.random.default_rng(4), 0.01, 20_000
    assert true * 0.85 + (1 - true) * 0.03 == pytest.approx(0.0382)
    covered, raw = [], []
    for _ in range(400):
        called = generator.binomial(n, 0.0382)
        found, passed = generator.binomial(200, 0.85), generator.binomial(2000, 0.97)
        estimate = rogan_gladen(called, n, found, 200, passed, 2000)
        covered.append(estimate.low <= true <= estimate.high)
        raw.append(clopper_pearson(called, n)[0] <= true)
    assert np.mean(raw) == 0  # the raw interval never holds the truth
    assert np.mean(covered) >= 0.93
    assert np.isnan(rogan_gladen(5, 100, 1, 10, 1, 10).value)  # readers no better than chance correct nothing


def test_controls_read_with_the_models_opinion_certify_falsely_and_are_not_counted():
    """8 % are wrong, the goal is below 5 %. The model agrees with these labels, and of ten wrong ones a reviewer who
    sees that passes eight. 500 of 600 controls were read so."""
    generator, size, total, drawn, seen = np.random.default_rng(5), 4000, 320, 600, 500
    wrong = generator.hypergeometric(total, size - total, drawn, AUDITS)
    wrong_seen = generator.hypergeometric(wrong, drawn - wrong, seen)
    called = wrong - generator.binomial(wrong_seen, 0.8)  # counted as if all had been blind
    _, low, high = rate_of_strata([size], [drawn], called[:, None])
    assert ((low <= 0.08) & (high >= 0.08)).mean() < 0.10
    certified = np.array([bounds_of((size,), (drawn,), (int(count),))[1] < 200 for count in called])
    assert certified.mean() > 0.4, "nearly half of these audits would stop at a goal that is missed by far"
    blind = wrong - wrong_seen
    value, low, high = rate_of_strata([size], [drawn - seen], blind[:, None])
    assert ((low <= 0.08) & (high >= 0.08)).mean() >= 0.93
    assert abs(value.mean() - 0.08) < 4 * value.std() / np.sqrt(AUDITS)
    bounds = {count: total_bounds([size], [drawn], [count], open_answers=[seen]) for count in np.unique(blind)}
    assert (
        all(bounds[count][0] <= total <= bounds[count][1] for count in blind)
        and min(high for _, high in bounds.values()) >= 200
    )


def test_clusters_widen_the_interval():
    generator, covered, naive = np.random.default_rng(5), [], []
    for _ in range(600):
        rate = generator.beta(0.3, 2.7, 60)  # patients whose labels are wrong together; 10 % overall
        errors = generator.binomial(10, rate)
        estimate = rate_by_cluster(errors, np.full(60, 10))
        covered.append(estimate.low <= 0.1 <= estimate.high)
        low, high = clopper_pearson(errors.sum(), 600)
        naive.append(low <= 0.1 <= high)
    assert np.mean(naive) < 0.85
    assert np.mean(covered) >= 0.92
    assert np.isnan(rate_by_cluster([], []).value)


def test_gain_over_chance_is_a_ratio_with_an_exact_interval():
    gain = rate_ratio(40, 100, 4, 100)
    assert gain.value == pytest.approx(10) and gain.low > 3 and gain.high > 25
    assert rate_ratio(3, 100, 0, 50).value == np.inf
    assert np.isnan(rate_ratio(0, 0, 0, 0).value)


# -- from a log -------------------------------------------------------------------------------------


def decide(log, rows, reviewer="ana", first=1, blind=True, action="decide"):
    """Append one decision per (example_id, label, wrong) with its evidence."""
    log.append(
        [
            Event(
                client=reviewer,
                seq=first + at,
                example_id=name,
                label=label,
                reviewer=reviewer,
                action=action,
                verdict={True: "other", False: "given", None: "unsure"}[wrong],
                new_label=str((int(label) + 1) % 10) if wrong else None,
                seconds=2.0,
                evidence={"blind": blind},
            )
            for at, (name, label, wrong) in enumerate(rows)
        ]
    )


@pytest.fixture
def audited(sample_copy):
    audit = Audit.open(sample_copy)
    controls = fix_controls(audit, audit.run())
    controls = controls[controls["split"] == "train"]
    labels = read_table(audit.examples_path).to_pandas().set_index("example_id")["label"]
    with ReviewLog.open(audit.log_url, audit=audit.log_name(audit.log_url)) as log:
        yield audit, log, controls, [(name, labels[name]) for name in controls["example_id"]]


def test_nothing_decided_says_what_to_do(audited):
    audit, log, controls, _ = audited
    bought = effort(audit, audit.run(), log)
    assert (bought.counted, bought.found, bought.reached) == (0, 0, False)
    assert "No control has been decided blind" in bought.sentence
    assert bought.remaining.high == len(controls)


def test_blind_controls_reach_the_goal_and_say_so(audited):
    audit, log, _, rows = audited
    needed = plan({}, len(rows)).controls
    decide(log, [(*row, False) for row in rows[:needed]])
    bought = effort(audit, audit.run(), log)
    assert bought.counted == needed
    assert bought.remaining.high < bought.allowed and bought.reached
    assert "you can stop" in bought.sentence
    assert bought.history["high"].is_monotonic_decreasing


def test_too_few_controls_certify_nothing(audited):
    audit, log, _, rows = audited
    decide(log, [(*row, False) for row in rows[:20]])
    bought = effort(audit, audit.run(), log)
    assert not bought.reached and "20 controls are few" in bought.sentence


def test_unblinded_controls_certify_nothing(audited):
    audit, log, _, rows = audited
    decide(log, [(*row, False) for row in rows[: plan({}, len(rows)).controls]], blind=False)
    bought = effort(audit, audit.run(), log)
    assert bought.unblinded == bought.drawn and bought.counted == 0 and not bought.reached
    assert bought.remaining.high == len(rows) - 0


def test_of_controls_read_both_ways_the_blind_ones_alone_make_the_rate(audited):
    audit, log, _, rows = audited
    rows = rows[: plan({}, len(rows)).controls]
    half = len(rows) // 2
    decide(log, [(*row, at % 5 == 0) for at, row in enumerate(rows[:half])])
    decide(log, [(*row, False) for row in rows[half:]], first=half + 1, blind=False)
    bought = effort(audit, audit.run(), log)
    assert (bought.counted, bought.unblinded, bought.waiting) == (half, len(rows) - half, len(rows) - half)
    expected, _, _ = rate_of_strata(*_strata_of(audit, rows, half))
    assert bought.rate.value == pytest.approx(float(expected)) and not bought.reached
    assert f"{len(rows) - half:,} controls were decided with the model's output on screen" in bought.sentence
    decide(log, [(*row, True) for row in rows[half:-1]], reviewer="ben", first=2000)
    again = effort(audit, audit.run(), log)
    assert again.counted == len(rows) - 1, "a second reader's blind answer counts"
    assert again.rate.value > bought.rate.value, "his, not the first one"
    decide(log, [(*row, False) for row in rows[half:]], reviewer="lea", first=1000, blind=False, action="adjudicate")
    settled = effort(audit, audit.run(), log)
    assert settled.counted == len(rows) and "opinion on screen" not in settled.sentence


def _strata_of(audit, rows, half):
    """sizes, blind controls and errors among them per stratum, counted anew."""
    own = fix_controls(audit, None).query("split == 'train'").set_index("example_id")
    read = own.loc[[row[0] for row in rows[:half]]].assign(wrong=[at % 5 == 0 for at in range(half)])
    sizes = own.groupby("stratum").size()
    n, errors = read.groupby("stratum").size(), read.groupby("stratum")["wrong"].sum()
    return sizes, n.reindex(sizes.index, fill_value=0), errors.reindex(sizes.index, fill_value=0)


def test_a_gap_in_the_order_of_controls_is_not_stepped_over(audited):
    audit, log, controls, rows = audited
    stratum = controls["stratum"].to_numpy()
    largest = np.flatnonzero(stratum == stratum.max())
    skipped = [at for at in range(100) if at != largest[1]]  # the second control of the largest stratum
    decide(log, [(*rows[at], False) for at in skipped])
    bought = effort(audit, audit.run(), log)
    assert bought.counted == (stratum[:100] != stratum.max()).sum() + 1


def test_open_controls_that_contradict_what_is_known_bound_nothing():
    """Decided first, drawn as controls later: nothing was counted, so nothing beyond what is decided may be
    excluded."""
    bounds = total_bounds(
        [400, 1000, 5000],
        [3, 6, 0],
        [0, 0, 0],
        open_answers=[3, 6, 0],
        known_wrong=[377, 420, 0],
        known_right=[20, 574, 0],
    )
    assert bounds == (797, 6400 - 594)
    low, high = total_bounds(
        [400, 1000, 5000],
        [3, 6, 60],
        [0, 0, 0],
        open_answers=[3, 6, 0],
        known_wrong=[377, 420, 0],
        known_right=[20, 574, 0],
    )
    assert low == 797 and 797 + 100 < high < 1400 + 1000, (
        "the controls of the stratum without open ones still count there"
    )
    few = [total_bounds([1000], [40], [0], open_answers=[n], known_right=[300])[1] for n in range(0, 41, 8)]
    assert few == sorted(few) and few[-1] == 700, "the more is open, the less is excluded"


def test_unsure_is_right_below_and_wrong_above(audited):
    audit, log, _, rows = audited
    decide(log, [(*row, None if at in (3, 30) else False) for at, row in enumerate(rows[:100])])
    unsure = effort(audit, audit.run(), log)
    assert (unsure.waiting, unsure.unsure, unsure.counted) == (2, 2, 98)
    decide(log, [(*rows[at], False) for at in (3, 30)], first=500)
    settled = effort(audit, audit.run(), log)
    assert settled.remaining.high < unsure.remaining.high and settled.remaining.low == unsure.remaining.low == 0


def test_found_yield_and_gain(audited):
    audit, log, _, rows = audited
    drawn = plan({}, len(rows)).controls
    suspects = [(*row, at < 30) for at, row in enumerate(rows[drawn : drawn + 100])]
    decide(log, suspects, blind=False)
    decide(log, [(*row, at < 2) for at, row in enumerate(rows[:drawn])], first=500)
    bought = effort(audit, audit.run(), log)
    assert bought.found == 32
    assert bought.by_rank[["first", "last", "found"]].iloc[0].tolist() == [1, 100, 30]
    assert bought.gain.low > 1 and bought.next_hundred > 10
    assert bought.rate.low <= bought.rate.value <= bought.rate.high


def test_double_reads_measure_the_readers(audited):
    audit, log, _, rows = audited
    first = [(*row, at < 10) for at, row in enumerate(rows[:40])]
    second = [(*row, at < 8 or at == 39) for at, row in enumerate(rows[:40])]
    decide(log, first, "ana")
    decide(log, second, "ben")
    ruling = [(*rows[8], True), (*rows[9], True), (*rows[39], False)]
    decide(log, ruling, "lea", action="adjudicate")
    reads = double_reads(log)
    assert reads == {"found": 18, "true_errors": 20, "passed": 59, "true_right": 60, "examples": 40}
    table = readers_table(log, ("reviewer",)).set_index("reviewer")
    assert table.loc["ana", "decided"] == 40 and table.loc["ana", "seconds"] == 2.0
    assert table.loc["ana", "agreement"] == pytest.approx(37 / 40)
    assert (table.loc["ana", "overturned"], table.loc["ben", "overturned"]) == (0, 3)
    answers = control_answers(fix_controls(audit, None).query("split == 'train'").head(40), log)
    assert answers["wrong"].tolist() == [True] * 10 + [False] * 30


def test_an_undone_blind_verdict_leaves_the_control_open(audited):
    _, log, controls, rows = audited
    decide(log, [(*rows[0], True)])
    log.append([Event(client="ana", seq=2, example_id=rows[0][0], reviewer="ana", action="undo", undoes=("ana", 1))])
    decide(log, [(*rows[0], False)], first=3, blind=False)
    row = control_answers(controls.head(1), log).iloc[0]
    assert (row["wrong"], row["decided"], row["blind"]) == (None, True, False)


@pytest.mark.parametrize(("n", "blocks"), [(30, [30]), (100, [100]), (124, [124]), (125, [100, 25]), (210, [100, 110])])
def test_a_few_suspects_more_join_the_hundred_before_them(n, blocks):
    rows = _by_rank(pd.Series(np.arange(n) % 2 == 0), 0.1)
    assert (rows["last"] - rows["first"] + 1).tolist() == blocks
    assert rows["last"].iloc[-1] == n and rows["found"].sum() == (n + 1) // 2
