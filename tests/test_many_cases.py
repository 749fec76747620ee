"""Thousands of tables, right and wrong: an answer, or an error that the docstring names (tables of labels: `test_readers.py`)."""

import math

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_door import TAKERS, arguments, plain

from multilabel_nb.splits import check_split, random_split, stratified_split

pytestmark = pytest.mark.slow

right = st.sampled_from([0.0, 0.25, 0.5, 0.5, 1.0])
odd = st.sampled_from([math.nan, math.inf, -0.1, 1 + 1e-7, 1.1, 3.5, 1e308, 5e-324])
wanted = st.sampled_from([0, 1, 1.0])
unwanted = st.sampled_from([math.nan, 2, -1, 0.5])


@st.composite
def pairs(draw):
    "Probabilities and targets; some of the wrong shape, some with a wrong value."
    n, c = draw(st.integers(0, 9)), 3
    probs = draw(st.lists(st.lists(right, min_size=c, max_size=c), min_size=n, max_size=n))
    targs = draw(st.lists(st.lists(wanted, min_size=c, max_size=c), min_size=n, max_size=n))
    for table, values in ((probs, odd), (targs, unwanted)):
        if n and draw(st.integers(0, 3)) == 0:
            table[draw(st.integers(0, n - 1))][draw(st.integers(0, c - 1))] = draw(values)
        if n and draw(st.integers(0, 9)) == 0:
            table.pop()
    return probs, targs


@pytest.mark.parametrize('ignore_nan', [False, True])
@pytest.mark.parametrize('name', TAKERS)
def test_an_answer_or_a_value_error(name, ignore_nan):
    made, parameters = TAKERS[name]
    if ignore_nan and 'ignore_nan' not in parameters:
        pytest.skip('has no ignore_nan')

    @settings(max_examples=60, deadline=None)
    @given(pairs())
    def holds(pair):
        known = arguments(parameters, *pair, named=True)
        try:
            assert plain(made(**known, **({'ignore_nan': True} if ignore_nan else {}))) is not None
        except ValueError as e:
            assert str(e)

    holds()


@settings(max_examples=1500, deadline=None)
@given(
    rows=st.lists(st.lists(st.sampled_from(['a', 'b', 'c d', 'é']), max_size=3, unique=True), max_size=14),
    pct=st.one_of(st.floats(-0.1, 1.1), st.sampled_from([math.nan, 0.5])),
    groups=st.one_of(st.none(), st.lists(st.sampled_from(['x', 'y', 'z', None]), max_size=14)),
    seed=st.integers(0, 9),
)
def test_a_split_is_whole_or_refused(rows, pct, groups, seed):
    df = pd.DataFrame({'image_name': range(len(rows)), 'labels': rows})
    for split in (lambda: random_split(len(df), pct, seed, groups), lambda: stratified_split(df, pct, seed, groups)):
        try:
            train, valid = split()
        except ValueError as e:
            assert str(e)
            continue
        assert sorted(train + valid) == list(range(len(df))) and train and valid
        report = check_split(df, (train, valid), groups=groups)
        assert not [p for p in report.problems if 'group' in p or ' row' in p]
