"""What the reference adds to the texts of the modules: groups, types that lead on, pictures of plots, and the page of wishes.

All of it is taken from where it stands already: groups from the headings of the notebooks, pictures from their stored outputs. Only the
wishes have a file of their own, docs/wishes.toml.
"""

import ast
import base64
import re
import tomllib
from dataclasses import dataclass, field
from html import escape

import checked_cells
import figures
import nbformat
import vector

GROUPED = 6  # a module with more public names than this is grouped
PLOTS = {'Figure', 'Axes', 'list[Axes]'}  # what a plotting function returns
# Types that this library does not define, where their name alone may not say enough.
TYPES = {
    'ArrayLike': 'Whatever becomes an array of numbers: a number, a (nested) list, a NumPy array, a PyTorch tensor, a pandas or polars '
    'data frame. Columns that have names are matched by name. NumPy calls it `numpy.typing.ArrayLike`.',
    'Axes': 'The axes of a plot, `matplotlib.axes.Axes`.',
    'Figure': 'A whole picture with its plots, `matplotlib.figure.Figure`.',
    'DataFrame': 'A table, `pandas.DataFrame`.',
    'Tensor': 'A tensor of PyTorch, `torch.Tensor`.',
    'Module': 'A network, or a part of one, of PyTorch: `torch.nn.Module`.',
}
TYPES_AT = 'index.html#types-in-signatures'
OWN_TYPES = 'PerLabel', 'ImageLike', 'TableLike'  # what the library names itself


# ---- groups


def headings(file):
    "For each cell of a notebook, by its id, the heading it stands under; before the first one the notebook's title."
    found, heading = {}, ''
    for cell in nbformat.read(file, as_version=4).cells:
        if cell.cell_type == 'markdown':
            heading = (re.findall(r'^##? (.+)$', cell.source, re.M) or [heading])[-1]
        found[cell.id] = heading
    return found


def groups(module, folder):
    "The names of a module by the headings of the notebooks that build it; nothing for a module that is looked over at a glance."
    if len(module.names) <= GROUPED:
        return {}
    under = {notebook: headings(folder / notebook) for notebook in module.notebooks}
    found = {}
    for name in module.names:
        found.setdefault((name.notebook, under[name.notebook][name.cell]), []).append(name)
    titles = [title for _, title in found]
    unique = lambda notebook, title: title if titles.count(title) == 1 else f'{title} ({notebook})'  # noqa: E731
    return {unique(*key): names for key, names in found.items()}


# ---- types


def type_links(modules):
    "Where the page of each type is, seen from a page of the reference: those of TYPES, and what the library defines."
    own = {n.name: f'{m.short}.html#{m.name}.{n.name}' for m in modules for n in m.names if n.kind == 'class' or n.name in OWN_TYPES}
    return {name: TYPES_AT for name in TYPES} | own


def typed(text, links):
    "A type as HTML, the names in it that have a page as links."
    linked = lambda m: f'<a href="{links[m[1]]}">{m[0]}</a>' if m[1] in links else m[0]  # noqa: E731
    shown = re.sub(r'(?<![.\w])(?:pd\.|torch\.|nn\.|multilabel_nb\.)?([A-Z]\w+)', linked, escape(text, quote=False))
    return f'<code class="type">{shown}</code>'


def types_section(modules):
    "What the types in signatures mean, for the first page of the reference: those above, and what the library names itself."
    own = {n.name: (f'{{py:obj}}`{n.name} <{m.name}.{n.name}>`', n.doc) for m in modules for n in m.names if n.name in OWN_TYPES}
    said = [f'`{name}`\n: {words}' for name, words in TYPES.items()] + [
        f'{own[name][0]}\n: {own[name][1]}' for name in OWN_TYPES if name in own
    ]
    return '\n\n'.join(['## Types in signatures', 'Signatures say what a function takes.', *said])


# ---- pictures


@dataclass
class Picture:
    "A stored picture of a plot."

    data: bytes
    suffix: str  # svg or png
    alt: str
    kind: str  # plot, drawing or photo
    notebook: str  # where it was drawn


def is_plot(name):
    "Whether a name is a plotting function."
    return name.kind == 'function' and any(p.name == 'returns' and p.type in PLOTS for p in name.params)


def pictures(names, files, folder):
    "For each of these functions the picture of the first cell of the notebooks that calls it and shows one."
    found = {}
    for file in files:
        nb = nbformat.read(file, as_version=4)
        shown = [(cell, name) for cell in nb.cells if figures.pictures(cell) for name in calls(cell) & {*names} - {*found}]
        words = figures.describe(nb, file.name) if shown else {}
        for cell, name in reversed(shown):  # of several, the first one stays
            said, drawn = words[cell.id]['image'], figures.vectors(cell)
            data = vector.named(drawn[0]).encode() if drawn else base64.b64decode(figures.pictures(cell)[0])
            place = file.relative_to(folder).as_posix()
            found[name] = Picture(data, 'svg' if drawn else 'png', said['alt'], said['classes'], place)
    return found


def calls(cell):
    "The functions that a cell calls."
    return {checked_cells.called(n) for n in ast.walk(checked_cells.parse(cell.source)) if isinstance(n, ast.Call)}


def figure(name, picture):
    "A picture under a function: it leads to the notebook that drew it."
    place = f'From []({"../" + picture.notebook}).'
    return f'```{{figure}} {name}.{picture.suffix}\n:alt: {picture.alt}\n:class: {picture.kind}\n:figclass: plot\n\n{place}\n```'


# ---- wishes


def wishes(text):
    "docs/wishes.toml: for each page what a reader may want and the names that do it; and the names that help these."
    given = tomllib.loads(text)
    return given, given.pop('helpers', [])


def pages_of(given):
    "For each name the pages that it is wished on."
    found = {}
    for page, listed in given.items():
        for name in [name for names in listed.values() for name in names]:
            found.setdefault(name, [])
            found[name] += [page] if page not in found[name] else []
    return found


def link_to(page, pages):
    "A link from the reference to a page of the guide or a notebook. `pages`: for each its title and its file."
    title, file = pages[page]
    return f'[{title}](../{file})'


def wish_page(given, helpers, known, pages):
    "The page of wishes. `known`: the full name of each; `pages`: the titles and files of what they are listed under."

    named = {name for listed in given.values() for names in listed.values() for name in names} | {*helpers}
    if lost := sorted(named - {*known}) + sorted({*given} - {*pages}):
        raise SystemExit(f'wishes.toml: there is nothing that is called {", ".join(lost)}')

    def link(name):
        return f'{{py:obj}}`{name} <{known[name]}>`'

    tasks = '[The guide](../guide/index.md) lists whole tasks. ' if 'guide/index' in pages else ''
    parts = [
        '# I want to …: the functions by what they do',
        'What you want, and the functions that do it. Each heading leads to the page that shows how. '
        f'{tasks}[The reference](index.md) lists every name by its module.',
    ]
    for page, listed in given.items():
        lines = [f'- {wish}: {", ".join(map(link, names))}' for wish, names in listed.items()]
        parts += [f'## {link_to(page, pages)}', '\n'.join(lines)]
    told = 'These are called by the functions above; you seldom need them yourself.'
    return '\n\n'.join([*parts, '## Helpers', told, ', '.join(map(link, helpers)) + '.']) + '\n'


# ---- all of it


@dataclass
class Shelf:
    "What the pages of the modules take from elsewhere; the empty one adds nothing."

    groups: dict = field(default_factory=dict)  # module -> heading -> names
    types: dict = field(default_factory=dict)  # type -> address
    pictures: dict = field(default_factory=dict)  # function -> Picture
    pages: dict = field(default_factory=dict)  # name -> links to pages
