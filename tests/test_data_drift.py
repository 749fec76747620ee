"""Drift: against scipy in many cases, no false alarms, every form of a table, and the report that the command writes."""

import json
import os
import signal
import subprocess
import time

import numpy as np
import pandas as pd
import pytest
from bundled import COMMAND, MEAN, SIZE, STD, THRESH, UTF8, VOCAB, saved, smooth
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from test_door import PROBS, plain

from multilabel_nb.bundle import save_bundle
from multilabel_nb.bundle_files import CONFIG, BundleError, load_config
from multilabel_nb.command import main
from multilabel_nb.data_drift import EDGES, ProbHistogram, _holm, _ks_test, _psi, as_histogram, compare_histograms, drift, histogram_from

# ---- the numbers


@st.composite
def two_counts(draw):
    "Two histograms of one label, many bins empty, neither side without a picture."
    rows = [draw(st.lists(st.sampled_from([0, 0, 0, 1, 2, 7, 40]), min_size=20, max_size=20)) for _ in range(2)]
    for row in rows:
        row[draw(st.integers(0, 19))] += 1
    return np.array(rows)[:, None]


@given(two_counts())
def test_the_distance_is_that_of_scipy_and_the_p_value_its_limit(counts):
    before, after = counts
    samples = [np.repeat(np.arange(20), x[0]) for x in counts]
    distance, p = _ks_test(before, after)
    theirs = stats.ks_2samp(*samples, method='exact')
    assert distance[0] == pytest.approx(theirs.statistic, abs=1e-12)
    n, m = map(len, samples)
    assert p[0] == pytest.approx(stats.kstwobign.sf(distance[0] * np.sqrt(n * m / (n + m))), abs=1e-9)


@given(two_counts())
def test_the_index_is_the_divergence_of_jeffreys(counts):
    before, after = counts
    pairs = counts.reshape(2, 10, 2).sum(2)
    half = 0.5 / pairs.sum(1).min()
    p, q = (x[pairs.sum(0) > 0] / x.sum() + half for x in pairs)
    (index,), (by_chance,) = _psi(before, after)
    assert index == pytest.approx(stats.entropy(p, q) + stats.entropy(q, p), abs=1e-9) and index >= -1e-12
    assert by_chance == pytest.approx((len(p) - 1) * (1 / pairs[0].sum() + 1 / pairs[1].sum()))
    assert _psi(after, before)[0][0] == pytest.approx(index, abs=1e-9)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_holm_is_as_by_hand_and_never_below_benjamini_hochberg(ps):
    p = np.array(ps)
    adjusted = _holm(p)
    assert (adjusted >= np.maximum(p, stats.false_discovery_control(p)) - 1e-12).all()
    assert (adjusted <= np.minimum(1, p * len(p)) + 1e-12).all()
    by_hand = [max(min(1, (len(p) - np.sum(p < x)) * x) for x in p[p <= own]) for own in p]
    np.testing.assert_allclose(adjusted, by_hand, atol=1e-12)


@settings(max_examples=30)
@given(st.integers(0, 2**32), st.integers(1, 30), st.integers(1, 30))
def test_parts_add_up_to_the_whole(seed, n, m):
    rng = np.random.default_rng(seed)
    probs = rng.choice([0, 1e-4, EDGES[3], 0.3, 0.5, 0.9, 1], (n + m, 3))
    vocab, thresh = ['a', 'b', 'c'], [0.3, 0.5, 0.9]
    whole = as_histogram(probs, vocab, thresh)
    one, two = (as_histogram(x, vocab, thresh) for x in (probs[:n], probs[n:]))
    both = histogram_from(json.loads(json.dumps(one.to_dict())), vocab) + two
    assert (both.counts == whole.counts).all() and both.on.tolist() == (probs > thresh).sum(0).tolist()
    assert plain(compare_histograms(one, both)) == plain(compare_histograms(one, whole))


def test_halves_of_one_source_are_flagged_at_most_at_the_level():
    "Forty labels that go together, 300 deals into two halves: reports with a flag, and labels flagged."
    rng = np.random.default_rng(1)
    common, own = rng.normal(size=(500, 1)), rng.normal(size=(500, 40))
    probs = 1 / (1 + np.exp(-(np.linspace(-6, 2, 40) + 1.5 * (common + own))))
    flagged = []
    for _ in range(300):
        order = rng.permutation(500)
        one, two = (as_histogram(probs[rows], list(map(str, range(40)))) for rows in (order[:250], order[250:]))
        flagged.append(compare_histograms(one, two)['drifted'])
    assert np.any(flagged, 1).mean() <= 0.05 and np.mean(flagged) <= 0.05
    moved = 1 / (1 + np.exp(-(np.log(probs / (1 - probs)) + 2 * (np.arange(40) == 7))))
    assert np.flatnonzero(drift(probs[:250], moved[250:]).drifted).tolist() == [7]


# ---- the door


@pytest.mark.parametrize('form', PROBS)
def test_every_form_of_a_table_has_the_same_report(form):
    rng, vocab = np.random.default_rng(0), ['clear', 'haze', 'road']
    one, two = (rng.integers(0, 129, (40, 3)) / 128 for _ in range(2))
    expected = plain(drift(one, two, vocab, 0.25))
    assert plain(drift(PROBS[form](one), two, vocab, 0.25)) == expected
    assert plain(drift(one, PROBS[form](two), vocab, 0.25)) == expected
    assert plain(drift(as_histogram(PROBS[form](one), vocab, 0.25), two)) == expected


@pytest.mark.parametrize(
    'change, words',
    [
        (lambda x: x * 9, 'these look like logits'),
        (lambda x: x * np.nan, 'probs hold nan'),
        (lambda x: x[:, :1], 'vocab has 2 names for 1 columns'),
        (lambda x: pd.DataFrame(x, columns=['a', 'c']), "'b'"),
        (lambda x: as_histogram(x, ['b', 'a']), 'same labels and thresholds'),
        (lambda x: as_histogram(x, ['a', 'b'], 0.3), 'same labels and thresholds'),
        (lambda x: ProbHistogram(['a', 'b']), '0 pictures|and 0|0 and'),
    ],
)
def test_what_does_not_fit_is_refused_on_either_side(change, words):
    probs = np.random.default_rng(0).random((9, 2))
    for sides in ((change(probs), probs), (probs, change(probs))):
        with pytest.raises(ValueError, match=words):
            drift(*sides, vocab=['a', 'b'], thresh=0.5)


# ---- in a bundle


REFERENCE = np.random.default_rng(0).beta(1, 4, (80, 5)).astype(np.float32)


@pytest.fixture(scope='module')
def known(tmp_path_factory, model):
    "A bundle with a reference."
    path = tmp_path_factory.mktemp('known') / 'bundle'
    return save_bundle(path, model, VOCAB, SIZE, MEAN, STD, THRESH, progress=False, reference=REFERENCE)


def test_a_bundle_keeps_the_histograms(known, good):
    kept = histogram_from(load_config(known)['reference'], VOCAB)
    assert plain(kept.to_dict()) == plain(as_histogram(REFERENCE, VOCAB, THRESH).to_dict())
    assert load_config(good)['reference'] is None


@pytest.mark.parametrize(
    'reference, words',
    [
        (REFERENCE * 9, 'logits'),
        (REFERENCE[:, :4], 'vocab has 5 names for 4 columns'),
        (as_histogram(REFERENCE, VOCAB, 0.5), 'same labels and thresholds'),
        (ProbHistogram(VOCAB, THRESH), 'reference: counts'),
    ],
)
def test_a_wrong_reference_is_not_saved(reference, words, model, tmp_path):
    with pytest.raises(ValueError, match=words):
        save_bundle(tmp_path / 'b', model, VOCAB, SIZE, MEAN, STD, THRESH, onnx=False, reference=reference)
    assert not (tmp_path / 'b').exists()


DAMAGE = {
    'no object': [1],
    'empty': {},
    'a field more': lambda x: x | {'more': 1},
    'no counts': lambda x: {k: v for k, v in x.items() if k != 'counts'},
    'other edges': lambda x: x | {'edges': x['edges'][:-1]},
    'fewer labels': lambda x: x | {'counts': x['counts'][:-1]},
    'ragged': lambda x: x | {'counts': [[1, 2], [3]]},
    'text': lambda x: x | {'counts': 'abc'},
    'an object': lambda x: x | {'counts': {'a': 1}},
    'negative': lambda x: x | {'on': [-1] * 5},
    'fractions': lambda x: x | {'on': [0.5] * 5},
    'more on than there are': lambda x: x | {'on': [81] * 5},
    'another number of pictures': lambda x: x | {'counts': [[1] * 20, *x['counts'][1:]]},
    'four hundred digits': lambda x: x | {'on': [10**400] * 5},
    'thresholds of four hundred digits': lambda x: x | {'thresh': [10**400] * 5},
    'so many that sums overflow': lambda x: x | {'counts': [[2**62] * 20] * 5},
    'thresholds above 1': lambda x: x | {'thresh': [1.5] * 5},
    'deep': lambda x: x | {'counts': json.loads('[' * 200 + ']' * 200)},
}


@pytest.mark.parametrize('damage', DAMAGE)
def test_a_damaged_reference_is_refused_by_name(damage, known, tmp_path):
    config = json.loads((known / CONFIG).read_text())
    change = DAMAGE[damage]
    config['reference'] = change(config['reference']) if callable(change) else change
    (tmp_path / CONFIG).write_text(json.dumps(config))
    with pytest.raises(BundleError, match=r'config\.json: reference'):
        load_config(tmp_path)


# ---- from a shell


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / 'pictures'
    folder.mkdir()
    for i in range(12):
        (folder / f'{i:02}.png').write_bytes(saved(smooth(i)))
    return folder


def test_the_command_writes_the_report(known, pictures, tmp_path, capsys):
    report = tmp_path / 'report.csv'
    report.write_text('an older one')
    (pictures / 'broken.png').write_bytes(b'no picture')
    assert main([str(known), str(pictures), '--json', '--drift', str(report), '--thresh', '0.9']) == 1
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    probs = [list(row['probs'].values()) for row in rows if not row['error']]
    found = pd.read_csv(report, index_col='label')
    expected = drift(REFERENCE, np.array(probs, np.float32), VOCAB, THRESH)
    assert len(probs) == 12 and found.thresh.tolist() == THRESH  # the bundle's, whatever --thresh says
    pd.testing.assert_frame_equal(found, expected, check_dtype=False, rtol=1e-4)
    assert sorted(os.listdir(tmp_path)) == ['pictures', 'report.csv']


@pytest.mark.parametrize('where, words', [('{tmp}/gone/a.csv', 'a folder'), ('{tmp}', 'must be a file')])
def test_a_place_that_cannot_be_written_is_refused_before_the_first_picture(where, words, known, pictures, tmp_path, capsys):
    assert main([str(known), str(pictures), '--csv', '--drift', where.format(tmp=tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert out == '' and words in err


def test_a_bundle_without_a_reference_is_refused(good, pictures, tmp_path, capsys):
    assert main([str(good), str(pictures), '--csv', '--drift', str(tmp_path / 'a.csv')]) == 2
    out, err = capsys.readouterr()
    assert out == '' and str(good) in err and 'reference' in err and not (tmp_path / 'a.csv').exists()


def test_without_an_answer_there_is_no_report(known, tmp_path, capsys):
    (tmp_path / 'broken.png').write_bytes(b'no picture')
    assert main([str(known), str(tmp_path / 'broken.png'), '--drift', str(tmp_path / 'a.csv')]) == 1
    assert 'no image was predicted' in capsys.readouterr().err and not (tmp_path / 'a.csv').exists()


@pytest.mark.slow
def test_a_command_that_is_killed_leaves_the_old_report(known, pictures, tmp_path):
    report, first = tmp_path / 'report.csv', sorted(pictures.iterdir())[0]
    report.write_text('an older one')
    process = subprocess.Popen(
        [*COMMAND, str(known), '-', '--bs', '1', '--drift', str(report)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=UTF8,
    )
    for _ in range(20):
        process.stdin.write(f'{first}\n')
    process.stdin.flush()
    time.sleep(3)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert report.read_text() == 'an older one' and sorted(os.listdir(tmp_path)) == ['pictures', 'report.csv']


def test_the_report_needs_neither_torch_nor_pandas(known, pictures, tmp_path):
    code = (
        'import sys; from multilabel_nb.command import main\n'
        'status = main(sys.argv[1:])\n'
        'assert not {"torch", "pandas", "scipy"} & set(sys.modules), status\n'
        'sys.exit(status)'
    )
    args = [str(known), str(pictures), '--drift', str(tmp_path / 'a.csv')]
    subprocess.run([COMMAND[0], '-c', code, *args], check=True, env=UTF8, stdout=subprocess.DEVNULL)
    assert (tmp_path / 'a.csv').read_text().startswith('label,thresh,on_before,')
