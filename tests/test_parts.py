"""The parts of lessons that answer at once (docs/parts): where the build puts them, and that their numbers are those of the library."""

import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from nbformat.v4 import new_code_cell, new_markdown_cell
from sklearn.metrics import average_precision_score

from multilabel_nb.explorer.page import html_page
from multilabel_nb.losses import bce_with_logits
from multilabel_nb.metrics import average_precision

ROOT = Path(__file__).resolve().parents[1]
PARTS = sorted((ROOT / 'docs' / 'parts').glob('*.html'))
sys.path.insert(0, str(ROOT / 'tools'))

import build_site  # noqa: E402

slow = pytest.mark.slow


@pytest.mark.parametrize('part', PARTS, ids=lambda part: part.stem)
def test_a_part_stands_behind_its_cell(part):
    file = ROOT / 'nbs' / f'{part.stem}.ipynb'
    cells = build_site.notebook_page(file, ROOT, build_site.config(ROOT), {}, {}).cells
    (at,) = [i for i, cell in enumerate(cells) if 'class="part ' in cell.source]
    assert f'<!-- behind cell {cells[at - 1].id} -->\n' in part.read_text(encoding='utf-8')
    assert 'http' not in cells[at].source and 'src=' not in cells[at].source


def test_a_part_behind_a_cell_that_is_gone_stops_the_build(tmp_path):
    part = tmp_path / 'lesson.html'
    part.write_text('<!-- behind cell abc -->\n<p>part</p>\n')
    cells = [new_markdown_cell('# A', id='a'), new_code_cell('1', id='abc'), new_code_cell('2', id='b')]
    build_site.add_part(cells, part)
    assert [cell.id for cell in cells] == ['a', 'abc', 'part', 'b'] and '<p>part</p>' in cells[2].source
    with pytest.raises(SystemExit, match=r'lesson.html.*behind cell abc'):
        build_site.add_part(cells[:1], part)


# ---- in a browser


@pytest.fixture
def shown(new_page, tmp_path):
    "Opens a part in a page that holds nothing else, and sees that it asks for nothing and nothing goes wrong."
    opened = []

    def show(name):
        file = tmp_path / 'page.html'
        file.write_text(html_page('part', (ROOT / 'docs' / 'parts' / f'{name}.html').read_text(encoding='utf-8')), encoding='utf-8')
        page = new_page()
        page.goto(file.as_uri())
        opened.append(page)
        return page, page.locator('.part')

    yield show
    for page in opened:
        assert not page.errors and [url for url in page.requests if not url.startswith('data:')] == [page.url]


@slow
def test_a_logit_and_its_loss(shown):
    """By keyboard, for both targets: what torch says of this logit."""
    page, part = shown('04_losses')
    slider = part.get_by_role('slider', name='logit')
    for target in (0, 1):
        part.get_by_role('radio', name=str(target)).check()
        for key in ('Home', 'ArrowRight', 'PageUp', 'PageUp', 'ArrowLeft', 'PageUp', 'PageUp', 'PageUp', 'End'):
            slider.press(key)
            z = torch.tensor([[float(part.locator('.logit').inner_text())]], dtype=torch.float64, requires_grad=True)
            assert z.item() == float(slider.input_value())
            loss = bce_with_logits(z, torch.full_like(z, target))
            (slope,) = torch.autograd.grad(loss, z)
            found = [float(part.locator(what).inner_text()) for what in ('.prob', '.loss', '.gradient')]
            assert found == pytest.approx([z.sigmoid().item(), loss.item(), slope.item()], abs=5.1e-5)
            x, y = (float(part.locator('circle').get_attribute(name)) for name in ('cx', 'cy'))
            assert (x, y) == pytest.approx((20 * (z.item() + 8), 125 - 15 * loss.item()), abs=0.06)
        assert z.item() == 8
    assert page.evaluate('document.activeElement.type') == 'range'


@slow
def test_a_ranking_is_ordered(shown):
    """By keyboard, from the order of the lesson to the best and the worst one: what scikit-learn and the library say of each order."""
    page, part = shown('05_metrics')

    def judged():
        targs = [int(item.get_attribute('data-targ')) for item in part.locator('li').all()]
        probs = np.linspace(0.9, 0.1, len(targs))
        score = average_precision_score(targs, probs)
        assert score == pytest.approx(average_precision(probs[:, None], np.array(targs)[:, None])[0])
        assert part.locator('output').inner_text() == f'{score:.3f}'
        terms = [f'{sum(targs[: i + 1])}/{i + 1}' for i, targ in enumerate(targs) if targ]
        assert part.locator('.terms').inner_text() == f'({" + ".join(terms)}) / 3'
        assert [words for words in part.locator('.precision').all_inner_texts() if words] == [
            f'precision {term} = {eval(term):.3f}' for term in terms
        ]
        assert part.locator('.up').first.is_disabled() and part.locator('.down').last.is_disabled()
        return score

    def press(name, times):
        part.get_by_role('button', name=name).focus()
        scores = [judged()]
        for _ in range(times):
            page.keyboard.press('Enter')
            scores.append(judged())
        return scores

    assert judged() == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)
    rises = [*press('image C: move up', 1), *press('image D: move up', 1)]
    assert all(after >= before for before, after in pairwise(rises)) and rises[-1] == 1
    falls = press('image A: move down', 5)
    assert page.evaluate('document.activeElement.ariaLabel') == 'image A: move up'  # at the end there is no way down
    falls += [*press('image C: move down', 4), *press('image D: move down', 3)]
    assert all(after <= before for before, after in pairwise(falls)) and falls[-1] == pytest.approx((1 / 4 + 2 / 5 + 3 / 6) / 3)
    assert page.evaluate('document.activeElement.ariaLabel') == 'image D: move down'


@slow
def test_softmax_and_sigmoid(shown):
    """Of the same logits, what torch says; the three pictures show what the lesson says about them."""
    page, part = shown('09_single_vs_multi')
    labels = ['black', 'grizzly', 'teddy']

    def judged():
        logits = torch.tensor([float(part.get_by_role('slider', name=label).input_value()) for label in labels], dtype=torch.float64)
        softmax, sigmoid = logits.softmax(0), logits.sigmoid()
        found = np.array(part.locator('tbody data').evaluate_all('all => all.map(data => Number(data.value))')).reshape(3, 2).T
        assert np.allclose(found, torch.stack([softmax, sigmoid]), atol=1e-12)
        widths = part.locator('.bar > span').evaluate_all('all => all.map(bar => parseFloat(bar.style.width))')
        assert np.allclose(widths, 100 * found.T.ravel(), atol=1e-3)
        assert part.locator('.sum td').all_inner_texts() == [f'{probs.sum():.3f}' for probs in (softmax, sigmoid)]
        on = [label for label, prob in zip(labels, sigmoid, strict=True) if prob > 0.5]
        predicted = part.locator('.predicted td').all_inner_texts()
        assert predicted == [labels[int(softmax.argmax())], ', '.join(on) or 'no label']
        return predicted

    assert judged() == ['black', 'black']
    expected = {'one bear': ['black', 'black'], 'no bear': ['teddy', 'no label'], 'two bears': ['teddy', 'black, teddy']}
    for name, predicted in expected.items():
        part.get_by_role('button', name=name).press('Enter')
        assert judged() == predicted
    for label, keys in {'black': ['Home', 'End'], 'grizzly': ['End', 'PageDown'], 'teddy': ['Home', 'ArrowRight']}.items():
        for key in keys:
            part.get_by_role('slider', name=label).press(key)
            judged()


@slow
@pytest.mark.parametrize('part', PARTS, ids=lambda part: part.stem)
def test_without_scripts_nothing_is_shown(new_page, tmp_path, part):
    (tmp_path / 'page.html').write_text(html_page('part', part.read_text(encoding='utf-8')), encoding='utf-8')
    page = new_page(java_script_enabled=False)
    page.goto((tmp_path / 'page.html').as_uri())
    assert page.locator('.part').count() == 1 and not page.locator('.part').is_visible()
