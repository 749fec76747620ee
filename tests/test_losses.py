"""Losses on inputs no lesson shows: random settings against other code, extremes, unknown answers, hostile weights, what they call."""

import copy
import inspect
import math
import pickle

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.loss import AsymmetricLossMultiLabel
from torchvision.ops import sigmoid_focal_loss

from multilabel_nb import losses
from multilabel_nb.losses import (
    MultiLabelAsymmetric,
    MultiLabelBCE,
    MultiLabelFocal,
    MultiLabelLoss,
    bce_with_logits,
)

quick = settings(max_examples=40, deadline=None, derandomize=True)
seeds, gammas = st.integers(0, 2**31), st.sampled_from([0.0, 0.5, 1.0, 2.0, 4.0])
LOSSES = [MultiLabelBCE, MultiLabelFocal, MultiLabelAsymmetric]
each_loss = pytest.mark.parametrize('make', LOSSES)
ODD = [
    {'make': MultiLabelBCE, 'pos_weight': 7.0},
    {'make': MultiLabelFocal, 'gamma': 0.1, 'alpha': None},
    {'make': MultiLabelFocal, 'gamma': 5.0},
    {'make': MultiLabelAsymmetric, 'gamma_neg': 0.1, 'gamma_pos': 0.1},
    {'make': MultiLabelAsymmetric, 'gamma_neg': 0.0, 'gamma_pos': 0.0},
    {'make': MultiLabelAsymmetric, 'margin': 0.0},
    {'make': MultiLabelAsymmetric, 'margin': 1e-12},
    {'make': MultiLabelAsymmetric, 'margin': 0.99, 'gamma_neg': 100.0},
]


def built(settings):
    return settings['make'](reduction='none', **{k: v for k, v in settings.items() if k != 'make'})


def case(seed, shape=(16, 5), scale=2.0, dtype=torch.float64):
    gen = torch.Generator().manual_seed(seed)
    logits = (torch.randn(shape, generator=gen, dtype=dtype) * scale).requires_grad_()
    return logits, (torch.rand(shape, generator=gen) < 0.3).to(dtype), torch.rand(shape[1], generator=gen, dtype=dtype) * 3


def slope(loss, logits):
    return torch.autograd.grad(loss.sum(), logits)[0]


# ---- equal to others


@quick
@given(seeds, st.sampled_from(['mean', 'sum', 'none']), st.booleans())
def test_weighted_bce_is_torchs(seed, reduction, soft):
    logits, targs, weight = case(seed, scale=20)
    targs = targs * 0.8 + 0.1 if soft else targs
    both = {'reduction': reduction, 'pos_weight': weight, 'weight': weight.flip(0)}
    ours, theirs = bce_with_logits(logits, targs, **both), F.binary_cross_entropy_with_logits(logits, targs, **both)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(slope(ours, logits), slope(theirs, logits))
    torch.testing.assert_close(MultiLabelBCE(**both)(logits, targs), ours)


@quick
@given(seeds, gammas, st.sampled_from([None, 0.0, 0.25, 1.0]))
def test_focal_is_torchvisions(seed, gamma, alpha):
    logits, targs, _ = case(seed)
    ours, theirs = (
        MultiLabelFocal(gamma, alpha)(logits, targs),
        sigmoid_focal_loss(logits, targs, -1 if alpha is None else alpha, gamma, 'mean'),
    )
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(slope(ours, logits), slope(theirs, logits))


@quick
@given(seeds, gammas, gammas, st.sampled_from([0.0, 0.05, 0.3]))
def test_asymmetric_is_timms(seed, gamma_neg, gamma_pos, margin):
    logits, targs, weight = case(seed, dtype=torch.float32)
    ours = MultiLabelAsymmetric(gamma_neg, gamma_pos, margin, weight=weight)(logits, targs)
    theirs = AsymmetricLossMultiLabel(gamma_neg, gamma_pos, margin, reduction='mean', weight=weight)(logits, targs)
    assert abs(ours - theirs) < 2e-6
    theirs_slope = slope(theirs, logits)
    fine = theirs_slope.isfinite()  # autograd's power below 1 is nan where a no is dropped
    assert fine.all() or 0.5 in (gamma_neg, gamma_pos)
    assert (slope(ours, logits) - theirs_slope)[fine].abs().max() < 1e-6


# ---- gradients


@pytest.mark.parametrize('settings', ODD, ids=str)
def test_gradients_are_those_of_the_loss(settings):
    logits, targs, _ = case(0, (6, 3), 3.0)
    logits = torch.cat([logits.detach(), torch.zeros(1, 3)]).requires_grad_()
    targs = torch.cat([targs, torch.rand(1, 3, generator=torch.Generator().manual_seed(0))])
    assert torch.autograd.gradcheck(lambda z: built(settings)(z, targs), logits)


@pytest.mark.parametrize('settings', [{'make': make} for make in LOSSES] + ODD, ids=str)
@pytest.mark.parametrize(
    ('dtype', 'size'), [(torch.float64, 1e4), (torch.float32, 1e4), (torch.float32, 1e30), (torch.bfloat16, 3e4), (torch.float16, 6e4)]
)
def test_finite_everywhere(settings, dtype, size):
    middle = torch.arange(-120, 121) / 1.0
    logits = torch.cat([middle, torch.tensor([size, -size])])[None].to(dtype).requires_grad_()
    for targ in (0.0, 0.5, 1.0):
        loss = built(settings)(logits, torch.full_like(logits, targ))
        assert loss.isfinite().all() and (loss >= 0).all()
        assert slope(loss, logits).isfinite().all()


@pytest.mark.parametrize('settings', [{'make': make} for make in LOSSES] + ODD[:6], ids=str)
def test_single_precision_is_close_to_double(settings):
    logits, targs, _ = case(1, (200, 20), 3.0)
    single = logits.detach().float().requires_grad_()
    exact, rounded = built(settings)(single.double(), targs), built(settings)(single, targs)
    torch.testing.assert_close(rounded.double(), exact, atol=1e-6, rtol=3e-6)
    torch.testing.assert_close(slope(rounded, single), slope(exact, single), atol=2e-6, rtol=1e-6)


@each_loss
def test_second_derivatives_are_right_too(make):
    logits, targs, _ = case(0, (6, 3))
    assert torch.autograd.gradgradcheck(lambda z: make(weight=2)(z, targs), logits)


def test_targets_that_want_a_gradient_are_refused():
    logits, targs, _ = case(0)
    with pytest.raises(ValueError, match='detach'):
        MultiLabelBCE()(logits, targs.requires_grad_())


# ---- unknown answers


@each_loss
@quick
@given(seeds, st.sampled_from(['mean', 'sum', 'none']))
def test_unknown_answers_take_no_part(make, seed, reduction):
    logits, targs, weight = case(seed)
    unknown = torch.rand(targs.shape, generator=torch.Generator().manual_seed(seed)) < 0.4
    unknown[0, 0] = False
    loss = make(reduction=reduction, weight=weight, ignore_nan=True)(logits, targs.masked_fill(unknown, math.nan))
    each = make(reduction='none', weight=weight)(logits, targs)
    kept = {'mean': each[~unknown].mean(), 'sum': each[~unknown].sum(), 'none': each.masked_fill(unknown, 0)}[reduction]
    torch.testing.assert_close(loss, kept)
    torch.testing.assert_close(slope(loss, logits), slope(kept, logits))
    assert (slope(make(reduction=reduction, ignore_nan=True)(logits, targs.masked_fill(unknown, math.nan)), logits)[unknown] == 0).all()


@each_loss
def test_unknown_answers_are_an_error_unless_asked_for(make):
    logits, targs, _ = case(0)
    targs[3, 2] = math.nan
    with pytest.raises(ValueError, match='targs hold nan, first at row 3, label 2; ignore_nan=True'):
        make()(logits, targs)
    targs[4, 1] = -1.0  # a wrong answer stays one, beside an unknown one
    with pytest.raises(ValueError, match='got -1 at row 4, label 1'):
        make(ignore_nan=True)(logits, targs)


@each_loss
@pytest.mark.parametrize('reduction', ['mean', 'sum', 'none'])
@pytest.mark.parametrize('dtype', [torch.float16, torch.float32, torch.float64])
def test_a_batch_in_which_nothing_is_known_costs_nothing(make, reduction, dtype):
    logits, targs, weight = case(0, scale=50)
    logits = logits.detach().to(dtype).requires_grad_()
    loss = make(reduction=reduction, weight=weight, ignore_nan=True)(logits, torch.full_like(targs, math.nan))
    assert (loss == 0).all() and loss.shape == (targs.shape if reduction == 'none' else ())
    grad = slope(loss, logits)
    assert grad.dtype == dtype and (grad == 0).all()
    layer = torch.nn.Linear(5, 5)  # a step of training changes nothing, and spoils nothing
    make(ignore_nan=True)(layer(torch.ones(16, 5)), torch.full_like(targs, math.nan)).backward()
    assert (layer.weight.grad == 0).all() and (layer.bias.grad == 0).all()


@each_loss
@pytest.mark.parametrize('dtype', [torch.bool, torch.uint8, torch.int64, torch.float16, torch.bfloat16, torch.float64])
def test_targets_of_any_type(make, dtype):
    logits, targs, _ = case(0, dtype=torch.float32)
    for ignore_nan in (False, True):
        assert torch.equal(make(ignore_nan=ignore_nan)(logits, targs.to(dtype)), make()(logits, targs))


# ---- settings


@pytest.mark.parametrize(
    ('make', 'wrong', 'says'),
    [
        (MultiLabelFocal, {'gamma': -0.1}, 'gamma must be'),
        (MultiLabelFocal, {'gamma': math.nan}, 'gamma must be'),
        (MultiLabelFocal, {'alpha': -1}, 'alpha must lie'),
        (MultiLabelAsymmetric, {'gamma_neg': -1}, 'gamma_neg must be'),
        (MultiLabelAsymmetric, {'gamma_pos': math.inf}, 'gamma_pos must be'),
        (MultiLabelAsymmetric, {'margin': 1}, 'margin must lie'),
        (MultiLabelAsymmetric, {'margin': math.nan}, 'margin must lie'),
        (MultiLabelBCE, {'pos_weight': torch.tensor([1.0, math.inf])}, 'pos_weight must be finite'),
        (MultiLabelBCE, {'pos_weight': torch.ones(2, 2)}, 'pos_weight must be one number'),
        *[(make, {'weight': torch.tensor([1.0, -1.0])}, 'weight must be finite') for make in LOSSES],
        *[(make, {'reduction': 'batchmean'}, 'reduction must be one of') for make in LOSSES],
        *[(make, {'thresh': 1.5}, 'thresh must lie') for make in LOSSES],
    ],
)
def test_settings_are_refused(make, wrong, says):
    with pytest.raises(ValueError, match=says):
        make(**wrong)


@pytest.mark.parametrize('name', ['weight', 'pos_weight'])
@pytest.mark.parametrize('length', [1, 4])
def test_weights_of_another_number_of_labels(name, length):
    logits, targs, _ = case(0)
    with pytest.raises(ValueError, match=f'{name} must be one number or 5'):
        bce_with_logits(logits, targs, **{name: torch.ones(length)})
    with pytest.raises(ValueError, match=f'{name} must be one number or 5'):
        MultiLabelBCE(**{name: torch.ones(length)})(logits, targs)


@each_loss
def test_an_object_is_its_own_and_travels(make):
    weight = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
    loss = make(thresh=0.3, weight=weight, reduction='sum')
    logits, targs, _ = case(0)
    before = loss(logits, targs)
    weight.zero_()  # the caller's tensor is not shared
    for again in (loss, pickle.loads(pickle.dumps(loss)), copy.deepcopy(loss)):
        assert again(logits, targs) == before and again.thresh == 0.3 and repr(again) == repr(loss)
    assert not list(loss.parameters()) and not loss.state_dict()
    assert loss.to(torch.float16).weight.dtype == torch.float16 and 'weight' in dict(loss.named_buffers())  # moves with the module
    loss.reduction = 'median'
    with pytest.raises(ValueError, match='reduction must be one of'):
        loss(logits, targs)


def test_a_loss_without_a_formula_says_so():
    logits, targs, _ = case(0)
    with pytest.raises(NotImplementedError, match='MultiLabelLoss has no terms'):
        MultiLabelLoss()(logits, targs)


def test_a_loss_of_ones_own_needs_its_formula_only():
    class Squared(MultiLabelLoss):
        def terms(self, z, t):
            return (z.sigmoid() - t) ** 2

    logits, targs, _ = case(0)
    loss = Squared(thresh=0.2)
    torch.testing.assert_close(loss(logits, targs), F.mse_loss(logits.sigmoid(), targs))
    assert torch.autograd.gradcheck(lambda z: loss(z, targs), logits)
    assert torch.equal(loss.decodes(loss.activation(logits)), logits.sigmoid() > 0.2)


# ---- how


def called(loss):
    "Names of the operations that run, forward and backward."
    logits, targs, _ = case(0)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        torch.autograd.grad(loss(logits, targs), logits)
    return [event.name.removeprefix('aten::') for event in profile.events()]


OPERATION = {MultiLabelBCE: 'binary_cross_entropy', MultiLabelFocal: 'binary_cross_entropy', MultiLabelAsymmetric: 'log_sigmoid'}


@each_loss
def test_the_library_does_it(make, monkeypatch):
    "torch's function inside BCE, torchvision's inside focal loss, and no derivative of our own."
    assert any(OPERATION[make] in name for name in called(make()))
    assert 'autograd' not in inspect.getsource(losses)
    if make is MultiLabelFocal:
        monkeypatch.setattr('torchvision.ops.sigmoid_focal_loss', lambda z, t, alpha, gamma: z * alpha + gamma)
        logits, targs, _ = case(0)
        torch.testing.assert_close(make(2.0, 0.5)(logits, targs), (logits * 0.5 + 2).mean())


@each_loss
def test_targets_are_looked_at_once(make):
    "Validation must not cost: one pass over the targets, one number fetched."
    names = called(make())
    assert names.count('aminmax') == 1 and not {'ge', 'le', 'all', 'isnan', 'nonzero'} & set(names)
