"""The page for suspected labels: its files, the keyboard in a browser, and the CSV between the two."""

import csv
from importlib.resources import files

import numpy as np
import pandas as pd
import pytest
from test_door import TARGS as FORMS
from test_explorer import css_errors, script_errors

from multilabel_nb.doubt import suspect_labels
from multilabel_nb.review.page import apply_verdicts, read_verdicts, review_page

VOCAB = ['cloudy', 'road, "wide"', '</script><b>x</b>']
NAMES = ['a.jpg', 'b, "c".jpg', 'é.jpg']
TARGS = np.array([[0, 0, 0], [0, 1, 0], [0, 0, 1]])
PROBS = np.array([[0.9, 0.1, 0.2], [0.1, 0.2, 0.1], [0.1, 0.3, 0.3]])  # each row: one suspect


def suspects():
    return suspect_labels(PROBS, TARGS, VOCAB, NAMES)


def test_style_and_script_are_what_they_should_be():
    folder = files('multilabel_nb.review')
    assert not css_errors((folder / 'page.css').read_text('utf-8')) and not script_errors(folder / 'page.js')


@pytest.mark.parametrize(
    'text, said',
    [
        ('row,image,label,verdict\n0,a,road,present\n', "no column 'given'"),
        ('row,image,label,given,verdict\n0,a,road,0,present\n-1,a,road,0,absent\n', "line 3: row '-1'"),
        ('row,image,label,given,verdict\n0,a,road,0,yes\n', "line 2: verdict 'yes'"),
    ],
)
def test_verdicts_that_cannot_be(tmp_path, text, said):
    (tmp_path / 'verdicts.csv').write_text(text)
    with pytest.raises(ValueError, match=f'verdicts.csv.*{said}'):
        read_verdicts(tmp_path / 'verdicts.csv')


@pytest.mark.parametrize('form', FORMS)
def test_targets_come_in_every_form(form):
    vocab = ['clear', 'haze', 'road']
    verdicts = pd.DataFrame({'row': [1, 2, 2], 'label': ['road', 'haze', 'haze'], 'verdict': ['present', 'absent', 'unsure']})
    mended = apply_verdicts(FORMS[form](TARGS), verdicts, vocab)
    np.testing.assert_array_equal(mended, [[0, 0, 0], [0, 1, 1], [0, np.nan, 1]])
    named = pd.DataFrame(TARGS, columns=vocab)[vocab[::-1]]
    np.testing.assert_array_equal(apply_verdicts(named, verdicts, vocab), mended)


@pytest.mark.slow
def test_verdicts_by_keyboard_and_mouse_come_back_as_targets(new_page, tmp_path):
    found = suspects()
    assert len(found) == 3
    file = review_page(found, np.zeros((3, 40, 60, 3), 'uint8'), 'made up').save(tmp_path / 'review.html')
    page = new_page()
    page.goto(file.as_uri())
    root = page.locator('.label-review')
    for i, (image, label) in enumerate(found[['image', 'label']].to_numpy()):
        assert f'{image}: is “{label}” in the picture?' in root.locator('.question').inner_text()
        assert root.locator('.place').inner_text() == f'{i + 1} of 3, 0 decided'
        assert root.locator('img').evaluate('img => img.naturalWidth') == 60
        root.press('ArrowRight')
    assert root.locator('.next').is_disabled() and root.locator('.place').inner_text() == '3 of 3, 0 decided'
    root.press('ArrowLeft')
    root.press('ArrowLeft')
    root.press('p')
    root.press('U')
    root.press('ArrowLeft')
    assert root.locator('[data-verdict=unsure]').get_attribute('aria-pressed') == 'true'
    root.locator('[data-verdict=absent]').click()
    assert root.locator('.place').inner_text() == '3 of 3, 2 decided'
    with page.expect_download() as download:
        root.press('s')
    download.value.save_as(tmp_path / 'verdicts.csv')
    with (tmp_path / 'verdicts.csv').open(newline='', encoding='utf-8') as f:
        assert [row['verdict'] for row in csv.DictReader(f)] == ['present', 'absent']
    verdicts = read_verdicts(tmp_path / 'verdicts.csv')
    assert verdicts[['row', 'label']].equals(found[['row', 'label']][:2])
    mended = apply_verdicts(TARGS, verdicts, VOCAB, NAMES)
    wanted = TARGS.astype(float)
    for row, label, answer in zip(found['row'], found['label'], (1.0, 0.0), strict=False):
        wanted[row, VOCAB.index(label)] = answer
    assert (mended == wanted).all() and not page.errors
