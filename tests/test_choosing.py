"""Choosing against brute force; rules and stored thresholds."""

import json
import warnings
from itertools import product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from test_thresholds import data, tables

from multilabel_nb import choosing
from multilabel_nb.checks import above
from multilabel_nb.choosing import tune_thresholds
from multilabel_nb.decisions import Thresholds, apply_label_rules
from multilabel_nb.expected_fbeta import decide_fbeta
from multilabel_nb.metrics import fbeta_score
from multilabel_nb.thresholds import scores_at
from multilabel_nb.uncertainty import bootstrap_interval


def logit(p):
    return np.log(p / (1 - p))


def best(probs, targs, value):
    "The best value over all distinct decisions of a label, or of all with one threshold."
    return max(value(probs > t) for t in [0, *np.unique(probs)])


@settings(max_examples=60, deadline=None)
@given(
    tables(),
    st.sampled_from(['f1', 'f0.5', 'accuracy', 'precision', 'recall', 'specificity']),
)
def test_chosen_thresholds_are_the_best_there_are(table, goal):
    probs, targs = table
    if len(probs) < 2:
        return
    beta = float(goal[1:]) if goal[1:2].isdigit() else 1

    def score(on, t, average):
        return scores_at(on.astype(float), t, 0.5, average, beta)[goal]

    tuned = tune_thresholds(probs, targs, goal, shrink=0, min_positives=0, folds=2)
    for j in range(probs.shape[1]):
        p, t = probs[:, [j]], targs[:, [j]]
        assert tuned.labels['tuned on'].iloc[j] == pytest.approx(best(p, t, lambda on, t=t: score(on, t, 'micro')), abs=1e-12)
    for average in ('micro', 'macro', 'samples'):
        one = tune_thresholds(probs, targs, goal, False, average, folds=2)
        assert one.tuned_on == pytest.approx(best(probs, targs, lambda on, a=average: score(on, targs, a)), abs=1e-12)
        assert 0 <= one.thresh <= 1


def test_the_mean_over_images_with_rules_constraint_and_cost_against_brute_force():
    probs, targs = data()
    targs[:, :2] = np.eye(2)[targs[:, 0].astype(int)]
    rules, shared = dict(exclusive=[['a', 'b']], vocab=list('abcde')), dict(per_label=False, average='samples')

    def f2(on, name='f2'):
        return scores_at(on.astype(float), targs, 0.5, 'samples', 2)[name]

    one = tune_thresholds(probs, targs, 'f2', **shared, **rules)
    ruled = apply_label_rules(probs, list('abcde'), [['a', 'b']])
    decisions = [np.hstack([ruled[:, :2] > 0.5, ruled[:, 2:] > t]) for t in [0, *np.unique(probs[:, 2:])]]
    assert one.tuned_on == pytest.approx(max(map(f2, decisions))) and f2(one.above(probs)) == pytest.approx(one.tuned_on)
    enough = tune_thresholds(probs, targs, 'precision', **shared, min_recall=0.8)
    decisions = [probs > t for t in [0, *np.unique(probs)]]
    assert enough.tuned_on == pytest.approx(max(f2(on, 'precision') for on in decisions if f2(on, 'recall') >= 0.8))
    cost = tune_thresholds(probs, targs, 'cost', **shared, fn_cost=3)
    assert cost.tuned_on == tune_thresholds(probs, targs, 'cost', False, 'micro', fn_cost=3).tuned_on
    assert cost.scores.at['tuned on', 'recall'] == pytest.approx(f2(cost.above(probs), 'recall'))


@settings(max_examples=150, deadline=None)
@given(tables(), st.sampled_from([0, 0.5, 1, 2, 3.5]), st.sampled_from([0, 1]))
def test_no_set_of_labels_has_a_higher_expected_fbeta(table, beta, zero_division):
    probs = table[0]
    subsets = np.array(list(product([0, 1], repeat=probs.shape[1])))
    hits, size = subsets @ subsets.T, subsets.sum(1)
    whole = size[:, None] + beta**2 * size  # a row a decision, a column a possible target
    f = np.where(size[:, None] | size, (1 + beta**2) * hits / np.where(whole, whole, 1), zero_division)
    on = decide_fbeta(probs, beta, zero_division=zero_division)
    for p, row in zip(probs.astype(float), on, strict=True):
        means = f @ np.where(subsets, p, 1 - p).prod(1)
        assert means[(subsets == row).all(1)].item() == pytest.approx(means.max(), abs=1e-9)


def test_a_decision_for_expected_fbeta_does_not_depend_on_how_rows_are_cut():
    rng = np.random.default_rng(0)
    probs = rng.random((1100, 64)) ** 4 * rng.random((1100, 1))  # two parts of 1024 rows at most
    on = decide_fbeta(probs)
    assert all((decide_fbeta(probs[rows]) == on[rows]).all() for rows in ([0], slice(1020, 1028), [-1])) and on.any(1).all()
    # the more probable labels are on, and more of them the more recall weighs
    assert all(row[~o].max(initial=0) <= row[o].min() for row, o in zip(probs, on, strict=True))
    assert decide_fbeta(probs, 0.5).sum() < decide_fbeta(probs, 1).sum() < on.sum()
    assert not decide_fbeta(np.full((1, 3), 0.1), zero_division=1).any() and decide_fbeta(np.full((1, 3), 0.1)).any()
    targs = np.random.default_rng(1).random(probs.shape) < probs
    assert fbeta_score(on, targs) > max(fbeta_score(probs, targs, t) for t in np.linspace(0, 1, 21))


def test_cost_count_and_constraint_against_brute_force():
    probs, targs = data()

    def cost(on):
        return (np.array([3, 1, 1, 1, 9]) * (targs > on) + 2 * (on > targs)).sum() / len(probs)

    chosen = tune_thresholds(probs, targs, 'cost', fn_cost=[3, 1, 1, 1, 9], fp_cost=2, shrink=0)
    assert chosen.tuned_on == pytest.approx(cost(chosen.above(probs))) and chosen.optimism > 0
    one = tune_thresholds(probs, targs, 'cost', False, fn_cost=[3, 1, 1, 1, 9], fp_cost=2)
    assert one.tuned_on == pytest.approx(-best(probs, targs, lambda on: -cost(on)))
    assert chosen.tuned_on <= one.tuned_on
    count = tune_thresholds(probs, targs, 'count', False, 'micro')
    assert count.above(probs).sum() == targs.sum()
    nine = tune_thresholds(probs, targs, 'precision', min_recall=0.9)
    recall = scores_at(probs, targs, nine.thresh, 'none')['recall']
    assert (recall >= 0.9).all() and (nine.labels.thresh <= nine.labels.own).all()
    raw = tune_thresholds(probs, targs, 'precision', min_recall=0.9, shrink=0)
    for j in range(5):
        on = [probs[:, j] > t for t in np.unique(probs[:, j])]
        kept = [(o & (targs[:, j] == 1)).sum() / max(o.sum(), 1) for o in on if (o & (targs[:, j] == 1)).sum() >= 0.9 * targs[:, j].sum()]
        assert raw.labels['tuned on'].iloc[j] == pytest.approx(max(kept))
    unreachable = tune_thresholds(
        [[0.0], [0.0], [0.9], [0.1]],
        [[1], [1], [1], [0]],
        'precision',
        False,
        min_recall=1,
        folds=2,
    )
    assert unreachable.scores.recall['tuned on'] == pytest.approx(1 / 3)


def test_a_fold_has_no_say_in_its_own_decisions():
    probs, targs = data(100)
    before = tune_thresholds(probs, targs, seed=3)
    fold = np.random.default_rng(3).permutation(np.arange(100) % 5)
    for k in range(5):
        flipped = np.where((fold == k)[:, None], 1 - targs, targs)
        after = tune_thresholds(probs, flipped, seed=3)
        assert (after.on[fold == k] == before.on[fold == k]).all() and (after.on != before.on).any()
    assert before.cross_fitted == pytest.approx(scores_at(before.on.astype(float), targs, average='macro')['f1'])


def test_labels_with_few_positives_fall_back_and_others_are_drawn_in():
    probs, targs = data()
    targs[:, 0] = np.arange(400) < 4
    tuned = tune_thresholds(probs, targs, vocab=list('abcde'))
    shared = tune_thresholds(probs, targs, per_label=False).thresh
    assert tuned.labels.fallback.tolist() == [
        True,
        False,
        False,
        False,
        False,
    ] and 'a (4)' in str(tuned)
    assert tuned.labels.thresh['a'] == pytest.approx(shared) and np.isnan(tuned.labels.own['a'])
    weight = tuned.labels.support / (tuned.labels.support + 50)
    drawn = weight * logit(tuned.labels.own) + (1 - weight) * logit(shared)
    np.testing.assert_allclose(logit(tuned.labels.thresh)[1:], drawn[1:], rtol=1e-6)


def test_the_same_seed_gives_the_same_answer_and_leaves_the_generator_alone():
    probs, targs = data()
    np.random.seed(0)
    state = np.random.get_state()[1].copy()
    first, second = (bootstrap_interval(probs, targs, n_boot=5, boot_seed=1) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        pd.testing.assert_frame_equal(a, b)
    assert (np.random.get_state()[1] == state).all()
    assert (first[0].low <= first[0].high).all() and not first[1].equals(bootstrap_interval(probs, targs, n_boot=5, boot_seed=2)[1])


def test_many_candidates_are_thinned_for_a_shared_threshold_alone(monkeypatch):
    probs, targs = data(3000, 2)
    exact = tune_thresholds(probs, targs, per_label=False)
    monkeypatch.setattr(choosing._candidates, '__defaults__', (500,))
    assert len(choosing._candidates(probs)) == 500 and choosing._candidates(probs)[0] == 0
    assert abs(tune_thresholds(probs, targs, per_label=False).tuned_on - exact.tuned_on) < 0.005


@pytest.mark.parametrize('goal', ['f1.0', 'f02', 'f', 'f0'])
def test_a_goal_is_spelt_in_one_way(goal):
    with pytest.raises(ValueError, match='goal must be one of'):
        tune_thresholds([[0.1], [0.9]], [[0], [1]], goal, folds=2)


# ---- rules on whole pictures


@settings(max_examples=100, deadline=None)
@given(
    hnp.arrays(np.float32, (6, 5), elements=st.sampled_from([0, 0.25, 0.5, 0.75, 1])),
    st.integers(2, 5),
    st.floats(0, 1),
)
def test_rules_hold_whatever_the_probabilities(probs, at_most, thresh):
    rules = [['a', 'c'], ['d', 'e']], at_most
    on = Thresholds(list('abcde'), thresh, *rules).above(probs)
    assert (on[:, [0, 2]].sum(1) == 1).all() and (on[:, 3:].sum(1) == 1).all() and (on.sum(1) <= at_most).all()
    assert (on[:, 0] == (probs[:, 0] >= probs[:, 2])).all()
    if at_most > 2:
        assert (on[:, 1] == (probs[:, 1] > np.float32(thresh))).all()
    capped = above(apply_label_rules(probs, at_most=2), thresh)
    assert (capped.sum(1) == np.minimum((probs > np.float32(thresh)).sum(1), 2)).all()
    for row, kept in zip(probs, capped, strict=True):
        assert not kept.any() or kept.all() or row[kept].min() >= np.where(row > np.float32(thresh), row, 0)[~kept].max()


# ---- stored

GOOD = {'version': 1, 'vocab': ['clear', 'haze'], 'thresh': [0.5, 0.25]}


@pytest.mark.parametrize(
    ('changes', 'said'),
    [
        ({'version': 2}, 'version 1'),
        ({'vocab': ['clear', 'clear']}, "'clear' twice"),
        ({'vocab': ['clear']}, 'one number or 1'),
        ({'vocab': 'clear'}, 'list of names, not str'),
        ({'vocab': []}, 'at least one row and one label'),
        ({'vocab': ['clear', 3]}, 'must hold text, got 3'),
        ({'thresh': [0.5]}, 'one number or 2'),
        ({'thresh': [0.5, 1.5]}, r'lie in \[0, 1\], got \[0.5, 1.5\]'),
        ({'thresh': [0.5, float('nan')]}, r'lie in \[0, 1\], got \[0.5, nan\]'),
        ({'thresh': [0.5, '0.5']}, 'thresh must be a table of numbers'),
        ({'thresh': {'clear': 0.5}}, "lacks the label 'haze'"),
        ({'thresh': [0.5, True]}, 'must be numbers in'),
        ({'exclusive': [['clear', 'fog']]}, "'fog'"),
        ({'exclusive': ['clear']}, 'two labels or more'),
        ({'exclusive': [3]}, 'thresholds.json'),
        ({'exclusive': 'clear'}, 'two labels or more'),
        ({'at_most': 0}, 'at_most'),
        ({'at_most': 1.5}, 'at_most'),
        ({'at_most': True}, 'at_most'),
        ({'at_least': True}, 'at_least'),
        ({'at_least': 3}, 'at_least'),
        ({'at_least': None}, 'at_least'),
        ({'at_most_one': [['clear', 'fog']]}, "'fog'"),
        ({'at_most_one': [['clear', 'haze']], 'exclusive': [['haze', 'clear']]}, 'twice'),
        ({'settings': []}, 'dictionaries'),
        ({'logits': True}, "unknown \\['logits'\\]"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_by_name(tmp_path, changes, said):
    file = tmp_path / 'thresholds.json'
    file.write_text(json.dumps(GOOD | changes))
    with pytest.raises(ValueError, match=said) as e:
        Thresholds.load(file)
    assert str(file) in str(e.value)


@pytest.mark.parametrize('text', [b'', b'[1]', b'{"version": 1}', b'\xff\xfe\x00', b'[' * 100_000, b'null'])
def test_a_file_that_is_none_is_refused_by_name(tmp_path, text):
    file = tmp_path / 'thresholds.json'
    file.write_bytes(text)
    with pytest.raises(ValueError, match='thresholds.json'):
        Thresholds.load(file)


def test_stored_thresholds_decide_as_the_choice_did_to_the_last_bit(tmp_path):
    probs, targs = data()
    for settings_ in (
        {},
        {'per_label': False},
        {'exclusive': [['a', 'b', 'é']], 'at_most': 2},
    ):
        tuned = tune_thresholds(probs, targs, vocab=['a', 'b', 'é', 'd', 'e'], **settings_)
        tuned.stored().save(tmp_path / 'thresholds.json')
        stored = Thresholds.load(tmp_path / 'thresholds.json')
        assert stored == tuned.stored() and (stored.above(probs) == tuned.above(probs)).all()
        assert stored.scores['f1'] == tuned.cross_fitted and stored.settings['goal'] == 'f1'
        on = tuned.above(probs[:1])[0]
        assert stored.decide(probs[:1]) == [[stored.vocab[j] for j in np.flatnonzero(on)]]


def test_thresholds_of_numpy_can_be_stored(tmp_path):
    stored = Thresholds(
        ['a', 'b'],
        list(np.float32([0.1, 0.5])),
        settings={'folds': np.int64(5)},
        scores={'f1': np.float32(0.25)},
    )
    stored.save(tmp_path / 'thresholds.json')
    assert Thresholds.load(tmp_path / 'thresholds.json') == stored


def test_targets_that_break_a_rule_are_said():
    """A row without any label of the group, one with two; rows in which one of them is unknown say nothing."""
    targs = np.tile([[1.0, 0, 1], [0, 1, 0]], (6, 1))
    probs = np.random.default_rng(0).random(targs.shape)
    names = ['clear', 'haze', 'road']
    rules = {'vocab': names, 'exclusive': [['clear', 'haze']], 'ignore_nan': True}
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        tune_thresholds(probs, targs, **rules)
        tune_thresholds(probs, np.where([[True, False, False]], np.nan, targs), **rules)
    targs[3, 1], targs[4, 1] = 0, 1
    with pytest.warns(UserWarning, match=r"2 rows of targs \(the first: row 3\) do not have exactly one of \['clear', 'haze'\]"):
        tune_thresholds(probs, targs, **rules)


def test_the_precision_of_the_probabilities_decides_no_tie():
    probs = np.array([[31, 56, 4], [127, 79, 65], [39, 21, 97], [22, 128, 8], [73, 17, 103], [81, 69, 8]]) / 128
    targs = [[0, 0, 0], [0, 0, 0], [1, 1, 1], [1, 1, 1], [1, 0, 0], [0, 1, 0]]
    double, single = (tune_thresholds(probs.astype(kind), targs, min_positives=1) for kind in (float, np.float32))
    assert (double.on == single.on).all()
