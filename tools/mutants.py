"""Mutation score of the notebooks and tests: `python tools/mutants.py --n 100`.

A mutant is one small fault (`tools/mutate.py`) in an exported cell and in its module alike. It is *killed* when a cell raises, when an output
differs from the stored one as nbval compares them, when a test fails, or when time runs out. The notebook that owns the cell is run first,
then two others that execute the line, then the tests that do. Each run is a fork of a process that has imported the heavy packages already,
in a copy of the tree with a cache of its own.
"""

import argparse
import compileall
import hashlib
import importlib
import json
import os
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import threading
import time
import tomllib
from collections import Counter, defaultdict
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from py_compile import PycInvalidationMode
from types import SimpleNamespace

import nbformat
from checked_cells import is_exported
from lessons import MACHINERY, ROOT, atomic_write, notebook_files
from mutate import Edit, edits
from tqdm import tqdm

RESULTS = ROOT / 'benchmarks' / 'mutants.json'
MEASURED = ROOT / '.mutants.json'  # seconds and executed lines of notebooks and tests, kept between calls
EQUIVALENT = ROOT / 'tools' / 'mutants.toml'
HEAVY = 'numpy pandas torch torchvision timm fastai.vision.all matplotlib.pyplot onnxruntime sklearn.metrics hypothesis pytest safetensors.torch'
# Tests of the tree itself: style, sizes, the site, packaging, notebooks against modules.
LEFT_OUT = {f'test_{name}.py' for name in 'house project course wheel site browser live search guide help recap processes mutants'.split()}
AT_MOST = 2, 20  # other notebooks, and seconds of tests


@dataclass(frozen=True)
class Mutant:
    id: str  # module:line:kind:number
    module: str
    notebook: Path  # relative to the tree
    cell: str
    line: int  # of the module
    first: int  # line of the module that is the cell's line 0
    before: str
    after: str
    source: str  # the cell with the fault in it
    edit: Edit


def module_file(module, root):
    return root / 'multilabel_nb' / f'{module.replace(".", "/")}.py'


def section(text, cell):
    "Where a module has the source of a cell, from after its marker on."
    begin = re.search(rf'^# %% .*#{cell}\n', text, re.M).end()
    following = text.find('\n# %% ', begin)
    return begin, len(text) if following < 0 else following


def owned(root=ROOT):
    "Exported cells of the notebooks that build the library: notebook, cell, module."
    for file in notebook_files(root):
        default = None
        for cell in nbformat.read(file, as_version=4).cells:
            default = next(iter(re.findall(r'^#\|\s*default_exp\s+(\S+)', cell.source, re.M)), default)
            if cell.cell_type == 'code' and is_exported(cell.source):
                module = re.search(r'#\|\s*exporti?[ \t]*(\S*)', cell.source)[1] or default
                if module.partition('.')[0] not in MACHINERY:
                    yield file.relative_to(root), cell, module


def mutants(root=ROOT):
    "All mutants, by module."
    found, seen = defaultdict(list), Counter()
    for notebook, cell, module in owned(root):
        text = module_file(module, root).read_text(encoding='utf-8')
        head = next(n for n, line in enumerate(cell.source.splitlines(), 1) if line.strip() and not line.startswith('#|'))
        begin = section(text, cell.id)[0]
        first = text[:begin].count('\n') + 1 - head
        for edit in edits(cell.source):
            source, rows = edit.apply(cell.source), range(edit.line - 1, edit.line + edit.source_lines(cell.source))
            shown = [' '.join(' '.join(s.splitlines()[r] for r in rows if r < len(s.splitlines())).split()) for s in (cell.source, source)]
            key = f'{module}:{first + edit.line}:{edit.kind}'
            seen[key] += 1
            found[module].append(
                Mutant(f'{key}:{seen[key]}', module, notebook, cell.id, first + edit.line, first, *shown, source, edit),
            )
    return dict(found)


def sample(found, n, seed):
    "As many of each module, in an order that a larger `n` continues."
    order = {module: random.Random(f'{seed}:{module}').sample(all_, len(all_)) for module, all_ in sorted(found.items())}
    ranked = sorted((rank, module, m.id, m) for module, all_ in order.items() for rank, m in enumerate(all_))
    return [m for *_, m in ranked[:n]]


# ---- running in a fork


def warm_up(folder):
    "Import what takes long, once; a shell is there first, so that fastai knows a notebook."
    os.environ.pop('MULTILABEL_NB_DATA', None)
    os.environ.update(OMP_NUM_THREADS='1', MATPLOTLIBRC=str(ROOT / 'nbs' / 'matplotlibrc'), IPYTHONDIR=str(folder / 'ipython'))
    os.environ.update(PYTHONDONTWRITEBYTECODE='1', PYTHONPATH=str(folder), MULTILABEL_NB_CACHE=str(folder / 'cache'))
    sys.dont_write_bytecode = True
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    InteractiveShell.instance(config=Config({'HistoryManager': {'enabled': False}}))
    for name in [*HEAVY.split(), 'nbval.plugin', 'execnb.shell']:
        importlib.import_module(name)
    sys.modules['torch'].set_num_threads(1)
    own = [n for n, m in sys.modules.items() if str(getattr(m, '__file__', None)).startswith(f'{ROOT}/') and '.venv' not in m.__file__]
    for name in own:  # what the copy has, too, must come from there
        if name != '__main__':
            del sys.modules[name]
    sys.path[:] = [str(folder), *(p for p in sys.path if not p or '.venv' in p or not Path(p).is_relative_to(ROOT))]


def forked(work, seconds):
    "What `work()` returns in a process of its own; a string that says why, where it never returned."
    with tempfile.NamedTemporaryFile('r', suffix='.json') as answer:
        pid = os.fork()
        if not pid:
            try:
                os.setsid()
                resource.setrlimit(resource.RLIMIT_DATA, (8 << 30, resource.RLIM_INFINITY))
                for stream in (1, 2):
                    os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
                Path(answer.name).write_text(json.dumps(work()), encoding='utf-8')
            finally:
                os._exit(0)
        deadline = time.monotonic() + seconds
        while not os.waitpid(pid, os.WNOHANG)[0]:
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                break
            time.sleep(0.02)
        else:
            seconds = 0
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)  # what it started and left behind
        text = answer.read()
    return json.loads(text) if text else 'out of time' if seconds else 'the process died'


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


def run_notebook(file, folder, trace=False):
    "Why a notebook fails, or None; with `trace` its lines, too."
    from execnb.shell import CaptureShell
    from IPython.core.interactiveshell import InteractiveShell
    from nbval import plugin

    os.chdir((folder / file).parent)
    # pandas looks for "zmq" in the name to know that its tables are shown in a notebook.
    shell = InteractiveShell._instance = type('ZMQShell', (CaptureShell,), {})()
    shell._showtraceback = lambda *args: None
    patterns = dict(plugin.get_sanitize_patterns((folder / 'nbs' / 'sanitize.cfg').read_text(encoding='utf-8')))
    skipped = 'metadata traceback output_type name execution_count stderr image/png image/jpeg application/vnd.jupyter.widget-view+json'
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
        shell.compile.get_code_name = lambda *args, cell=cell: f'cell:{cell.id}'
        outputs = [nbformat.from_dict(joined(o)) for o in shell.run(cell.source)]
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
    "A plugin of pytest that notes for each test its seconds and lines, and whether it passed."

    def __init__(self, folder):
        self.seen, self.tests, self.folder = defaultdict(set), {}, folder

    def pytest_runtest_logstart(self, nodeid):
        self.seen.clear()
        self.began = time.monotonic()
        traced(self.seen, lambda path: inside(path, self.folder))

    def pytest_runtest_logreport(self, report):
        test = self.tests.setdefault(report.nodeid, {'passed': False})
        if report.when == 'call':
            test['passed'] = report.outcome == 'passed'

    def pytest_runtest_logfinish(self, nodeid):
        sys.settrace(None)
        lines = {name: sorted(lines) for name, lines in self.seen.items()}
        self.tests[nodeid] |= {'seconds': time.monotonic() - self.began, 'lines': lines}


def run_tests(names, folder, watch=None):
    "Why tests fail, or None; with `watch` what each executes."
    import pytest

    os.chdir(folder)
    options = ['-q', '-p', 'no:cacheprovider', '--hypothesis-seed=0', '--rootdir', str(folder), *([] if watch else ['-x'])]
    status = pytest.main([*options, *names], plugins=[watch] if watch else [])
    return watch.tests if watch else {'why': f'pytest: {status!r}' if status in (1, 2, 3, 4) else None}


# ---- one mutant after the other


class Runner:
    def __init__(self, folder, progress=print):
        self.folder, self.say = folder, progress
        self.known = json.loads(MEASURED.read_text(encoding='utf-8')) if MEASURED.exists() else {}
        library = sorted((ROOT / 'multilabel_nb').rglob('*.py'))
        self.library = hashlib.sha256(b''.join(p.read_bytes() for p in library)).hexdigest()
        self.notebooks = [f.relative_to(ROOT) for f in notebook_files()]
        self.library_notebooks = [f for f in self.notebooks if f.parent.name == 'library']
        self.tests = [f.relative_to(ROOT) for f in sorted((ROOT / 'tests').glob('test_*.py')) if f.name not in LEFT_OUT]
        self.text = {f: (ROOT / f).read_text(encoding='utf-8') for f in [*self.notebooks, *self.tests]}

    def measured(self, file):
        "Seconds and lines of the unmutated notebook or test file, from this call or an earlier one."
        digest = hashlib.sha256((self.library + self.text[file]).encode()).hexdigest()
        if self.known.get(str(file), {}).get('digest') != digest:
            began = time.monotonic()
            if file.suffix == '.ipynb':
                found = forked(lambda: run_notebook(file, self.folder, trace=True), 900)
            else:
                found = forked(lambda: run_tests([str(file)], self.folder, Watch(self.folder)), 900)
            found = {'why': found, 'lines': {}} if isinstance(found, str) else found
            found = found if file.suffix == '.ipynb' else {'tests': found if 'lines' not in found else {}}
            self.known[str(file)] = {'digest': digest, 'seconds': time.monotonic() - began, **found}
            atomic_write(MEASURED, json.dumps(self.known).encode())
            self.say(f'{file}: {self.known[str(file)]["seconds"]:.1f} s {found.get("why") or ""}')
        return self.known[str(file)]

    def mentions(self, module, files):
        names = importlib.import_module('ast').literal_eval(
            re.search(r'^__all__ = (\[.*?\])$', module_file(module, ROOT).read_text(encoding='utf-8'), re.M | re.S)[1]
        )
        word = re.compile(rf'multilabel_nb\.{re.escape(module)}\b|\b({"|".join(names) or "-"})\b')
        return [f for f in files if word.search(self.text[f])]

    def stages(self, mutant):
        "What to run, in this order: a name for the stage, the work, the seconds it takes without a fault."
        lines = {mutant.first + line for line in mutant.edit.lines}
        executes = lambda seen: not lines or bool(lines & set(seen.get(mutant.module, ())))  # noqa: E731
        notebooks, owner = [], mutant.notebook
        for file in [owner, *self.mentions(mutant.module, self.library_notebooks)]:
            found = self.measured(file)
            own = file == owner and (not lines or mutant.edit.lines & {*found['lines'].get(f'cell:{mutant.cell}', ())})
            if found['why'] is None and (own or executes(found['lines'])) and file not in [f for *_, f in notebooks]:
                notebooks.append((found['seconds'] / (3 if file == owner else 1), found['seconds'], file))
        others = sorted(n for n in notebooks if n[2] != owner)[: AT_MOST[0]]
        for _, seconds, file in sorted([*others, *(n for n in notebooks if n[2] == owner)]):
            yield 'owner' if file == owner else str(file), partial(run_notebook, file, self.folder), seconds
        always = [f for f in self.tests if f.name in ('test_door.py', 'test_docstrings.py')]
        tests = []
        for file in {*self.mentions(mutant.module, self.tests), *always}:
            found = self.measured(file)['tests'].items()
            tests += [(t['seconds'], name) for name, t in found if t['passed'] and executes(t['lines'])]
        chosen, total = [], 0
        for seconds, name in sorted(tests):
            if total + seconds < AT_MOST[1]:
                chosen, total = [*chosen, name], total + seconds
        if chosen:
            yield 'tests', partial(run_tests, chosen, self.folder), total

    @contextmanager
    def planted(self, mutant):
        "The fault is in the copied module and notebook."
        module, notebook = module_file(mutant.module, self.folder), self.folder / mutant.notebook
        before = {file: file.read_bytes() for file in (module, notebook)}
        text = before[module].decode()
        begin, end = section(text, mutant.cell)
        nb = nbformat.reads(before[notebook].decode(), as_version=4)
        next(c for c in nb.cells if c.get('id') == mutant.cell).source = mutant.source
        try:
            module.write_text(text[:begin] + mutant.source + '\n' + text[end:], encoding='utf-8')
            nbformat.write(nb, notebook)
            yield
        finally:
            for file, data in before.items():
                file.write_bytes(data)

    def judge(self, mutant):
        "Which stage kills a mutant, and how."
        spent, ran, killed_by, why = 0, [], None, None
        for stage, work, seconds in self.stages(mutant):
            began = time.monotonic()
            with self.planted(mutant):
                found = forked(work, 3 * seconds + 10)
            why = found if isinstance(found, str) else found['why']
            spent, ran = spent + time.monotonic() - began, [*ran, stage]
            if why:
                killed_by = stage
                break
        return {'killed_by': killed_by, 'how': why, 'ran': ran, 'seconds': round(spent, 1)}


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


# ---- results


def equivalents():
    "Mutants that change nothing one could see: (module, before, after) and the reason."
    listed = tomllib.loads(EQUIVALENT.read_text(encoding='utf-8')).get('equivalent', []) if EQUIVALENT.exists() else []
    return {(e['module'], e['before'], e['after']): e['reason'] for e in listed}


def record(mutant, verdict):
    return {
        'id': mutant.id,
        'file': f'multilabel_nb/{mutant.module.replace(".", "/")}.py:{mutant.line}',
        'notebook': str(mutant.notebook),
        'before': mutant.before,
        'after': mutant.after,
        **verdict,
    }


def table(records, same):
    "By module: mutants, killed by the owner, by notebooks alone, by all, equivalent, survivors."
    rows = defaultdict(Counter)
    for r in records:
        module = r['id'].partition(':')[0]
        for row in (rows[module], rows['in all']):
            row['mutants'] += 1
            by = r['killed_by']
            row['owner'] += by == 'owner'
            row['notebooks'] += by not in (None, 'tests')
            row['killed'] += by is not None
            row['equivalent'] += by is None and (module, r['before'], r['after']) in same
    columns = 'mutants owner notebooks killed equivalent survivors'.split()
    lines = [f'{"module":<20}' + ''.join(f'{c:>11}' for c in columns)]
    for module, row in sorted(rows.items(), key=lambda item: (item[0] == 'in all', item)):
        row['survivors'] = row['mutants'] - row['killed'] - row['equivalent']
        lines.append(f'{module:<20}' + ''.join(f'{row[c]:>11}' for c in columns))
    return '\n'.join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--n', type=int, default=100, help='mutants in all, spread over the modules')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--only', nargs='*', default=[], help='modules')
    parser.add_argument('--fresh', action='store_true', help='judge those again that were killed before')
    parser.add_argument('--survivors', action='store_true', help='judge the survivors in the record again')
    parser.add_argument('--results', type=Path, default=RESULTS, help='the record, in JSON')
    args = parser.parse_args()
    found = {module: all_ for module, all_ in mutants().items() if not args.only or module in args.only}
    kept = {} if not args.results.exists() else {r['id']: r for r in json.loads(args.results.read_text(encoding='utf-8'))['mutants']}
    everything = {m.id: m for all_ in mutants().values() for m in all_}
    kept = {i: r for i, r in kept.items() if i in everything and (r['before'], r['after']) == (everything[i].before, everything[i].after)}
    same = equivalents()
    chosen = [m for m in sample(found, args.n, args.seed) if args.fresh or m.id not in kept]
    if args.survivors:
        chosen = [everything[i] for i, r in kept.items() if not r['killed_by'] and everything[i].module in found]
        chosen = [m for m in chosen if (m.module, m.before, m.after) not in same]
    with tempfile.TemporaryDirectory() as tmp:
        folder = copied(Path(tmp).resolve())
        warm_up(folder)
        runner = Runner(folder, tqdm.write)
        for mutant in tqdm(chosen, unit='mutant'):
            kept[mutant.id] = record(mutant, runner.judge(mutant))
            told = kept[mutant.id]
            if not told['killed_by']:
                tqdm.write(f'survives: {mutant.id} ({mutant.notebook})\n   {mutant.before}\n   {mutant.after}')
            data = {'sites': len(everything), 'mutants': [kept[i] for i in sorted(kept)]}
            atomic_write(args.results, (json.dumps(data, indent=1, ensure_ascii=False) + '\n').encode())
    print(table(kept.values(), same))


if __name__ == '__main__':
    main()
