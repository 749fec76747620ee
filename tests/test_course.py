"""What a notebook cannot show of the tools that run it: failures, broken-off runs, killed processes."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

ROOT = Path(__file__).resolve().parents[1]
KERNEL = {'kernelspec': {'name': 'python3', 'display_name': 'python3', 'language': 'python'}}

pytestmark = pytest.mark.slow

SOURCES = """#| export
def planet_sample():
    return 'made up'

pascal_2007 = biwi_head_pose = bears = planet_sample

def is_standin(src):
    return True"""


def write(file, *cells):
    "A lesson of the given code cells; a pair is a cell and its tag."
    nb = new_notebook(metadata=KERNEL, cells=[new_markdown_cell(f'# Lesson {file.stem}\n\n> A made-up one')])
    for n, cell in enumerate(cells):
        source, *tags = cell if isinstance(cell, tuple) else (cell,)
        nb.cells.append(new_code_cell(source, id=f'cell{n}', metadata={'tags': tags} if tags else {}))
    nbformat.write(nb, file)


@pytest.fixture
def project(tmp_path):
    "A project of three tiny lessons with the tools of this one."
    (tmp_path / 'nbs').mkdir()
    (tmp_path / 'multilabel_nb').mkdir()
    (tmp_path / 'multilabel_nb' / '__init__.py').write_text('__version__ = "0.1.0"\n')
    shutil.copy(ROOT / 'settings.ini', tmp_path)
    shutil.copytree(ROOT / 'tools', tmp_path / 'tools')
    write(tmp_path / 'nbs' / '00_sources.ipynb', '#| default_exp sources', SOURCES)
    write(tmp_path / 'nbs' / '01_first.ipynb', 'print(1 + 1)', ('print("probe .95, all-negative .83")', 'scores'))
    write(tmp_path / 'nbs' / 'index.ipynb', 'print("home")')
    assert tool(tmp_path, 'notebooks').returncode == 0
    return tmp_path


def command(project, *args):
    return [sys.executable, str(project / 'tools' / 'lessons.py'), *args]


def environment(project):
    env = {k: v for k, v in os.environ.items() if k != 'MULTILABEL_NB_DATA'}
    return {**env, 'PYTHONPATH': str(project)}


def tool(project, *args, **env):
    return subprocess.run(
        command(project, *args), env={**environment(project), **env}, cwd=project, capture_output=True, text=True, timeout=180
    )


def snapshot(project):
    files = [
        p for folder in ('nbs', 'multilabel_nb') for p in (project / folder).rglob('*') if p.is_file() and '__pycache__' not in p.parts
    ]
    return {p.relative_to(project): p.read_bytes() for p in [*files, project / 'README.md']}


def test_notebooks_execute_clean_and_export(project):
    nb = nbformat.read(project / 'nbs' / '01_first.ipynb', as_version=4)
    assert nb.cells[1].outputs[0].text == '2\n' and nb.cells[1].execution_count is None
    assert 'def planet_sample' in (project / 'multilabel_nb' / 'sources.py').read_text()
    assert 'print("home")' in (project / 'README.md').read_text()
    assert tool(project, 'check').returncode == 0
    before = snapshot(project)
    assert 'nothing changed' in tool(project, 'notebooks').stdout and snapshot(project) == before


def test_course_says_what_was_learnt(project):
    before = snapshot(project)
    out = tool(project, 'course')
    assert out.returncode == 0, out.stdout + out.stderr
    assert '[3/3]' in out.stdout and 'Lesson 01_first\n---------------\nprobe .95, all-negative .83' in out.stdout
    assert 'make lab' in out.stdout and out.stdout.endswith('3 passed, 0 failed\n')
    assert nbformat.read(project / '_course' / '01_first.ipynb', as_version=4).cells[1].outputs
    assert snapshot(project) == before


FAILURES = {
    'raises': ('fraction = 3\nfraction / 0', 'ZeroDivisionError: division by zero'),
    'hangs': ('import time\ntime.sleep(100)', 'CellTimeoutError'),
    'dies': ('import os\nos._exit(1)', 'DeadKernelError'),
}


@pytest.mark.parametrize('how', FAILURES)
@pytest.mark.parametrize('what', ['course', 'notebooks'])
def test_a_failing_lesson_is_shown_and_the_exit_says_so(project, what, how):
    source, error = FAILURES[how]
    write(project / 'nbs' / '01_first.ipynb', 'x = 1', source)
    before = snapshot(project)
    out = tool(project, what, '--timeout', '10' if how == 'hangs' else '60')
    assert out.returncode == 1 and out.stdout.endswith('2 passed, 1 failed\n')
    assert 'Cell 2 failed' in out.stdout and '01_first.ipynb' in out.stdout and error in out.stdout
    assert source.splitlines()[0] in out.stdout
    assert snapshot(project) == before


def test_a_cell_that_promises_an_error_must_raise_it(project):
    write(project / 'nbs' / '01_first.ipynb', ('1 / 0', 'raises-exception'))
    assert tool(project, 'course', '01').returncode == 0
    write(project / 'nbs' / '01_first.ipynb', ('1 / 1', 'raises-exception'))
    out = tool(project, 'course', '01')
    assert out.returncode == 1 and 'raised nothing' in out.stdout


def test_real_refuses_to_pass_off_the_standin_as_real(project, tmp_path):
    (tmp_path / 'empty').mkdir()
    out = tool(project, 'real', MULTILABEL_NB_DATA=str(tmp_path / 'empty'))
    assert out.returncode != 0 and 'holds no planet_sample' in out.stderr
    out = tool(project, 'real', MULTILABEL_NB_DATA=str(tmp_path / 'nowhere'))
    assert out.returncode != 0 and 'MULTILABEL_NB_DATA' in out.stderr


def test_the_kernel_is_the_environments_own(project, tmp_path):
    """A kernel of the same name in the reader's home, as other projects leave there, is not the one that runs."""
    spec = tmp_path / 'home' / 'kernels' / 'python3'
    spec.mkdir(parents=True)
    (spec / 'kernel.json').write_text('{"argv": ["false"], "display_name": "python3", "language": "python"}')
    write(project / 'nbs' / '01_first.ipynb', f'import sys\nassert sys.executable == {sys.executable!r}, sys.executable')
    out = tool(project, 'course', '01', JUPYTER_PATH=str(tmp_path / 'home'), JUPYTER_DATA_DIR=str(tmp_path / 'home'))
    assert out.returncode == 0, out.stdout + out.stderr


def started(project, *args):
    "Start the tool on a lesson that takes long, and wait until that lesson runs."
    mark = project / 'running'
    write(
        project / 'nbs' / '01_first.ipynb',
        f'import os, pathlib, time\npathlib.Path({str(mark)!r}).write_text(str(os.getpid()))\ntime.sleep(100)',
    )
    process = subprocess.Popen(
        command(project, *args),
        env=environment(project),
        cwd=project,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background shell has it ignored, and children inherit that
    )
    for _ in range(600):
        if mark.exists() and mark.read_text():
            return process, int(mark.read_text())
        time.sleep(0.1)
    process.kill()
    raise AssertionError('the lesson did not start')


def gone(pid):
    "Whether a process ends within a few seconds."
    for _ in range(150):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        status = Path(f'/proc/{pid}/stat')
        if status.exists() and status.read_text().rpartition(')')[2].split()[0] == 'Z':
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize('sent', [signal.SIGKILL, signal.SIGINT], ids=lambda s: s.name)
def test_a_run_broken_off_changes_nothing_and_leaves_no_kernel(project, sent):
    process, kernel = started(project, 'notebooks')
    before = snapshot(project)
    process.send_signal(sent)
    assert process.wait(timeout=30) != 0
    assert snapshot(project) == before
    assert gone(kernel)
