"""Faults put into the library on purpose: that they are what they should be, and that the notebooks and tests notice."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import mutants
import pytest
from mutate import edits

ROOT = Path(__file__).resolve().parents[1]


def changed(source, kind):
    return [edit.apply(source) for edit in edits(source) if edit.kind == kind]


ONE_PLACE = {
    'comparison': ('a < b', 'a <= b'),
    'arithmetic': ('a - b', 'a + b'),
    'and/or': ('a and b', 'a or b'),
    'not': ('x = ~known', 'x = (known)'),
    'sign': ('x = -z', 'x = (z)'),
    'off by one': ('x[:2]', 'x[:3]'),
    'float': ('x = 0.5', 'x = 0.25'),
    'default': ('def f(x=0.5): return x', 'def f(x=0.25): return x'),
    'bool': ('f(x, deep=True)', 'f(x, deep=False)'),
    'twin': ('y = np.argmin(x)', 'y = np.argmax(x)'),
    'unsorted': ('y = sorted(x, key=len)', 'y = list(x)'),
    'axis': ('x.sum(0)', 'x.sum(1)'),
    'dtype': ('y = x.astype(np.float64)', 'y = x.astype(np.float32)'),
    'rows': ('def f(train, valid): return train', 'def f(train, valid): return valid'),
    'column': ('x[:, j]', 'x[:, j - 1]'),
    'swapped': ('y = f(a, b)', 'y = f(b, a)'),
    'label': ("ax.set_xlabel('images')", "ax.set_xlabel('')"),
    'dropped': ('if n < 0:\n    raise ValueError(n)', 'pass'),
    'not passed on': ('y = f(x, seed=s)', 'y = f(x)'),
    'negated': ('x = a if known else b', 'x = a if not (known) else b'),
}


@pytest.mark.parametrize('kind', ONE_PLACE)
def test_each_kind_of_fault(kind):
    before, after = ONE_PLACE[kind]
    assert changed(before, kind) == [after]


def test_other_places_of_the_same_kinds():
    assert changed('x.mean(axis=1)', 'axis') == ['x.mean(axis=0)']
    assert changed('y = x[0]', 'column') == ['y = x[-1]']
    assert changed('def f():\n    return a, b', 'swapped') == ['def f():\n    return b, a']
    assert changed('f(x)', 'dropped') == ['pass'] and changed('n += k', 'dropped') == ['pass']
    assert changed('a not in b', 'comparison') == ['a in b'] and changed('é = (ä) <= ö', 'comparison') == ['é = (ä) < ö']


def test_an_argument_that_is_not_passed_on():
    assert changed('f(a=1, b=2)', 'not passed on') == ['f(b=2)', 'f(a=1)'] and changed('f(a=1)', 'not passed on') == ['f()']
    assert changed('f(*x, a=1, **y)', 'not passed on') == ['f(*x, **y)'] and not changed('zip(a, b, strict=True)', 'not passed on')
    assert changed('f(\n    a=1,  # one\n    b=2,\n)', 'not passed on') == ['f(\n    b=2,\n)', 'f(\n    a=1,\n)']


def test_what_is_left_alone():
    assert not edits(
        'def f(\n    x: Literal[1, True] = None,  # 1 < 2\n) -> np.float64:\n    "Not 0.5 and 1."\n    raise ValueError(f"{x - 1} < 0")'
    )
    assert not edits('for a, b in zip(x, y, strict=True):\n    x = warnings.warn(f"{a}", stacklevel=2)')


COSTS = mutants.mutants(['costs'])['costs']


def test_a_sample_spreads_over_the_modules_and_a_larger_one_continues_it():
    sizes = {'a': 9, 'b': 2, 'c': 9}
    found = {name: [dataclasses.replace(COSTS[0], id=f'{name}:{i}', module=name) for i in range(n)] for name, n in sizes.items()}
    small, large = mutants.sample(found, 6, seed=1), mutants.sample(found, 12, seed=1)
    assert large[:6] == small and [m.module for m in small] == ['a', 'b', 'c'] * 2
    assert mutants.sample(found, 6, seed=2) != small
    assert {'a:7', 'c:8'} <= {m.id for m in mutants.sample(found, 3, seed=1, kept={'a:7', 'c:8'})}, 'those of the record come first'


def test_a_verdict_stays_with_its_fault_on_another_line():
    record = mutants.record(COSTS[0], {'killed_by': 'owner'})
    moved = dataclasses.replace(COSTS[0], id='costs:99:axis:1', line=99)
    kept = mutants.still([record], {moved.id: moved})
    assert kept == {moved.id: record | {'id': moved.id, 'file': 'multilabel_nb/costs.py:99'}}
    assert mutants.still([record], {moved.id: dataclasses.replace(moved, after='other')}) == {}


def test_places_are_those_of_the_module():
    lines = mutants.module_file('costs', ROOT).read_text(encoding='utf-8').splitlines()
    assert len({m.id for m in COSTS}) == len(COSTS) > 15
    for m in COSTS:
        assert ' '.join(lines[m.line - 1].split()) in m.before != m.after, m.id


def test_what_a_mutant_shows():
    source = 'def f(n):\n    if n < 0:\n        raise ValueError(n)\n    return n'
    shown = [edit.shown(source) for edit in edits(source) if edit.kind == 'dropped']
    assert shown == [['if n < 0: raise ValueError(n)', 'pass']]


PLANTED = """
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, {tools!r})
import mutants

planted = [m for m in mutants.mutants(['costs'])['costs'] if m.before.startswith('return (fn_cost * counts.fn + fp')]
fault = next(m for m in planted if m.edit.kind == 'arithmetic' and ' - ' in m.after)
parts = 'fn_cost * counts.fn', 'fp_cost * counts.fp'
same = replace(fault, source=fault.source.replace(' - '.join(parts), ' + '.join(parts[::-1])))
slow = replace(fault, source=fault.source.replace('    return (', '    while True: pass\\n    return ('))
assert len({{fault.source, same.source, slow.source}}) == 3
with tempfile.TemporaryDirectory() as tmp:
    folder = mutants.copied(Path(tmp).resolve())
    mutants.warm_up(folder)
    runner = mutants.Runner(folder)
    for mutant, killed_by in (fault, 'owner'), (same, None), (slow, 'owner'):
        owner = 'owner', lambda: mutants.run_notebook(fault.notebook, folder), 1
        verdict = runner.judge(mutant, [owner])
        assert verdict['killed_by'] == killed_by, verdict
    assert verdict['how'] == 'out of time'
    assert (folder / fault.notebook).read_bytes() == (mutants.ROOT / fault.notebook).read_bytes()
    for name in 'table_plots', 'exercises_02':  # plots, and paths in an output
        found = mutants.forked(lambda: mutants.run_notebook(Path(f'nbs/library/{{name}}.ipynb'), folder), 60)
        assert found['why'] is None, found
    lock = mutants.tqdm.get_lock()
    mutants.forked(lambda: mutants.tqdm.get_lock().acquire(), 60)
    assert lock.mp_lock.acquire(timeout=5), 'a fork that has ended holds the lock of the bars'
"""


@pytest.mark.slow
def test_a_planted_fault_is_killed_and_a_planted_equivalent_survives():
    code = PLANTED.format(tools=str(ROOT / 'tools'))
    out = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=ROOT)
    assert out.returncode == 0, out.stderr


@pytest.mark.slow
def test_notebooks_kill_a_seeded_sample(tmp_path, record_property):
    """Of twenty faults in modules that decide and measure, at most one survives that is not listed as equivalent."""
    file, tool = tmp_path / 'out.json', str(ROOT / 'tools' / 'mutants.py')
    modules = ['checks', 'metrics', 'thresholds', 'decisions', 'costs', 'calibration', 'ranking', 'losses']
    command = [sys.executable, tool, '--n', '20', '--notebooks', '--results', str(file), '--only', *modules]
    out = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert out.returncode == 0, out.stderr
    record_property('mutants', out.stdout)
    records, same = json.loads(file.read_text(encoding='utf-8'))['mutants'], mutants.equivalents()
    survivors = [r for r in records if not r['killed_by'] and mutants.key(r) not in same]
    assert len(records) == 20 and len(survivors) <= 1, survivors
