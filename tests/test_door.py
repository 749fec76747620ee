"""One door: the same table in every form has the same answer, or the same error, from each function that takes one."""

import dataclasses
import inspect
import math
import re

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import multilabel_nb
from multilabel_nb.checks import above, check_pair, check_thresh

VOCAB = ['clear', 'haze', 'road']
TABLES = {'probs', 'targs', 'train_targs'}
# What a function needs besides, at the smallest.
OTHERS = {
    'logits': None,
    'n_boot': 20,
    'n_splits': 2,
    'min_positives': 1,
    'thresholds': [0.25, 0.5, 0.75],
    'rows': [0, 1],
    'n_resamples': 20,
    'floor': 0.3,  # low enough that something can be promised on a dozen rows
    'ceiling': 2.5,  # likewise
    'grid': [i / 16 for i in range(1, 16)],
    'shrink': 0,  # thresholds stay where each precision holds them exactly
}
# Functions that are tried elsewhere; a reason each.
APART = {
    'check_probs': 'the door itself',
    'check_targs': 'the door itself',
    'check_pair': 'the door itself',
    'check_logits': 'takes tensors alone',
    'above': 'the door itself',
    'result_gallery': 'draws pictures that it is given',
    'threshold_explorer': 'a page, compared in the browser',
    'apply_verdicts': 'needs names of labels; tests/test_review.py gives it every form',
    'bootstrap_interval': 'hands its tables to tune_thresholds, which is tried',
    'compare_decisions': 'takes decisions, tried in test_costs',
}


def takers():
    "Every public function that takes a table, with its parameters."
    for name in multilabel_nb.__all__:
        made = getattr(multilabel_nb, name)
        if inspect.isfunction(made) and name not in APART:
            parameters = inspect.signature(made).parameters
            if TABLES & set(parameters) and 'logits' not in parameters and not {'feats', 'points'} & set(parameters):
                yield name, made, parameters


TAKERS = {name: (made, parameters) for name, made, parameters in takers()}


def arguments(parameters, probs, targs, named):
    given_ = {'probs': probs, 'targs': targs, 'train_targs': targs, 'vocab': VOCAB if named else None}
    found = {}
    for name, parameter in parameters.items():
        if given_.get(name) is not None:
            found[name] = given_[name]
        elif name in OTHERS and parameter.kind != parameter.VAR_KEYWORD:
            found[name] = OTHERS[name]
        else:
            optional = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
            assert optional or parameter.default is not inspect.Parameter.empty, f'OTHERS lacks a value for {name}'
    return found


def plain(x):
    "Any result as nested lists of text and rounded numbers."
    if isinstance(x, (pd.DataFrame, pd.Series)):
        return [list(map(str, x.index)), plain(x.to_numpy().tolist())]
    if isinstance(x, torch.Tensor):
        return plain(x.detach().cpu().numpy())
    if isinstance(x, np.ndarray):
        return plain(x.tolist())
    if dataclasses.is_dataclass(x):
        return plain({f.name: getattr(x, f.name) for f in dataclasses.fields(x)})
    if isinstance(x, dict):
        return [[str(key), plain(value)] for key, value in x.items()]
    if inspect.isgenerator(x) or isinstance(x, (list, tuple)):
        return [plain(value) for value in x]
    if isinstance(x, (float, np.floating)):
        return 'nan' if math.isnan(x) else round(float(x), 4)
    return x.item() if isinstance(x, np.generic) else re.sub(r'0\.\d+', '', str(x)) if not isinstance(x, (int, bool)) else x


def strided(x):
    "The same numbers with gaps between them, rows from the last to the first in memory."
    wide = np.zeros((2 * len(x), 2 * x.shape[1]), x.dtype)
    view = wide[::-2, ::2]
    view[:] = x
    return view


PROBS = {
    'list': lambda x: x.tolist(),
    'float32': lambda x: x.astype(np.float32),
    'float16': lambda x: x.astype(np.float16),
    'columns first': np.asfortranarray,
    'strides': strided,
    'torch': torch.tensor,
    'torch, with gradient': lambda x: torch.tensor(x, requires_grad=True),
    'bfloat16': lambda x: torch.tensor(x).bfloat16(),
    'pandas': lambda x: pd.DataFrame(x),
    'pandas, nullable': lambda x: pd.DataFrame(x).astype('Float64'),
    'polars': lambda x: pl.DataFrame(x, schema=VOCAB),
    'names': lambda x: pd.DataFrame(x, columns=VOCAB),
}
TARGS = {
    'list': lambda x: x.tolist(),
    'bool': lambda x: x.astype(bool),
    'float': lambda x: x.astype(float),
    'strides': strided,
    'torch': torch.tensor,
    'torch, bool': lambda x: torch.tensor(x).bool(),
    'pandas': lambda x: pd.DataFrame(x),
    'pandas, nullable': lambda x: pd.DataFrame(x).astype('Int64'),
    'pandas, nullable bool': lambda x: pd.DataFrame(x).astype('boolean'),
    'polars': lambda x: pl.DataFrame(x.astype(float), schema=VOCAB),
    'names': lambda x: pd.DataFrame(x, columns=VOCAB),
}


def outcome(name, probs, targs, named=True):
    "The answer, or the words of the error."
    made, parameters = TAKERS[name]
    try:
        return plain(made(**arguments(parameters, probs, targs, named)))
    except ValueError as e:
        return f'ValueError: {e}'


@st.composite
def tables(draw):
    "Probabilities that each precision holds exactly, and targets with both kinds of each label."
    n = draw(st.integers(6, 14))
    probs = np.array(draw(st.lists(st.integers(0, 128), min_size=3 * n, max_size=3 * n))).reshape(n, 3) / 128
    targs = np.array(draw(st.lists(st.integers(0, 1), min_size=3 * n, max_size=3 * n))).reshape(n, 3)
    targs[:2], targs[2:4] = 0, 1
    return probs, targs


def test_functions_were_found():
    assert {'accuracy_multi', 'scores_at', 'sweep_thresholds', 'tune_thresholds', 'calibration_curve', 'decide'} <= set(TAKERS)


@pytest.mark.parametrize('name', TAKERS)
@settings(max_examples=4, deadline=None)
@given(tables(), st.data())
def test_the_same_table_in_every_form_has_the_same_answer(name, table, data):
    probs, targs = table
    expected = outcome(name, probs, targs)
    assert not str(expected).startswith('ValueError'), expected
    for form in data.draw(st.lists(st.sampled_from(list(PROBS)), min_size=4, max_size=4, unique=True)):
        other = data.draw(st.sampled_from(list(TARGS)))
        assert outcome(name, PROBS[form](probs), TARGS[other](targs)) == expected, (form, other)


@pytest.mark.parametrize('name', [name for name, (_, parameters) in TAKERS.items() if 'vocab' in parameters])
def test_named_columns_decide_and_not_their_place(name):
    rng = np.random.default_rng(0)
    probs, targs = rng.random((12, 3)), np.tile([[0, 1, 1], [1, 0, 1], [1, 1, 0]], (4, 1))
    order = [2, 0, 1]
    frames = [pd.DataFrame(x, columns=VOCAB).iloc[:, order] for x in (probs, targs)]
    assert outcome(name, *frames) == outcome(name, probs, targs)
    lacking = frames[0].rename(columns={'haze': 'fog'})
    told = outcome(name, lacking if 'probs' in TAKERS[name][1] else frames[0], frames[1].rename(columns={'haze': 'fog'}))
    assert "'haze'" in told or "'fog'" in told


WRONG = {
    'nan among probabilities': ('probs', float('nan'), 'probs hold nan, first at row 2, label'),
    'logits': ('probs', 3.5, 'these look like logits'),
    'a target that is neither': ('targs', 2, 'hold only 0 and 1'),
    'an unknown target': ('targs', float('nan'), 'ignore_nan=True'),
}


@pytest.mark.parametrize('wrong', WRONG)
@pytest.mark.parametrize('name', TAKERS)
def test_the_same_mistake_has_the_same_words_in_every_form(name, wrong):
    which, value, words = WRONG[wrong]
    if not {which, f'train_{which}'} & set(TAKERS[name][1]):
        pytest.skip(f'takes no {which}')
    probs, targs = np.full((8, 3), 0.5), np.tile([[0.0, 1, 1], [1, 0, 0]], (4, 1))
    (probs if which == 'probs' else targs)[2, 1] = value
    for form in ('list', 'float32', 'torch', 'pandas', 'names', 'polars'):
        told = outcome(name, PROBS[form](probs), PROBS[form](targs))
        assert isinstance(told, str) and words in told, (form, told)


@given(st.integers(0, 128), st.sampled_from(['f2', 'f4', 'f8']), st.floats(0, 1))
def test_a_decision_is_made_in_the_precision_of_the_probabilities(k, kind, thresh):
    probs = np.array([[k / 128]], kind)
    assert above(probs, thresh).item() == (probs.item() > float(np.dtype(kind).type(thresh)))


@given(st.floats(0, 1, width=32), st.floats(0, 1))
def test_bfloat16_is_decided_as_torch_decides(prob, thresh):
    probs = torch.tensor([[prob]]).bfloat16()
    assert above(probs, thresh).item() == (probs > torch.tensor(thresh, dtype=torch.float32).bfloat16()).item()


def test_rows_that_bear_different_names_are_refused():
    frame = pd.DataFrame([[0.1], [0.9]], columns=['haze'], index=['a', 'b'])
    targs = pd.DataFrame([[0], [1]], columns=['haze'], index=['b', 'a'])
    with pytest.raises(ValueError, match='rows of probs and targs'):
        check_pair(frame, targs)
    assert check_pair(frame, targs.to_numpy()).targs.tolist() == [[False], [True]]
    assert check_pair(frame, targs.loc[['a', 'b']]).targs.tolist() == [[True], [False]]


@pytest.mark.parametrize(
    'given_',
    [0.3, [0.3, 0.5, 0.2], np.array([0.3, 0.5, 0.2]), torch.tensor([0.3, 0.5, 0.2]), {'clear': 0.3, 'road': 0.2}],
)
def test_thresholds_in_every_form(given_):
    found = check_thresh(given_, VOCAB)
    assert np.allclose(np.broadcast_to(found, 3), 0.3 if found.ndim == 0 else [0.3, 0.5, 0.2])


def test_thresholds_by_name_as_a_series():
    assert check_thresh(pd.Series({'road': 0.2, 'clear': 0.3}), VOCAB).tolist() == [0.3, 0.5, 0.2]
    assert check_thresh(pd.Series([0.3, 0.5, 0.2]), VOCAB).tolist() == [0.3, 0.5, 0.2]
    assert check_thresh(pd.Series([0.3, 0.5, 0.2], index=[4, 5, 6]), 3).tolist() == [0.3, 0.5, 0.2]
    with pytest.raises(ValueError, match="'fog'"):
        check_thresh({'fog': 0.2}, VOCAB)
    with pytest.raises(ValueError, match='one per label, got shape'):
        check_thresh([0.2, 0.3], VOCAB)


def test_what_functions_share_has_one_default():
    """Unknown targets are an error unless one says so, long work shows its bar, nothing is replaced unasked."""
    shared = {'ignore_nan': False, 'progress': True, 'overwrite': False, 'download': False, 'vocab': None, 'ax': None}
    found = set()
    for name in multilabel_nb.__all__:
        made = getattr(multilabel_nb, name)
        parameters = inspect.signature(made).parameters.values() if inspect.isfunction(made) else ()
        defaults = {p.name: p.default for p in parameters if p.name in shared and p.default is not p.empty}
        assert defaults == {key: shared[key] for key in defaults}, name
        found |= set(defaults)
    assert found == set(shared)
