"""Calibration against scikit-learn, and where labels are separated, rare or certain."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from test_thresholds import data

from multilabel_nb.calibration import expected_calibration_error, fit_calibration


def test_platt_is_a_logistic_regression_on_the_logits_with_smoothed_answers():
    probs, targs = data(300, 3, dtype=np.float64)
    fitted = fit_calibration(probs, targs)
    logits = np.log(probs / (1 - probs))
    for j in range(3):
        yes, no = targs[:, j].sum(), (1 - targs[:, j]).sum()
        soft = np.where(targs[:, j] == 1, (yes + 1) / (yes + 2), 1 / (no + 2))
        model = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000)
        model.fit(
            np.concatenate([logits[:, [j]]] * 2),
            np.repeat([1, 0], 300),
            sample_weight=np.concatenate([soft, 1 - soft]),
        )
        assert [fitted.scale[j], fitted.shift[j]] == pytest.approx([model.coef_[0, 0], model.intercept_[0]], abs=1e-4)


def test_calibration_holds_where_labels_are_separated_rare_or_certain():
    probs = np.repeat(np.array([[0.0], [0.2], [0.8], [1.0]], np.float32), 20, 0)
    separated = fit_calibration(probs, probs > 0.5)
    assert np.isfinite(separated.scale).all() and (np.diff(separated([[0.1], [0.3], [0.6]])[:, 0]) > 0).all()
    pair, answers = (
        np.hstack([probs, probs]),
        np.hstack([probs > 0.5, np.arange(80)[:, None] < 3]),
    )
    few, temperature = (fit_calibration(pair, answers, method) for method in ('platt', 'temperature'))
    assert few.shift[1] == 0 and few.scale[1] == temperature.scale[1] == temperature.scale[0] != few.scale[0]
    upside_down = fit_calibration(probs, probs < 0.5)
    assert (upside_down.scale > 0).all()
    assert separated(probs).dtype == np.float32


def test_calibration_error_by_the_definition():
    probs, targs = data(dtype=np.float64)
    p, t = probs.ravel(), targs.ravel()
    bins = [(p > k / 10) & (p <= (k + 1) / 10) for k in range(10)]
    assert expected_calibration_error(probs, targs) == pytest.approx(sum(abs(p[b].mean() - t[b].mean()) * b.mean() for b in bins))
    assert expected_calibration_error([[1.0], [0.0]], [[1], [0]]) == 0
