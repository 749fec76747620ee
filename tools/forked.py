"""Run a notebook or tests in a fork of a process that has imported the heavy packages already, against a copy of the tree.

A notebook is executed cell by cell, as nbdev does, and its outputs are compared as nbval compares them here, but for standard error: there
a progress bar goes that a kernel would draw as a widget. On request the lines that are executed are noted.
"""

import compileall
import importlib
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import defaultdict
from contextlib import suppress
from functools import partial
from pathlib import Path
from py_compile import PycInvalidationMode
from types import SimpleNamespace

import nbformat
from lessons import ROOT
from tqdm import tqdm

HEAVY = 'numpy pandas torch torchvision timm fastai.vision.all matplotlib.pyplot onnxruntime sklearn.metrics safetensors.torch'
TOOLS = 'hypothesis pytest nbval.plugin execnb.shell'


def copied(folder):
    "A copy of the tree to break things in, and of the cache."
    shutil.copytree(
        ROOT, folder, ignore=shutil.ignore_patterns('.*', '_docs', '_course', 'build', 'dist', '__pycache__'), dirs_exist_ok=True
    )
    cache = Path(os.environ.get('MULTILABEL_NB_CACHE') or Path.home() / '.cache' / 'multilabel_nb')
    if cache.exists():
        shutil.copytree(cache, folder / 'cache')
    # Compiled once; a module with a fault in it is told by its hash and compiled anew.
    compileall.compile_dir(folder / 'multilabel_nb', quiet=1, invalidation_mode=PycInvalidationMode.CHECKED_HASH)
    return folder


def warm_up(folder):
    "Import what takes long, once; a shell is there first, so that fastai knows a notebook."
    os.environ.pop('MULTILABEL_NB_DATA', None)
    os.environ.update(OMP_NUM_THREADS='1', MATPLOTLIBRC=str(ROOT / 'nbs' / 'matplotlibrc'), IPYTHONDIR=str(folder / 'ipython'))
    os.environ.update(PYTHONDONTWRITEBYTECODE='1', PYTHONPATH=str(folder), MULTILABEL_NB_CACHE=str(folder / 'cache'))
    sys.dont_write_bytecode = True
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    # pandas, as it is imported, looks for a kernel to know that it is no terminal.
    shell = InteractiveShell.instance(config=Config({'HistoryManager': {'enabled': False}}))
    shell.kernel = None
    with shell.builtin_trap:
        for name in f'{HEAVY} {TOOLS}'.split():
            importlib.import_module(name)
    sys.modules['torch'].set_num_threads(1)
    own = [n for n, m in sys.modules.items() if str(getattr(m, '__file__', None)).startswith(f'{ROOT}/') and '.venv' not in m.__file__]
    for name in own:  # what the copy has, too, must come from there
        if name != '__main__':
            del sys.modules[name]
    sys.path[:] = [str(folder), *(p for p in sys.path if not p or '.venv' in p or not Path(p).is_relative_to(ROOT))]


def forked(work, seconds):
    "What `work()` returns in a process of its own; a string that says why, where it never returned. The seconds are the processor's."
    with tempfile.NamedTemporaryFile('r', suffix='.json') as answer:
        pid = os.fork()
        if not pid:
            try:
                os.setsid()
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                resource.setrlimit(resource.RLIMIT_DATA, (8 << 30, resource.RLIM_INFINITY))
                resource.setrlimit(resource.RLIMIT_CPU, (int(seconds), resource.RLIM_INFINITY))
                # its own: the usual lock is shared by processes, and one that is killed may hold it for ever
                tqdm.set_lock(threading.RLock())
                tqdm._instances.clear()  # bars of the work are the first on the screen, as in a process of its own
                for stream in (1, 2):
                    os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
                Path(answer.name).write_text(json.dumps(work()), encoding='utf-8')
            finally:
                os._exit(0)
        deadline, over, ended = time.monotonic() + 10 * seconds, False, 0  # for one that only waits
        try:
            while not over and not ended:
                ended, status = os.waitpid(pid, os.WNOHANG)
                over = time.monotonic() > deadline
                time.sleep(0.02)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)  # with what it started and left behind
            if not ended:
                _, status = os.waitpid(pid, 0)
        text = answer.read()
    return json.loads(text) if text else 'out of time' if over or os.WTERMSIG(status) == signal.SIGXCPU else 'the process died'


def traced(seen, names):
    "Note lines that are executed, by file; `names` says which files count, under which name."

    watched = {}

    def note(lines):
        def local(frame, event, arg):
            lines.add(frame.f_lineno)
            return local

        return local

    def calls(frame, event, arg):
        path = frame.f_code.co_filename
        if path not in watched:
            watched[path] = note(seen[names(path)]) if names(path) else None
        return watched[path]

    threading.settrace(calls)
    sys.settrace(calls)


def run_notebook(file, folder, trace=False, places=None):
    "Why a notebook fails, or None; with `trace` its lines, too. A cell in `places` is compiled as part of that file, below its lines."
    from execnb.shell import CaptureShell
    from IPython.core.interactiveshell import InteractiveShell
    from nbval import plugin

    os.chdir((folder / file).parent)
    # pandas looks for "zmq" in the name to know that its tables are shown in a notebook.
    shell = InteractiveShell._instance = type('ZMQShell', (CaptureShell,), {})()
    shell._showtraceback = lambda *args: None
    patterns = dict(plugin.get_sanitize_patterns((folder / 'nbs' / 'sanitize.cfg').read_text(encoding='utf-8')))
    patterns[r'PosixPath\('] = 'Path('  # so fastcore calls a path, and here it is always imported
    skipped = 'metadata traceback output_type name execution_count stderr application/vnd.jupyter.widget-view+json'
    skipped += ' image/png image/jpeg image/svg+xml'
    like = SimpleNamespace(parent=SimpleNamespace(skip_compare=skipped.split(), sanitize_patterns=patterns), colors=plugin.nocolors)
    like.sanitize = partial(plugin.IPyNbCell.sanitize, like)
    like.format_output_compare = lambda key, stored, new: like.comparison_traceback.append(f'{key} was {stored!r:.300}, is {new!r:.300}')
    seen = defaultdict(set)
    if trace:
        traced(seen, lambda path: path if path.startswith('cell:') else inside(path, folder))
    for cell in nbformat.read(folder / file, as_version=4).cells:
        marks = dict([*plugin.find_comment_markers(cell.source), *(plugin.find_metadata_tags(cell.metadata) or [])])
        if cell.cell_type != 'code' or marks.get('skip'):
            continue
        name, lines = (places or {}).get(cell.id, (f'cell:{cell.id}', 0))
        shell.compile.get_code_name = lambda *args, name=name: name
        outputs = [nbformat.from_dict(joined(o)) for o in shell.run('#\n' * lines + cell.source)]
        if shell.exc and not marks.get('check_exception'):
            why = f'{type(shell.exc).__name__}: {str(shell.exc)[:200]}'
        elif marks.get('check', True) and not plugin.IPyNbCell.compare_outputs(like, outputs, plugin.coalesce_streams(cell.outputs)):
            why = f'its output differs: {like.comparison_traceback}'
        else:
            continue
        return {'why': f'{cell.id}: {why}', 'lines': {}}
    sys.settrace(None)
    return {'why': None, 'lines': {name: sorted(lines) for name, lines in seen.items()}}


def joined(output):
    "An output of execnb with its text in one piece, as nbformat reads it."
    whole = lambda text: ''.join(text) if isinstance(text, list) else text  # noqa: E731
    data = {'data': {kind: whole(x) for kind, x in output['data'].items()}} if 'data' in output else {}
    return {**output, **data, **({'text': whole(output['text'])} if 'text' in output else {})}


def inside(path, folder):
    "The module of a file of the copied package."
    return path[len(str(folder)) + 15 : -3].replace('/', '.') if path.startswith(f'{folder}/multilabel_nb/') else ''


class Watch:
    "A plugin of pytest that notes the seconds of each test that passes."

    def __init__(self):
        self.seconds = {}

    def pytest_runtest_logstart(self, nodeid):
        self.began = time.process_time()

    def pytest_runtest_logreport(self, report):
        if report.when == 'call' and report.outcome == 'passed':
            self.seconds[report.nodeid] = time.process_time() - self.began


def run_tests(names, folder, more=(), watch=None):
    "Why tests fail, or None; with `watch` the seconds of each."
    import pytest

    os.chdir(folder)
    options = ['-q', '-p', 'no:cacheprovider', '--hypothesis-seed=0', '--rootdir', str(folder), *more, *([] if watch else ['-x'])]
    status = pytest.main([*options, *names], plugins=[watch] if watch else [])
    return {'why': f'pytest: {status!r}' if status in (1, 2, 3, 4) else None, 'tests': watch and watch.seconds}
