"""The exact sweep against scikit-learn at every threshold, and what must be refused."""

from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn import metrics as skm

from multilabel_nb import streaming
from multilabel_nb.calibration import (
    calibration_curve,
    cost_threshold,
    expected_calibration_error,
    fit_calibration,
)
from multilabel_nb.choosing import tune_thresholds
from multilabel_nb.decisions import apply_label_rules
from multilabel_nb.explorer.page import threshold_explorer
from multilabel_nb.streaming import StreamingSweep
from multilabel_nb.thresholds import (
    baselines,
    confusion_at_thresholds,
    scores_at,
    sweep_thresholds,
)
from multilabel_nb.uncertainty import bootstrap_interval, sweep_intervals

TIES = [
    0.0,
    -0.0,
    1e-45,
    0.1,
    0.25,
    0.5,
    np.nextafter(np.float32(0.5), np.float32(1)).item(),
    0.75,
    1.0,
]


@st.composite
def tables(draw, dtypes=(np.float16, np.float32, np.float64)):
    "Probabilities full of ties, constant columns, labels with one positive or none."
    shape = draw(st.tuples(st.integers(1, 9), st.integers(1, 4)))
    dtype = draw(st.sampled_from(dtypes))
    prob = st.one_of(st.sampled_from(TIES), st.floats(0, 1))
    probs = np.array(draw(st.lists(prob, min_size=shape[0] * shape[1], max_size=shape[0] * shape[1]))).reshape(shape).astype(dtype)
    targs = draw(hnp.arrays(np.int8, shape, elements=st.integers(0, 1)))
    for j in range(shape[1]):
        kind = draw(st.sampled_from(['as it is', 'constant', 'none', 'one', 'all']))
        if kind == 'constant':
            probs[:, j] = probs[0, j]
        elif kind != 'as it is':
            targs[:, j] = kind == 'all'
            targs[0, j] |= kind == 'one'
    return probs, targs


def data(n=400, n_labels=5, seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    probs = rng.random((n, n_labels)).astype(dtype)
    return probs, (rng.random(probs.shape) < probs * rng.uniform(0.1, 1, n_labels)).astype(np.float32)


def by_sklearn(on, targs, beta):
    "Decisions `(N, K)` and their targets: scikit-learn's scores and counts, `(9, K)`."
    k = on.shape[1]
    if k == 1:  # which scikit-learn would take for something else
        on, targs = np.hstack([on, on]), np.hstack([targs, targs])
    precision, recall, f, _ = skm.precision_recall_fscore_support(targs, on, beta=beta, average=None, zero_division=0)
    (off, false_alarms), (misses, hits) = skm.multilabel_confusion_matrix(targs, on).transpose(1, 2, 0)
    specificity = off / np.maximum(off + false_alarms, 1)
    scores = (hits + off) / len(on), precision, recall, f, specificity
    return np.stack([*scores, hits, false_alarms, misses, off])[:, :k]


@settings(max_examples=300, deadline=None)
@given(tables(), st.sampled_from([0.5, 1, 2]))
def test_every_number_of_the_exact_sweep_is_what_sklearn_says(table, beta):
    probs, targs = table
    n, n_labels = probs.shape

    micro = sweep_thresholds(probs, targs, beta=beta)
    at = micro.index.to_numpy().astype(probs.dtype)
    expected = by_sklearn(probs.reshape(-1, 1) > at, np.repeat(targs.reshape(-1, 1), len(at), 1), beta)
    np.testing.assert_allclose(micro.to_numpy().T, expected, atol=1e-12)

    macro = sweep_thresholds(probs, targs, average='macro', beta=beta)
    np.testing.assert_array_equal(macro.index, micro.index)
    cube = probs[:, :, None] > at
    scores = by_sklearn(cube.reshape(n, -1), np.repeat(targs, len(at), 1), beta).reshape(9, n_labels, -1)
    np.testing.assert_allclose(
        macro.to_numpy().T,
        np.concatenate([scores[:5].mean(1), scores[5:].sum(1)]),
        atol=1e-12,
    )

    for j, label in sweep_thresholds(probs, targs, average='none', beta=beta).groupby(level='label'):
        own = label.droplevel('label')
        k = np.searchsorted(at, own.index.to_numpy().astype(probs.dtype))
        assert set(own.index) == {0, *probs[:, j].astype(float) + 0.0}
        np.testing.assert_allclose(own.to_numpy().T, scores[:, j, k], atol=1e-12)


def images_by_sklearn(on, targs, beta):
    "The mean over images of scikit-learn's scores; one image of each."
    scores = by_sklearn(on.T, targs.T, beta)
    return np.concatenate([scores[:5].mean(1), scores[5:].sum(1)])


@settings(max_examples=150, deadline=None)
@given(tables(), st.sampled_from([0.5, 1, 2]), st.integers(0, 2**31))
def test_the_mean_over_images_is_what_sklearn_says_at_every_threshold(table, beta, seed):
    probs, targs = table
    found = sweep_thresholds(probs, targs, average='samples', beta=beta)
    at = found.index.to_numpy().astype(probs.dtype)
    assert set(found.index) == {0, *probs.ravel().astype(float) + 0.0}
    for thresh, row in zip(at, found.to_numpy(), strict=True):
        expected = images_by_sklearn(probs > thresh, targs, beta)
        np.testing.assert_allclose(row, expected, atol=1e-9)
        one = scores_at(probs, targs, thresh, 'samples', beta)
        np.testing.assert_allclose(list(one.values()), expected, atol=1e-12)
    # unknown targets: of each image what is known, and no image of which nothing is
    known = np.random.default_rng(seed).random(targs.shape) < 0.6
    known[0, 0] = True
    partly, grid = np.where(known, targs, np.nan), [0.7, 0.25, 0.5]
    found = sweep_thresholds(probs, partly, grid, 'samples', beta, ignore_nan=True)
    for thresh, row in zip(grid, found.to_numpy(), strict=True):
        rows = [(p[k] > thresh, t[k]) for p, t, k in zip(probs, targs, known, strict=True) if k.any()]
        expected = np.mean([images_by_sklearn(on[None], t[None], beta) for on, t in rows], axis=0)
        np.testing.assert_allclose(row[:5], expected[:5], atol=1e-9)
        one = scores_at(probs, partly, thresh, 'samples', beta, ignore_nan=True)
        np.testing.assert_allclose(list(one.values()), row, atol=1e-9)


def test_baselines_and_intervals_of_the_mean_over_images():
    probs, targs = data()
    found = baselines(targs, targs, 'samples')
    for name, on in {'all-negative': 0, 'all-positive': 1, 'constant': targs.mean(0) > 0.5}.items():
        expected = images_by_sklearn(np.broadcast_to(on, targs.shape).astype(bool), targs, 1)
        np.testing.assert_allclose(found.loc[name], expected, atol=1e-12)
    low, high = sweep_intervals(probs, targs, 5, 'samples', n_boot=20)
    table = sweep_thresholds(probs, targs, 5, 'samples')
    assert ((low.f1 <= table.f1) & (table.f1 <= high.f1)).sum() > 3 and (low <= high).all(axis=None)


@settings(max_examples=100, deadline=None)
@given(tables(), st.floats(0, 1))
def test_no_threshold_decides_otherwise_than_a_row(table, thresh):
    probs, targs = table
    thresh = float(probs.dtype.type(thresh))
    exact = sweep_thresholds(probs, targs)
    row = exact[exact.index <= thresh].iloc[-1]
    assert row.to_dict() == pytest.approx(scores_at(probs, targs, thresh))
    pd.testing.assert_series_equal(sweep_thresholds(probs, targs, [thresh]).iloc[0], row, check_names=False)


@settings(max_examples=100, deadline=None)
@given(
    tables(),
    st.sampled_from([1, 2, 16, 1024]),
    st.sampled_from(['micro', 'macro', 'none']),
)
def test_streaming_is_the_sweep_at_the_edges_however_it_is_cut(table, n_bins, average):
    probs, targs = table
    with patch.object(streaming, '_ROWS', 3):
        whole = StreamingSweep(probs.shape[1], n_bins).update(probs, targs)
    cut = len(probs) // 2
    parts = [
        StreamingSweep(probs.shape[1], n_bins).update(probs[rows], targs[rows])
        for rows in (slice(cut), slice(cut, None))
        if len(probs[rows])
    ]
    assert (sum(parts[1:], parts[0]).counts == whole.counts).all() and whole.counts.sum() == probs.size
    pd.testing.assert_frame_equal(
        whole.compute(average, 2),
        sweep_thresholds(probs, targs, np.arange(n_bins + 1) / n_bins, average, 2),
    )


@given(tables(), st.data())
def test_nan_is_refused_wherever_it_stands(table, data):
    probs, targs = table
    i, j = (
        data.draw(st.integers(0, len(probs) - 1)),
        data.draw(st.integers(0, probs.shape[1] - 1)),
    )
    probs[i, j] = np.nan
    for call in (
        sweep_thresholds,
        tune_thresholds,
        lambda p, t: StreamingSweep(p.shape[1]).update(p, t),
        calibration_curve,
        fit_calibration,
    ):
        with pytest.raises(ValueError, match=f'nan, first at row {i}, label {j}'):
            call(probs, targs)
    with pytest.raises(ValueError, match='ignore_nan=True'):
        sweep_thresholds(np.zeros(probs.shape), np.where(np.isnan(probs), np.nan, 0))


def test_takes_tensors_frames_and_every_precision():
    probs, targs = data()
    expected = sweep_thresholds(probs, targs)
    pd.testing.assert_frame_equal(
        sweep_thresholds(torch.tensor(probs, requires_grad=True), torch.tensor(targs).bool()),
        expected,
    )
    pd.testing.assert_frame_equal(sweep_thresholds(pd.DataFrame(probs), pd.DataFrame(targs)), expected)
    pd.testing.assert_frame_equal(sweep_thresholds(probs.T.copy().T, targs.astype(bool)), expected)
    half = torch.tensor(probs).bfloat16()
    assert len(sweep_thresholds(half, targs)) == len(half.unique()) + (half.min() > 0)
    close = np.array([[0.5], [np.nextafter(0.5, 1)], [np.nextafter(0.5, 0)]])
    assert len(sweep_thresholds(close, [[1], [0], [1]])) == 4 and len(sweep_thresholds(close.astype(np.float32), [[1], [0], [1]])) == 2
    assert sweep_thresholds([[0, 1]], [[0, 1]]).index.tolist() == [0, 1]


def test_thresholds_may_be_a_number_or_a_list_in_any_order():
    probs, targs = data()
    assert sweep_thresholds(probs, targs, 5).index.tolist() == [0, 0.25, 0.5, 0.75, 1]
    pd.testing.assert_frame_equal(
        sweep_thresholds(probs, targs, [0.7, 0.2, 0.7]).iloc[[1, 2]],
        sweep_thresholds(probs, targs, torch.tensor([0.2, 0.7], dtype=torch.float64)),
    )
    assert sweep_thresholds(probs, targs, [0.5], 'none', vocab=list('abcde')).index.tolist() == [(label, 0.5) for label in 'abcde']


def test_the_order_of_bytes_makes_no_difference():
    probs, targs = (
        np.random.default_rng(0).random((50, 3)),
        np.random.default_rng(1).random((50, 3)) < 0.3,
    )
    for dtype in ('>f8', '>f4'):
        swapped = probs.astype(dtype)
        pd.testing.assert_frame_equal(
            sweep_thresholds(swapped, targs),
            sweep_thresholds(swapped.astype(swapped.dtype.newbyteorder('=')), targs),
        )


@pytest.mark.parametrize(
    ('call', 'said'),
    [
        (lambda p, t: sweep_thresholds(p * 2, t), 'logits'),
        (lambda p, t: sweep_thresholds(p - 1, t), 'logits'),
        (lambda p, t: sweep_thresholds(p, t * 2), 'only 0 and 1, got 2'),
        (lambda p, t: sweep_thresholds(p, t[:3]), 'same shape'),
        (lambda p, t: sweep_thresholds(p[:, 0], t[:, 0]), r'\(N, C\)'),
        (lambda p, t: sweep_thresholds(p[:0], t[:0]), 'at least one row'),
        (lambda p, t: sweep_thresholds(p, t, average='weighted'), 'average'),
        (lambda p, t: sweep_thresholds(p, t, [0.5, 1.5]), r'lie in \[0, 1\]'),
        (lambda p, t: sweep_thresholds(p, t, []), 'at least one threshold'),
        (lambda p, t: sweep_thresholds(p, t, max_rows=9), 'max_rows=9'),
        (
            lambda p, t: sweep_thresholds(p, t, average='none', max_rows=999),
            'max_rows=999',
        ),
        (
            lambda p, t: sweep_thresholds(p, t, average='none', vocab=['a', 'b']),
            '2 names for 5 columns',
        ),
        (
            lambda p, t: sweep_thresholds(p, t, average='none', vocab=list('abcda')),
            "'a' twice",
        ),
        (lambda p, t: scores_at(p, t, [0.5] * 4), 'one number or 5'),
        (lambda p, t: scores_at(p, t, np.nan), r'lie in \[0, 1\]'),
        (lambda p, t: StreamingSweep(5, 100), 'power of two'),
        (lambda p, t: StreamingSweep(4).update(p, t), '5 labels'),
        (lambda p, t: StreamingSweep(5).compute(), 'nothing was counted'),
        (lambda p, t: StreamingSweep(5).update(p, t).compute('samples'), 'average must be one of micro, macro, none'),
        (lambda p, t: tune_thresholds(p, t, 'count', average='samples'), 'no average'),
        (lambda p, t: StreamingSweep(5) + StreamingSweep(5, 8), 'merged'),
        (lambda p, t: tune_thresholds(p, t, 'f'), 'goal'),
        (lambda p, t: tune_thresholds(p, t, 'f0'), 'goal'),
        (lambda p, t: tune_thresholds(p, t, average='none'), 'average'),
        (lambda p, t: tune_thresholds(p, t, folds=1), 'folds'),
        (lambda p, t: tune_thresholds(p[:3], t[:3]), 'folds'),
        (
            lambda p, t: tune_thresholds(p, t, 'cost', fn_cost=-1),
            'fn_cost must be finite and not negative',
        ),
        (lambda p, t: tune_thresholds(p, t, min_recall=1.1), 'min_recall'),
        (lambda p, t: apply_label_rules(p, list('abcde'), [['a', 'x']]), "'x'"),
        (
            lambda p, t: apply_label_rules(p, list('abcde'), [['a', 'b'], ['b', 'c']]),
            "'b'",
        ),
        (
            lambda p, t: apply_label_rules(p, list('abcde'), ['ab']),
            'two labels or more',
        ),
        (
            lambda p, t: apply_label_rules(p, list('abcde'), [['a', 'b'], ['c', 'd']], at_most=1),
            '2 exclusive groups',
        ),
        (lambda p, t: bootstrap_interval(p, t, n_boot=1), 'n_boot'),
        (lambda p, t: sweep_intervals(p, t, None), 'need thresholds'),
        (lambda p, t: calibration_curve(p, t, 0), 'n_bins'),
        (lambda p, t: fit_calibration(p, t, 'isotonic'), 'method'),
        (lambda p, t: cost_threshold(0, 1), 'above 0'),
    ],
)
def test_what_makes_no_sense_is_refused(call, said):
    with pytest.raises(ValueError, match=said):
        call(*data())


# ---- unknown targets

TAKE_TARGETS = {
    'scores_at': scores_at,
    'confusion_at_thresholds': lambda *a, **k: list(confusion_at_thresholds(*a, **k)),
    'sweep_thresholds': lambda *a, **k: sweep_thresholds(*a, **k).to_dict(),
    'baselines': lambda p, t, **k: baselines(t, t, **k).to_dict(),
    'StreamingSweep': lambda *a, **k: StreamingSweep(1).update(*a, **k).counts,
    'tune_thresholds': lambda p, t, **k: tune_thresholds(p, t, shrink=0, **k).thresh,
    'calibration_curve': lambda *a, **k: calibration_curve(*a, **k).to_dict(),
    'expected_calibration_error': expected_calibration_error,
    'fit_calibration': lambda *a, **k: vars(fit_calibration(*a, **k)),
    'threshold_explorer': lambda p, t, **k: threshold_explorer(p, t, ['a'], [], **k).data,
}


@pytest.mark.parametrize('name', TAKE_TARGETS)
def test_what_is_unknown_is_left_out(name):
    """As if the rows were not there, where there is one label."""
    call, (probs, targs) = TAKE_TARGETS[name], data(300, 1)
    targs[::7] = np.nan
    known = ~np.isnan(targs[:, 0])
    with pytest.raises(ValueError, match='ignore_nan=True'):
        call(probs, targs)
    found = call(probs, targs, ignore_nan=True)
    np.testing.assert_equal(found, call(probs[known], targs[known]))


def test_what_is_unknown_of_one_label_says_nothing_of_another():
    probs, targs = data()
    holes = targs.copy()
    holes[::3, 0] = np.nan
    intervals = bootstrap_interval(probs, targs, n_boot=9, shrink=0)[0]
    some = bootstrap_interval(probs, holes, n_boot=9, shrink=0, ignore_nan=True)[0]
    pd.testing.assert_frame_equal(some.iloc[1:], intervals.iloc[1:])
    assert (some.iloc[0] != intervals.iloc[0]).any()
    low, _ = sweep_intervals(probs, holes, [0.5], n_boot=9, ignore_nan=True)
    assert low.loc[0.5, ['tp', 'fp', 'fn', 'tn']].sum() < targs.size


# ---- precision


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32])
def test_decisions_are_made_in_the_precision_of_the_probabilities(dtype):
    """As torch makes them, in a sweep as in tuning."""
    probs, targs = data(200, 3)
    probs, targs = torch.tensor(probs).to(dtype), torch.tensor(targs)
    table = sweep_thresholds(probs, targs, np.arange(101) / 100)
    for thresh, row in table.iterrows():
        on = probs > torch.tensor(thresh).to(dtype)
        assert row.tp == (on & (targs == 1)).sum() == scores_at(probs, targs, thresh)['tp']
    tuned = tune_thresholds(probs, targs, shrink=0)
    on = probs > torch.tensor(tuned.thresh).to(dtype)
    assert (tuned.above(probs) == on.numpy()).all()
    found = skm.f1_score(targs, on, average='macro')
    assert tuned.tuned_on == pytest.approx(found)
    best = sweep_thresholds(probs, targs, average='none').f1.groupby('label').max()
    assert tuned.labels['tuned on'].to_numpy() == pytest.approx(best.to_numpy())


# ---- memory


def test_counting_and_choosing_stay_within_three_times_the_input():
    import tracemalloc

    probs, targs = data(60_000, 8)
    size = probs.nbytes + targs.nbytes
    for call in (
        lambda: [None for _ in confusion_at_thresholds(probs, targs)],
        lambda: tune_thresholds(probs, targs),
        lambda: tune_thresholds(probs, targs, per_label=False),
    ):
        tracemalloc.start()
        call()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 3 * size
