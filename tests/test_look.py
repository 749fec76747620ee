"""What the site makes of notebooks for the eye: cells that fold, pictures for light and dark, long lines of code, heads of pages."""

import base64
import io
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / 'tools'))

import checked_cells  # noqa: E402
import folding  # noqa: E402
import lessons  # noqa: E402
import rendered  # noqa: E402
import vector  # noqa: E402

# ---- exported cells

LONG = '''def _add(a, b):
    return a + b


def total(
    probs: list,  # a probability for each label, `(C,)`
    thresh: float = 0.5,  # what lies above is on
    *rest, strict: bool = True,  # likewise
) -> float:  # their sum
    """The sum of what is on. Never negative.

    Example
    -------
    >>> total([1])
    1
    """
    on = [p for p in probs if p > thresh]
    for more in rest:
        on += more
    assert strict
    so_far = 0
    for p in on:
        so_far = _add(so_far, p)
    if strict:
        so_far += 0.0
    return so_far'''
CLASS = """class Box(Shape):
    "A box."

    side: float = 1.0  # in pixels
    name: str

    def area(self, unit: str = 'px') -> float:  # in pixels
        "How large."
        return self.side**2

    @property
    def half(self):
        return self.side / 2

    def _hidden(self):
        pass


SIDES = {
    1: 'one',
    2: 'two',
}"""
CORES = {
    LONG: 'def total(probs, thresh=0.5, *rest, strict=True):\n    """The sum of what is on."""\n    ...\n    return so_far',
    CLASS: 'class Box(Shape):\n    """A box."""\n    side: float = 1.0\n    name: str\n'
    "    def area(self, unit='px'): ...\n    @property\n    def half(self): ...\n\nSIDES = {\n    1: 'one',\n    2: 'two',\n}",
    'def _a(x):\n    return x': '',
    'def f(x):\n    "Half."\n    # why\n    return x / 2': 'def f(x):\n    """Half."""\n    return x / 2',
    'ROWS = [' + '1,\n' * 20 + ']': 'ROWS = ...',
}


@pytest.mark.parametrize('source', CORES, ids=range(len(CORES)))
def test_the_core_of_a_cell_says_what_it_takes_and_how_it_ends(source):
    assert folding.core(source) == CORES[source]
    checked_cells.parse(CORES[source])


def test_a_long_signature_takes_several_lines():
    given = ', '.join(f'number_{i}={i}' for i in range(12))
    lines = folding.core(f'def f({given}):\n    return 1').split('\n')
    assert lines[0] == 'def f(' and '):' in lines and max(map(len, lines)) <= folding.WIDTH


def folded(source, module='sums'):
    cell = new_code_cell(source)
    return cell, folding.fold_exported(cell, module)


def test_an_exported_cell_folds_and_says_what_it_holds():
    cell, core = folded(LONG)
    assert cell.metadata['mystnb']['code_prompt_show'] == 'total and 1 helper: 26 lines, exported to sums'
    assert {'hide-input', 'exported'} <= {*cell.metadata['tags']} and 'def total(probs' in core.source
    cell, core = folded('\n\n\n'.join(f'def _f{i}():\n    return {i}' for i in range(5)))
    assert cell.metadata['mystnb']['code_prompt_show'] == '_f0, _f1, _f2 and 2 others: 18 lines, exported to sums' and core is None


@pytest.mark.parametrize(
    'source', ['A = 1\nB = 2\nC = 3', 'import a\nimport b\nimport c\nimport d', 'def f(x):\n    "Half."\n    # why\n    return x / 2']
)
def test_what_is_short_or_said_by_its_core_stays_open(source):
    cell, core = folded(source)
    assert core is None and 'tags' not in cell.metadata


def test_every_core_of_the_notebooks_is_python():
    """And shorter than its cell, which it stands for."""
    seen = 0
    for file in lessons.notebook_files():
        for cell in nbformat.read(file, as_version=4).cells:
            if cell.cell_type == 'code' and checked_cells.is_exported(cell.source):
                source = re.sub(r'\A(#\|.*\n?)+', '', cell.source)
                copy, core = folded(source, folding.module_of(cell.source, 'x'))
                checked_cells.parse(folding.core(source))
                assert core is None or core.source.count('\n') - 4 < source.count('\n')
                seen += 'tags' in copy.metadata
    assert seen > 300


def test_the_proof_of_an_answer_folds_with_it():
    answer = new_markdown_cell('### 1. Why?\n\n<details><summary>Answer</summary>\n\nSo.\n\n</details>')
    cells = [answer, new_code_cell('assert 1'), new_code_cell('assert 2'), new_markdown_cell('### 2. And?'), new_code_cell('assert 3')]
    found = folding.answers(cells)
    text = '\n\n'.join(cell.source for cell in found)
    assert re.search(r'So\.\s+assert 1\s+assert 2\s+</details>\s+### 2', text) and text.count('</details>') == 1
    assert [cell.metadata.get('tags') for cell in found if cell.cell_type == 'code'] == [['proof'], ['proof'], None]
    assert folding.answers([new_markdown_cell('<details><summary>Answer</summary>So.</details>')])[-1].source == '</details>'


# ---- pictures

DRAW = """
import io, sys
import matplotlib
matplotlib.use('agg')
import matplotlib.pyplot as plt, numpy as np
fig, (ax, photo, heat) = plt.subplots(1, 3, figsize=(6, 2))
ax.plot([0, 1], [1, 0], color='#0072B2'), ax.set_title('Title')
photo.imshow(np.random.default_rng(0).random((256, 256, 3))), photo.text(20, 128, 'on it')
heat.imshow(np.arange(9).reshape(3, 3))
fig.savefig(sys.stdout.buffer, format='svg', metadata={'Date': None}, bbox_inches='tight', dpi=192)
"""


@pytest.fixture(scope='module')
def drawn():
    "An SVG as a kernel makes it, drawn twice in processes of their own: a line, a photograph with words on it, a heat map."
    env = {'MATPLOTLIBRC': str(ROOT / 'nbs' / 'matplotlibrc'), 'PATH': '', 'HOME': '/nonexistent'}
    one, two = (subprocess.run([sys.executable, '-c', DRAW], capture_output=True, check=True, env=env).stdout for _ in range(2))
    assert one == two, 'the same picture has other bytes each time it is drawn'
    return one.decode()


def test_a_stored_svg_is_slim_and_the_same_picture(drawn):
    slim = vector.slim(drawn)
    assert len(slim) < 0.8 * len(drawn) and not re.search(r'<metadata|<!--|<!DOCTYPE|\n', slim)
    before, after = (ElementTree.fromstring(svg) for svg in (drawn, slim))
    paths = [[node.get('d') or '' for node in root.iter(f'{vector.SHAPES}path')] for root in (before, after)]
    numbers = [[float(x) for d in found for x in re.findall(r'-?\d+\.?\d*', d)] for found in paths]
    assert numbers[0] == pytest.approx(numbers[1], abs=0.006)
    images = [node.get(vector.HREF)[:15] for node in after.iter(f'{vector.SHAPES}image')]
    assert images == ['data:image/jpeg', 'data:image/png;'], 'a photograph becomes a JPEG, a heat map of few colours stays'


def as_png(size=(200, 100), colour=(0, 114, 178)):
    out = io.BytesIO()
    Image.new('RGBA', size, colour).save(out, 'PNG')
    return base64.b64encode(out.getvalue()).decode()


def test_beside_an_svg_stands_a_small_raster_picture(drawn):
    """For JupyterLab, which shows no SVG in a notebook that it does not trust; a picture that is no SVG stays."""
    output = new_output('display_data', {'image/svg+xml': drawn, 'image/png': as_png(), 'text/plain': '<Figure>'})
    vector.tidy(output)
    assert set(output.data) == {'image/svg+xml', 'image/jpeg', 'text/plain'}
    assert vector.opened(output.data['image/jpeg']).size == (100, 50)
    plain = re.sub(r'<image.*?/>', '', drawn, flags=re.S)
    output = new_output('display_data', {'image/svg+xml': plain, 'image/png': as_png()})
    vector.tidy(output)
    assert set(output.data) == {'image/svg+xml', 'image/png'}
    alone = new_output('display_data', {'image/png': as_png()})
    before = alone.copy()
    vector.tidy(alone)
    assert alone == before


def test_the_dark_page_has_colours_of_its_own(drawn):
    """Lines and words are seen there; what stands on a photograph keeps its colour."""
    svg = vector.named(vector.slim(drawn))
    values = dict(re.findall(r'--(\w+):#(\w{6});', svg))
    assert values['c000000'] == 'ced6dd' and values['cffffff'] == '121212'
    assert '#dark:target #patch_1{display:none}' in svg and 'id="dark"' in svg[:300]
    words = [node for node in ElementTree.fromstring(svg).iter(f'{vector.SHAPES}g') if 'fill' in node.get('style', '')]
    kept = [node for node in words if 'var(' not in node.get('style')]
    assert len(kept) == 1 and len(words) > 10, 'the words on the photograph'
    named, asked = set(values), set(re.findall(r'var\(--(\w+)', svg))
    assert named == asked


@pytest.mark.parametrize('colour', ['000000', '333333', '0072b2', 'd55e00', '009e73', 'cc79a7', 'e69f00', '56b4e9', '1f77b4', '440154'])
def test_colours_can_be_read_in_the_dark(colour):
    assert vector.contrast(bytes.fromhex(vector.dark(colour))) >= vector.SEEN
    assert vector.dark('ffffff') == '121212'


def test_a_picture_is_shown_once_on_each_page(tmp_path, drawn):
    (tmp_path / 'a.svg').write_text(drawn)
    shown = vector.PLOT.sub(lambda m: vector.both(m, tmp_path), '<figure><img alt="x" class="plot" src="a.svg" /></figure>')
    assert re.findall(r'class="([^"]+)" src="([^"]+)"', shown) == [('plot only-light', 'a.svg'), ('plot only-dark', 'a.svg#dark')]
    width, height = vector.size(drawn)
    assert shown.count(f'width="{width}" height="{height}" loading="lazy"') == 2 and 400 < width < 700
    assert vector.on_site(new_output('display_data', {'image/png': as_png()})).data.keys() == {'image/png'}


# ---- what Sphinx wrote


def test_long_lines_of_code_hang_under_their_first_word():
    code = '<span class="k">def</span> f():\n    <span class="n">x</span> = &quot;' + 'long ' * 10 + '&quot;\n'
    page = f'<div class="highlight-ipython3 notranslate"><div class="highlight"><pre><span></span>{code}</pre>'
    told = rendered.hanging(page)
    assert rendered.words(told) == rendered.words(page) and told.count('class="ln"') == 1
    assert '<span class="ln" style=--i:4>    <span class="n">x' in told
    printed = page.replace('ipython3', 'text')
    assert rendered.hanging(printed) == printed, 'what code prints is no code'


CFG = {'title': 'a_project', 'description': 'What it is'}
PAGE = (
    '<head><meta name="viewport" content="a" /><meta name="viewport" content="b" /><title>One &#8212; a_project</title></head>'
    '<h1>One</h1><div class="ways-in x"><p>Run it</p></div><p>It says <b>"this"</b> &amp; that. And more.</p>'
)


def test_a_head_says_what_the_page_is():
    told = rendered.head(PAGE, 'one.html', 'https://x.org/a/', CFG)
    assert told.count('name="viewport"') == 1 and told.count('name="description"') == 1
    assert '<meta name="description" content="It says &quot;this&quot; &amp; that.">' in told
    said = dict(re.findall(r'property="(og:\w+)" content="([^"]+)"', told))
    assert said['og:title'] == 'One · a_project' and said['og:url'] == 'https://x.org/a/one.html'
    assert said['og:image'] == f'https://x.org/a/{rendered.PREVIEW}'
    assert 'content="What it is"' in rendered.head(PAGE.partition('<h1>')[0], 'index.html', 'https://x.org/', CFG)


def test_the_preview_is_drawn_the_same_each_time_and_small():
    one, two = (rendered.preview('a_project', 'What it is ' * 10) for _ in range(2))
    out = io.BytesIO()
    one.save(out, 'JPEG', quality=85)
    assert one.size == (1200, 630) and one.tobytes() == two.tobytes() and out.tell() < 200_000
