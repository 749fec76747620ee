"""Run the lessons: as a course, in place, or on the real data; write README.md from the home page.

The one way notebooks are executed, by whichever make target: on this environment's own kernel, a few at a time.
"""

import argparse
import ast
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from configparser import ConfigParser
from dataclasses import dataclass, field
from pathlib import Path
from posixpath import join, normpath

import api_pages
import nbformat
import vector
from ipykernel.kernelspec import RESOURCES, get_kernel_dict
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from kernels import OwnSockets, threads_each
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from traitlets import default

from multilabel_nb.files import write_atomically

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
DATA_VAR = 'MULTILABEL_NB_DATA'
FIRST = 'index.ipynb', 'start.ipynb'  # before the numbered lessons
RUNNING = set()  # clients of the lessons being executed
ANSI = re.compile(r'\x1b\[[0-9;]*m')


def config(root=ROOT):
    "The project's one table of names, versions and addresses."
    parser = ConfigParser(delimiters=['='])
    parser.read(root / 'settings.ini', encoding='utf-8')
    return parser['DEFAULT']


def notebook_files(root=ROOT):
    "Every notebook in order: those of the reader in `nbs/`, the home page first, then those that build the library, in the folders below."
    folder = root / config(root)['nbs_path']
    hidden = lambda p: any(part.startswith('.') for part in p.relative_to(folder).parts)  # noqa: E731
    return sorted((p for p in folder.rglob('*.ipynb') if not hidden(p)), key=lambda p: (p.parent != folder, p.name not in FIRST, p))


def lesson_files(names=(), root=ROOT, library=False):
    "The reader's notebooks in order, and with `library` the others; `names` keeps those whose file names contain one."
    folder = root / config(root)['nbs_path']
    files = [p for p in notebook_files(root) if library or p.parent == folder]
    unknown = [name for name in names if not any(name in p.name for p in files)]
    if unknown or not files:
        raise SystemExit(f'no lesson matches {", ".join(unknown) or "*.ipynb"}; there are: {", ".join(p.stem for p in files)}')
    return [p for p in files if not names or any(name in p.name for name in names)]


def atomic_write(path, data):
    "Write bytes completely or not at all, in a folder that is made for them."
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, data)


# ---- executing


class OwnSpec(KernelSpecManager):
    "Whatever kernels the reader's home offers under the same name, run the one of this interpreter."

    def get_kernel_spec(self, kernel_name):
        spec = get_kernel_dict()
        return KernelSpec(resource_dir=RESOURCES, **{**spec, 'argv': [*spec['argv'], '--log-level=ERROR']})


class OwnKernel(OwnSockets, AsyncKernelManager):
    "Starts `OwnSpec`'s kernel."

    @default('kernel_spec_manager')
    def _own_spec(self):
        return OwnSpec()


@dataclass
class Run:
    "What came of one lesson."

    file: Path
    nb: nbformat.NotebookNode
    seconds: float = 0.0
    errors: list = field(default_factory=list)

    @property
    def title(self):
        return next((m[1] for c in self.nb.cells if (m := re.match(r'# (.+)', c.source))), self.file.stem)


def kernel_env(jobs):
    "The environment of the kernels: cores shared out, this environment's programs first on the path, the lessons' plots, nobody's profile."
    shared = {'OMP_NUM_THREADS': os.environ.get('OMP_NUM_THREADS', threads_each(jobs)), 'PATH': f'{BIN}{os.pathsep}{os.environ["PATH"]}'}
    return {**os.environ, **shared, 'MATPLOTLIBRC': str(ROOT / config()['nbs_path'] / 'matplotlibrc')}


def tags(cell):
    return cell.metadata.get('tags', [])


def missed_errors(nb):
    "Cells that promise an error and did not raise it."
    cells = [c for c in nb.cells if 'raises-exception' in tags(c)]
    return [c for c in cells if not any(o.output_type == 'error' for o in c.outputs)]


def execute(file, cwd, env, timeout):
    "Execute one notebook on its own kernel, in memory."
    run = Run(file, nbformat.read(file, as_version=4))
    at = {}
    client = NotebookClient(
        run.nb,
        kernel_manager_class=OwnKernel,
        timeout=timeout,
        startup_timeout=120,
        coalesce_streams=True,  # how often a kernel flushes is chance
        store_widget_state=False,  # progress bars whose kernel is gone
        resources={'metadata': {'path': str(cwd)}},
        on_cell_execute=lambda cell, cell_index: at.update(cell=cell, index=cell_index),
    )
    began = time.perf_counter()
    RUNNING.add(client)
    try:
        client.execute(env=env)
        run.errors = [f'A cell tagged raises-exception raised nothing:\n\n{c.source}' for c in missed_errors(run.nb)]
    except CellExecutionError as e:
        run.errors = [failure(at, f'{e.ename}: {e.evalue}', e.traceback)]
    except Exception as e:  # a timeout, a kernel that died: the cell it happened in matters as much
        run.errors = [failure(at, f'{type(e).__name__}: {e}')]
    finally:
        RUNNING.discard(client)
    run.seconds = time.perf_counter() - began
    for output in (output for cell in run.nb.cells for output in cell.get('outputs', [])):
        vector.tidy(output)
    return run


def failure(at, error, traceback=''):
    "A failing cell as a reader needs it: its number, its source, what it raised."
    if not at:
        return f'The kernel did not start.\n{error}'
    told = ANSI.sub('', traceback).strip() or indent(at['cell'].source)  # a traceback quotes the cell
    return f'Cell {at["index"]} failed with {ANSI.sub("", error)}\n\n{told}'


def indent(text):
    return '\n'.join(f'    {line}'.rstrip() for line in text.splitlines())


def execute_all(files, cwd, args, extra_env=lambda file: {}, done=lambda run: None):
    "Execute lessons, each in `cwd` or its own folder, `args.jobs` at a time, with a line for each as it ends; in the order of `files`."
    jobs = max(1, min(args.jobs, len(files)))
    env = kernel_env(jobs)
    print(f'{len(files)} notebooks, {jobs} at a time, {env["OMP_NUM_THREADS"]} thread(s) each', flush=True)
    runs = {}
    with tempfile.TemporaryDirectory() as profile, ThreadPoolExecutor(jobs) as pool:
        env['IPYTHONDIR'] = str(vector.write_profile(Path(profile)))
        waiting = {pool.submit(execute, f, cwd or f.parent, {**env, **extra_env(f)}, args.timeout): f for f in files}
        try:
            for n, future in enumerate(as_completed(waiting), 1):
                run = runs[waiting[future]] = future.result()
                print(f'[{n}/{len(files)}] {run.file.stem:<20} {run.seconds:5.1f} s  {"FAILED" if run.errors else "ok"}', flush=True)
                done(run)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            kill_kernels()
            raise
    return [runs[f] for f in files]


def kill_kernels():
    "End the kernels still running, so that nobody waits for lessons that were broken off."
    for client in list(RUNNING):
        if client.km and client.km.has_kernel:
            os.kill(client.km.provisioner.pid, signal.SIGKILL)


def warm_up(env=None):
    "Generate the embedded data now, with its progress bar, so that it is in no lesson's output or time."
    code = 'from multilabel_nb import sources as s; s.planet_sample(), s.pascal_2007(), s.biwi_head_pose(), s.bears()'
    subprocess.run([sys.executable, '-P', '-c', code], env={**os.environ, **(env or {})}, check=True)


# ---- what is said at the end


WIDGET = 'application/vnd.jupyter.widget-view+json'


def output_text(cell):
    "What a cell shows, as plain text; progress bars left out."
    shown = [o for o in cell.outputs if WIDGET not in o.get('data', {})]
    parts = [o.text if o.output_type == 'stream' else o.get('data', {}).get('text/plain', '') for o in shown]
    return '\n'.join(p.rstrip() for p in parts if p.strip())


def print_scores(runs):
    "The outputs of the cells tagged `scores`, under the titles of their lessons."
    for run in runs:
        shown = [output_text(c) for c in run.nb.cells if c.cell_type == 'code' and 'scores' in tags(c)]
        if shown:
            print(f'\n{run.title}\n{"-" * len(run.title)}\n' + '\n\n'.join(shown))


def report(runs):
    "Failures in full, then the count; the exit status."
    failed = [run for run in runs if run.errors]
    for run in failed:
        for error in run.errors:
            print(f'\n{"=" * 20} {run.file.name} {"=" * 20}\n{error}')
    print(f'\n{len(runs) - len(failed)} passed, {len(failed)} failed', flush=True)
    return int(bool(failed))


# ---- the README


def github_links(source, folder):
    "Relative links as seen from the root rather than from the notebooks' folder."

    def moved(match):
        target = match[2]
        return match[0] if re.match(r'[a-z]+:|#|/', target) else f'{match[1]}({normpath(join(folder, target))})'

    return re.sub(r'(\])\(([^)\s]+)\)', moved, source)


def readme(root=ROOT):
    "README.md as rendered from the home page."
    from nbconvert import MarkdownExporter

    folder = config(root)['nbs_path']
    nb = nbformat.read(root / folder / 'index.ipynb', as_version=4)
    nb.cells = [c for c in nb.cells if not re.match(r'#\|\s*hide\b', c.source)]
    nb.metadata.language_info = {'name': 'python'}  # which cleaning took away; it names the code fences
    for cell in nb.cells:
        if cell.cell_type == 'markdown':
            cell.source = github_links(cell.source, folder)
        for output in cell.get('outputs', []):
            if 'data' in output:
                output.data = {'text/plain': output.data.get('text/plain', '')}
    text = re.sub(r'\n{3,}', '\n\n', MarkdownExporter().from_notebook_node(nb)[0])
    note = f'<!-- Written by `make notebooks` from {folder}/index.ipynb; edit that. -->\n\n'
    return note + text.strip() + '\n'


# ---- a copy to work in


def stage(to, root=ROOT):
    "Copy what executing, cleaning, exporting and rendering read and write."
    cfg = config(root)
    skip = shutil.ignore_patterns('.*', '__pycache__', '*.pyc')
    shutil.copy(root / 'settings.ini', to)
    for folder in (cfg['nbs_path'], cfg['lib_path'], 'benchmarks'):
        if (root / folder).exists():
            shutil.copytree(root / folder, to / folder, ignore=skip)
    for module in exported(to):
        module.unlink()
    return to


def exported(root):
    "The modules that nbdev wrote."
    modules = sorted((root / config(root)['lib_path']).rglob('*.py'))
    return [p for p in modules if 'autogenerated' in p.read_text(encoding='utf-8')[:1000].lower()]


def nbdev(staged, command, *args):
    "Run one of nbdev's programs in a staged copy."
    env = {**os.environ, 'PYTHONPATH': str(staged)}
    out = subprocess.run([str(BIN / command), *args], cwd=staged, env=env, capture_output=True, text=True)
    if out.returncode or 'Failed to' in out.stderr:
        raise SystemExit(f'{command} failed:\n{out.stdout}{out.stderr}')


MACHINERY = ('standins', 'exercises')  # what the package itself does not offer by name


def stub(root):
    "What the package offers, room by room, for `lazy_loader` and for type checkers: every public name but those of `MACHINERY`."
    package, lines = root / config(root)['lib_path'], []
    for file in exported(root):
        room = file.relative_to(package).with_suffix('').parts
        body = ast.parse(file.read_text(encoding='utf-8')).body
        listed = [n.value for n in body if isinstance(n, ast.Assign) and ast.unparse(n.targets) == '__all__']
        if listed and room[0] not in MACHINERY:
            lines += [f'from .{".".join(room)} import {name} as {name}' for name in sorted(ast.literal_eval(listed[0]))]
    return '\n'.join(['# AUTOGENERATED from the rooms by `make notebooks`', *lines, ''])


def parameters(root):
    "What `help` says of parameters, from the comments behind them."
    package = root / config(root)['lib_path']
    rooms = [file for file in exported(root) if file.name != '_modidx.py']
    return api_pages.parameters_module(api_pages.read_module(file, package.name, package) for file in rooms)


# Beside the modules: what is written from them.
LISTS = {'__init__.pyi': stub, '_parameters.py': parameters}


def export(staged):
    "Write the modules of a staged copy, the list of their names, and what `help` says of parameters."
    nbdev(staged, 'nbdev_export')
    for name, write in LISTS.items():
        atomic_write(staged / config(staged)['lib_path'] / name, write(staged).encode())


KERNEL = {'kernelspec': {'display_name': 'python3', 'language': 'python', 'name': 'python3'}}


def name_kernels(staged):
    "Every notebook names its kernel, and nothing else of an editor: without a name JupyterLab asks the reader for one."
    for file in notebook_files(staged):
        nb = json.loads(file.read_text(encoding='utf-8'))
        if nb['metadata'] != KERNEL:
            text = json.dumps({**nb, 'metadata': KERNEL}, indent=1, sort_keys=True, ensure_ascii=False)
            atomic_write(file, f'{text}\n'.encode())


def settle(staged):
    "Clean the notebooks of a staged copy, export its modules, list their names, render its README."
    nbdev(staged, 'nbdev_clean')
    name_kernels(staged)
    export(staged)
    if (staged / config(staged)['nbs_path'] / 'index.ipynb').exists():
        atomic_write(staged / 'README.md', readme(staged).encode())
    return staged


def generated_files(root):
    "Everything that `settle` writes, relative to `root`."
    others = [root / 'README.md', *(root / config(root)['lib_path'] / name for name in LISTS)]
    return {p.relative_to(root) for p in [*notebook_files(root), *exported(root), *others] if p.exists()}


def read(file):
    "Its bytes, or None where there is no such file."
    return file.read_bytes() if file.exists() else None


def differing(staged, root=ROOT):
    "Generated files that differ between a staged copy and the tree, those that only one side has included."
    both = sorted(generated_files(staged) | generated_files(root))
    return [p for p in both if read(staged / p) != read(root / p)]


def take_over(staged, since, root=ROOT):
    "Bring what a staged copy generated into the tree, a whole file at a time; what was edited `since` then stays as it is."
    changed = differing(staged, root)
    for path in changed:
        if read(root / path) != since.get(path):
            print(f'left alone {path}: it was edited meanwhile')
            continue
        if (staged / path).exists():
            atomic_write(root / path, (staged / path).read_bytes())
        else:
            (root / path).unlink()
        print(f'wrote {path}' if (staged / path).exists() else f'removed {path}')
    if not changed:
        print('nothing changed')


def tidy_outputs(nb):
    "Leave out what a stored notebook cannot show: an error's frames, which name this machine's folders, and bars whose kernel is gone."
    for cell in nb.cells:
        if cell.cell_type == 'code':
            cell.outputs = [o for o in cell.outputs if WIDGET not in o.get('data', {})]
            for output in cell.outputs:
                if output.output_type == 'error':
                    output.traceback = [f'{output.ename}: {output.evalue}']


# ---- the subcommands


def course(args):
    "Execute copies of the lessons into a folder, then say what was learnt and where to go on."
    out = ROOT / '_course'
    out.mkdir(exist_ok=True)
    warm_up()

    def keep(run):
        atomic_write(out / run.file.name, nbformat.writes(run.nb).encode())

    began = time.perf_counter()
    runs = execute_all(lesson_files(args.names), out, args, done=keep)
    print_scores(runs)
    print(f'\nThe course took {time.perf_counter() - began:.0f} s. Executed copies, pictures included: {out.relative_to(ROOT)}/')
    print('Go on with `make lab`: step through the lessons from nbs/index.ipynb. `make help` lists the rest.')
    return report(runs)


def notebooks(args):
    "Execute the notebooks, clean and export them; write back only when all went well."
    with tempfile.TemporaryDirectory() as tmp:
        since = {path: read(ROOT / path) for path in generated_files(ROOT)}
        staged = stage(Path(tmp))
        export(staged)  # a lesson imports what the ones before it export
        env = {'PYTHONPATH': str(staged)}
        warm_up(env)
        files = [staged / f.relative_to(ROOT) for f in lesson_files(args.names, library=True)]
        runs = execute_all(files, None, args, lambda file: env)
        if any(run.errors for run in runs):
            print('\nNothing was written.')
            return report(runs)
        for run in runs:
            tidy_outputs(run.nb)
            atomic_write(run.file, nbformat.writes(run.nb).encode() + b'\n')
        take_over(settle(staged), since)
    return report(runs)


def real_data():
    "The folder with the real sets: `MULTILABEL_NB_DATA`, else the one beside the checkout."
    beside = ROOT.parent / 'shared' / 'data'
    named = os.environ.get(DATA_VAR)
    folder = Path(named) if named else beside
    if not folder.is_dir():
        raise SystemExit(f'no real data: set {DATA_VAR} to a folder that holds planet_sample/ (now: {named or "unset"})')
    os.environ[DATA_VAR] = str(folder.resolve())
    return folder


def real(args):
    "Execute copies of the lessons on the real data; what they assert must hold, what they print may differ."
    from pascal_layout import with_pascal

    from multilabel_nb.sources import is_standin, planet_sample

    folder = real_data()
    if is_standin(planet_sample()):
        raise SystemExit(f'no real data: {folder} holds no planet_sample/')
    with tempfile.TemporaryDirectory() as tmp, tempfile.TemporaryDirectory() as sets:
        env = {DATA_VAR: str(with_pascal(folder.resolve(), Path(sets)))}
        runs = execute_all(lesson_files(args.names), tmp, args, lambda file: env if 'datablock' in file.name else {})
    print_scores(runs)
    return report(runs)


def write_readme(args):
    "Write README.md from the home page."
    atomic_write(ROOT / 'README.md', readme().encode())


def check(args):
    "Say which generated files are not what cleaning, exporting and rendering the notebooks gives."
    with tempfile.TemporaryDirectory() as tmp:
        changed = differing(settle(stage(Path(tmp))))
    for path in changed:
        print(f'out of step: {path}')
    return int(bool(changed))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    for name, run in {'course': course, 'notebooks': notebooks, 'real': real, 'readme': write_readme, 'check': check}.items():
        sub = commands.add_parser(name, help=run.__doc__, description=run.__doc__)
        sub.set_defaults(run=run)
        if name in ('course', 'notebooks', 'real'):
            sub.add_argument('names', nargs='*', help='parts of file names; all lessons when none is given')
            sub.add_argument('--jobs', type=int, default=2, help='lessons at a time (default 2)')
            sub.add_argument('--timeout', type=int, default=300, help='seconds a cell may take (default 300)')
    args = parser.parse_args()
    os.environ['PATH'] = f'{BIN}{os.pathsep}{os.environ["PATH"]}'
    return args.run(args)


if __name__ == '__main__':
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
