"""Types: pyrefly reads those of the library, and the code of the guide as a user's; and what signatures name can be evaluated."""

import inspect
import json
import subprocess
import sys
import types
import typing
from pathlib import Path

import api_pages
import guide_pages
import lessons
import pytest

import multilabel_nb

ROOT = Path(__file__).resolve().parents[1]

# Lines of the guide that run, and that no checker can follow; a reason each.
NOT_FOLLOWED = {
    'again = build_network(describe_network(model))  # a bundle stores this description': 'None is of networks that cannot be rebuilt',
    "print(describe_network(model)['architecture'], type(again[1]).__name__)": 'likewise; and the network is a Sequential',
    'print(len(ml.Predictor(path).predict(files[0]).probs) == len(vocab))': '`predict` raises where `iter` gives None',
    "print(sum('red' in answer.labels for answer in predictor.iter(files, bs=8)), 'are red')": 'None is of files that are broken',
    "print(len(good), 'good row,', len(problems), 'problem')": 'a pair, since bad rows are asked for',
    '    sides = split(*args, valid_pct=0.2, seed=42)': 'arguments of two functions',
    '    tuned = ml.tune_thresholds(probs, targs, goal, **settings)': 'a dictionary of options of several types',
}


# What has no type: options that are handed on, JSON, and rows, since fastai takes the type of a getter for what it accepts.
UNTYPED = {('page_parts', 'data'), ('row_labels', 'row'), ('image_path', 'row'), ('multilabel_learner', '**settings')}


def test_public_signatures_name_their_types():
    """`Any` is for options that are handed on, and for what JSON holds."""
    untyped = set()
    for file in lessons.exported(ROOT):
        if file.name == '_modidx.py':
            continue
        module = api_pages.read_module(file, 'multilabel_nb', ROOT / 'multilabel_nb')
        if module.short.partition('.')[0] not in lessons.MACHINERY:
            for path, name in api_pages.documented(module):
                untyped |= {(path, p.name) for p in name.params if p.type in ('', 'Any') and not (p.type and p.name.startswith('*'))}
    assert untyped == UNTYPED


def checked(*arguments):
    "What pyrefly finds, as it says it in JSON."
    command = [sys.executable, '-m', 'pyrefly', 'check', '--python-interpreter-path', sys.executable, '--output-format', 'json']
    out = subprocess.run([*command, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True)
    assert out.stdout, out.stderr
    return [error for error in json.loads(out.stdout)['errors'] if error['severity'] == 'error']


def check_pages(pages, folder):
    "What pyrefly finds in the code of pages, by the line of code: its arguments and what it does with the answers."
    for name, file in pages.items():
        lines = []
        for block in guide_pages.blocks(file.read_text(encoding='utf-8')):
            lines += [''] * (block.line - 1 - len(lines)) + block.code.splitlines()
        (folder / f'{name}.py').write_text('\n'.join([*lines, '']), encoding='utf-8')
    found = {}
    for error in checked('--preset', 'default', '--ignore', 'unbound-name', '--search-path', ROOT, *folder.glob('*.py')):
        file = Path(error['path'])
        line = file.read_text(encoding='utf-8').splitlines()[error['line'] - 1]
        found.setdefault(line.rstrip(), []).append(f'{file.stem}.md:{error["line"]}: {error["description"]}')
    return found


def test_the_library_passes():
    found = checked()
    assert not found, found


def test_the_guide_calls_the_library_as_its_types_say(tmp_path):
    found = check_pages(guide_pages.PAGES, tmp_path)
    assert set(found) == set(NOT_FOLLOWED), {line: said for line, said in found.items() if line not in NOT_FOLLOWED}


def test_a_call_that_types_refuse_is_noticed(tmp_path):
    """A wrong argument, one that does not exist, a name that does not, and an answer taken for something else."""
    page = tmp_path / 'wrong.md'
    wrong = ["ml.random_split('ten')", 'ml.random_split(10, sed=1)', 'ml.no_such_name', 'ml.random_split(10).mean()']
    page.write_text('\n'.join(['```python', 'import multilabel_nb as ml', '', 'ml.random_split(10, seed=1)', *wrong, '```', '']))
    assert set(check_pages({'wrong': page}, tmp_path)) == set(wrong)


def functions_of(found):
    "A function itself; of a class its methods, properties included."
    made = vars(found).values() if inspect.isclass(found) else [found]
    plain = [getattr(f, '__func__', getattr(f, 'fget', f)) for f in made]
    return [f for f in plain if isinstance(f, types.FunctionType) and f.__module__.startswith('multilabel_nb')]


def test_types_import_nothing():
    """A name of a type costs no import of torch, pandas or matplotlib."""
    code = (
        'import sys, typing\nfrom multilabel_nb import checks, decisions, engines, inference, predictor\n'
        'hints = typing.get_type_hints(checks.check_pair), typing.get_type_hints(inference.predict_probs)\n'
        'assert not {"torch", "pandas", "matplotlib", "polars"} & {*sys.modules}, "imported"\nprint(hints[1]["model"])'
    )
    out = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert out.strip() == 'typing.Any'


@pytest.mark.beyond_gate
@pytest.mark.parametrize('name', multilabel_nb.__all__)
def test_types_can_be_evaluated(name):
    found = getattr(multilabel_nb, name)
    for function in functions_of(found):
        hints = typing.get_type_hints(function)
        assert set(function.__annotations__) == set(hints)
    if inspect.isclass(found):
        typing.get_type_hints(found)
