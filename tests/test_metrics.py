"""Losses and metrics on inputs no lesson shows: odd shapes, ties, empty columns, extreme logits, half precision, hostile tables."""

import doctest
import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import average_precision_score, hamming_loss

from multilabel_nb import losses, metrics
from multilabel_nb.losses import MultiLabelBCE, bce_with_logits
from multilabel_nb.metrics import (
    FromLogits,
    accuracy_multi,
    all_negative_accuracy,
    average_precision,
    constant_accuracy,
    constant_prediction,
    mean_average_precision,
    score_report,
)

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


@pytest.mark.parametrize('module', [losses, metrics])
def test_examples_in_docstrings(module):
    result = doctest.testmod(module)
    assert result.attempted >= 2 and result.failed == 0


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
    with pytest.raises(ValueError, match='thresh must be'):
        MultiLabelBCE(thresh)
    loss = MultiLabelBCE(0.3)
    with pytest.raises(ValueError, match='thresh must be'):
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
    assert ours.shape == (targs.shape[1],) and np.array_equal(~ours.isnan().numpy(), present)
    theirs = [average_precision_score(targs[:, j], probs[:, j]) for j in np.flatnonzero(present)]
    np.testing.assert_allclose(ours.numpy()[present], theirs, atol=1e-12)
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


@pytest.mark.parametrize('metric', [accuracy_multi, average_precision, mean_average_precision])
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
    with pytest.raises(ValueError, match='vocab has 2 labels'):
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
