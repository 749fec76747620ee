"""The page on guarantees says what the records in benchmarks/ hold: faults, settings, coverage, load."""

import json
from pathlib import Path

import build_site
import load
import mutants
import pytest
import records

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def keep(tmp_path):
    "Puts a record into a project."

    def put(name, data):
        (tmp_path / 'benchmarks').mkdir(exist_ok=True)
        (tmp_path / 'benchmarks' / f'{name}.json').write_text(json.dumps(data))
        return tmp_path

    return put


def row(text, first):
    "The cells of the line of a table that begins so."
    (line,) = [line for line in text.splitlines() if line.startswith(f'| {first} |')]
    return [cell.strip() for cell in line.strip('|').split('|')][1:]


def fault(module, by, before='a < b', after='a <= b'):
    return {'id': f'{module}:3:comparison:1', 'file': f'multilabel_nb/{module}.py:3', 'before': before, 'after': after, 'killed_by': by}


def test_faults_by_module(keep, monkeypatch):
    """Who noticed them; a fault that makes no difference counts for nobody, and what was missed is listed."""
    monkeypatch.setattr(records, 'equivalents', lambda: {('costs', 'x', 'y'): 'the same number'})
    found = [
        fault('costs', 'owner'),
        fault('costs', 'tests'),
        fault('costs', None, 'x', 'y'),
        fault('files', 'nbs/a.ipynb'),
        fault('files', None),
    ]
    text = records.mutants_text(keep('mutants', {'sites': 90, 'mutants': found}))
    assert row(text, '`costs`') == ['3', '1', '2', '1', '0'] and row(text, '`files`') == ['2', '1', '1', '0', '1']
    assert row(text, 'in all') == ['5', '2', '3', '1', '1']
    assert 'Of 5 faults, out of 90 possible ones, 1 change nothing' in text
    assert 'Of the other 4, 3 (75.0%) were noticed; 2 (50.0%) by notebooks alone.' in text
    missed, equal = text.split('<details>')[1:]
    assert '<summary>The 1 faults that were missed' in missed and '- `multilabel_nb/files.py:3`: `a < b` became `a <= b`\n' in missed
    assert '- `multilabel_nb/costs.py:3`: `x` became `y` (the same number)\n' in equal


def test_a_fault_with_backticks_is_still_code(keep):
    text = records.mutants_text(keep('mutants', {'sites': 1, 'mutants': [fault('costs', None, '"`a`"', 'b')]}))
    assert '`` "`a`" `` became `b`' in text


def test_settings(keep):
    one = {
        'name': 'one thread',
        'changes': 'one computes',
        'date': '2026-12-01',
        'passed': 9,
        'tried': 10,
        'notebooks': 6,
        'cells': 50,
        'tests': 7,
        'parts': 1,
    }
    red = one | {'failed': ['a', 'b'], 'versions': {'torch': '2.9'}}
    green = red | {'name': 'two threads', 'passed': 10, 'failed': [], 'parts': 10}
    green['longest'] = one | {'notebooks': 3, 'cells': 20}
    none = {'name': 'no network', 'changes': 'no net', 'date': '2026-12-02', 'passed': 0, 'tried': 0, 'not_run': 'not permitted'}
    text = records.settings_text(keep('settings', [red, green, none]))
    assert row(text, 'one thread') == [
        'one computes',
        '9 of 10 passed; failed: 2 cells or tests',
        '50 cells of 6 notebooks, 7 tests',
        '2026-12-01',
    ]
    assert row(text, 'two threads')[1] == '10 of 10 passed, each with one of 10 parts'
    assert row(text, 'two threads')[2].endswith('7 tests; the 3 longest notebooks: 9 of 10 passed, 20 cells')
    assert row(text, 'no network') == ['no net', '*not run*: not permitted', '', '2026-12-02'] and text.endswith('With torch 2.9.')


def test_coverage(keep):
    modules = {
        'costs': {'lines': 10, 'lines_run': 9, 'branches': 4, 'branches_run': 1, 'missing': [3]},
        'standins.x': {'lines': 30, 'lines_run': 30, 'branches': 0, 'branches_run': 0, 'missing': []},
    }
    text = records.coverage_text(keep('coverage', {'date': '2026-12-01', 'notebooks': 70, 'modules': modules}))
    assert row(text, '`costs`') == ['90.0%', '25.0%'] and row(text, '`standins.x`') == ['100.0%', 'none']
    assert row(text, 'in all') == ['97.5%', '25.0%'] and text.startswith(
        'Measured 2026-12-01, with 70 notebooks: 97.5% of lines, 25.0% of branches.'
    )


def test_load(keep):
    found = {'date': '2026-12-01', 'found': {'test_killed_at[caching]': '50 kills'}, 'failed': ['test_four_at_once']}
    text = records.load_text(keep('load', found))
    assert text.splitlines()[2:] == ['- killed at (caching): 50 kills', '- four at once: *failed*'] and '2026-12-01' in text


def test_the_record_of_load_keeps_what_did_not_run(tmp_path):
    report, kills = (
        tmp_path / 'report.xml',
        '<properties><property name="load" value="3 kills"/><property name="x" value="y"/></properties>',
    )
    report.write_text(f'<testsuite><testcase name="test_a">{kills}</testcase><testcase name="test_b"/></testsuite>')
    assert load.told(report) == {'test_a': '3 kills'}
    old = {'found': {'test_a': '1 kill', 'test_c': '2 kills', 'test_d': '4 kills'}, 'failed': ['test_e', 'test_a']}
    assert load.joined(old, load.told(report), ['test_d']) == {
        'found': {'test_a': '3 kills', 'test_c': '2 kills'},
        'failed': ['test_d', 'test_e'],
    }


def test_without_a_record_nothing_is_claimed(tmp_path):
    assert records.mutants_text(tmp_path) == records.coverage_text(tmp_path) == '*Not measured.*'
    assert records.settings_text(tmp_path) == records.load_text(tmp_path) == '*Not run.*'


def test_the_page_asks_for_all_of_it():
    page = (ROOT / 'docs' / 'guarantees.md').read_text(encoding='utf-8')
    told = {'mutants': 'M', 'settings': 'S', 'coverage': 'C', 'load': 'L', 'pythons': '', 'stamps': '', 'checked cells': '', 'tests': ''}
    filled = build_site.fill(page, told, 'guarantees.md')
    assert [line for line in filled.splitlines() if line in told.values() and line] == ['M', 'S', 'C', 'L']


def test_the_record_of_faults_is_about_this_library():
    "What the page shows was measured on modules that are there."
    known = {module for _, _, module in mutants.owned()}
    assert {one['id'].partition(':')[0] for one in records.read(ROOT, 'mutants')['mutants']} <= known
