"""Build the site: `python tools/build_site.py` turns the executed notebooks, the modules and the pages in docs/ into _docs/.

The notebooks are not run. nbdev's processors read its directives, the functions below add what a reader of the site expects (text for
pictures, links, the stamp of the last test run), and Sphinx renders it all, with every warning an error. Nothing is written unless
everything went well.
"""

import argparse
import ast
import base64
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path
from xml.sax.saxutils import escape

import api_pages
import checked_cells
import figures
import folding
import nbformat
import records
import reference
import rendered
import vector
import verified
from execnb.nbio import read_nb
from lessons import FIRST, ROOT, config, exported, notebook_files
from nbdev.process import NBProcessor
from nbdev.processors import hide_, hide_line, strip_ansi, strip_hidden_metadata
from records import rows
from rooms import ROOMS

FOLDED = 30  # a cell with more lines than this is folded; one of nothing but imports or checks always
TO_LINTERS = re.compile(r'  # (noqa: \w+|fmt: skip)$|(?<=  # )noqa: \w+  ', re.M)  # words for another reader; a reason behind them stays
FENCED = re.compile(r'(```.*?```|\$\$.*?\$\$)', re.S)
HOME = 'index.ipynb'
COLAB = 'colab'  # a folder of the site; the workflow that publishes it makes it a branch of the repository too


class Broken(SystemExit):
    "What keeps the site from being built, said to the author of the page."


# ---- what there is


def room(name):
    "Where a module stands among the rooms, by its name without the package; one in no room comes last."
    order = [room.removesuffix('.*') for room in ROOMS]
    first = name.partition('.')[0]
    return order.index(first) if first in order else len(order), name


def exports_to(file):
    "The module that a notebook writes, or adds to; nothing if it writes none."
    cells = [c.source for c in nbformat.read(file, as_version=4).cells if c.cell_type == 'code']
    return next((m[1] for source in cells if (m := re.match(r'#\|\s*(?:default_exp|exports?)[ \t]+(\S+)', source))), '')


def notebooks(root, cfg):
    "The lessons in order, the others for the reader, and those that build the rest of the library, by room."
    folder = root / cfg['nbs_path']
    files = [f for f in notebook_files(root) if f.name != HOME]
    lessons = [f for f in files if f.parent == folder and (f.name in FIRST or f.name[0].isdigit())]
    others = [f for f in files if f.parent == folder and f not in lessons]
    return lessons, others, sorted((f for f in files if f.parent != folder), key=lambda f: (*room(exports_to(f)), f.name))


def place(file, cfg):
    "Where a notebook lies in the folder of the notebooks, and its page on the site: `04_losses.ipynb`, `library/checks.ipynb`."
    folder = next(p for p in file.parents if p.name == cfg['nbs_path'])
    return file.relative_to(folder).as_posix()


def up(file, cfg):
    "From a notebook's page to the root of the site."
    return '../' * place(file, cfg).count('/')


def modules(root, cfg):
    "The exported modules that have public names, from the ground up."
    folder = root / cfg['lib_path']
    found = [api_pages.read_module(f, cfg['lib_path'], folder) for f in exported(root) if f.name != '_modidx.py']
    return sorted((m for m in found if m.names), key=lambda m: room(m.short))


def blob(cfg, what='blob'):
    "Where the code host shows a file of the main branch (`edit`: lets one edit it)."
    return f'{cfg["git_url"]}/{what}/{cfg["branch"]}'


def home_url(cfg):
    return f'{cfg["doc_host"]}{cfg["doc_baseurl"]}/'


def title_of(nb):
    "Title and blurb, which each notebook begins with."
    if not nb.cells or not (found := re.match(r'# (.+)\n\n> (.+)', nb.cells[0].source)):
        raise Broken('the first cell must be "# Title", a blank line and "> blurb"')
    return found[1], found[2]


# ---- back-ticked names


def known_names(mods):
    "Everything that prose may mention: names, and names behind their module's."
    known = {}
    for mod in mods:
        short = mod.name.rpartition('.')[2]
        for name in mod.names:
            full = f'{mod.name}.{name.name}'
            ways = '', f'{short}.', f'{mod.short}.', f'{mod.name.partition(".")[0]}.', f'{mod.name}.'
            known |= {f'{way}{name.name}': full for way in ways}
            members = {f'{name.name}.{m.name}': f'{full}.{m.name}' for m in name.members}
            known |= members
        known[mod.name] = mod.name
    return known


def names_in(nb):
    "The names that a notebook's code uses."
    sources = [c.source for c in nb.cells if c.cell_type == 'code']
    trees = [checked_cells.parse(source) for source in sources]
    return {n.id for tree in trees for n in ast.walk(tree) if isinstance(n, ast.Name)} | {
        a.name for tree in trees for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) for a in n.names
    }


def link_names(text, known, used):
    """Back-ticked names of the library become links to the reference.

    A plain word (`main`, `decide`) may mean something else: it is taken for the library's only where the code beside it uses it. Headings,
    code and existing links stay as they are.
    """

    def linked(match):
        name = match[1].removesuffix('()')
        plain = name.isalpha() and name.islower()
        if name not in known or (plain and name not in used):
            return match[0]
        return f'{{py:obj}}`{match[1]} <{known[name]}>`'

    def line(text):
        return text if text.startswith(('#', '<')) else re.sub(r'(?<![\[`}\\])`([A-Za-z_][\w.]*(?:\(\))?)`(?![`\]])', linked, text)

    parts = FENCED.split(text)
    return ''.join(part if FENCED.fullmatch(part) else '\n'.join(map(line, part.split('\n'))) for part in parts)


# ---- links


def site_links(text, file, root, cfg):
    """Links as the site needs them: between notebooks they stay, to other files of the project they lead to the code host.

    nbdev writes absolute links to its own pages: those become relative.
    """

    def moved(match):
        target, _, anchor = match[2].partition('#')
        if target.startswith(home_url(cfg)):
            return f'{match[1]}({up(file, cfg)}{target.removeprefix(home_url(cfg))}{"#" + anchor if anchor else ""})'
        if not target or re.match(r'[a-z]+:', target):
            return match[0]
        path = (file.parent / target).resolve()
        if path.suffix == '.ipynb' and path.is_relative_to((root / cfg['nbs_path']).resolve()):
            return match[0]  # whether there is such a page, Sphinx sees
        if not path.exists() or not path.is_relative_to(root.resolve()):
            raise Broken(f'{file.name}: the link to {match[2]} leads nowhere')
        return f'{match[1]}({blob(cfg)}/{path.relative_to(root.resolve())}{"#" + anchor if anchor else ""})'

    parts = re.split(r'(```.*?```|`[^`\n]+`(?!\])|!\[[^\]]*\]\([^)]*\))', text, flags=re.S)  # code and pictures stay
    return ''.join(p if i % 2 else re.sub(r'(\])\(([^)\s]+)\)', moved, p) for i, p in enumerate(parts))


def colab(file, cfg):
    "A link that opens a notebook in Colab, and one to what it needs there; none for one that reads the project's files."
    if any("'benchmarks'" in c.source for c in nbformat.read(file, as_version=4).cells if c.cell_type == 'code'):
        return []
    repo = cfg['git_url'].partition('://')[2].partition('/')[2]
    hosted = f'https://colab.research.google.com/github/{repo}/blob/{COLAB}/{place(file, cfg)}'
    return [f'[Colab]({hosted}) ([what it needs]({up(file, cfg)}open.md#In-Colab))']


def ways_in(file, cfg):
    "The line under a lesson's title: run it, take it along, mend it."
    path, top = f'{cfg["nbs_path"]}/{place(file, cfg)}', up(file, cfg)
    links = [
        f'[JupyterLab]({top}open.md#In-JupyterLab)',
        *colab(file, cfg),
        f'{{download}}`Download </files/{place(file, cfg)}>`',
        f'[Edit this page]({blob(cfg, "edit")}/{path})',
    ]
    return ':::{container} ways-in\n' + ' · '.join(links) + '\n:::'


def where_to_answer(file, cfg):
    "The line above the exercises: this page runs nothing, so where to answer them."
    links = ' · '.join([*colab(file, cfg), f'[JupyterLab on your computer]({up(file, cfg)}open.md#In-JupyterLab)'])
    return f':::{{container}} ways-in\n**This page does not run Python.** To answer the exercises, open this lesson in {links}.\n:::'


# ---- one notebook


def processed(file):
    "A notebook after nbdev's processors: directives obeyed and taken out, ANSI colours removed."
    nb = read_nb(file)
    NBProcessor(nb=nb, procs=[strip_ansi, hide_line, hide_, strip_hidden_metadata]).process()
    for cell in nb.cells:
        cell.pop('directives_', None), cell.pop('idx_', None)
    made = nbformat.from_dict(dict(nb))
    for cell in made.cells:  # `#| default_exp` and `#| fig-cap: …` stay behind
        cell.source = re.sub(r'\A(#\|.*\n?)+', '', cell.source)
        if cell.cell_type == 'code':
            cell.source = TO_LINTERS.sub('', cell.source)
    made.cells = [c for c in made.cells if c.source.strip()]
    return nbformat.reads(nbformat.writes(made), as_version=4)


def only_checks(cell, later):
    "Whether a cell shows nothing and does nothing but assert; what it computes for that, no later cell uses."
    body = checked_cells.parse(cell.source).body
    stored = {n.id for node in body for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    checks = [checked_cells.asserts(node) for node in body]
    rest = [node for node, check in zip(body, checks, strict=True) if not check]
    return any(checks) and all(isinstance(node, ast.Assign) for node in rest) and not (stored & later or cell.outputs)


def fold(cell, later=frozenset()):
    "Hide a long cell behind a line that says what it defines; imports and checks always. `later`: names that the cells below use."
    body = checked_cells.parse(cell.source).body
    imports, checks = bool(body) and checked_cells.only_imports(cell.source), only_checks(cell, later)
    if {'hide-input', 'proof'} & {*cell.metadata.get('tags', [])} or (cell.source.count('\n') < FOLDED and not (imports or checks)):
        return
    names = [n.name for n in body if isinstance(n, api_pages.DEFS)]
    public = [name for name in names if not name.startswith('_')]
    helpers = len(names) - len(public)
    said = [*public, *([f'{helpers} helper{"s" * (helpers > 1)}'] if helpers else [])]
    what = f'the code of {", ".join(said)}' if said else 'the imports' if imports else 'the code'
    shown = ['✓ checked'] * 2 if checks else [f'Show {what}', f'Hide {what}']
    cell.metadata['tags'] = [*cell.metadata.get('tags', []), 'hide-input', *['checked'] * checks]
    cell.metadata['mystnb'] = {**cell.metadata.get('mystnb', {}), **dict(zip(('code_prompt_show', 'code_prompt_hide'), shown, strict=True))}


def public_names(source):
    "The public names that a cell defines."
    body = checked_cells.parse(source).body
    defined = [n.name for n in body if isinstance(n, api_pages.DEFS)]
    defined += [name for n in body for name in api_pages.given_names(n)]
    return [name for name in dict.fromkeys(defined) if not name.startswith('_')]


def with_anchors(nb, exported_cells):
    "The anchors that nbdev's links to the names of a library notebook end in, each before the cell that defines it."
    cells = []
    for cell in nb.cells:
        names = public_names(cell.source) if cell.id in exported_cells else []
        spans = '\n'.join(f'<div id="{name.lower()}"></div>' for name in names)
        if spans and cells and cells[-1].cell_type == 'markdown':
            cells[-1].source += f'\n\n{spans}'
        elif spans:
            cells.append(nbformat.v4.new_markdown_cell(spans, id=f'{cell.id}-at'))
        cells.append(cell)
    return cells


def notebook_page(file, root, cfg, known, entries):
    "A notebook as Sphinx reads it."
    raw = nbformat.read(file, as_version=4)
    words = figures.describe(raw, file.name)
    nb = processed(file)
    used = names_in(nb)
    built = {
        c.id: folding.module_of(c.source, exports_to(file))
        for c in raw.cells
        if c.cell_type == 'code' and checked_cells.is_exported(c.source)
    }
    for cell in nb.cells:
        if cell.cell_type == 'markdown':
            cell.source = link_names(site_links(cell.source, file, root, cfg), known, used)
        if cell.id in words:
            cell.metadata['mystnb'] = words[cell.id]
    nb.cells = folding.answers(nb.cells)
    cores = {cell.id: folding.fold_exported(cell, built[cell.id]) for cell in nb.cells if cell.id in built}
    later = set()
    for cell in reversed([cell for cell in nb.cells if cell.cell_type == 'code']):
        fold(cell, later)
        later |= {n.id for n in ast.walk(checked_cells.parse(cell.source)) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
        cell.outputs = [vector.on_site(out) for out in cell.outputs if not out.get('text', '').startswith('skipped: ')]
    # cleaning took the language away; widgets without their kernel would have a script of another host loaded
    nb.metadata = {'kernelspec': nb.metadata.get('kernelspec', {}), 'language_info': {'name': 'python', 'pygments_lexer': 'ipython3'}}
    title_of(nb)
    head = [nb.cells[0].source]
    for cell in nb.cells:
        if cell.source.startswith('## Exercises\n'):
            cell.source += f'\n\n{where_to_answer(file, cfg)}'
    if file.name != HOME:
        head += [ways_in(file, cfg), f':::{{container}} stamp\n{verified.stamp(file, entries)}\n:::']
    nb.cells[0].source = '\n\n'.join(head)
    if up(file, cfg):
        nb.cells = with_anchors(nb, set(built))
    nb.cells = [c for cell in nb.cells for c in (cores.get(cell.id), cell) if c]
    add_part(nb.cells, root / 'docs' / 'parts' / f'{file.stem}.html')
    return nb


def add_part(cells, part):
    "Put what answers at once in the page, if a lesson has such a part, behind the cell that its first line names."
    if not part.exists():
        return
    first, _, html = part.read_text(encoding='utf-8').partition('\n')
    places = [f'<!-- behind cell {cell.id} -->' for cell in cells]
    if first not in places:
        raise Broken(f'{part.name}: its first line must name a cell of the lesson, <!-- behind cell ID -->; it is {first}')
    cells.insert(places.index(first) + 1, nbformat.v4.new_markdown_cell(f'```{{raw}} html\n{html}```', id='part'))


# ---- pages that are filled in


def fill(text, values, name):
    "Put values where a page says `{{name}}`."

    def value(match):
        if match[1] not in values:
            raise Broken(f'{name}: nothing is known as {match[0]}; there are: {", ".join(values)}')
        return values[match[1]]

    return re.sub(r'\{\{([\w ]+)\}\}', value, text)


def pitfalls(files, cfg):
    "The block quotes of lessons that open with **Pitfall.**, each with a link to its place."
    lines = []
    for file in files:
        heading, found = '', []
        for cell in nbformat.read(file, as_version=4).cells:
            for text in re.split(r'\n{2,}', cell.source) if cell.cell_type == 'markdown' else ():
                if title := re.match(r'#+ (.+)', text):
                    heading = title[1].replace('`', '')
                elif text.startswith('> **Pitfall.**'):
                    said = re.sub(r'\n>? ?', ' ', text).removeprefix('> **Pitfall.** ')
                    said = re.sub(r'\]\((?![a-z]+:)', '](../', said)
                    found.append(f'- {said} [Proof](<../{place(file, cfg)}#{heading.replace(" ", "-")}>)')
        if found:
            title = title_of(nbformat.read(file, as_version=4))[0]
            lines += [f'## {file.name.partition("_")[0]} {title}', '\n'.join(found)]
    return '\n\n'.join(lines)


def share_table(files, cfg):
    "How many cells of each notebook would go red if what they show were false."
    shares = zip(files, checked_cells.shares(files), strict=True)
    lines = [[f'[]({place(f, cfg)})', str(s.counted), str(s.checked), f'{s.checked / max(s.counted, 1):.0%}'] for f, s in shares]
    return rows(['notebook', 'cells that count', 'checked', 'share'], lines)


def stamp_table(files, cfg, entries):
    return rows(['notebook', 'last test run'], [[f'[]({place(f, cfg)})', verified.stamp(f, entries)] for f in files])


def test_table(root):
    "The files of tests, what they say they hold, and how many tests they define."
    lines = []
    for file in sorted((root / 'tests').glob('test_*.py')):
        tree = ast.parse(file.read_text(encoding='utf-8'))
        tests = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name.startswith('test_')]
        says = (ast.get_docstring(tree) or '').partition('\n\n')[0].replace('\n', ' ')
        lines.append([f'`{file.name}`', says, str(len(tests))])
    return rows(['file', 'what it holds', 'tests'], lines)


def pythons(root):
    "The Python versions that the workflow tests."
    found = [v for f in sorted((root / '.github').rglob('*.yml')) for v in re.findall(r'python: \[(.+)\]', f.read_text(encoding='utf-8'))]
    return ' and '.join(re.findall(r'[\d.]+', found[0])) if found else ''


# ---- assembling the source


def picture(file, begins):
    "The stored picture of a notebook whose caption begins so: its bytes and its text."
    nb = nbformat.read(file, as_version=4)
    words = figures.describe(nb, file.name)
    for cell in nb.cells:
        if cell.id in words and words[cell.id]['image']['alt'].startswith(begins):
            return base64.b64decode(figures.pictures(cell)[0]), words[cell.id]['image']['alt']
    raise Broken(f'{file.name} holds no picture whose description begins with "{begins}"')


def add_home_picture(text, root, cfg, src):
    "`{{picture: NOTEBOOK, CAPTION}}` becomes the first row of that picture."

    def shown(match):
        data, alt = picture(root / cfg['nbs_path'] / match[1], match[2])
        (src / 'home.png').write_bytes(figures.first_row(data))
        return f'```{{image}} home.png\n:alt: {alt}\n:target: {match[1].removesuffix(".ipynb")}.html\n```'

    return re.sub(r'\{\{picture: (\S+), (.+)\}\}', shown, text)


def numbered(file):
    "A lesson's entry at the side: its number, if it has one, then its title."
    title, _ = title_of(nbformat.read(file, as_version=4))
    number = f'{file.name.partition("_")[0]} ' * file.name[0].isdigit()
    return f'{number}{title} <{file.name}>'


def toctree(docs, caption=''):
    "A list of pages, shown at the side alone."
    caption = f':caption: {caption}\n' if caption else ''
    return f'```{{toctree}}\n:hidden:\n{caption}\n' + '\n'.join(docs) + '\n```'


LIBRARY = 'For contributors'
LAST = 'recap.ipynb'  # where the lessons lead on to
# Pages of the guide to look something up in; the others, a task each, stand below its first page.
LOOK_UP = ['which', 'cheat-sheet', 'glossary', 'names', 'data', 'pitfalls', 'cite']


def tocs(lessons, others, pages, has_modules, library=(), guide=()):
    "The contents at the side."
    reference = ['api/index.md'] if has_modules else []
    parts = {'Lessons': lessons, 'Guide': guide, 'More': [*others, *pages], 'Reference': reference, LIBRARY: library}
    return '\n\n'.join(toctree(docs, name) for name, docs in parts.items() if docs)


def families(library):
    "Library notebooks below the one whose name they begin with (`exercises_05` below `exercises`): parent -> children."
    stems = {f.stem: f for f in library}
    parents = {f: stems.get(f.stem.rpartition('_')[0]) for f in library}
    top = [f for f in library if parents.get(parents[f]) is not None or parents[f] is None]
    return {f: [child for child in library if parents[child] == f and child not in top] for f in top}


def write_shelf(src, shelf, cfg):
    "The contributors' page: what each notebook that builds a part of the library is about; what stands at the side."
    if not shelf:
        return []
    told = {f: title_of(nbformat.read(f, as_version=4)) for f in shelf}
    lines = [[f'[{title}]({f.name})', f'`{exports_to(f) or f.stem}`', blurb] for f, (title, blurb) in told.items()]
    says = (
        '# How the library is built\n\nFor whoever changes the library: the notebooks that build what no lesson does, from the ground up. '
        f'How a change is made and tested is told in [CONTRIBUTING]({blob(cfg)}/CONTRIBUTING.md); what the tests promise, in '
        '[What the tests guarantee](../guarantees.md). The lessons need none of these pages.'
    )
    promised = (src / 'guarantees.md').exists()
    says = says if promised else says.replace('; what the tests promise, in [What the tests guarantee](../guarantees.md)', '')
    page = [says, rows(['notebook', 'builds', 'about'], lines), toctree([f.name for f in shelf])]
    (src / 'library' / 'index.md').write_text('\n\n'.join(page) + '\n', encoding='utf-8')
    return ['library/index.md']


def bare(file):
    "A notebook to take along: its outputs, which are most of its bytes, come back when it is run."
    nb = nbformat.read(file, as_version=4)
    for cell in nb.cells:
        if cell.cell_type == 'code':
            cell.outputs = []
    return nb


def assemble(root, src, cfg, entries):
    "Write everything that Sphinx reads into the folder `src`."
    shutil.copytree(root / 'docs', src, dirs_exist_ok=True)
    lessons, others, library = notebooks(root, cfg)
    mods = modules(root, cfg)
    known = known_names(mods)
    files, shelf = [*lessons, *others, *library], families(library)
    for file in [root / cfg['nbs_path'] / HOME, *files]:
        page = notebook_page(file, root, cfg, known, entries)
        if shelf.get(file):
            page.cells.append(nbformat.v4.new_markdown_cell(toctree([f.name for f in shelf[file]])))
        for nb, to in ((page, src / place(file, cfg)), (bare(file), src / 'files' / place(file, cfg))):
            to.parent.mkdir(parents=True, exist_ok=True)
            nbformat.write(nb, to)
    write_reference(root, mods, src, cfg, known)
    values = {
        'checked cells': share_table(files, cfg),
        'stamps': stamp_table(files, cfg, entries),
        'tests': test_table(root),
        'pythons': pythons(root),
        'mutants': records.mutants_text(root),
        'settings': records.settings_text(root),
        'coverage': records.coverage_text(root),
        'load': records.load_text(root),
        'blob': blob(cfg),
        'fastai': re.search(r'fastai==(\S+)', cfg['fastai_requirements'])[1],
        'pitfalls': pitfalls(lessons, cfg),
        **{name: cfg[name] for name in ('git_url', 'lib_name', 'branch', 'nbs_path', 'min_python', 'author', 'version')},
    }
    pages = []
    for page in sorted([*src.glob('*.md'), *src.glob('guide/*.md')]):
        text = add_home_picture(page.read_text(encoding='utf-8'), root, cfg, src)
        page.write_text(link_names(fill(text, values, page.name), known, used_in(text)), encoding='utf-8')
        if page.name not in ('home.md', '404.md') and page.parent == src:
            pages.append(page.name)
    add_synonyms(src)
    course = [*map(numbered, lessons), *(f.name for f in others if f.name == LAST)]
    more = [f.name for f in others if f.name != LAST]
    write_home(src, tocs(course, more, pages, mods, write_shelf(src, shelf, cfg), write_guide(src)))


def used_in(text):
    "The names that the Python of a page uses."
    cells = [nbformat.v4.new_code_cell(code) for code in re.findall(r'^```python\n(.*?)^```', text, re.M | re.S)]
    return names_in(nbformat.v4.new_notebook(cells=cells))


def guide_pages(folder):
    "The pages of the guide: its first, those that stand below it, and those to look something up in."
    files = {file.stem: file for file in sorted((folder / 'guide').glob('*.md'))}
    look_up = [files[name] for name in LOOK_UP if name in files]
    first = files.pop('index', None)
    return first, [file for file in files.values() if file not in look_up], look_up


def write_guide(src):
    "List the tasks below the guide's first page; what stands at the side."
    first, tasks, look_up = guide_pages(src)
    if not first:
        return []
    tasks = sorted(tasks, key=lambda file: first.read_text(encoding='utf-8').index(f']({file.name})'))
    with first.open('a', encoding='utf-8') as f:
        f.write(f'\n{toctree([f"{short(file)} <{file.name}>" for file in tasks])}\n')
    return [f'{short(file)} <guide/{file.name}>' for file in (first, *look_up)]


def short(file):
    "A page's title as it stands at the side."
    title = file.read_text(encoding='utf-8').partition('\n')[0].removeprefix('# ')
    return title.removeprefix('Guide: ').partition(':')[0]


def add_synonyms(src):
    "Put the words that people use for a page into the script that ranks what the search finds."
    script, words = src / 'search.js', src / 'synonyms.toml'
    given = tomllib.loads(words.read_text(encoding='utf-8')) if words.exists() else {}
    for page in given:
        if not any((src / f'{page}.{kind}').exists() for kind in ('md', 'ipynb')):
            raise Broken(f'synonyms.toml: there is no page {page!r}')
    script.write_text(f'const SYNONYMS = {json.dumps(given, ensure_ascii=False)};\n{script.read_text(encoding="utf-8")}', encoding='utf-8')


def write_reference(root, mods, src, cfg, known):
    (src / 'api').mkdir()
    shelf = shelf_of(root, mods, cfg)
    for mod in mods:
        text = link_names(api_pages.page(mod, blob(cfg), shelf), known, set())
        (src / 'api' / f'{mod.short}.md').write_text(text, encoding='utf-8')
    for name, picture in shelf.pictures.items():
        (src / 'api' / f'{name}.{picture.suffix}').write_bytes(picture.data)
    if mods:
        (src / 'api' / 'index.md').write_text(api_pages.overview(mods), encoding='utf-8')
        (src / 'api' / 'wishes.md').write_text(reference.wish_page(*wishes(root), known, titles(root, cfg)), encoding='utf-8')


def shelf_of(root, mods, cfg):
    "What the pages of the reference take from notebooks and from the wishes."
    folder, plots = root / cfg['nbs_path'], [n.name for mod in mods for n in mod.names if reference.is_plot(n)]
    known, pages = titles(root, cfg), reference.pages_of(wishes(root)[0])
    return reference.Shelf(
        {mod.short: reference.groups(mod, folder) for mod in mods},
        reference.type_links(mods),
        reference.pictures(plots, sum(notebooks(root, cfg), []), folder),
        {name: [reference.link_to(page, known) for page in listed if page in known] for name, listed in pages.items()},
    )


def wishes(root):
    "docs/wishes.toml: the wishes of each page, and the helpers; a project without it has none."
    file = root / 'docs' / 'wishes.toml'
    return reference.wishes(file.read_text(encoding='utf-8') if file.exists() else '')


def titles(root, cfg):
    "The pages that a wish may be listed under, by their place on the site: what a link to them says, and their file."
    guide = {f'guide/{file.stem}': (short(file), f'guide/{file.name}') for file in (root / 'docs').glob('guide/*.md')}
    files = {place(file, cfg): numbered(file).rpartition(' <')[0] for file in sum(notebooks(root, cfg), [])}
    return guide | {name.removesuffix('.ipynb'): (title, name) for name, title in files.items()}


def write_home(src, toc):
    "The home page: docs/home.md in place of the title of the notebook's, then the rest of that notebook."
    nb = nbformat.read(src / HOME, as_version=4)
    if (src / 'home.md').exists():
        nb.cells[0].source = (src / 'home.md').read_text(encoding='utf-8')
        (src / 'home.md').unlink()
    nb.cells[0].source += f'\n\n{toc}'
    nbformat.write(nb, src / HOME)


# ---- what a static host needs


def page_list(out):
    "The pages a reader may want to find, the home page first."
    skip = {'404.html', 'search.html'}
    found = sorted(p.relative_to(out).as_posix() for p in out.rglob('*.html'))
    return sorted((p for p in found if p not in skip and not p.startswith('_')), key=lambda p: p != 'index.html')


def sitemap(out, cfg):
    urls = [home_url(cfg) + ('' if page == 'index.html' else page) for page in page_list(out)]
    body = '\n'.join(f'  <url><loc>{escape(url)}</loc></url>' for url in urls)
    return f'<?xml version="1.0" encoding="utf-8"?>\n<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n{body}\n</urlset>\n'


def llms(root, cfg):
    "llms.txt: what a language model should read, with a line on each."
    lessons, others, library = notebooks(root, cfg)

    def pages(files):
        told = [(f, *title_of(nbformat.read(f, as_version=4))) for f in files]
        return [f'- [{title}]({home_url(cfg)}{place(f, cfg).removesuffix(".ipynb")}.html): {blurb}' for f, title, blurb in told]

    def words(file):
        title, blurb = re.match(r'# (.+)\n+(?:([^`\n].*?[.?!])(?=\s))?', file.read_text(encoding='utf-8')).groups()
        said = re.sub(r'\[(.+?)\]\(.+?\)', r'\1', blurb or title)
        return f'- [{title}]({home_url(cfg)}guide/{file.stem}.html): {said}'

    first, tasks, look_up = guide_pages(root / 'docs')
    guide = [words(file) for file in (first, *tasks, *look_up) if file]
    mods = [f'- [{m.name}]({home_url(cfg)}api/{m.short}.html): {api_pages.first_line(m.doc)}' for m in modules(root, cfg)]
    mods = [f'- [I want to …]({home_url(cfg)}api/wishes.html): the functions by what they do', *mods] if mods else []
    parts = {'Guide': guide, 'Lessons': pages(lessons), 'More': pages(others), 'Reference': mods, LIBRARY: pages(library)}
    lines = [f'# {cfg["title"]}', '', f'> {cfg["description"]}']
    for heading, listed in parts.items():
        lines += ['', f'## {heading}', '', *listed] if listed else []
    return '\n'.join(lines) + '\n'


def forwards(mods):
    "Pages that nbdev's own links name, `losses.html#bce_with_logits` -> for each of their anchors the page of the reference that has it."
    found = {}
    for mod in mods:
        for name in mod.names:
            if '/' not in name.notebook:  # a library notebook has its page, and the anchors, where nbdev says
                page = re.sub(r'\d+[a-zA-Z0-9]*_', '', name.notebook.lower()).removesuffix('.ipynb') + '.html'
                found.setdefault(page, {})[f'#{name.name.lower()}'] = f'api/{mod.short}.html'
    return found


def forward(page, anchors):
    "A page that leads on: by its anchor, or to where most of its names are."
    most = max([*anchors.values()], key=[*anchors.values()].count)
    others = json.dumps({anchor: to for anchor, to in anchors.items() if to != most})
    title = page.removesuffix('.html')
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><meta name="robots" content="noindex">'
        f'<script>location.replace(({others}[location.hash] ?? "{most}") + location.hash)</script>'
        f'<p>Moved to <a href="{most}">{most}</a>.</p></html>\n'
    )


def for_colab(file, cfg):
    "A notebook that Colab opens from an empty machine: its first cell installs the library, and what lessons import."
    install = f'%pip install -q "{cfg["lib_name"]}[lessons] @ git+{cfg["git_url"]}@{cfg["branch"]}"'
    says = '# First run this cell. When it has ended: Runtime, Restart session. Then run the cells below.'
    nb = bare(file)
    nb.cells.insert(0, nbformat.v4.new_code_cell(f'{says}\n{install}', id='install'))
    return nb


def write_for_colab(root, out, cfg):
    "Write each notebook that Colab can run, for Colab."
    for file in sum(notebooks(root, cfg), []):
        if colab(file, cfg):
            to = out / COLAB / place(file, cfg)
            to.parent.mkdir(parents=True, exist_ok=True)
            nbformat.write(for_colab(file, cfg), to)


def finish(root, out, cfg):
    "Add the files that hosts, search engines, Colab and old links ask for."
    write_for_colab(root, out, cfg)
    (out / 'sitemap.xml').write_text(sitemap(out, cfg), encoding='utf-8')
    (out / 'robots.txt').write_text(f'User-agent: *\nAllow: /\nSitemap: {home_url(cfg)}sitemap.xml\n', encoding='utf-8')
    (out / 'llms.txt').write_text(llms(root, cfg), encoding='utf-8')
    (out / '.nojekyll').touch()  # folders that begin with an underscore are wanted
    missing = out / '404.html'
    if missing.exists():  # served for addresses at any depth: its links begin at the site's root
        base = f'<head>\n<base href="{cfg["doc_baseurl"]}/">'
        missing.write_text(missing.read_text(encoding='utf-8').replace('<head>', base, 1), encoding='utf-8')
    slim_icons(out)
    make_accessible(out)
    rendered.add_heads(out, [*page_list(out), '404.html', 'search.html'], home_url(cfg), cfg)
    taken = set(page_list(out))
    for page, anchors in forwards(modules(root, cfg)).items():
        if page not in taken:
            (out / page).write_text(forward(page, anchors), encoding='utf-8')


ICON = re.compile(r'(?:"[\w-]+"|[A-Za-z_$][\w$]*):\[\d+,\d+,\[[^\]]*\],"[0-9a-f]+",(?:"[^"]*"|\[[^\]]*\])\],?')


def slim_icons(out):
    "Keep the icons that pages use: the theme's script holds two thousand, five times the weight of all else on the first page."
    script = out / '_static' / 'scripts' / 'fontawesome.js'
    texts = [*out.rglob('*.html'), *out.glob('_static/**/*theme.js')]
    used = {name for file in texts for name in re.findall(r'\bfa-([a-z0-9-]+)', file.read_text(encoding='utf-8'))}
    keep = lambda icon: icon[0] if icon[0].partition(':')[0].strip('"') in used else ''  # noqa: E731
    script.write_text(ICON.sub(keep, script.read_text(encoding='utf-8')), encoding='utf-8')
    script.with_name('fontawesome.js.map').unlink()


# What the theme and the extensions write, and what it must be for a screen reader to say what the eye sees. Each picture leads to itself in
# full size: so the keyboard reaches what scrolls on a phone.
ACCESSIBLE = {
    '<summary><span class="toctree-toggle"': '<summary aria-label="Pages below this one"><span class="toctree-toggle"',
    '-field search-button__button pst-js-only" title="Search" aria-label="Search"': '-field search-button__button pst-js-only"',
    '<summary aria-label="Toggle hidden content">': '<summary>',
}
PICTURE = re.compile(r'<img [^>]*class="(?:drawing|photo)" src="([^"]+)"[^>]*>')


def make_accessible(out):
    for file in out.rglob('*.html'):
        text = file.read_text(encoding='utf-8')
        for old, new in ACCESSIBLE.items():
            text = text.replace(old, new)
        text = PICTURE.sub(r'<a href="\1">\g<0></a>', text)
        text = vector.PLOT.sub(lambda m, folder=file.parent: vector.both(m, folder), text)
        file.write_text(rendered.hanging(text), encoding='utf-8')


def add_live(root, out):
    "The pages that label pictures in the browser bring their model and scripts."
    if (root / 'docs' / 'live.md').exists():
        import home_page
        import live

        live.build(out / 'live')
        home_page.fill(out / 'index.html', out / 'live')


# ---- building


def sphinx(src, out):
    "Render; every warning is an error, and all of them are shown."
    command = [sys.executable, '-m', 'sphinx', '-q', '-b', 'html', '-W', '-n', '--keep-going', '-j', '2', str(src), str(out)]
    ran = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if ran.returncode:
        raise Broken(f'the site was not built:\n{ran.stdout.replace(f"{src}/", "")}')


def replace_folder(new, old):
    "Put a folder where another was; a killed process leaves one of them whole."
    aside = old.with_name(f'{old.name}.partial')
    shutil.rmtree(aside, ignore_errors=True)
    shutil.copytree(new, aside)
    shutil.rmtree(old, ignore_errors=True)
    aside.rename(old)


def build(root=ROOT, dest=None, entries=None):
    "Build the site of the project in `root`; the folder it lies in."
    cfg = config(root)
    dest = dest or root / cfg['doc_path']
    with tempfile.TemporaryDirectory() as tmp:
        src, out = Path(tmp) / 'src', Path(tmp) / 'out'
        src.mkdir()
        shutil.copy(root / 'settings.ini', tmp)
        assemble(root, src, cfg, verified.load(root / verified.RECORD.name) if entries is None else entries)
        sphinx(src, out)
        add_live(root, out)
        shutil.rmtree(out / '.doctrees')
        (out / '.buildinfo').unlink(missing_ok=True)
        finish(root, out, cfg)
        replace_folder(out, dest)
    return dest


def size(folder):
    return sum(p.stat().st_size for p in folder.rglob('*') if p.is_file())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.parse_args()
    began = time.perf_counter()
    dest = build()
    print(f'{dest.relative_to(ROOT)}/: {len(page_list(dest))} pages, {size(dest) / 1e6:.1f} MB, {time.perf_counter() - began:.0f} s')


if __name__ == '__main__':
    main()
