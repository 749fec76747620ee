"""Losses and metrics on inputs no lesson shows: odd shapes, ties, empty columns, extreme logits, half precision, hostile tables."""

import importlib.util
import pickle
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn import metrics as skm
from sklearn.metrics import average_precision_score, hamming_loss

from multilabel_nb import metrics
from multilabel_nb.losses import MultiLabelBCE, bce_with_logits
from multilabel_nb.metrics import (
    FromLogits,
    accuracy_multi,
    all_negative_accuracy,
    average_precision,
    average_scores,
    constant_accuracy,
    constant_prediction,
    exact_match,
    fbeta_score,
    mean_average_precision,
    multilabel_confusion_matrix,
)
from multilabel_nb.ranking import coverage_error, label_ranking_average_precision, label_ranking_loss
from multilabel_nb.reports import per_label_report, score_report

quick = settings(max_examples=40, deadline=None, derandomize=True)
shapes = st.tuples(st.integers(1, 30), st.integers(1, 5))
# few distinct values make ties likely; 0 and 1 are the ends that a strict threshold must get right
tied = st.sampled_from([0.0, 0.2, 0.5, 0.7, 1.0])
unit = st.floats(0, 1, width=32, allow_subnormal=False)


@st.composite
def scored(draw, values=None):
    shape = draw(shapes)
    elements = values if values is not None else draw(st.sampled_from([tied, unit]))
    return draw(hnp.arrays(np.float32, shape, elements=elements)), draw(hnp.arrays(np.bool_, shape))


def no_warning(f, *args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return f(*args, **kwargs)


# ---- losses


@quick
@given(scored(st.floats(-1e4, 1e4, width=32, allow_subnormal=False)), st.sampled_from(['mean', 'sum', 'none']))
def test_bce_is_torchs(case, reduction):
    z, t = torch.tensor(case[0], dtype=torch.float64, requires_grad=True), torch.tensor(case[1])
    ours, theirs = bce_with_logits(z, t, reduction), F.binary_cross_entropy_with_logits(z, t.double(), reduction=reduction)
    torch.testing.assert_close(ours, theirs)
    grads = [torch.autograd.grad(loss.sum(), z)[0] for loss in (ours, theirs)]
    torch.testing.assert_close(*grads)


@quick
@given(scored(unit), st.integers(0, 2**31))
def test_bce_soft_targets(case, seed):
    z = torch.randn(case[0].shape, generator=torch.Generator().manual_seed(seed), requires_grad=True)
    t = torch.tensor(case[0])
    torch.testing.assert_close(bce_with_logits(z, t), F.binary_cross_entropy_with_logits(z, t))


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_bce_half_precision_is_finite_and_close(dtype):
    z = torch.tensor([[-6e4, -9.0, 0.0, 9.0, 17.0, 6e4]]).to(dtype).requires_grad_()
    for targ in (0, 1):
        loss = bce_with_logits(z, torch.full((1, 6), targ), 'none')
        (grad,) = torch.autograd.grad(loss.sum(), z)
        assert loss.dtype == torch.float32 and grad.dtype == dtype
        torch.testing.assert_close(loss, F.binary_cross_entropy_with_logits(z.float(), torch.full((1, 6), float(targ)), reduction='none'))
        torch.testing.assert_close(grad.float(), (z.float().sigmoid() - targ).detach(), atol=5e-3, rtol=0)


@pytest.mark.parametrize(
    ('logits', 'targs', 'says'),
    [
        (torch.zeros(3, 2), torch.zeros(3, 1), r'\(3, 2\) and targs \(3, 1\)'),  # would broadcast in plain arithmetic
        (torch.zeros(3, 1), torch.zeros(3), 'one-hot encode'),
        (torch.zeros(3), torch.zeros(3), r'must both be \(N, C\)'),
        (torch.zeros(2, 2), torch.full((2, 2), torch.nan), 'nan'),
        (torch.zeros(2, 2), torch.full((2, 2), 2), r'\[0, 1\]'),
        (torch.zeros(2, 2, dtype=torch.long), torch.zeros(2, 2), 'floating point'),
        (torch.zeros(0, 2), torch.zeros(0, 2), 'nothing to average'),
    ],
)
def test_bce_refuses(logits, targs, says):
    with pytest.raises(ValueError, match=says):
        MultiLabelBCE()(logits, targs)


@quick
@given(scored(), unit)
def test_decodes_is_strictly_above(case, thresh):
    probs = torch.tensor(case[0])
    assert torch.equal(MultiLabelBCE(thresh).decodes(probs), probs > thresh)
    per_label = np.linspace(0, 1, probs.shape[1])  # double precision, as numpy gives it: compared in the precision of `probs`
    assert np.array_equal(MultiLabelBCE(per_label).decodes(probs), case[0] > per_label.astype(np.float32))


@pytest.mark.parametrize('thresh', [-0.1, 1.1, float('nan'), torch.zeros(2, 2), torch.zeros(0), torch.tensor([0.5, 2.0])])
def test_bad_thresholds_are_refused_at_birth_and_later(thresh):
    with pytest.raises(ValueError, match='thresh must (lie|be)'):
        MultiLabelBCE(thresh)
    loss = MultiLabelBCE(0.3)
    with pytest.raises(ValueError, match='thresh must (lie|be)'):
        loss.thresh = thresh
    assert loss.thresh == 0.3


def test_each_loss_object_is_its_own():
    each = torch.tensor([0.1, 0.9])
    first, second = MultiLabelBCE(each), MultiLabelBCE()
    each[0] = 0.8  # the caller's tensor is not shared
    first.reduction = 'none'
    assert first.thresh.tolist() == pytest.approx([0.1, 0.9]) and second.thresh == 0.5 and second.reduction == 'mean'
    assert not list(first.parameters()) and not first.state_dict()
    again = pickle.loads(pickle.dumps(first))
    assert torch.equal(again.thresh, first.thresh) and again.reduction == 'none'


# ---- metrics


EDGES = {
    'no positives': lambda probs, targs, thresh: not targs.any(),
    'a label with no positives': lambda probs, targs, thresh: not targs.any(0).all(),
    'all positives': lambda probs, targs, thresh: targs.all(),
    'nothing on': lambda probs, targs, thresh: not (probs > thresh).any(),
    'one item': lambda probs, targs, thresh: len(probs) == 1,
    'one label': lambda probs, targs, thresh: probs.shape[1] == 1,
    'ties at the threshold': lambda probs, targs, thresh: (probs == thresh).sum() > 1,
}


@st.composite
def edgy(draw):
    probs, targs = draw(scored())
    return probs, draw(st.sampled_from([targs, targs, targs, np.zeros_like(targs), np.ones_like(targs)]))


def precision_recall_f(on, targs, beta, average, zero_division=0):
    # a column that is always off counts in none of these averages; scikit-learn takes a single column for a class number
    on, targs = (np.pad(x, ((0, 0), (0, 1))) for x in (on, targs))
    return skm.precision_recall_fscore_support(targs, on, beta=beta, average=average, zero_division=zero_division)


def assert_scikit_learns(probs, targs, thresh, beta):
    on = probs > thresh
    averages = {average: precision_recall_f(on, targs, beta, average)[:3] for average in ('micro', 'weighted', 'samples')}
    averages['macro'] = np.stack(precision_recall_f(on, targs, beta, None))[:3, :-1].mean(1)
    tables = skm.multilabel_confusion_matrix(*(np.pad(x, ((0, 0), (0, 1))) for x in (targs, on)))[:-1]
    close = dict(rtol=0, atol=1e-12)
    ours = no_warning(average_scores, probs, targs, thresh, beta)
    for average, theirs in averages.items():
        np.testing.assert_allclose(ours.loc[average], theirs, **close)
        assert no_warning(fbeta_score, probs, targs, thresh, beta, average) == pytest.approx(theirs[2], abs=1e-12)
    assert np.array_equal(multilabel_confusion_matrix(probs, targs, thresh=thresh).to_numpy().reshape(-1, 2, 2), tables)
    report = per_label_report(probs, targs, thresh=thresh)
    np.testing.assert_allclose(
        report[['precision', 'recall', 'f1', 'support']].T, np.stack(precision_recall_f(on, targs, 1, None, np.nan))[:, :-1], **close
    )
    np.testing.assert_allclose(report[['accuracy', 'all_negative']].T, [(on == targs).mean(0), (~targs).mean(0)], **close)
    found = [average_precision_score(t, p) if t.any() else np.nan for t, p in zip(targs.T, probs.T, strict=True)]
    np.testing.assert_allclose(report['average_precision'], found, **close)
    assert no_warning(mean_average_precision, probs, targs) == pytest.approx(no_warning(np.nanmean, found), nan_ok=True)
    assert metrics.hamming_loss(probs, targs, thresh) == pytest.approx(hamming_loss(targs, on), abs=1e-12)
    assert accuracy_multi(probs, targs, thresh) == pytest.approx(1 - hamming_loss(targs, on), abs=1e-12)
    assert exact_match(probs, targs, thresh) == pytest.approx(skm.accuracy_score(targs, on), abs=1e-12)


def test_two_hundred_cases_are_scikit_learns_edges_included():
    met = Counter()

    @settings(max_examples=200, deadline=None, derandomize=True, database=None)
    @given(edgy(), st.sampled_from([0.0, 0.2, 0.5, 0.7, 1.0]), st.sampled_from([0.5, 1.0, 2.0]))
    def compare(case, thresh, beta):
        thresh = np.float32(thresh)
        met.update(['cases', *(name for name, meets in EDGES.items() if meets(*case, thresh))])
        assert_scikit_learns(*case, float(thresh), beta)

    compare()
    assert met['cases'] >= 200 and all(met[name] >= 5 for name in EDGES), met


@quick
@given(scored(), st.integers(0, 2**31), st.sampled_from([0.2, 0.5]))
def test_unknown_answers_are_left_out(case, seed, thresh):
    probs, targs = case
    holes = np.random.default_rng(seed).random(targs.shape) < 0.3
    holes[-1, -1] = False  # something is known
    partly, on = np.where(holes, np.nan, targs), probs > np.float32(thresh)
    options = dict(thresh=thresh, ignore_nan=True)
    known = ~holes
    assert accuracy_multi(probs, partly, **options) == pytest.approx((on == targs)[known].mean())
    assert metrics.hamming_loss(probs, partly, **options) == pytest.approx((on != targs)[known].mean())
    report, tables = per_label_report(probs, partly, **options), multilabel_confusion_matrix(probs, partly, **options)
    assert report['unknown'].tolist() == holes.sum(0).tolist()
    for j in range(targs.shape[1]):
        k = known[:, j]
        if not k.any():
            assert report.loc[f'column {j}', 'support'] == 0 and np.isnan(report.loc[f'column {j}', 'average_precision':]).all()
            continue
        alone = per_label_report(probs[k, j : j + 1], targs[k, j : j + 1], thresh=thresh).iloc[0]
        pd.testing.assert_series_equal(report.drop(columns='unknown').iloc[j], alone, check_names=False)
        assert tables.iloc[j].sum() == k.sum()
    rows = known.any(1)
    whole = [(on == targs)[i, known[i]].all() for i in np.flatnonzero(rows)]
    assert exact_match(probs, partly, **options) == pytest.approx(np.mean(whole))
    # off and not wanted where unknown: to F-beta that is nobody's answer
    per_image = skm.fbeta_score(
        *(np.pad((x & known)[rows], ((0, 0), (0, 1))) for x in (targs, on)), beta=2, average='samples', zero_division=0
    )
    assert fbeta_score(probs, partly, **options) == pytest.approx(per_image)
    train = constant_prediction(partly, ignore_nan=True)
    best = [targs[known[:, j], j].mean() > 0.5 if known[:, j].any() else False for j in range(targs.shape[1])]
    assert train.tolist() == best
    scores = score_report(probs, partly, partly, **options)['accuracy_multi']
    expected = [(on == targs)[known].mean(), (~targs)[known].mean(), (np.array(best) == targs)[known].mean()]
    assert scores.tolist() == pytest.approx(expected)


@st.composite
def wide(draw):
    # two labels or more: scikit-learn takes a single column for a class number
    probs, targs = draw(edgy())
    columns = [0, *range(probs.shape[1])]
    return (probs, targs) if probs.shape[1] > 1 else (probs[:, columns], targs[:, columns])


@pytest.mark.parametrize('zero_division', [0, 1, np.nan])
@settings(max_examples=100, deadline=None, derandomize=True)
@given(wide(), tied)
def test_total_rows_are_those_of_classification_report(zero_division, case, thresh):
    probs, targs = case
    options = dict(zero_division=zero_division, output_dict=True)
    theirs = pd.DataFrame(skm.classification_report(targs, probs > np.float32(thresh), **options)).T
    report = per_label_report(probs, targs, thresh=thresh, totals=True, zero_division=zero_division)
    ours = report.drop('labels judged')[['precision', 'recall', 'f1', 'support']]
    assert ours.index[-4:].tolist() == theirs.index[-4:].tolist()
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)
    columns = ['precision', 'recall', 'f1', 'average_precision', 'accuracy']
    assert report.loc['labels judged', columns].tolist() == report[columns].iloc[: targs.shape[1]].notna().sum().tolist()
    some = targs.any(1)
    found = report['average_precision'][['micro avg', 'samples avg']]
    if not some.any():
        assert found.isna().all()
        return
    expected = [average_precision_score(t, p, average=x) for t, p, x in [(targs, probs, 'micro'), (targs[some], probs[some], 'samples')]]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_the_report_knows_both_baselines_and_leaves_out_what_is_unknown():
    probs, targs = np.full((4, 2), 0.7), np.array([[1, np.nan], [1, np.nan], [0, np.nan], [np.nan] * 2])
    report = per_label_report(probs, targs, ['clear', 'road'], ignore_nan=True, totals=True, train_targs=[[1, 0], [1, 1], [1, 1]])
    columns = ['accuracy', 'all_negative', 'constant']
    np.testing.assert_allclose(report.loc['clear', columns].astype(float), [2 / 3, 1 / 3, 2 / 3])
    assert report.loc['road', [*columns, 'precision', 'recall', 'f1', 'average_precision']].isna().all()
    assert (report.loc[['micro avg', 'macro avg', 'samples avg'], 'constant'] == 2 / 3).all()
    assert report['unknown'].tolist()[:3] == [1, 4, 5] and report.loc['labels judged', 'constant'] == 1
    with pytest.raises(ValueError, match='train_targs have 3 labels, targs have 2'):
        per_label_report(probs, targs, ignore_nan=True, train_targs=np.eye(3))


def test_intervals_hold_the_score_and_only_what_can_be_drawn():
    rng = np.random.default_rng(0)
    targs = rng.random((60, 3)) < [0.5, 0.02, 0]
    probs = np.clip(0.6 * targs + 0.5 * rng.random(targs.shape), 0, 1)
    report = per_label_report(probs, targs, n_boot=200)
    # by hand: the same rows, drawn again
    rng, found = np.random.default_rng(0), []
    for _ in range(200):
        rows = rng.integers(0, 60, 60)
        found.append(no_warning(precision_recall_f, probs[rows] > 0.5, targs[rows], 1, None, np.nan)[1][:2])
    np.testing.assert_allclose(report[['recall_low', 'recall_high']][:2].T, np.nanquantile(found, [0.05, 0.95], axis=0))
    assert report.iloc[2][['recall', 'recall_low', 'recall_high']].isna().all()
    assert report.columns[5:8].tolist() == ['precision', 'precision_low', 'precision_high']
    pd.testing.assert_frame_equal(report, per_label_report(probs, targs, n_boot=200))
    with pytest.raises(ValueError, match='n_boot must be 2 or more'):
        per_label_report(probs, targs, n_boot=-1)


RANKINGS = {
    coverage_error: skm.coverage_error,
    label_ranking_loss: skm.label_ranking_loss,
    label_ranking_average_precision: skm.label_ranking_average_precision_score,
}


@pytest.mark.parametrize('ours', RANKINGS)
@settings(max_examples=150, deadline=None, derandomize=True)
@given(wide(), st.integers(0, 2**31))
def test_rankings_are_scikit_learns(ours, case, seed):
    probs, targs = case
    theirs = RANKINGS[ours]
    exact = probs.astype(float)  # SciPy 1.18 ranks float32 in float32, and so divides in it
    assert ours(probs, targs) == pytest.approx(theirs(targs, exact), abs=1e-12)
    known = np.random.default_rng(seed).random(targs.shape) < 0.8
    known[0, :2] = True
    # scikit-learn takes no row of one label: it needs one label if it is on, and orders no pair wrongly
    rows = [(t[k], p[k]) for t, p, k in zip(targs, exact, known, strict=True) if k.sum() > 1]
    alone = [t[k].item() for t, k in zip(targs, known, strict=True) if k.sum() == 1]
    each = [theirs([t], [p]) for t, p in rows]
    each += [{coverage_error: t, label_ranking_loss: 0}.get(ours, 1) for t in alone]
    partly = np.where(known, targs, np.nan)
    assert ours(probs, partly, ignore_nan=True) == pytest.approx(np.mean(each), abs=1e-12)


ANSWERED = [
    *RANKINGS,
    accuracy_multi,
    metrics.hamming_loss,
    exact_match,
    fbeta_score,
    average_scores,
    per_label_report,
    multilabel_confusion_matrix,
    average_precision,
]
BY_LABEL = {average_precision, per_label_report, multilabel_confusion_matrix}
FRAMES = {
    'pandas': pd.DataFrame,
    'nullable': lambda x, columns: pd.DataFrame(x, columns=columns).astype('Float64'),
    'polars': lambda x, columns: pl.DataFrame(x, schema=list(columns), orient='row'),
}


@pytest.mark.parametrize('frame', FRAMES)
@pytest.mark.parametrize('metric', [*ANSWERED, mean_average_precision])
@settings(max_examples=10, deadline=None, derandomize=True)
@given(scored(unit), st.randoms(use_true_random=False), st.booleans())
def test_names_and_not_positions_decide(metric, frame, case, random, both):
    probs, targs = case
    names = [f'label {j}' for j in range(targs.shape[1])]
    other = random.sample(range(len(names)), len(names))
    table = FRAMES[frame](targs[:, other].astype(float), columns=[names[j] for j in other])
    plain, options = no_warning(metric, probs, targs), {} if both else {'vocab': names}
    given = FRAMES[frame](probs, columns=names) if both else probs
    found = no_warning(metric, given, table, **options)
    if metric in BY_LABEL - {average_precision}:
        assert list(found.index) == names
        np.testing.assert_array_equal(found, plain)
    else:
        np.testing.assert_array_equal(np.asarray(found), np.asarray(plain))
    with pytest.raises(ValueError, match="lack the column 'label 0'"):
        metric(pd.DataFrame(probs, columns=names), pd.DataFrame(targs, columns=[f'{name}x' for name in names]))


def test_names_in_baselines_thresholds_and_warnings():
    names = ['clear', 'haze', 'road']
    train = pd.DataFrame([[1, 0, 0], [1, 1, 0], [1, 1, 0]], columns=names)
    targs = pd.DataFrame([[0, 1, 1], [0, 1, 1]], columns=['road', 'clear', 'haze'])
    assert constant_prediction(train).tolist() == [True, True, False]
    assert constant_prediction(train, vocab=names[::-1]).tolist() == [False, True, True]
    assert constant_accuracy(train, targs) == 1 and constant_accuracy(train, targs.to_numpy()) == 1 / 3
    assert constant_accuracy(train.to_numpy(), targs, vocab=names) == 1
    probs = pd.DataFrame([[0.9, 0.3, 0.4]] * 2, columns=names)
    assert accuracy_multi(probs, targs) == 2 / 3 and accuracy_multi(probs, targs, {'haze': 0.2}) == 1
    assert score_report(probs, targs, train)['accuracy_multi'].tolist() == pytest.approx([2 / 3, 1 / 3, 1])
    with pytest.warns(UserWarning, match='no row carries road$'):
        mean_average_precision(probs, targs)
    with pytest.warns(UserWarning, match='no row carries: road$'):
        average_scores(probs, targs)


@pytest.mark.parametrize('metric', [*ANSWERED, mean_average_precision])
def test_unknown_answers_are_refused_unless_asked_for(metric):
    probs, partly = np.full((3, 2), 0.7), np.array([[1, 0], [0, np.nan], [1, 1]])
    with pytest.raises(ValueError, match='row 1, label 1; ignore_nan=True'):
        metric(probs, partly)
    with pytest.raises(ValueError, match='no known target'):
        metric(probs, np.full((3, 2), np.nan), ignore_nan=True)
    with pytest.raises(ValueError, match='only 0 and 1'):
        metric(probs, partly * 2, ignore_nan=True)
    with pytest.raises(ValueError, match='probs hold nan'):
        metric(partly, partly, ignore_nan=True)
    metric(probs, partly, ignore_nan=True)


@pytest.mark.parametrize('baseline', [all_negative_accuracy, constant_prediction])
def test_baselines_refuse_unknown_answers(baseline):
    with pytest.raises(ValueError, match='targs hold nan, first at row 0, label 0'):
        baseline([[np.nan], [1]])


def test_options_that_do_not_fit():
    probs, targs = np.full((2, 2), 0.7), np.eye(2)
    for beta in (0, -1, float('inf'), float('nan')):
        for metric in (fbeta_score, average_scores):
            with pytest.raises(ValueError, match='beta must be'):
                metric(probs, targs, beta=beta)
    with pytest.raises(ValueError, match='average must be one of micro, macro'):
        fbeta_score(probs, targs, average='none')
    for metric in (per_label_report, multilabel_confusion_matrix, average_scores):
        with pytest.raises(ValueError, match='vocab has 1 names for 2 columns'):
            metric(probs, targs, vocab=['clear'])
    for metric in (exact_match, fbeta_score, per_label_report, multilabel_confusion_matrix):
        with pytest.raises(ValueError, match='thresh must be one number or 2'):
            metric(probs, targs, thresh=torch.full((3,), 0.5))


def test_macro_means_say_what_they_count_as_zero():
    probs, targs = np.full((4, 3), 0.7), np.tile([1, 0, 0], (4, 1))
    for metric in (average_scores, lambda *a, **k: fbeta_score(*a, average='macro', **k)):
        with pytest.warns(UserWarning, match='counts as 0 what no row carries: road, water'):
            metric(probs, targs, vocab=['clear', 'road', 'water'])
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        fbeta_score(probs, targs)  # per image: nothing to say
        per_label_report(probs, targs)
        average_scores(probs, np.ones((4, 3)))


def test_thresholds_of_their_own_and_half_precision():
    probs, targs = torch.tensor([[0.3, 0.6], [0.4, 0.7]]), torch.tensor([[0, 1], [1, 1]])
    each = torch.tensor([0.35, 0.65])
    assert multilabel_confusion_matrix(probs, targs, thresh=each).to_numpy().tolist() == [[1, 0, 0, 1], [0, 0, 1, 1]]
    assert per_label_report(probs.bfloat16(), targs, thresh=each)['average_precision'].tolist() == [1, 1]
    assert average_precision(probs.half(), targs).tolist() == [1, 1]


def test_the_two_reports_of_the_benchmark_agree():
    file = Path(__file__).parents[1] / 'benchmarks' / 'metrics.py'
    spec = importlib.util.spec_from_file_location('benchmark_of_metrics', file)
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    seconds = benchmark.measure_time(20_000, rounds=1)  # asserts that they agree; its bounds are for the full size
    assert set(seconds) == {'ours', 'scikit-learn'} and all(0 < s < 60 for s in seconds.values())


@quick
@given(scored(), st.sampled_from([0.0, 0.2, 0.5, 1.0]))
def test_accuracy_is_one_minus_hamming(case, thresh):
    probs, targs = case
    expected = 1 - hamming_loss(targs, probs > np.float32(thresh))
    for container in (torch.tensor, np.asarray, pd.DataFrame):
        assert accuracy_multi(container(probs), container(targs), thresh) == pytest.approx(expected)


@quick
@given(scored())
def test_average_precision_is_scikit_learns(case):
    probs, targs = case
    ours = average_precision(probs, targs)
    present = targs.any(0)
    assert ours.shape == (targs.shape[1],) and np.array_equal(~np.isnan(ours), present)
    theirs = [average_precision_score(targs[:, j], probs[:, j]) for j in np.flatnonzero(present)]
    np.testing.assert_allclose(ours[present], theirs, atol=1e-12)
    mean = no_warning(mean_average_precision, probs, targs)
    assert mean == pytest.approx(np.mean(theirs)) if len(theirs) else np.isnan(mean)


@quick
@given(scored(), st.randoms(use_true_random=False))
def test_average_precision_does_not_depend_on_row_order(case, random):
    probs, targs = case
    rows = random.sample(range(len(probs)), len(probs))
    np.testing.assert_allclose(average_precision(probs, targs), average_precision(probs[rows], targs[rows]), atol=1e-12)


@quick
@given(scored(), st.integers(1, 20))
def test_report_is_the_sum_of_its_parts(case, n_train):
    probs, targs = case
    train = np.resize(targs, (n_train, targs.shape[1]))
    report = score_report(probs, targs, train)
    constant = train.mean(0) > 0.5
    assert constant_prediction(train).tolist() == constant.tolist()
    expected = [accuracy_multi(probs, targs), 1 - targs.mean(), (targs == constant).mean()]
    assert report['accuracy_multi'].tolist() == pytest.approx(expected)
    assert expected[1:] == pytest.approx([all_negative_accuracy(targs), constant_accuracy(train, targs)])
    flat = no_warning(mean_average_precision, np.zeros_like(probs), targs)
    assert report.loc['constant', 'mAP'] == pytest.approx(flat, nan_ok=True)
    assert report.loc['model', 'labels_judged'] == f'{targs.any(0).sum()} of {targs.shape[1]}'


@pytest.mark.parametrize('metric', [*ANSWERED, mean_average_precision])
@pytest.mark.parametrize(
    ('probs', 'targs', 'says'),
    [
        ([[1.5, 0.0]], [[1, 0]], 'look like logits'),
        ([[-1e-3, 0.0]], [[1, 0]], 'look like logits'),
        ([[float('inf'), 0.0]], [[1, 0]], 'look like logits'),
        ([[0.1, 0.2], [0.3, float('nan')]], [[1, 0], [0, 1]], 'row 1, label 1'),
        ([[0.5, 0.5]], [[1, 2]], 'only 0 and 1'),
        ([[0.5, 0.5]], [[0.5, 0.5]], 'only 0 and 1'),
        ([[0.5, 0.5]], [1, 0], r'targs must be \(N, C\)'),
        ([[0.5], [0.5]], [[1, 0]], 'same shape'),
        (np.zeros((0, 3)), np.zeros((0, 3)), 'at least one row'),
    ],
)
def test_metrics_refuse(metric, probs, targs, says):
    with pytest.raises(ValueError, match=says):
        metric(probs, targs)


def test_left_out_labels_are_named():
    probs, targs = np.full((4, 3), 0.5), np.tile([1, 0, 0], (4, 1))
    with pytest.warns(UserWarning, match='mean over 1 of 3 labels; no row carries road, water'):
        assert mean_average_precision(probs, targs, ['clear', 'road', 'water']) == 1
    with pytest.warns(UserWarning, match='mean over 0 of 3 labels'):
        assert np.isnan(mean_average_precision(probs, np.zeros((4, 3))))
    with pytest.raises(ValueError, match='vocab has 2 names'):
        mean_average_precision(probs, targs, ['clear', 'road'])


def test_baselines_refuse_tables_that_do_not_fit():
    with pytest.raises(ValueError, match='train_targs have 2 labels, targs have 3'):
        constant_accuracy(np.ones((4, 2)), np.ones((4, 3)))
    with pytest.raises(ValueError, match='train_targs must be'):
        score_report([[0.5]], [[1]], [1, 0])
    assert constant_prediction([[1], [0]]).tolist() == [False]  # exactly half is not more than half


def test_read_only_and_gradient_carrying_inputs():
    probs, targs = np.full((2, 2), 0.7), np.eye(2)
    probs.setflags(write=False)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert accuracy_multi(probs, targs) == 0.5
        assert average_precision(torch.tensor(probs, requires_grad=True), targs).tolist() == [0.5, 0.5]


def test_from_logits_survives_pickling_with_its_name():
    metric = FromLogits(accuracy_multi, 'at .2', thresh=0.2)
    again = pickle.loads(pickle.dumps(metric))
    logits, targs = torch.tensor([[-1.0, -2.0]]), torch.tensor([[1, 0]])
    assert again.__name__ == 'at .2' and again(logits, targs) == metric(logits, targs) == 1
    assert FromLogits(accuracy_multi).__name__ == 'accuracy_multi' and FromLogits(accuracy_multi)(logits, targs) == 0.5
