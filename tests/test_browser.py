"""What only a browser shows: the threshold explorer under keyboard and mouse; lessons run in JupyterLab; pages on any screen."""

import io
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import numpy as np
import pytest
from lessons import lesson_files
from nbformat.v4 import new_code_cell, new_notebook
from PIL import Image
from test_site import built_pages

from multilabel_nb.costs import decision_cost
from multilabel_nb.explorer.page import threshold_explorer

ROOT = Path(__file__).resolve().parents[1]
KERNEL = {'kernelspec': {'name': 'python3', 'display_name': 'python3', 'language': 'python'}}

pytestmark = pytest.mark.slow


# ---- the explorer in a page of its own

VOCAB = ['agriculture', 'clear', 'cloudy', '</script><b>"x" & \'y\'</b>', 'primary']
ROWS = [3, 0, 39]
SLIDER = 'input[type=range]'


def made_up(seed=0):
    "Probabilities with some that equal a threshold exactly, and answers; the last label is on nowhere."
    rng = np.random.default_rng(seed)
    targs = rng.random((40, len(VOCAB))) < [0.8, 0.5, 0.3, 0.2, 0.0]
    probs = (1 / (1 + np.exp(2 - 3 * targs - rng.normal(size=targs.shape)))).astype(np.float32)
    probs[3] = [0.5, 0.3, 0.29, 0.0, 1.0]
    return probs, targs


def expected(probs, targs, thresh):
    "What should be seen at a threshold, by plain counting: scores, and for each picture the labels in each state."
    on = probs > np.float32(thresh)
    hits, false_alarms, misses = (int(x.sum()) for x in (on & targs, on & ~targs, ~on & targs))
    parts = (hits, hits + false_alarms), (hits, hits + misses), (2 * hits, 2 * hits + false_alarms + misses)
    ratios = [part / whole if whole else 0 for part, whole in parts]
    states = {'hit': on & targs, 'false alarm': on & ~targs, 'miss': ~on & targs}
    pictures = [{state: {label for label, x in zip(VOCAB, mask[row], strict=True) if x} for state, mask in states.items()} for row in ROWS]
    return [*(f'{ratio:.3f}' for ratio in ratios), *map(str, (hits, false_alarms, misses))], pictures


def seen(explorer):
    "The same, read off the page: a mark, the label and its probability stand in each item."
    marks = {'✓': 'hit', '✗': 'false alarm', '○': 'miss'}
    pictures = []
    for items in explorer.locator('ul').evaluate_all('lists => lists.map(ul => [...ul.children].map(li => [li.innerText, li.title]))'):
        pictures.append({state: set() for state in marks.values()})
        for text, title in items:
            mark, label = re.fullmatch(r'(\S) (.+) [01]\.\d{3}', text).groups()
            assert marks[mark] == title
            pictures[-1][title].add(label)
    return explorer.locator('dd').all_inner_texts(), pictures


def threshold(explorer):
    "What the slider says: the same to the eye and to a screen reader."
    shown = explorer.locator('output').inner_text()
    assert explorer.get_by_role('slider', name='threshold').get_attribute('aria-valuetext') == shown
    assert float(explorer.locator('.at').get_attribute('x1')) == round(100 * float(shown))
    return float(shown)


@pytest.fixture
def page_of_one(new_page, tmp_path):
    probs, targs = made_up()
    file = threshold_explorer(probs, targs, VOCAB, ROWS, title='made up').save(tmp_path / 'page.html')
    page = new_page()
    page.goto(file.as_uri())
    yield page, page.locator('.threshold-explorer'), probs, targs
    assert page.errors == [] and page.requests == [file.as_uri()]


KEYS = [('End', 1.0), ('ArrowLeft', 0.99), ('Home', 0.0), ('ArrowLeft', 0.0), ('ArrowRight', 0.01), ('ArrowUp', 0.02), ('ArrowDown', 0.01)]


def test_the_explorer_follows_the_keyboard(page_of_one):
    page, explorer, probs, targs = page_of_one
    page.keyboard.press('Tab')
    assert page.evaluate('document.activeElement.type') == 'range' and threshold(explorer) == 0.5
    for key, thresh in KEYS:
        page.keyboard.press(key)
        assert threshold(explorer) == thresh, key
        assert seen(explorer) == expected(probs, targs, thresh), key


def test_at_every_threshold_the_page_shows_what_python_counts(page_of_one):
    page, explorer, probs, targs = page_of_one
    explorer.locator(SLIDER).press('Home')
    for at in range(101):
        assert threshold(explorer) == at / 100
        assert seen(explorer) == expected(probs, targs, at / 100), at
        page.keyboard.press('ArrowRight')


def test_the_explorer_follows_the_mouse(page_of_one):
    page, explorer, probs, targs = page_of_one
    box = explorer.locator(SLIDER).bounding_box()
    at = lambda share: (box['x'] + share * box['width'], box['y'] + box['height'] / 2)  # noqa: E731
    found = []
    page.mouse.move(*at(0.5))
    page.mouse.down()
    for share in (0.3, 0.1, 0.9):
        page.mouse.move(*at(share), steps=4)
        found.append(threshold(explorer))
        assert abs(found[-1] - share) < 0.03
        assert seen(explorer) == expected(probs, targs, found[-1])
    page.mouse.up()
    page.mouse.click(*at(0.6))
    assert abs(threshold(explorer) - 0.6) < 0.03 and seen(explorer) == expected(probs, targs, threshold(explorer))


def test_the_marker_stands_over_the_thumb(page_of_one):
    """So that a curve is read where the slider is."""
    page, explorer, *_ = page_of_one
    slider = explorer.locator(SLIDER).bounding_box()
    for key, edge in (('Home', 8), ('End', slider['width'] - 8)):
        explorer.locator(SLIDER).press(key)
        assert abs(explorer.locator('.at').bounding_box()['x'] - (slider['x'] + edge)) < 2


def test_the_explorer_adds_up_costs(page_of_one):
    """As `decision_cost` does, at the slider's threshold and at the best one; by keyboard."""
    page, explorer, probs, targs = page_of_one

    def total(thresh, fp_cost, fn_cost):
        return decision_cost(probs, targs, thresh, fn_cost, fp_cost).sum() * len(probs)

    best = []
    for fp_cost, fn_cost in ((1, 1), (1, 5), (2.5, 0.5), (0, 3)):
        for name, cost in {'cost of a false alarm': fp_cost, 'cost of a miss': fn_cost}.items():
            explorer.get_by_label(name).fill(str(cost))
        totals = [total(at / 100, fp_cost, fn_cost) for at in range(101)]
        for key in ('Home', 'ArrowRight', 'PageUp', 'End', 'PageDown'):
            explorer.locator(SLIDER).press(key)
            told = re.fullmatch(r'total cost (\S+); lowest (\S+), at threshold (\S+)', explorer.locator('.total').inner_text())
            now, lowest, at = map(float, told.groups())
            assert now == pytest.approx(total(threshold(explorer), fp_cost, fn_cost)) and lowest == pytest.approx(min(totals))
            assert totals[round(100 * at)] == pytest.approx(lowest)
        best.append(at)
    assert best[3] < best[1] <= best[0] < best[2]  # costly misses: a lower threshold; costly false alarms: a higher one
    explorer.get_by_label('cost of a miss').fill('')
    assert 'total cost 0; lowest 0' in explorer.locator('.total').inner_text()


def test_two_explorers_on_a_page_do_not_disturb_each_other(new_page, tmp_path):
    """Not even when they are the same one shown twice."""
    (probs, targs), other = made_up(), made_up(seed=1)
    one, two = (threshold_explorer(*data, VOCAB, ROWS)._repr_html_() for data in ((probs, targs), other))
    (tmp_path / 'page.html').write_text(f'<!doctype html><meta charset="utf-8">{one}{one}{two}', encoding='utf-8')
    page = new_page()
    page.goto((tmp_path / 'page.html').as_uri())
    explorers = page.locator('.threshold-explorer').all()
    for explorer, key in zip(explorers, ('Home', 'End', 'ArrowLeft'), strict=True):
        explorer.locator(SLIDER).press(key)
    shown = [(threshold(explorer), seen(explorer)) for explorer in explorers]
    assert shown == [(0.0, expected(probs, targs, 0.0)), (1.0, expected(probs, targs, 1.0)), (0.49, expected(*other, 0.49))]
    ids = page.locator('[id]').evaluate_all('all => all.map(x => x.id)')
    assert len(ids) == len(set(ids)) and page.errors == []


def luminance(colour):
    "Of a CSS colour `rgb(r, g, b)`, as WCAG 2 defines it."
    part = np.array([int(x) for x in re.findall(r'\d+', colour)[:3]]) / 255
    return np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]


def contrast(one, other):
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def assert_readable(explorer, dark):
    "Text at 4.5 to 1, lines and marks at 3 to 1 (WCAG 2, level AA), on whatever lies behind."
    background = explorer.evaluate("""at => {
      for (; at; at = at.parentElement) {
        const colour = getComputedStyle(at).backgroundColor;
        if (colour !== 'rgba(0, 0, 0, 0)') return colour;
      }
      const bare = document.body.appendChild(document.createElement('p'));
      bare.style.backgroundColor = 'Canvas';
      return getComputedStyle(bare).backgroundColor;
    }""")
    assert dark == (luminance(background) < 0.2), background
    style = '(all, name) => all.map(x => getComputedStyle(x)[name])'
    texts = explorer.locator('b, label, output, dt, dd, figcaption, li, p span').evaluate_all(style, 'color')
    lines = explorer.locator('polyline, .at').evaluate_all(style, 'stroke')
    edges = explorer.locator('.legend span').evaluate_all(style, 'borderLeftColor')
    assert len(texts) > 20 and len(lines) == 4 and len(set(edges)) == 3
    assert min(contrast(text, background) for text in texts) >= 4.5
    assert min(contrast(line, background) for line in [*lines, *edges]) >= 3


def assert_laid_out(explorer):
    "Whatever the page around it says about lists: each number stands below its name, labels begin where the picture's name does."
    edges = '(all, edge) => all.map(x => x.getBoundingClientRect()[edge])'
    bottom, top = explorer.locator('dt').evaluate_all(edges, 'bottom'), explorer.locator('dd').evaluate_all(edges, 'top')
    assert len(top) == 6 and min(np.subtract(top, bottom)) >= 0
    left, others = explorer.locator('figcaption').evaluate_all(edges, 'left'), explorer.locator('li').evaluate_all(edges, 'left')
    assert len(set(left)) == len(ROWS) and set(others) <= set(left)


# Pages that a reader may have: the browser's own light and dark, and those of a site.
PAGES = {'light': '', 'dark': '', 'light site': 'background: #fff; color: #323232', 'dark site': 'background: #14181e; color: #ced6dd'}


@pytest.mark.parametrize('scheme', PAGES)
def test_the_explorer_can_be_read(new_page, tmp_path, scheme):
    file = threshold_explorer(*made_up(), VOCAB, ROWS, title='made up').save(tmp_path / 'page.html')
    page = new_page(color_scheme='dark' if 'dark' in scheme else 'light')
    page.goto(file.as_uri())
    page.add_style_tag(content=f'body {{ {PAGES[scheme]} }}')
    assert_readable(page.locator('.threshold-explorer'), 'dark' in scheme)
    assert_laid_out(page.locator('.threshold-explorer'))


def test_without_scripts_a_table_stands_there(new_page, tmp_path):
    probs, targs = made_up()
    file = threshold_explorer(probs, targs, VOCAB, ROWS).save(tmp_path / 'page.html')
    page = new_page(java_script_enabled=False)
    page.goto(file.as_uri())
    rows = [row.split() for row in page.locator('noscript tr').all_inner_texts()]
    assert [row[1:] for row in rows[1:]] == [expected(probs, targs, at / 10)[0] for at in range(11)]
    assert seen(page.locator('.threshold-explorer')) == expected(probs, targs, 0.5)


# ---- JupyterLab


def wait(ready, seconds, what):
    "Ask until it is so; what has been found."
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if found := ready():
            return found
        time.sleep(0.2)
    raise AssertionError(f'{what} took more than {seconds} s')


def answers(address):
    try:
        with urllib.request.urlopen(address, timeout=5) as response:
            return response.status == 200
    except OSError:
        return False


@pytest.fixture(scope='module')
def lab(chromium, tmp_path_factory):
    "JupyterLab on a free port over a copy of the notebooks, with nobody's settings: its address and its folder. Ended by its id."
    home = tmp_path_factory.mktemp('lab')
    shutil.copytree(ROOT / 'nbs', home / 'nbs', ignore=shutil.ignore_patterns('.*'))
    settings = home / '.config' / 'labconfig' / 'page_config.json'
    settings.parent.mkdir(parents=True)
    settings.write_text('{"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": true}}')  # it asks the network for news
    places = {f'JUPYTER_{name.upper()}_DIR': str(home / f'.{name}') for name in ('config', 'data', 'runtime')}
    env = {**os.environ, **places, 'IPYTHONDIR': str(home / '.ipython'), 'PYTHONPATH': str(ROOT), 'JUPYTER_PREFER_ENV_PATH': '1'}
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    options = [f'--ServerApp.port={port}', '--ServerApp.port_retries=0', '--ServerApp.ip=127.0.0.1', f'--ServerApp.root_dir={home}']
    options += ['--IdentityProvider.token=', '--no-browser', '--allow-root', '--expose-app-in-browser']
    address, log = f'http://127.0.0.1:{port}', home / '.log'
    with log.open('w') as f:
        server = subprocess.Popen([sys.executable, '-m', 'jupyter', 'lab', *options], cwd=home, env=env, stdout=f, stderr=f)
    try:
        wait(lambda: server.poll() is not None or answers(f'{address}/api'), 60, 'starting JupyterLab')
        assert server.poll() is None, log.read_text()
        yield address, home
    finally:
        server.terminate()  # it ends its kernels
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()


STATE = """() => {
  const panel = window.jupyterapp?.shell.currentWidget;
  const kernel = panel?.sessionContext?.session?.kernel;
  return kernel && panel.context.isReady && [kernel.status, panel.context.model.toJSON()];
}"""


def code_cells(nb):
    return [cell for cell in nb['cells'] if cell['cell_type'] == 'code' and ''.join(cell['source']).strip()]


def failed(cells):
    "Cells that fail though they do not promise to, and those that promise to and do not."
    answered = [cell for cell in cells if cell['execution_count']]
    promised = ['raises-exception' in cell['metadata'].get('tags', []) for cell in answered]
    raised = [any(output['output_type'] == 'error' for output in cell['outputs']) for cell in answered]
    return [''.join(cell['source']) for cell, p, r in zip(answered, promised, raised, strict=True) if p != r]


def run_all(page, address, path, seconds):
    """Open a notebook in JupyterLab, run all its cells, and give back its code cells as they then are.

    What counts is that each cell was answered: Lab calls a kernel idle, while it works, whenever a progress bar's message was dealt with.
    """
    page.goto(f'{address}/lab/tree/{path}?reset')
    wait(lambda: (page.evaluate(STATE) or [''])[0] == 'idle', 60, f'opening {path}')
    page.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells').catch(() => {})  // ends before the cells do")

    def done():
        cells = code_cells(page.evaluate(STATE)[1])
        return (all(cell['execution_count'] for cell in cells) or failed(cells)) and cells  # a failure ends the run

    return wait(done, seconds, f'running {path}')


def test_the_explorer_works_in_jupyterlab(lab, new_page):
    address, home = lab
    probs, targs = made_up()
    np.savez(home / 'made_up.npz', probs=probs, targs=targs)
    cells = [
        'import numpy as np\nfrom multilabel_nb.explorer.page import threshold_explorer\nmade_up = np.load("made_up.npz")',
        f'threshold_explorer(made_up["probs"], made_up["targs"], {VOCAB!r}, {ROWS})',
    ]
    nb = new_notebook(metadata=KERNEL, cells=[new_code_cell(cell, id=f'cell{i}') for i, cell in enumerate(cells)])
    nbformat.write(nb, home / 'explorer.ipynb')
    page = new_page()
    ran = run_all(page, address, 'explorer.ipynb', 60)
    assert [output['output_type'] for cell in ran for output in cell['outputs']] == ['execute_result']
    explorer = page.locator('.jp-OutputArea-output .threshold-explorer')
    explorer.locator(SLIDER).focus()
    for key, thresh in KEYS:
        page.keyboard.press(key)
        assert threshold(explorer) == thresh and seen(explorer) == expected(probs, targs, thresh), key
    assert_laid_out(explorer)
    box = explorer.locator(SLIDER).bounding_box()
    page.mouse.click(box['x'] + 0.3 * box['width'], box['y'] + box['height'] / 2)
    assert abs(threshold(explorer) - 0.3) < 0.03 and seen(explorer) == expected(probs, targs, threshold(explorer))
    for theme in ('Dark', 'Light'):
        page.evaluate(f"window.jupyterapp.commands.execute('apputils:change-theme', {{theme: 'JupyterLab {theme}'}})")
        page.wait_for_selector(f'body[data-jp-theme-name="JupyterLab {theme}"]', state='attached')
        assert_readable(explorer, theme == 'Dark')
    assert not [request for request in page.requests if not request.startswith((address, 'data:', 'blob:'))]


@pytest.mark.many(4)
@pytest.mark.parametrize('name', [file.stem for file in lesson_files()])
def test_a_notebook_runs_in_jupyterlab(lab, new_page, name):
    """Run All: every cell is answered, none fails but those that promise to, and nothing is said on standard error but progress."""
    address, _ = lab
    page = new_page()
    cells = run_all(page, address, f'nbs/{name}.ipynb', 600)
    page.evaluate('window.jupyterapp.shell.currentWidget.sessionContext.shutdown()')  # its memory is wanted by the next
    assert not failed(cells)
    stray = [output['text'] for cell in cells for output in cell['outputs'] if output.get('name') == 'stderr']
    assert not [text for text in stray if 'arning' in text]


# ---- pages that are read on any screen

SHUT = """() => {
  document.querySelectorAll('details').forEach(x => x.open = true);
  document.querySelectorAll('img').forEach(x => x.loading = 'eager');
}"""
# How far the page, and what is not meant to scroll by itself, stands out; and tables that neither fit nor scroll in a box.
OUT = """() => {
  const column = document.querySelector('article.bd-article').getBoundingClientRect();
  const told = all => all.map(x => x.outerHTML.slice(0, 120));
  const shown = [...document.querySelectorAll('article :is(img, figure, table, pre)')].filter(x => x.getBoundingClientRect().width);
  const wide = shown.filter(x => x.getBoundingClientRect().right > column.right + 1);
  const boxed = x => x.closest('.pst-scrollable-table-container, .cell_output > .output, .live');
  return {
    page: document.documentElement.scrollWidth - innerWidth,
    code: told(shown.filter(x => x.matches('pre') && x.scrollWidth > x.clientWidth + 1)),
    pictures: told(wide.filter(x => x.matches('img, figure'))),
    tables: told(wide.filter(x => x.matches('table') && !boxed(x))),
  };
}"""
FITS = {'page': 0, 'code': [], 'pictures': [], 'tables': []}


def test_nothing_is_cut_off_or_scrolled_aside(site, address, new_page):
    """On every page, at the widths of a laptop, a tablet and a phone, with all that folds open: code, figures, tables, the page itself."""
    page, faults, seen = new_page(), {}, 0
    for name in built_pages():
        page.goto(f'{address}{name}.html')
        if not page.locator('article.bd-article').count():
            continue
        page.evaluate(SHUT)
        for width in (1280, 768, 390):
            page.set_viewport_size({'width': width, 'height': 900})
            if (found := page.evaluate(OUT)) != FITS:
                faults[name, width] = found
            seen += page.locator('.cell_input pre').count()
    assert not faults and seen > 3000, '\n'.join(f'{where}: {what}' for where, what in faults.items())


def test_exported_code_is_seen_in_short_until_it_is_opened(address, new_page):
    page = new_page()
    page.goto(f'{address}04_losses.html')
    cell = page.locator('.tag_exported', has_text='bce_with_logits: ').first
    core = page.locator('.core', has=page.get_by_text('def bce_with_logits')).first
    whole = cell.locator('.cell_input')
    assert core.is_visible() and not whole.is_visible() and 'exported to losses' in cell.inner_text()
    cell.locator('summary').press('Enter')
    assert whole.is_visible() and not core.is_visible()


def test_the_proof_of_an_answer_opens_with_it(address, new_page):
    page = new_page()
    page.goto(f'{address}11_questionnaire.html')
    answer = page.locator('details', has_text='Answer').first
    proof = answer.locator('.cell_input')
    assert proof.count() and not proof.first.is_visible()
    answer.locator('summary').first.press('Enter')
    assert proof.first.is_visible()
    assert page.locator('details:has(> summary:text-is("Answer"))').count() == page.locator('details:has(.tag_proof)').count() == 37


def test_next_leads_through_the_course_and_on(address, new_page):
    """From the first page through every lesson to the summary, and from there into the guide."""
    page, titles = new_page(), [file.stem for file in lesson_files() if file.stem not in ('index', 'results', 'recap')]
    page.goto(f'{address}{titles[0]}.html')
    for name in [*titles[1:], 'recap', 'guide/index']:
        page.locator('.prev-next-footer .right-next').click()
        page.wait_for_url(f'**/{name}.html')


@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_plots_are_drawn_for_the_page_they_stand_on(address, new_page, scheme):
    """One picture of each pair is seen, unfiltered; on the dark page its ground is the page's, and its words are light."""
    page = new_page(color_scheme=scheme, viewport={'width': 1280, 'height': 900})
    page.goto(f'{address}library/table_plots.html')
    plots = page.locator('img.plot')
    seen = plots.evaluate_all('all => all.map(x => getComputedStyle(x).display !== "none")')
    assert len(seen) >= 4 and sum(seen) * 2 == len(seen)
    shown = page.locator(f'img.plot.only-{scheme}').first
    shown.scroll_into_view_if_needed()
    page.wait_for_function('[...document.images].every(x => getComputedStyle(x).display === "none" || (x.complete && x.naturalWidth))')
    assert shown.evaluate('x => getComputedStyle(x).filter') == 'none'
    pixels = np.asarray(Image.open(io.BytesIO(shown.screenshot())).convert('L'))
    ground = np.bincount(pixels.ravel()).argmax()
    assert ground < 40 and pixels.max() > 180 if scheme == 'dark' else ground > 240 and pixels.min() < 60


@pytest.mark.parametrize('name', ['index', '00_sources', '06_training', 'library/standin_pascal'])
def test_photographs_are_the_same_on_the_dark_page(address, new_page, name):
    page = new_page(color_scheme='dark')
    page.goto(f'{address}{name}.html')
    filters = page.locator('article img:not(.drawing)').evaluate_all('all => all.map(x => getComputedStyle(x).filter)')
    assert filters and set(filters) == {'none'}


def test_a_wide_table_fades_out_where_there_is_more_of_it(address, new_page):
    page = new_page(viewport={'width': 390, 'height': 900})
    edges = """x => [x.scrollWidth > x.clientWidth,
      ...['left', 'right'].map(e => parseFloat(getComputedStyle(x).getPropertyValue(`--more-${e}`)))]"""
    page.goto(f'{address}guide/names.html')
    box = page.locator('.pst-scrollable-table-container').first
    page.wait_for_timeout(200)
    assert box.evaluate(edges) == [True, 0, 48]
    box.evaluate('x => x.scrollTo(x.scrollWidth, 0)')
    page.wait_for_timeout(200)
    assert box.evaluate(edges) == [True, 48, 0]
    page.set_viewport_size({'width': 1280, 'height': 900})
    page.goto(f'{address}guide/index.html')
    assert box.evaluate(edges) == [False, 0, 0], 'where it fits, all of it is seen'
