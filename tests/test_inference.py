"""What the lesson on inference cannot show: every precision, and every form in which probabilities come."""

import numpy as np
import pandas as pd
import pytest
import torch
from bundled import MEAN, STD, VOCAB, smooth
from torch import nn

from multilabel_nb.images import open_rgb
from multilabel_nb.inference import decide, predict_probs, preprocess


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
def test_a_network_of_any_precision_is_fed_in_it(dtype):
    torch.manual_seed(0)
    net = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 5))
    expected = predict_probs(net, [smooth(i) for i in range(3)], 16, MEAN, STD)
    found = predict_probs(net.to(dtype), [smooth(i) for i in range(3)], 16, MEAN, STD)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=0.02)


FORMS = {
    'list': lambda x: x.tolist(),
    'strided': lambda x: np.ascontiguousarray(x[::-1])[::-1],
    'tensor with gradient': lambda x: torch.tensor(x, requires_grad=True),
    'frame': lambda x: pd.DataFrame(x, columns=VOCAB),
    'frame in another order': lambda x: pd.DataFrame(x, columns=VOCAB)[VOCAB[::-1]],
    'nullable frame': lambda x: pd.DataFrame(x, columns=VOCAB).convert_dtypes(),
}


@pytest.mark.parametrize('form', FORMS)
def test_probabilities_in_every_form_say_the_same(form):
    probs = np.random.default_rng(0).random((20, 5))
    thresh = {'road': 0.2, 'water': 0.9}
    groups = [['clear', 'cloudy', 'haze']]
    for given in (thresh, pd.Series(thresh)):
        assert decide(FORMS[form](probs), VOCAB, given, groups) == decide(probs, VOCAB, thresh, groups)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32])
def test_equal_in_its_own_precision_is_off(dtype):
    probs = torch.tensor([[0.3, 0.5]], dtype=dtype)
    assert decide(probs, ['a', 'b'], 0.3) == [['b']]


@pytest.mark.parametrize('wrong', [dict(mean=(0.5, 0.5)), dict(std=(0.5, 0, 0.5)), dict(std=0.5)])
def test_preprocess_refuses_what_does_not_fit(wrong):
    with pytest.raises(ValueError, match='mean and std must be three numbers each'):
        preprocess(open_rgb(smooth()), 8, **{'mean': MEAN, 'std': STD, **wrong})
