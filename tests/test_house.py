"""The house: which room may import what, how large things are, and that every name is found from the package itself."""

import ast
import importlib
import json
import re
import statistics
import subprocess
import sys
from pathlib import Path

import lessons
import nbformat
import pytest
from checked_cells import is_exported
from rooms import ROOMS

import multilabel_nb

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / 'multilabel_nb'
LIBRARY = {file: file.relative_to(PACKAGE).with_suffix('').as_posix().replace('/', '.') for file in lessons.exported(ROOT)}
MODULES = {name: file for file, name in LIBRARY.items() if name != '_modidx'}

FLOORS = list(ROOMS)


def floor(module):
    return next(i for i, room in enumerate(FLOORS) if room in (module, f'{module.partition(".")[0]}.*'))


def imports(nodes, module):
    "Top names of what these statements import; modules of the library as `multilabel_nb.name`."
    inside = ['multilabel_nb', *module.split('.')]
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (a.name if a.name.startswith('multilabel_nb') else a.name.split('.')[0] for a in node.names)
        elif isinstance(node, ast.ImportFrom):
            whole = '.'.join([*(inside[: -node.level] if node.level else []), *([node.module] if node.module else [])])
            if whole == 'multilabel_nb':
                yield from (f'multilabel_nb.{a.name}' for a in node.names if a.name in MODULES)
            else:
                yield whole if whole.startswith('multilabel_nb') else whole.split('.')[0]


each_module = pytest.mark.parametrize('module', MODULES)


@each_module
def test_a_room_imports_only_what_the_design_allows(module):
    tree, room = ast.parse(MODULES[module].read_text(encoding='utf-8')), FLOORS[floor(module)]
    top = {i for i in imports(tree.body, module) if not i.startswith('multilabel_nb')} - sys.stdlib_module_names
    assert ROOMS[room] == '*' or top <= set(ROOMS[room].split())
    own = {i.removeprefix('multilabel_nb.') for i in imports(ast.walk(tree), module) if i.startswith('multilabel_nb.')}
    above = {i for i in own if floor(i) > floor(module)}
    assert not above, f'{module} imports from {above}, which the table puts on higher floors'


WITHOUT = {
    '': 'numpy pandas PIL torch',
    'checks': 'pandas PIL torch',
    'sources': 'pandas torch',
    'command': 'pandas torch',
    'tables': 'torch',
    'splits': 'torch',
    'thresholds': 'torch',
    'calibration': 'torch',
    'uncertainty': 'torch',
    'losses': 'timm torchvision',
    'metrics': 'timm torchvision',
    'backbones': 'timm torchvision',
    'heads': 'timm torchvision',
}


@pytest.mark.beyond_gate
def test_library_imports_without_what_it_does_not_need():
    code = (
        'import importlib, json, sys\nout = {}\n'
        f'for name in {list(WITHOUT)}:\n'
        '    importlib.import_module(f"multilabel_nb.{name}".rstrip("."))\n'
        '    out[name] = sorted({m.split(".")[0] for m in sys.modules})\n'
        'print(json.dumps(out))'
    )
    out = json.loads(subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True, cwd=ROOT).stdout)
    for name, unwanted in WITHOUT.items():
        assert not {*unwanted.split(), 'fastai', 'nbdev', 'IPython'} & {*out[name]}, f'after importing {name or "multilabel_nb"}'


@pytest.mark.beyond_gate
@pytest.mark.parametrize('module', ['datablock', 'datasets', 'regression', 'row_targets', 'training'])
def test_an_import_is_quiet_with_every_warning_shown(module):
    command = [sys.executable, '-W', 'default', '-c', f'import multilabel_nb.{module}']
    assert subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stderr == ''


# ---- names


@pytest.mark.beyond_gate
def test_every_public_name_comes_from_the_package_itself():
    listed = {}
    for name in MODULES:
        if name.partition('.')[0] not in lessons.MACHINERY:
            for public in importlib.import_module(f'multilabel_nb.{name}').__all__:
                assert public not in listed, f'{public} stands in {listed[public]} and in {name}'
                listed[public] = name
    assert set(listed) == set(multilabel_nb.__all__) and not set(listed) & set(MODULES)
    for public, room in listed.items():
        assert getattr(multilabel_nb, public) is getattr(importlib.import_module(f'multilabel_nb.{room}'), public)


def test_a_name_that_is_not_there_is_an_error():
    with pytest.raises(AttributeError, match='no_such_name'):
        multilabel_nb.no_such_name  # noqa: B018


# ---- sizes

SOURCES = lessons.notebook_files()
each_notebook = pytest.mark.parametrize('file', SOURCES, ids=lambda p: p.stem)


def code(file):
    return [c.source for c in nbformat.read(file, as_version=4).cells if c.cell_type == 'code' and c.source.strip()]


def lines(sources):
    return sum(bool(line.strip()) for source in sources for line in source.splitlines())


def public(source):
    found = [n for n in ast.parse(source).body if isinstance(n, (ast.FunctionDef, ast.ClassDef))]
    return [n.name for n in found if not n.name.startswith('_')]


def statements(file):
    return sum(isinstance(node, ast.stmt) for node in ast.walk(ast.parse(file.read_text(encoding='utf-8'))))


@each_notebook
def test_exported_cells_are_small(file):
    """One public definition each, 80 lines at the most and 45 at the ninth decile; of a lesson's code lines at most half are exported."""
    sources = code(file)
    exported = [source for source in sources if is_exported(source)]
    sizes = [len(source.splitlines()) for source in exported]
    assert not [(public(source), size) for source, size in zip(exported, sizes, strict=True) if size > 80 or len(public(source)) > 1]
    if len(sizes) > 1:
        assert statistics.quantiles(sizes, n=10, method='inclusive')[-1] <= 45, sorted(sizes)
    if file.name[0].isdigit():
        assert lines(exported) <= lines(sources) / 2, f'{lines(exported)} of {lines(sources)} lines are exported'


@each_module
def test_modules_are_small(module):
    assert len(MODULES[module].read_text(encoding='utf-8').splitlines()) <= 500


def test_the_library_does_not_grow_unnoticed(record_property):
    count = {name: statements(file) for name, file in MODULES.items() if name.partition('.')[0] not in lessons.MACHINERY}
    told = [f'{name:<28}{n:>6}' for name, n in count.items()]
    record_property('statements of each room', '\n'.join([*told, f'{"in all":<28}{sum(count.values()):>6}']))
    assert sum(count.values()) <= 4701


def test_probabilities_are_checked_in_one_place():
    text = {name: file.read_text(encoding='utf-8') for name, file in MODULES.items()}
    assert {name: len(re.findall('look like logits', t)) for name, t in text.items() if 'look like logits' in t} == {'checks': 1}
