"""The reference: types with names, groups from the notebooks, pictures beside plots, what one may want; on a phone nothing is cut."""

import ast
import inspect
import json
import re
import sys
import tomllib

import nbformat
import pytest
from hosted import ROOT, build_site, lessons, visit

import multilabel_nb

sys.path.insert(0, str(ROOT / 'tools'))

import api_pages  # noqa: E402
import reference  # noqa: E402

CONFIG = lessons.config()
NOTEBOOKS = ROOT / CONFIG['nbs_path']
MODULES = [m for m in build_site.modules(ROOT, CONFIG) if m.short.partition('.')[0] not in lessons.MACHINERY]
each_module = pytest.mark.parametrize('module', MODULES, ids=lambda m: m.short)


@pytest.fixture(scope='module')
def shelf():
    return build_site.shelf_of(ROOT, build_site.modules(ROOT, CONFIG), CONFIG)


# ---- types


def test_types_are_shown_as_they_are_written():
    """What `ArrayLike` stands for fills lines: `help` and editors show the name."""
    for name in ('accuracy_multi', 'tune_thresholds', 'plot_sweep', 'save_bundle', 'open_rgb', 'read_labels'):
        assert all(isinstance(shown, str) for shown in getattr(multilabel_nb, name).__annotations__.values()), name
    assert (
        str(inspect.signature(multilabel_nb.above))
        == "(probs: 'ArrayLike', thresh: 'PerLabel' = 0.5, vocab: 'Sequence[str] | None' = None) -> 'np.ndarray'"
    )


def test_what_a_type_means_is_said_on_the_first_page():
    """Those that `checks` only names, and those that the library defines."""
    source = (ROOT / 'multilabel_nb' / 'checks.py').read_text(encoding='utf-8')
    (named,) = [node for node in ast.parse(source).body if isinstance(node, ast.If) and ast.unparse(node.test) == 'TYPE_CHECKING']
    names = {alias.asname or alias.name for node in named.body for alias in node.names} - {'PolarsFrame'}
    assert names | {'ArrayLike'} == set(reference.TYPES)
    said = api_pages.overview(MODULES)
    assert all(f'\n`{name}`\n: ' in said for name in reference.TYPES)
    assert all(re.search(rf'`{name} <\S+>`\n: \w+', said) for name in reference.OWN_TYPES)
    links = reference.type_links(MODULES)
    assert links['PerLabel'] == 'checks.html#multilabel_nb.checks.PerLabel' and {'ImageLike', 'TableLike', 'Thresholds'} <= set(links)


def test_names_in_a_type_lead_to_their_page():
    links = {'ArrayLike': 'index.html#a', 'DataFrame': 'index.html#b'}
    assert reference.typed('ArrayLike | None', links) == '<code class="type"><a href="index.html#a">ArrayLike</a> | None</code>'
    assert reference.typed('pd.DataFrame', links) == '<code class="type"><a href="index.html#b">pd.DataFrame</a></code>'
    assert reference.typed("dict['<a>', my.ArrayLike]", {**links}) == '<code class="type">dict[\'&lt;a&gt;\', my.ArrayLike]</code>'


# ---- groups


@each_module
def test_a_long_module_is_grouped_by_the_headings_of_its_notebooks(module, shelf):
    groups = shelf.groups[module.short]
    assert bool(groups) == (len(module.names) > reference.GROUPED)
    if groups:
        assert sorted(n.name for names in groups.values() for n in names) == sorted(n.name for n in module.names)
        page = api_pages.page(module, '', shelf)
        assert [line.removeprefix('## ') for line in page.splitlines() if line.startswith('## ')] == list(groups)
        headings = {h for file in module.notebooks for h in reference.headings(NOTEBOOKS / file).values()}
        assert set(groups) <= headings


def test_groups_begin_where_a_heading_stands(tmp_path):
    cells = [
        nbformat.v4.new_markdown_cell('# All\n\n> of it', id='a'),
        nbformat.v4.new_code_cell('x', id='b'),
        nbformat.v4.new_markdown_cell('Words\n\n## Two\n\n### Not this one', id='c'),
        nbformat.v4.new_code_cell('y', id='d'),
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / 'n.ipynb')
    assert reference.headings(tmp_path / 'n.ipynb') == {'a': 'All', 'b': 'All', 'c': 'Two', 'd': 'Two'}
    names = [api_pages.Name(f'f{i}', 'function', '', 1, 2, notebook='n.ipynb', cell='bd'[i > 2]) for i in range(7)]
    module = api_pages.Module('multilabel_nb.m', '', '', 'n.ipynb', names, [])
    assert {title: len(found) for title, found in reference.groups(module, tmp_path).items()} == {'All': 3, 'Two': 4}
    module.names = names[:6]
    assert reference.groups(module, tmp_path) == {}


# ---- pictures


def draws(node):
    "Whether a function makes a plot: it asks for axes, or for the grid of pictures."
    return bool(re.search(r'\bplt\.subplots\(|\bimage_grid\(', ast.unparse(node)))


def test_every_plotting_function_says_so_and_has_its_picture(shelf):
    """Functions that draw return `Axes` or a `Figure`; each has a picture with words, which is stored in a notebook."""
    plots = {n.name for m in MODULES for n in m.names if reference.is_plot(n)}
    for module in MODULES:
        tree = ast.parse((ROOT / module.path).read_text(encoding='utf-8'))
        drawing = {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and not node.name.startswith('_') and draws(node)}
        assert drawing <= plots, f'what these return is no Axes or Figure: {drawing - plots}'
        page = api_pages.page(module, '', shelf)
        for name in plots & {n.name for n in module.names}:
            shown = shelf.pictures[name]
            assert f'{{figure}} {name}.{shown.suffix}\n:alt: {shown.alt}\n' in page and len(shown.alt) > 40
            assert shown.data[:4] == {'svg': b'<svg', 'png': b'\x89PNG'}[shown.suffix]
    assert len(plots) >= 7 and set(shelf.pictures) == plots


def test_a_picture_is_that_of_the_first_cell_that_calls_the_function(tmp_path):
    one = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGP4DwABAQEAG7buVgAAAABJRU5ErkJggg=='
    shown = lambda source: nbformat.v4.new_code_cell(  # noqa: E731
        source, outputs=[nbformat.v4.new_output('display_data', {'image/png': one})]
    )
    drawn = [shown(f"draw({i}, title='{title}')") for i, title in enumerate(('first', 'second'))]
    cells = [shown("plt.title('no call of it')"), nbformat.v4.new_code_cell('draw(0)'), *drawn]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / 'n.ipynb')
    found = reference.pictures(['draw', 'other'], [tmp_path / 'n.ipynb'], tmp_path)
    assert {name: (p.alt, p.notebook, p.kind) for name, p in found.items()} == {'draw': ('first.', 'n.ipynb', 'drawing')}


# ---- wishes

GIVEN, HELPERS = reference.wishes((ROOT / 'docs' / 'wishes.toml').read_text(encoding='utf-8'))
WISHED = {name for listed in GIVEN.values() for names in listed.values() for name in names}


def test_every_public_name_is_wished_for_or_helps():
    assert WISHED | set(HELPERS) == set(multilabel_nb.__all__), 'mend docs/wishes.toml'
    assert not WISHED & set(HELPERS) and len(HELPERS) == len(set(HELPERS))
    assert len(WISHED) > 2 * len(HELPERS)


def shown_on(page):
    "The text of a page of the guide, or of a notebook."
    md = ROOT / 'docs' / f'{page}.md'
    if md.exists():
        return md.read_text(encoding='utf-8')
    cells = json.loads((NOTEBOOKS / f'{page}.ipynb').read_text(encoding='utf-8'))['cells']
    return '\n'.join(''.join(cell['source']) for cell in cells)


@pytest.mark.parametrize('page', GIVEN)
def test_a_page_shows_what_is_wished_under_it(page):
    """In words that no other wish has; the whole tasks of the guide's first page are not written again."""
    text, guide = shown_on(page), shown_on('guide/index')
    for wish, names in GIVEN[page].items():
        assert names and not [name for name in names if not re.search(rf'\b{name}\b', text)], wish
        assert sum(wish in listed for listed in GIVEN.values()) == 1 and f'| {wish} |' not in guide
        assert wish[0].islower() and not wish.endswith('.')


def test_a_name_that_is_not_there_keeps_the_site_from_being_built():
    known, pages = {'f': 'multilabel_nb.m.f'}, {'guide/p': ('P', 'guide/p.md')}
    text = reference.wish_page({'guide/p': {'do it': ['f']}}, ['f'], known, pages)
    assert '## [P](../guide/p.md)\n\n- do it: {py:obj}`f <multilabel_nb.m.f>`\n' in text
    for given, helpers in (({'guide/p': {'do it': ['gone']}}, []), ({'guide/gone': {}}, []), ({}, ['gone'])):
        with pytest.raises(SystemExit, match='wishes.toml: there is nothing that is called .*gone'):
            reference.wish_page(given, helpers, known, pages)


def test_the_file_of_wishes_is_sorted_by_pages():
    given = tomllib.loads((ROOT / 'docs' / 'wishes.toml').read_text(encoding='utf-8'))
    assert all(isinstance(listed, dict) or page == 'helpers' for page, listed in given.items())
    links = reference.pages_of(GIVEN)
    assert links['tune_thresholds'] == ['guide/thresholds'] and set(links) == WISHED


# ---- on a screen


@each_module
def test_parameters_stand_one_below_the_other(module, shelf):
    page = api_pages.page(module, '', shelf)
    assert '|---' not in page and '|---' not in api_pages.overview([module])
    for _, name in api_pages.documented(module):
        if any(name is n or name in n.members for n in module.names):
            for p in name.params:
                assert p.name == 'returns' or re.search(rf'^`{re.escape(p.name)}`[^\n]*\n: ', page, re.M), p.name


NARROW = """() => [...document.querySelectorAll('dl.py, dl.py dt, dl.py dd, dl.py p, dl.py pre, dl.py li, dl.py figure, dl.py img')]
  .filter(x => x.scrollWidth > x.clientWidth + 1 && x.clientWidth || x.getBoundingClientRect().right > innerWidth + 1)
  .map(x => x.outerHTML.slice(0, 200))"""


@pytest.mark.slow
@pytest.mark.many(8)
@each_module
def test_nothing_is_scrolled_aside_on_a_phone(address, page, module):
    page.set_viewport_size({'width': 390, 'height': 844})
    visit(page, f'{address}api/{module.short}.html')
    assert not page.evaluate(NARROW) and page.locator('article table').count() == 0
    plots = [n.name for n in module.names if reference.is_plot(n)]
    shown = page.locator('dl.py figure.plot img:not(.only-dark)')
    assert shown.count() == len(plots)
    for image in shown.all():
        image.scroll_into_view_if_needed()
        assert len(image.get_attribute('alt')) > 40 and image.evaluate('x => x.decode().then(() => x.naturalWidth)') > 200


@pytest.mark.slow
def test_a_wish_leads_to_its_function_and_its_page(address, page):
    visit(page, f'{address}api/wishes.html')
    page.get_by_role('listitem').filter(has_text='count the images of each label').get_by_role('link').click()
    page.wait_for_url('**/api/tables.html#multilabel_nb.tables.count_labels')
    own = page.locator('dl.py', has=page.locator('[id="multilabel_nb.tables.count_labels"]'))
    own.get_by_role('link', name='Rare labels').click()
    page.wait_for_url('**/guide/rare-labels.html')
