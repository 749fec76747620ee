"""Promises about new rows: the bound is SciPy's, no higher threshold would do, and a thousand samples break few of them."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mapie.risk_control import BinaryClassificationController, FWERFixedSequenceTesting
from scipy.stats import beta, binom, binomtest, norm

from multilabel_nb.guarantees import clopper_pearson_bound, guarantee_cost, guarantee_thresholds

FREQ, STEP = np.array([0.4, 0.15, 0.05]), np.array([3.0, 2.0, 3.0])


def draw(n, seed):
    "Probabilities of three labels from a world whose truth is known; the last is rare."
    rng = np.random.default_rng(seed)
    targs = rng.random((n, 3)) < FREQ
    return norm.cdf(rng.normal(np.where(targs, STEP, 0)) / 2), targs


def truth(thresh):
    "Recall and precision in that world, of decisions above these thresholds."
    at = 2 * norm.ppf(thresh)
    found, false = norm.sf(at - STEP) * FREQ, norm.sf(at) * (1 - FREQ)
    return {'recall': found / FREQ, 'precision': found / (found + false)}


def coarse(thresh):
    "The same, where probabilities are rounded to tenths: above t are those that are rounded to more."
    return truth(np.floor(np.asarray(thresh) * 10 + 1e-9) / 10 + 0.05)


@settings(deadline=None)
@given(st.integers(1, 5000), st.floats(0, 1), st.floats(1e-6, 0.999))
@example(1, 1, 0.1)
@example(5000, 1, 1e-6)
@example(5000, 1e-4, 0.5)
def test_the_bound_is_that_of_scipy(n, share, delta):
    k = round(share * n)
    bound = clopper_pearson_bound(k, n, delta)
    assert np.isclose(bound, beta.ppf(delta, k, n - k + 1) if k else 0, rtol=1e-9, atol=1e-12)
    assert np.isclose(bound, binomtest(k, n, alternative='greater').proportion_ci(1 - delta).low, atol=1e-8)


@settings(deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.5, 0.8, 0.9]), st.sampled_from([0.3, 0.1, 0.01]), st.booleans())
def test_no_higher_threshold_passes_the_binomial_test(seed, floor, delta, ties):
    rng = np.random.default_rng(seed)
    targs = rng.random((80, 1)) < 0.6
    probs = np.clip(rng.normal(0.4 + 0.3 * targs, 0.2), 0, 1).round(1 if ties else 6)
    thresh = guarantee_thresholds(probs, targs, 'recall', floor, delta).thresh.item()
    positives = probs[targs]
    by_luck = {t: binom.sf((positives > t).sum() - 1, len(positives), floor) for t in (0.0, *probs.ravel())}
    good = [t for t, p in by_luck.items() if p <= delta]
    assert thresh == max(good) if good else np.isnan(thresh)


def broken(n, metric, floor, delta, together, digits=None):
    "Of a thousand samples, which break the promise of which label; and which promise anything."
    found = []
    for seed in range(1000):
        probs, targs = draw(n, seed)
        probs = probs if digits is None else probs.round(digits)
        found.append(guarantee_thresholds(probs, targs, metric, floor, delta, together).thresh)
    found = np.array(found)
    kept = (truth if digits is None else coarse)(found)[metric] >= floor
    return ~kept & ~np.isnan(found), ~np.isnan(found)


@pytest.mark.parametrize('digits', [None, 1], ids=['all digits', 'tenths'])
@pytest.mark.parametrize('n, floor, delta', [(300, 0.8, 0.1), (1000, 0.9, 0.1), (1000, 0.9, 0.3)])
def test_a_recall_is_promised_to_each_label(n, floor, delta, digits):
    wrong, promised = broken(n, 'recall', floor, delta, False, digits)
    assert (wrong.mean(0) <= delta).all(), wrong.mean(0)
    assert promised.mean(0)[:2].min() > 0.8
    if digits is None:  # as many as are allowed, or nearly: no higher threshold would do
        assert wrong.mean(0)[0] > delta / 2


@pytest.mark.parametrize('metric, floor', [('recall', 0.8), ('precision', 0.7)])
def test_promises_together_are_all_kept(metric, floor):
    wrong, promised = broken(1000, metric, floor, 0.1, True)
    assert wrong.any(1).mean() <= 0.1 and (promised.mean(0)[:2] > 0.5).all()


def test_a_precision_is_promised_to_each_label():
    wrong, promised = broken(1000, 'precision', 0.8, 0.1, False)
    assert (wrong.mean(0) <= 0.1).all() and promised.mean(0)[0] > 0.9


@pytest.mark.parametrize('n, ceiling', [(200, 1.0), (800, 0.7)])
def test_a_cost_is_promised_at_all_thresholds_together(n, ceiling):
    grid = np.arange(1, 40) / 40
    recall, precision = truth(grid[:, None]).values()
    found = recall * FREQ
    costs = (5 * (FREQ - found) + found / precision - found).sum(1)
    promised = np.array([guarantee_cost(*draw(n, seed), ceiling, fn_cost=5, grid=grid).promised for seed in range(1000)])
    assert (promised & (costs > ceiling)).any(1).mean() <= 0.1
    assert promised.any(1).mean() > 0.5 and costs.min() < ceiling < costs.max()


def test_plain_tuning_breaks_its_promise():
    samples = [draw(1000, seed) for seed in range(1000)]
    plain = np.array([[np.quantile(p[t[:, j], j], 0.1, method='lower') for j in range(3)] for p, t in samples])
    assert ((truth(plain)['recall'] < 0.9).mean(0) > 1 / 3).all()


def test_a_label_promises_less_than_another_by_its_own_floor():
    probs, targs = draw(1000, 0)
    table = guarantee_thresholds(probs, targs, 'recall', {'a': 0.95, 'b': 0.5, 'c': 0.5}, vocab=['a', 'b', 'c'])
    equal = guarantee_thresholds(probs, targs, 'recall', 0.5, vocab=['a', 'b', 'c'])
    assert table.thresh['a'] < equal.thresh['a'] and table.thresh['b'] == equal.thresh['b']


# ---- MAPIE


def by_mapie(probs, targs, metric, floor, n_starts):
    "The threshold of one label, by MAPIE's tests of the hundredths in the same order."
    grid = np.arange(100)[:: 1 if metric == 'recall' else -1] / 100
    order = FWERFixedSequenceTesting(n_starts)
    predict = lambda X: np.hstack([1 - X, X])  # noqa: E731
    control = BinaryClassificationController(predict, metric, floor, 0.9, list_predict_params=grid, fwer_method=order)
    best = control.calibrate(probs[:, None], targs.astype(int)).best_predict_param
    return np.nan if best is None else best


@pytest.mark.filterwarnings('ignore:(Fixed sequence|No predict)')
@pytest.mark.parametrize('metric, floor, n_starts', [('recall', 0.9, 1), ('precision', 0.8, 10)])
def test_mapie_promises_nothing_that_we_do_not(metric, floor, n_starts):
    grid, same = np.arange(100) / 100, []
    for seed in range(20):
        probs, targs = draw(1000, seed)
        ours = guarantee_thresholds(probs, targs, metric, floor, 0.1, False, grid=grid).thresh.to_numpy()
        theirs = np.array([by_mapie(probs[:, j], targs[:, j], metric, floor, n_starts) for j in range(3)])
        assert not np.isnan(ours[~np.isnan(theirs)]).any()
        fewer, more = (probs > ours, probs > theirs) if metric == 'recall' else (probs > theirs, probs > ours)
        assert not (fewer & ~more)[:, ~np.isnan(theirs)].any()
        same += (np.abs(ours - theirs) < 0.02)[~np.isnan(theirs)].tolist()
    assert len(same) > 20 and np.mean(same) > 0.5


@pytest.mark.parametrize('together', [False, True])
def test_each_test_has_its_share_of_delta(together):
    """Of precision a tenth (ten starts), of recall all of it; together each of two labels has half of that."""
    probs, targs = np.full((80, 2), 0.7), np.ones((80, 2))
    delta = 0.2 / 2 if together else 0.2
    for metric, level in {'precision': delta / 10, 'recall': delta}.items():
        table = guarantee_thresholds(probs, targs, metric, 0.5, 0.2, together, grid=[0.1] * 10)
        assert table['bound'].tolist() == pytest.approx([beta.ppf(level, 80, 1)] * 2)
