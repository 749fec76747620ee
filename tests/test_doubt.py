"""Suspected labels beside cleanlab, and what becomes of unknown ones."""

import numpy as np
import pandas as pd
import pytest
from cleanlab.multilabel_classification.filter import find_multilabel_issues_per_class

from multilabel_nb.doubt import out_of_fold, self_confidence, suspect_labels


def drawn(seed):
    "Targets of several shares, and probabilities that often agree with them; each label has both values."
    rng = np.random.default_rng(seed)
    n, c = rng.integers(60, 200), rng.integers(2, 6)
    truth = rng.random((n, c)) < rng.uniform(0.15, 0.85, c)
    probs = 1 / (1 + np.exp(rng.normal(0, 1.5, (n, c)) + 2 - 4 * truth))
    targs = truth ^ (rng.random((n, c)) < 0.1)
    targs[:2] = [[True] * c, [False] * c]
    return probs, targs.astype(int)


@pytest.mark.parametrize('seed', range(20))
def test_confident_suspects_are_those_of_cleanlab(seed):
    probs, targs = drawn(seed)
    lists = [np.flatnonzero(row).tolist() for row in targs]
    theirs = find_multilabel_issues_per_class(lists, probs, filter_by='confident_learning', n_jobs=1)
    found = suspect_labels(probs, targs)
    ours = np.zeros(targs.shape, bool)
    ours[found.row[found.confident], found.label[found.confident]] = True
    assert ours.any() and (ours == theirs).all()


def test_unknown_labels_are_no_suspects_and_change_nothing():
    probs, targs = drawn(0)
    more = np.vstack([targs, np.full(targs.shape[1], np.nan)])
    found = suspect_labels(np.vstack([probs, probs[:1]]), more, ignore_nan=True)
    pd.testing.assert_frame_equal(found, suspect_labels(probs, targs))
    assert np.isnan(self_confidence(np.vstack([probs, probs[:1]]), more, ignore_nan=True)[-1]).all()
    with pytest.raises(ValueError, match='ignore_nan'):
        suspect_labels(np.vstack([probs, probs[:1]]), more)


def test_a_label_that_nobody_has_makes_no_confident_suspect():
    found = suspect_labels([[0.9], [0.2]], [[0], [0]], ['road'], ['a', 'b'])
    assert found[['image', 'label', 'given', 'confident']].to_numpy().tolist() == [['a', 'road', 0, False]]


def test_images_must_fit():
    with pytest.raises(ValueError, match='1 images for 2 rows'):
        suspect_labels([[0.9], [0.2]], [[0], [0]], images=['a'])


@pytest.mark.parametrize('groups', [None, [i // 3 for i in range(30)]])
def test_no_row_is_predicted_by_a_model_that_saw_it_or_its_group(groups):
    keys, asked = groups or list(range(30)), []

    def fit_predict(train, held_out):
        assert not {keys[i] for i in train} & {keys[i] for i in held_out}
        assert sorted([*train, *held_out]) == list(range(30))
        asked.extend(held_out)
        return np.array(held_out)[:, None] / 100

    assert out_of_fold(fit_predict, 30, seed=3, groups=groups, progress=False)[:, 0].tolist() == [i / 100 for i in range(30)]
    assert sorted(asked) == list(range(30))


@pytest.mark.parametrize(
    'n, n_folds, groups, answer, said',
    [
        (10, 1, None, None, '1 folds'),
        (10, 11, None, None, '10 rows or groups'),
        (4, 3, 'aabb', None, '2 rows or groups'),
        (4, 2, 'abc', None, '3 groups for 4'),
        (4, 2, None, [[0.5]], '1 rows predicted where 2'),
        (4, 2, None, [[3.0]] * 2, 'logits'),
    ],
)
def test_folds_that_cannot_be(n, n_folds, groups, answer, said):
    with pytest.raises(ValueError, match=said):
        out_of_fold(lambda *_: answer, n, n_folds, groups=groups, progress=False)
