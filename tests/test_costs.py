"""Costs, comparisons and rules between labels against brute force."""

import itertools
import json

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from multilabel_nb.bundle import save_bundle
from multilabel_nb.calibration import cost_threshold, fit_calibration
from multilabel_nb.checks import above
from multilabel_nb.choosing import tune_thresholds
from multilabel_nb.costs import decision_cost
from multilabel_nb.decisions import Calibration, Thresholds, apply_label_rules, broken_rules
from multilabel_nb.predictor import Predictor
from multilabel_nb.thresholds import scores_at
from multilabel_nb.uncertainty import compare_decisions

EIGHTHS = st.integers(0, 8).map(lambda k: k / 8)
VOCAB = list('abcde')


@st.composite
def rules_of_five(draw):
    "Rules that fit each other, for five labels."
    labels = draw(st.permutations(VOCAB))
    sizes = draw(st.sampled_from([(), (2,), (3,), (2, 2), (2, 3)]))
    ends = np.cumsum([0, *sizes])
    groups = [labels[i:j] for i, j in itertools.pairwise(ends)]
    n_exclusive = draw(st.integers(0, len(groups)))
    at_most = draw(st.none() | st.integers(max(1, n_exclusive), 5))
    most = min(5 - sum(sizes) + len(sizes), at_most or 5)
    at_least = draw(st.integers(0, most))
    if at_most is None and draw(st.booleans()):
        return draw(implications(labels, groups, n_exclusive))
    return {'exclusive': groups[:n_exclusive], 'at_most_one': groups[n_exclusive:], 'at_most': at_most, 'at_least': at_least}


@st.composite
def implications(draw, labels, groups, n_exclusive):
    "A tree over the labels that stand in no group, with the leaves or the root first; a group may hang on it."
    free = labels[sum(map(len, groups)) :]
    pairs = [[b, free[draw(st.integers(0, i))]] for i, b in enumerate(free[1:])]
    if pairs and draw(st.booleans()):
        pairs = [pair[::-1] for pair in pairs]
    elif free and len(groups) > n_exclusive and draw(st.booleans()):
        pairs += [[label, free[0]] for label in groups[-1]]
    rules = {'exclusive': groups[:n_exclusive], 'at_most_one': groups[n_exclusive:]}
    return rules | {'at_most': None, 'at_least': 0, 'implies': pairs}


def keeps(on, rules):
    "Does one row of decisions keep the rules, by their words?"
    count = [[sum(on[VOCAB.index(x)] for x in group) for group in rules[kind]] for kind in ('exclusive', 'at_most_one')]
    few = rules['at_least'] <= sum(on) <= (rules['at_most'] or 5)
    implied = all(on[VOCAB.index(b)] or not on[VOCAB.index(a)] for a, b in rules.get('implies', ()))
    return implied and few and all(n == 1 for n in count[0]) and all(n <= 1 for n in count[1])


EVERY = np.array(list(itertools.product([False, True], repeat=5)))


@settings(max_examples=200, deadline=None)
@given(hnp.arrays(np.float64, (4, 5), elements=EIGHTHS), rules_of_five(), EIGHTHS)
def test_decisions_under_rules_are_the_best_of_all_that_keep_them(probs, rules, thresh):
    """Among all 32 decisions that keep the rules, none has more probability above the threshold in sum."""
    on = Thresholds(VOCAB, thresh, **rules).above(probs)
    allowed = EVERY[[keeps(row, rules) for row in EVERY]]
    sums = (probs - thresh) @ allowed.T
    best = sums.max(1)
    assert all(keeps(row, rules) for row in on)
    assert ((probs - thresh) * on).sum(1) == pytest.approx(best, abs=1e-12)
    # means of labels that imply each other may differ in their last digit where two decisions are as good
    one_best = (sums > best[:, None] - 1e-9).sum(1) == 1 if rules.get('implies') else np.full(4, True)
    if thresh < 1:
        assert (above(apply_label_rules(probs, VOCAB, **rules), thresh) == on)[one_best].all()
    targs = np.eye(4, 5)
    assert scores_at(probs, targs, thresh, rules=rules, vocab=VOCAB) == scores_at(on, targs)


@settings(max_examples=50, deadline=None)
@given(hnp.arrays(np.float32, (4, 5), elements=EIGHTHS), rules_of_five(), st.lists(EIGHTHS, min_size=5, max_size=5))
def test_rules_hold_with_a_threshold_for_each_label_and_by_column(probs, rules, thresh):
    stored = Thresholds(VOCAB, thresh, **rules)
    on = stored.above(probs)
    assert all(keeps(row, rules) for row in on)
    kinds = {'exclusive', 'at_most_one', 'implies'} & rules.keys()
    numbers = {kind: [[VOCAB.index(x) for x in group] for group in rules[kind]] for kind in kinds}
    by_column = Thresholds(VOCAB, thresh, **(rules | numbers))
    assert by_column.rules == stored.rules and Thresholds.from_json(by_column.to_json()) == stored


@settings(max_examples=200, deadline=None)
@given(
    hnp.arrays(np.float64, (6, 5), elements=EIGHTHS),
    st.sampled_from([['abcde'], ['ab', 'cb', 'de'], ['abc', 'adc', 'ec'], ['ab', 'ac', 'de'], ['ba', 'cb', 'db']]),
    st.lists(EIGHTHS, min_size=5, max_size=5),
)
def test_labels_that_imply_others_are_weighed_with_them(probs, chains, thresh):
    """Each against its own threshold: no other decision that keeps the chains has more probability above them in sum."""
    if chains == ['abc', 'adc', 'ec']:
        with pytest.raises(ValueError, match='implies joins labels that imply several'):
            Thresholds(VOCAB, thresh, implies=chains and [list(x) for x in chains])
        return
    chains = [list(chain) for chain in chains]
    pairs = [[a, b] for chain in chains for a, b in itertools.pairwise(chain)]
    stored = Thresholds(VOCAB, thresh, implies=chains)
    assert (
        stored.implies == pairs
        and Thresholds(VOCAB, thresh, implies=[*pairs, *pairs]).above(probs).tolist() == stored.above(probs).tolist()
    )
    on, rules = stored.above(probs), {'exclusive': [], 'at_most_one': [], 'at_most': None, 'at_least': 0, 'implies': pairs}
    allowed = EVERY[[keeps(row, rules) for row in EVERY]]
    assert all(keeps(row, rules) for row in on)
    assert ((probs - thresh) * on).sum(1) == pytest.approx(((probs - thresh) @ allowed.T).max(1), abs=1e-12)


@settings(max_examples=100, deadline=None)
@given(hnp.arrays(np.float64, (4, 5), elements=st.sampled_from([0, 1, np.nan])), rules_of_five())
def test_targets_break_a_rule_if_no_answer_to_the_unknown_keeps_it(targs, rules):
    if np.isnan(targs).all():
        return
    free = {'exclusive': [], 'at_most_one': [], 'at_most': None, 'at_least': 0}
    alone = [{'exclusive': [g]} for g in rules['exclusive']] + [{'at_most_one': [g]} for g in rules['at_most_one']]
    alone += [{kind: rules[kind]} for kind in ('at_least', 'at_most') if rules[kind]]
    alone += [{'implies': [pair]} for pair in rules.get('implies', ())]
    found = broken_rules(targs, **rules, vocab=VOCAB, ignore_nan=True)
    assert len(found) == len(alone)
    for said, rule in zip(found, alone, strict=True):
        may = [[keeps(full, free | rule) for full in EVERY if (np.isnan(row) | (full == row)).all()] for row in targs]
        broken = [not any(row) for row in may]
        assert said['rule'] in rule and said['broken'] == sum(broken) and said['share'] == sum(broken) / 4
        assert said['first'] == (broken.index(True) if any(broken) else None)


@settings(max_examples=40, deadline=None)
@given(
    hnp.arrays(np.float32, (8, 5), elements=EIGHTHS),
    hnp.arrays(bool, (8, 5)),
    rules_of_five(),
    st.sampled_from(['f1', 'cost', 'recall', 'precision']),
    st.booleans(),
)
@pytest.mark.filterwarnings('ignore:.*rows of targs')
def test_what_is_tuned_under_rules_is_what_is_decided(probs, targs, rules, goal, per_label):
    how = {'vocab': VOCAB, 'folds': 2, 'min_positives': 0, 'shrink': 0, 'per_label': per_label, 'average': 'macro'}
    tuned = tune_thresholds(probs, targs, goal, **how, **rules)
    on = tuned.above(probs)
    assert all(keeps(row, rules) for row in [*on, *tuned.on])
    scores = tuned.scores.loc['tuned on']
    assert scores.f1 == pytest.approx(scores_at(on, targs, average='macro')['f1'])


# ---- costs


@settings(max_examples=50, deadline=None)
@given(
    hnp.arrays(np.float64, (6, 3), elements=EIGHTHS),
    hnp.arrays(np.float64, (6, 3), elements=st.sampled_from([0, 1, np.nan])),
    hnp.arrays(np.float64, (2, 3), elements=st.integers(0, 9)),
    EIGHTHS,
)
def test_cost_decision_by_decision(probs, targs, costs, thresh):
    if np.isnan(targs).all():
        return
    expected = np.zeros(3)
    for j in range(3):
        rows = [i for i in range(6) if not np.isnan(targs[i, j])]
        for i in rows:
            on = probs[i, j] > thresh
            expected[j] += (costs[0, j] * (not on) if targs[i, j] else costs[1, j] * on) / len(rows)
    cost = decision_cost(probs, targs, thresh, *costs, ignore_nan=True)
    assert cost.to_numpy() == pytest.approx(expected)
    assert decision_cost(probs > thresh, targs, 0.5, *costs, ignore_nan=True).equals(cost)
    compared = compare_decisions(probs > thresh, np.zeros_like(probs), targs, 'macro', 1, *costs, 2, ignore_nan=True)
    assert compared.a['cost'] == pytest.approx(expected.sum())


def test_cost_is_that_of_tuning():
    rng = np.random.default_rng(0)
    targs = rng.random((200, 3)) < 0.3
    probs = 1 / (1 + np.exp(-(2 * targs - 1 + rng.standard_normal(targs.shape))))
    tuned = tune_thresholds(probs, targs, 'cost', fn_cost=[5, 2, 1])
    assert decision_cost(tuned.on, targs, fn_cost=[5, 2, 1]).sum() == pytest.approx(tuned.cross_fitted)
    assert decision_cost(probs, targs, tuned.thresh, [5, 2, 1]).sum() == pytest.approx(tuned.tuned_on)


# ---- comparisons


@pytest.mark.parametrize('average', ['micro', 'macro', 'samples'])
def test_a_comparison_has_the_scores_of_each(average):
    rng = np.random.default_rng(0)
    targs, a, b = rng.random((3, 40, 4)) < 0.5
    found = compare_decisions(a, b, targs, average, 2, n_boot=2)
    for name, on in {'a': a, 'b': b}.items():
        wanted = scores_at(on.astype(float), targs, 0.5, average, 2)
        assert found[name].drop('cost').to_dict() == pytest.approx(wanted)


def test_columns_by_name_and_rows_are_aligned_or_refused():
    rng = np.random.default_rng(0)
    a, b, targs = (pd.DataFrame(rng.integers(0, 2, (20, 3)), columns=VOCAB[:3]) for _ in range(3))
    dear = {'fn_cost': {'a': 5, 'b': 1, 'c': 2}, 'n_boot': 20}
    found = compare_decisions(a, b, targs, **dear)
    turned = compare_decisions(a[['c', 'a', 'b']], b[['b', 'a', 'c']], targs, **dear)
    pd.testing.assert_frame_equal(found, turned)
    plain = compare_decisions(a.to_numpy(), b.to_numpy().tolist(), targs.to_numpy(bool), vocab=VOCAB[:3], **dear)
    pd.testing.assert_frame_equal(found, plain)
    for wrong, said in (
        ((a, b[:10], targs), 'same shape'),
        ((a, b.rename(columns={'a': 'x'}), targs), "'a'"),
        ((a * 0.5, b, targs), 'a must hold only 0 and 1'),
        ((a, b, targs.where(targs.cumsum() < 3)), 'ignore_nan=True'),
        ((a, b.set_axis(list('abcdefghijklmnopqrst')), targs.set_axis(list('bacdefghijklmnopqrst'))), 'different names'),
    ):
        with pytest.raises(ValueError, match=said):
            compare_decisions(*wrong)


def world(rng, n):
    "Decisions at 1/6 and at .5 about rows of three labels, the last one rare."
    targs = rng.random((n, 3)) < [0.5, 0.2, 0.05]
    probs = 1 / (1 + np.exp(-(3 * targs - 2 + rng.standard_normal(targs.shape))))
    return probs > 1 / 6, probs > 0.5, targs


@pytest.mark.slow
def test_the_interval_of_a_difference_holds_the_truth_as_often_as_it_says():
    names = ['cost', 'f1', 'recall']
    rng = np.random.default_rng(0)
    truth = compare_decisions(*world(rng, 500_000), fn_cost=5, n_boot=2).loc[names, 'a - b']
    inside = pd.Series(0, names)
    for _ in range(500):
        found = compare_decisions(*world(rng, 300), fn_cost=5, n_boot=400).loc[names]
        inside += (found.low <= truth) & (truth <= found.high)
    print(inside / 500)
    assert (inside / 500).between(0.93, 0.97).all()


# ---- calibrated


def test_calibration_is_stored_with_its_thresholds_and_carried_by_a_bundle(tmp_path):
    """What is stored decides about raw probabilities as the bundle does that carries both."""
    rng = np.random.default_rng(0)
    targs = rng.random((200, 3)) < 0.4
    logits = (4 * targs - 1 + 3 * rng.standard_normal(targs.shape)).astype(np.float32)
    probs = 1 / (1 + np.exp(-logits))
    rules = {'at_most_one': [['a', 'c']], 'vocab': VOCAB[:3]}
    with pytest.warns(UserWarning, match='at most one of'):
        tuned = tune_thresholds(probs, targs, 'cost', fn_cost=[5, 2, 1], calibrate='platt', **rules)
    stored = tuned.stored()
    stored.save(tmp_path / 'thresholds.json')
    again = Thresholds.load(tmp_path / 'thresholds.json')
    assert again == stored and (again.above(probs) == tuned.above(probs)).all()
    found = fit_calibration(probs, targs)
    by_hand = Thresholds(VOCAB[:3], cost_threshold([5, 2, 1]), at_most_one=[['a', 'c']])
    assert (by_hand.above(found(probs)) == again.above(probs)).all()
    frame = pd.DataFrame(probs, columns=VOCAB[:3])
    assert (again.above(frame[['c', 'a', 'b']]) == again.above(probs)).all()
    net = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    free = Thresholds(again.vocab, again.thresh, calibration=again.calibration)
    half, calibration = (0.5,) * 3, Calibration(**again.calibration)
    bundle = save_bundle(tmp_path / 'b', net, VOCAB[:3], 8, half, half, free.thresh, calibration=calibration, onnx=False)
    for colour in ('red', 'yellow', 'white', 'black', 'grey'):
        said = Predictor(bundle, model=net).predict(Image.new('RGB', (8, 8), colour)).labels
        pixel = np.array(Image.new('RGB', (1, 1), colour)).reshape(1, 3) / 255
        assert [said] == free.decide(1 / (1 + np.exp(-(2 * pixel - 1))))


@pytest.mark.parametrize(
    'wrong',
    [
        {'scale': [1, 1]},
        {'scale': [1, 0], 'shift': [0, 0]},
        {'scale': [1], 'shift': [0]},
        {'scale': [1, 1], 'shift': [0, float('nan')]},
        'platt',
        3,
    ],
)
def test_a_stored_calibration_that_does_not_fit_is_refused(wrong):
    text = json.dumps({'version': 1, 'vocab': ['a', 'b'], 'thresh': 0.5, 'calibration': wrong})
    with pytest.raises(ValueError, match='thresholds.json'):
        Thresholds.from_json(text, 'thresholds.json')
