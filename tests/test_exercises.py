"""The exercises: each has a place to write in, a check and a folded solution; nothing written is not an answer, the solution is one."""

import ast
import re
import subprocess
import sys
import textwrap
from collections import defaultdict
from pathlib import Path

import nbformat
import pytest

from multilabel_nb.exercises.core import exercise_numbers

NBS = Path(__file__).resolve().parents[1] / 'nbs'
HEADING = re.compile(r'### Exercise (\d\d\.\d): \S.*\n\n\S')
SOLUTION = re.compile(r'<details><summary>Solution</summary>\n\n(?:[^`].*\n\n)?```python\n(.+?)\n```\n\n</details>', re.S)


def cells(name):
    return nbformat.read(NBS / name, as_version=4).cells


def exercises():
    "Number of each exercise in the lessons -> file, and the three cells below its heading: to write in, check, solution."
    found = {}
    for file in sorted(NBS.glob('[0-9]*.ipynb')):
        lesson = cells(file.name)
        for i, cell in enumerate(lesson):
            if m := HEADING.match(cell.source):
                found[m[1]] = (file.name, *lesson[i + 1 : i + 4])
    return found


EXERCISES = exercises()
each_exercise = pytest.mark.parametrize('number', EXERCISES)


def run(*sources):
    "What a learner who has run nothing else of the lesson sees: the value of the last line."
    *before, last = ast.parse('\n'.join(['from multilabel_nb.exercises import check', *sources])).body
    space = {}
    exec(compile(ast.Module(before, []), 'exercise', 'exec'), space)
    return eval(compile(ast.Expression(last.value), 'exercise', 'eval'), space)


def test_two_to_six_at_the_end_of_each_lesson():
    of_lesson = defaultdict(list)
    for number, (file, *_) in EXERCISES.items():
        assert file.startswith(number[:2]), (number, file)
        of_lesson[number[:2]].append(int(number[3:]))
    assert list(of_lesson) == [f'{n:02}' for n in range(14) if n != 11]
    assert all(numbers == list(range(1, len(numbers) + 1)) and 2 <= len(numbers) <= 6 for numbers in of_lesson.values()), of_lesson
    assert list(EXERCISES) == [number for lesson in of_lesson for number in exercise_numbers(lesson)]


@each_exercise
def test_nothing_written_is_not_an_answer(number):
    _, blank, checked, _ = EXERCISES[number]
    assert blank.source.startswith(f'# Exercise {number}: write your answer here\n')
    assert re.fullmatch(rf"check\('{number}', \w+\)", checked.source)
    verdict = run(blank.source, checked.source)
    assert not verdict and 'not answered yet' in verdict.says
    assert repr(verdict) == checked.outputs[0].data['text/plain']


@each_exercise
def test_the_folded_solution_is_right(number):
    _, blank, checked, solution = EXERCISES[number]
    folded = SOLUTION.fullmatch(solution.source)
    assert folded, solution.source
    assert run(blank.source, folded[1], checked.source).passed


def tried(number):
    "The calls of `check` and `test_wrong` on an exercise in the notebook that proves the checks of its lesson."
    code = '\n'.join(cell.source for cell in cells(f'library/exercises_{number[:2]}.ipynb') if cell.cell_type == 'code')
    calls = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    named = [call for call in calls if call.args and getattr(call.args[0], 'value', '') == number]
    return [[call for call in named if call.func.id == name] for name in ('check', 'test_wrong')]


@each_exercise
def test_another_right_answer_and_wrong_ones_are_tried(number):
    right, wrong = tried(number)
    assert right and wrong
    assert all(len(call.args) >= 3 for call in wrong), 'say which words of the message help'


def test_checks_are_imported_when_they_are_asked_for():
    """`check` costs nothing by itself, and a check of one lesson brings neither the other lessons nor their libraries."""
    code = """
        import sys
        from multilabel_nb.exercises import check
        loaded = lambda: [name for name in sys.modules if 'exercises.lesson' in name or name in ('numpy', 'torch', 'fastai')]
        assert not loaded(), loaded()
        assert check('09.2', lambda right, n_labels: 1 - 2 * (1 - right) / n_labels)
        assert loaded() == ['multilabel_nb.exercises.lesson_09'], loaded()
    """
    subprocess.run([sys.executable, '-c', textwrap.dedent(code)], check=True, cwd=NBS.parent)
