"""The exact sweep against scikit-learn at every threshold, choosing against brute force, and what must be refused."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn import metrics as skm
from sklearn.linear_model import LogisticRegression

from multilabel_nb import thresholds
from multilabel_nb.thresholds import (
    StreamingSweep,
    Thresholds,
    bootstrap,
    calibration_error,
    choose,
    count_above,
    decide,
    fit_calibration,
    keep_top,
    reliability,
    scores_at,
    sweep,
    sweep_bands,
)

TIES = [0.0, -0.0, 1e-45, 0.1, 0.25, 0.5, np.nextafter(np.float32(0.5), np.float32(1)).item(), 0.75, 1.0]


@st.composite
def tables(draw, dtypes=(np.float16, np.float32, np.float64)):
    "Probabilities full of ties, columns that are constant, labels with one positive or none."
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


def by_sklearn(on, targs, beta):
    "Columns of decisions `(N, K)` and their answers: scikit-learn's scores of each column, and the counts, `(7, K)`."
    k = on.shape[1]
    if k == 1:  # which scikit-learn would take for something else
        on, targs = np.hstack([on, on]), np.hstack([targs, targs])
    precision, recall, f, true = skm.precision_recall_fscore_support(targs, on, beta=beta, average=None, zero_division=0)
    (off, false_alarms), (misses, hits) = skm.multilabel_confusion_matrix(targs, on).transpose(1, 2, 0)
    specificity = off / np.maximum(off + false_alarms, 1)
    return np.stack([(hits + off) / len(on), precision, recall, f, specificity, hits + false_alarms, true])[:, :k]


@settings(max_examples=300, deadline=None)
@given(tables(), st.sampled_from([0.5, 1, 2]))
def test_every_number_of_the_exact_sweep_is_what_sklearn_says(table, beta):
    probs, targs = table
    n, n_labels = probs.shape

    micro = sweep(probs, targs, beta=beta)
    at = micro.index.to_numpy().astype(probs.dtype)
    expected = by_sklearn(probs.reshape(-1, 1) > at, np.repeat(targs.reshape(-1, 1), len(at), 1), beta)
    np.testing.assert_allclose(micro.to_numpy().T, expected, atol=1e-12)

    macro = sweep(probs, targs, average='macro', beta=beta)
    np.testing.assert_array_equal(macro.index, micro.index)
    cube = probs[:, :, None] > at
    scores = by_sklearn(cube.reshape(n, -1), np.repeat(targs, len(at), 1), beta).reshape(7, n_labels, -1)
    np.testing.assert_allclose(macro.to_numpy().T, np.concatenate([scores[:5].mean(1), scores[5:].sum(1)]), atol=1e-12)

    for j, label in sweep(probs, targs, average='none', beta=beta).groupby(level='label'):
        own = label.droplevel('label')
        k = np.searchsorted(at, own.index.to_numpy().astype(probs.dtype))
        assert set(own.index) == {0, *probs[:, j].astype(float) + 0.0}
        np.testing.assert_allclose(own.to_numpy().T, scores[:, j, k], atol=1e-12)


@settings(max_examples=100, deadline=None)
@given(tables(), st.floats(0, 1))
def test_no_threshold_decides_otherwise_than_a_row(table, thresh):
    probs, targs = table
    thresh = float(probs.dtype.type(thresh))
    exact = sweep(probs, targs)
    row = exact[exact.index <= thresh].iloc[-1]
    assert row.to_dict() == pytest.approx(scores_at(probs, targs, thresh))
    pd.testing.assert_series_equal(sweep(probs, targs, [thresh]).iloc[0], row, check_names=False)


@settings(max_examples=100, deadline=None)
@given(tables(), st.sampled_from([1, 2, 16, 1024]), st.sampled_from(['micro', 'macro', 'none']))
def test_streaming_is_the_sweep_at_the_edges_however_it_is_cut(table, n_bins, average):
    probs, targs = table
    whole = StreamingSweep(probs.shape[1], n_bins).update(probs, targs, rows=3)
    cut = len(probs) // 2
    parts = [
        StreamingSweep(probs.shape[1], n_bins).update(probs[rows], targs[rows])
        for rows in (slice(cut), slice(cut, None))
        if len(probs[rows])
    ]
    assert (sum(parts[1:], parts[0]).counts == whole.counts).all() and whole.counts.sum() == probs.size
    pd.testing.assert_frame_equal(whole.sweep(average, 2), sweep(probs, targs, np.arange(n_bins + 1) / n_bins, average, 2))


@given(tables(), st.data())
def test_nan_is_refused_wherever_it_stands(table, data):
    probs, targs = table
    i, j = data.draw(st.integers(0, len(probs) - 1)), data.draw(st.integers(0, probs.shape[1] - 1))
    probs[i, j] = np.nan
    for call in (sweep, choose, lambda p, t: StreamingSweep(p.shape[1]).update(p, t), reliability, fit_calibration):
        with pytest.raises(ValueError, match=f'nan, first at row {i}, label {j}'):
            call(probs, targs)
    with pytest.raises(ValueError, match='0 or 1'):
        sweep(np.zeros(probs.shape), np.where(np.isnan(probs), np.nan, 0))


def logit(p):
    return np.log(p / (1 - p))


def data(n=400, n_labels=5, seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    probs = rng.random((n, n_labels)).astype(dtype)
    return probs, (rng.random(probs.shape) < probs * rng.uniform(0.1, 1, n_labels)).astype(np.float32)


def test_takes_tensors_frames_and_every_precision():
    probs, targs = data()
    expected = sweep(probs, targs)
    pd.testing.assert_frame_equal(sweep(torch.tensor(probs, requires_grad=True), torch.tensor(targs).bool()), expected)
    pd.testing.assert_frame_equal(sweep(pd.DataFrame(probs), pd.DataFrame(targs)), expected)
    pd.testing.assert_frame_equal(sweep(probs.T.copy().T, targs.astype(bool)), expected)
    half = torch.tensor(probs).bfloat16()
    assert len(sweep(half, targs)) == len(half.unique()) + (half.min() > 0)
    close = np.array([[0.5], [np.nextafter(0.5, 1)], [np.nextafter(0.5, 0)]])
    assert len(sweep(close, [[1], [0], [1]])) == 4 and len(sweep(close.astype(np.float32), [[1], [0], [1]])) == 2
    assert sweep([[0, 1]], [[0, 1]]).index.tolist() == [0, 1]


def test_thresholds_may_be_a_number_or_a_list_in_any_order():
    probs, targs = data()
    assert sweep(probs, targs, 5).index.tolist() == [0, 0.25, 0.5, 0.75, 1]
    pd.testing.assert_frame_equal(
        sweep(probs, targs, [0.7, 0.2, 0.7]).iloc[[1, 2]], sweep(probs, targs, torch.tensor([0.2, 0.7], dtype=torch.float64))
    )
    assert sweep(probs, targs, [0.5], 'none', vocab=list('abcde')).index.tolist() == [(label, 0.5) for label in 'abcde']


@pytest.mark.parametrize(
    ('call', 'said'),
    [
        (lambda p, t: sweep(p * 2, t), 'logits'),
        (lambda p, t: sweep(p - 1, t), 'logits'),
        (lambda p, t: sweep(p, t * 2), '0 or 1'),
        (lambda p, t: sweep(p, t[:3]), 'same shape'),
        (lambda p, t: sweep(p[:, 0], t[:, 0]), r'\(N, C\)'),
        (lambda p, t: sweep(p[:0], t[:0]), 'at least one row'),
        (lambda p, t: sweep(p, t, average='weighted'), 'average'),
        (lambda p, t: sweep(p, t, [0.5, 1.5]), r'lie in \[0, 1\]'),
        (lambda p, t: sweep(p, t, []), 'at least one threshold'),
        (lambda p, t: sweep(p, t, max_rows=9), 'max_rows=9'),
        (lambda p, t: sweep(p, t, average='none', max_rows=999), 'max_rows=999'),
        (lambda p, t: sweep(p, t, average='none', vocab=['a', 'b']), 'vocab'),
        (lambda p, t: sweep(p, t, average='none', vocab=list('abcda')), 'vocab'),
        (lambda p, t: scores_at(p, t, [0.5] * 4), 'one number or 5'),
        (lambda p, t: scores_at(p, t, np.nan), r'lie in \[0, 1\]'),
        (lambda p, t: StreamingSweep(5, 100), 'power of two'),
        (lambda p, t: StreamingSweep(4).update(p, t), '5 labels'),
        (lambda p, t: StreamingSweep(5).sweep(), 'nothing was counted'),
        (lambda p, t: StreamingSweep(5) + StreamingSweep(5, 8), 'merged'),
        (lambda p, t: choose(p, t, 'f'), 'goal'),
        (lambda p, t: choose(p, t, 'f0'), 'goal'),
        (lambda p, t: choose(p, t, average='none'), 'average'),
        (lambda p, t: choose(p, t, folds=1), 'folds'),
        (lambda p, t: choose(p[:3], t[:3]), 'folds'),
        (lambda p, t: choose(p, t, 'cost', cost=(-1, 1)), 'negative'),
        (lambda p, t: choose(p, t, min_recall=1.1), 'min_recall'),
        (lambda p, t: keep_top(p, list('abcde'), [['a', 'x']]), "'x'"),
        (lambda p, t: keep_top(p, list('abcde'), [['a', 'b'], ['b', 'c']]), "'b'"),
        (lambda p, t: keep_top(p, list('abcde'), ['ab']), 'at least two'),
        (lambda p, t: keep_top(p, list('abcde'), [['a', 'b'], ['c', 'd']], at_most=1), '2 exclusive groups'),
        (lambda p, t: bootstrap(p, t, n_boot=1), 'n_boot'),
        (lambda p, t: sweep_bands(p, t, None), 'bands'),
        (lambda p, t: reliability(p, t, 0), 'n_bins'),
        (lambda p, t: fit_calibration(p, t, 'isotonic'), 'method'),
        (lambda p, t: thresholds.cost_threshold(0, 1), 'above 0'),
    ],
)
def test_what_makes_no_sense_is_refused(call, said):
    with pytest.raises(ValueError, match=said):
        call(*data())


# ---- choosing


def best(probs, targs, value):
    "The best value over every distinct decision of one label, or of all with one threshold."
    return max(value(probs > t) for t in [0, *np.unique(probs)])


@settings(max_examples=60, deadline=None)
@given(tables(), st.sampled_from(['f1', 'f0.5', 'accuracy', 'precision', 'recall', 'specificity']))
def test_chosen_thresholds_are_the_best_there_are(table, goal):
    probs, targs = table
    if len(probs) < 2:
        return
    beta = float(goal[1:]) if goal[1:2].isdigit() else 1

    def score(on, t, average):
        return scores_at(on.astype(float), t, 0.5, average, beta)[goal]

    choice = choose(probs, targs, goal, shrink=0, min_positives=0, folds=2)
    for j in range(probs.shape[1]):
        p, t = probs[:, [j]], targs[:, [j]]
        assert choice.labels['chosen on'].iloc[j] == pytest.approx(best(p, t, lambda on, t=t: score(on, t, 'micro')), abs=1e-12)
    for average in ('micro', 'macro'):
        one = choose(probs, targs, goal, False, average, folds=2)
        assert one.chosen_on == pytest.approx(best(probs, targs, lambda on, a=average: score(on, targs, a)), abs=1e-12)
        assert 0 <= one.thresh <= 1


def test_cost_count_and_constraint_against_brute_force():
    probs, targs = data()

    def cost(on):
        return (np.array([3, 1, 1, 1, 9]) * (targs > on) + 2 * (on > targs)).sum() / len(probs)

    chosen = choose(probs, targs, 'cost', cost=([3, 1, 1, 1, 9], 2), shrink=0)
    assert chosen.chosen_on == pytest.approx(cost(chosen.decide(probs))) and chosen.optimism > 0
    one = choose(probs, targs, 'cost', False, cost=([3, 1, 1, 1, 9], 2))
    assert one.chosen_on == pytest.approx(-best(probs, targs, lambda on: -cost(on)))
    assert chosen.chosen_on <= one.chosen_on
    count = choose(probs, targs, 'count', False, 'micro')
    assert count.decide(probs).sum() == targs.sum()
    nine = choose(probs, targs, 'precision', min_recall=0.9)
    recall = scores_at(probs, targs, nine.thresh, 'none')['recall']
    assert (recall >= 0.9).all() and (nine.labels.thresh <= nine.labels.own).all()
    raw = choose(probs, targs, 'precision', min_recall=0.9, shrink=0)
    for j in range(5):
        on = [probs[:, j] > t for t in np.unique(probs[:, j])]
        kept = [(o & (targs[:, j] == 1)).sum() / max(o.sum(), 1) for o in on if (o & (targs[:, j] == 1)).sum() >= 0.9 * targs[:, j].sum()]
        assert raw.labels['chosen on'].iloc[j] == pytest.approx(max(kept))
    unreachable = choose([[0.0], [0.0], [0.9], [0.1]], [[1], [1], [1], [0]], 'precision', False, min_recall=1, folds=2)
    assert unreachable.scores.recall['chosen on'] == pytest.approx(1 / 3)


def test_a_fold_has_no_say_in_its_own_decisions():
    probs, targs = data(100)
    before = choose(probs, targs, seed=3)
    fold = np.random.default_rng(3).permutation(np.arange(100) % 5)
    for k in range(5):
        flipped = np.where((fold == k)[:, None], 1 - targs, targs)
        after = choose(probs, flipped, seed=3)
        assert (after.on[fold == k] == before.on[fold == k]).all() and (after.on != before.on).any()
    assert before.cross_fitted == pytest.approx(scores_at(before.on.astype(float), targs, average='macro')['f1'])


def test_labels_with_few_positives_fall_back_and_others_are_drawn_in():
    probs, targs = data()
    targs[:, 0] = np.arange(400) < 4
    choice = choose(probs, targs, vocab=list('abcde'))
    shared = choose(probs, targs, per_label=False).thresh
    assert choice.labels.fallback.tolist() == [True, False, False, False, False] and 'a (4)' in str(choice)
    assert choice.labels.thresh['a'] == pytest.approx(shared) and np.isnan(choice.labels.own['a'])
    weight = choice.labels.support / (choice.labels.support + 50)
    drawn = weight * logit(choice.labels.own) + (1 - weight) * logit(shared)
    np.testing.assert_allclose(logit(choice.labels.thresh)[1:], drawn[1:], rtol=1e-6)


def test_the_same_seed_gives_the_same_answer_and_leaves_the_generator_alone():
    probs, targs = data()
    np.random.seed(0)
    state = np.random.get_state()[1].copy()
    first, second = (bootstrap(probs, targs, n_boot=5, boot_seed=1) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        pd.testing.assert_frame_equal(a, b)
    assert (np.random.get_state()[1] == state).all()
    assert (first[0].low <= first[0].high).all() and not first[1].equals(bootstrap(probs, targs, n_boot=5, boot_seed=2)[1])


def test_many_candidates_are_thinned_for_a_shared_threshold_alone(monkeypatch):
    probs, targs = data(3000, 2)
    exact = choose(probs, targs, per_label=False)
    monkeypatch.setattr(thresholds._candidates, '__defaults__', (500,))
    assert len(thresholds._candidates(probs)) == 500 and thresholds._candidates(probs)[0] == 0
    assert abs(choose(probs, targs, per_label=False).chosen_on - exact.chosen_on) < 0.005


# ---- rules on whole pictures


@settings(max_examples=100, deadline=None)
@given(hnp.arrays(np.float32, (6, 5), elements=st.sampled_from([0, 0.25, 0.5, 0.75, 1])), st.integers(2, 5), st.floats(0, 1))
def test_rules_hold_whatever_the_probabilities(probs, at_most, thresh):
    on = decide(probs, thresh, list('abcde'), [['a', 'c'], ['d', 'e']], at_most)
    assert (on[:, [0, 2]].sum(1) == 1).all() and (on[:, 3:].sum(1) == 1).all() and (on.sum(1) <= at_most).all()
    assert (on[:, 0] == (probs[:, 0] >= probs[:, 2])).all()
    if at_most > 2:
        assert (on[:, 1] == (probs[:, 1] > np.float32(thresh))).all()
    capped = decide(probs, thresh, at_most=2)
    assert (capped.sum(1) == np.minimum((probs > np.float32(thresh)).sum(1), 2)).all()
    for row, kept in zip(probs, capped, strict=True):
        assert not kept.any() or kept.all() or row[kept].min() >= np.where(row > np.float32(thresh), row, 0)[~kept].max()


# ---- calibration


def test_platt_is_a_logistic_regression_on_the_logits_with_smoothed_answers():
    probs, targs = data(300, 3, dtype=np.float64)
    fitted = fit_calibration(probs, targs)
    logits = np.log(probs / (1 - probs))
    for j in range(3):
        yes, no = targs[:, j].sum(), (1 - targs[:, j]).sum()
        soft = np.where(targs[:, j] == 1, (yes + 1) / (yes + 2), 1 / (no + 2))
        model = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000)
        model.fit(np.concatenate([logits[:, [j]]] * 2), np.repeat([1, 0], 300), sample_weight=np.concatenate([soft, 1 - soft]))
        assert [fitted.scale[j], fitted.shift[j]] == pytest.approx([model.coef_[0, 0], model.intercept_[0]], abs=1e-4)


def test_calibration_holds_where_labels_are_separated_rare_or_certain():
    probs = np.repeat(np.array([[0.0], [0.2], [0.8], [1.0]], np.float32), 20, 0)
    separated = fit_calibration(probs, probs > 0.5)
    assert np.isfinite(separated.scale).all() and (np.diff(separated([[0.1], [0.3], [0.6]])[:, 0]) > 0).all()
    pair, answers = np.hstack([probs, probs]), np.hstack([probs > 0.5, np.arange(80)[:, None] < 3])
    few, temperature = (fit_calibration(pair, answers, method) for method in ('platt', 'temperature'))
    assert few.shift[1] == 0 and few.scale[1] == temperature.scale[1] == temperature.scale[0] != few.scale[0]
    upside_down = fit_calibration(probs, probs < 0.5)
    assert (upside_down.scale > 0).all()
    assert separated(probs).dtype == np.float32


def test_calibration_error_by_the_definition():
    probs, targs = data(dtype=np.float64)
    p, t = probs.ravel(), targs.ravel()
    bins = [(p >= k / 10) & (p < (k + 1) / 10) for k in range(10)]
    assert calibration_error(probs, targs) == pytest.approx(sum(abs(p[b].mean() - t[b].mean()) * b.mean() for b in bins))
    assert calibration_error([[1.0], [0.0]], [[1], [0]]) == 0


# ---- memory


def test_counting_and_choosing_stay_within_three_times_the_input():
    import tracemalloc

    probs, targs = data(60_000, 8)
    size = probs.nbytes + targs.nbytes
    for call in (
        lambda: [None for _ in count_above(probs, targs)],
        lambda: choose(probs, targs),
        lambda: choose(probs, targs, per_label=False),
    ):
        tracemalloc.start()
        call()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 3 * size


# ---- stored

GOOD = {'version': 1, 'vocab': ['clear', 'haze'], 'thresh': [0.5, 0.25]}


@pytest.mark.parametrize(
    ('changes', 'said'),
    [
        ({'version': 2}, 'version 1'),
        ({'vocab': ['clear', 'clear']}, "'clear' twice"),
        ({'vocab': ['clear']}, 'list of 1 numbers'),
        ({'vocab': 'clear'}, 'list of names'),
        ({'vocab': []}, 'list of names'),
        ({'vocab': ['clear', 3]}, 'list of names'),
        ({'thresh': [0.5]}, 'list of 2 numbers'),
        ({'thresh': [0.5, 1.5]}, "'haze' must be a number in"),
        ({'thresh': [0.5, float('nan')]}, "'haze' must be a number in"),
        ({'thresh': [0.5, '0.5']}, "'haze' must be a number in"),
        ({'thresh': [0.5, True]}, "'haze' must be a number in"),
        ({'exclusive': [['clear', 'fog']]}, "'fog'"),
        ({'exclusive': ['clear']}, 'at least two labels'),
        ({'exclusive': [3]}, 'thresholds.json'),
        ({'exclusive': 'clear'}, 'list of groups'),
        ({'at_most': 0}, 'at_most'),
        ({'at_most': 1.5}, 'at_most'),
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
    for settings_ in ({}, {'per_label': False}, {'exclusive': [['a', 'b', 'é']], 'at_most': 2}):
        choice = choose(probs, targs, vocab=['a', 'b', 'é', 'd', 'e'], **settings_)
        choice.stored().save(tmp_path / 'thresholds.json')
        stored = Thresholds.load(tmp_path / 'thresholds.json')
        assert stored == choice.stored() and (stored.decide(probs) == choice.decide(probs)).all()
        assert stored.scores['f1'] == choice.cross_fitted and stored.settings['goal'] == 'f1'
        assert stored.names(probs[:1]) == [[label for label, on in zip(stored.vocab, choice.decide(probs)[0], strict=True) if on]]


def test_thresholds_of_numpy_can_be_stored(tmp_path):
    stored = Thresholds(['a', 'b'], list(np.float32([0.1, 0.5])), settings={'folds': np.int64(5)}, scores={'f1': np.float32(0.25)})
    stored.save(tmp_path / 'thresholds.json')
    assert Thresholds.load(tmp_path / 'thresholds.json') == stored


def test_the_order_of_bytes_makes_no_difference():
    probs, targs = np.random.default_rng(0).random((50, 3)), np.random.default_rng(1).random((50, 3)) < 0.3
    for dtype in ('>f8', '>f4'):
        swapped = probs.astype(dtype)
        pd.testing.assert_frame_equal(sweep(swapped, targs), sweep(swapped.astype(swapped.dtype.newbyteorder('=')), targs))


@pytest.mark.parametrize('goal', ['f1.0', 'f02', 'f', 'f0'])
def test_a_goal_is_spelt_in_one_way(goal):
    with pytest.raises(ValueError, match='goal must be one of'):
        choose([[0.1], [0.9]], [[0], [1]], goal, folds=2)
