"""Run the notebooks and tests under other settings: `make settings`, or one of them, `make settings ONLY="no network"`.

Each setting works on a clean clone of the last commit, with a home, a cache and a folder for temporary files of its own. It is *passed*
when every cell and test passes, and *not run*, with the reason, where this machine cannot make it. With `--parts 10`, each repetition
takes a tenth of the notebooks and tests: ten repetitions run each once. `benchmarks/settings.json` keeps what came of each, and the site
shows it.
"""

import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

import verified
from lessons import DATA_VAR, ROOT, atomic_write, notebook_files

from multilabel_nb.files import locked

RESULTS = ROOT / 'benchmarks' / 'settings.json'
# The longest notebooks are run with --long and --full alone.
LONG = '02_datasets|03_datablock|06_training|07_thresholds|08_inference|10_regression|12_explain|13_scale|predictor|bundle|images'
LOCALE = 'tr_TR.UTF-8'  # a comma in numbers, and an i that keeps its dot as a capital


@dataclass(frozen=True)
class Setting:
    name: str
    changes: str  # for the reader of the site
    env: dict = field(default_factory=dict)  # {n} is the number of the repetition, {home} the home folder
    unshare: tuple = ()  # namespaces that the run gets for itself
    first: str = ''  # what a shell does before the run
    holds: str = 'True'  # in Python: whether the setting is in force
    files: tuple = ()  # instead of notebooks and quick tests
    folder: str = 'copy'
    at_once: int = 1
    shuffled: bool = False


SETTINGS = [
    Setting('another hash seed', 'sets have another order', {'PYTHONHASHSEED': '{n}'}),
    Setting('one thread', 'one thread computes', {'OMP_NUM_THREADS': '1'}, holds='__import__("torch").get_num_threads() == 1'),
    Setting('two threads', 'two threads compute', {'OMP_NUM_THREADS': '2'}, holds='__import__("torch").get_num_threads() == 2'),
    Setting('random order', 'notebooks and files of tests in random order', shuffled=True),
    Setting('two at once', 'two runs at the same time on one copy and one cache', at_once=2),
    Setting(
        'another time zone and locale',
        'the time of Kathmandu (5:45 ahead of Greenwich), Turkish numbers and letters',
        {'TZ': 'Asia/Kathmandu', 'LC_ALL': LOCALE, 'LOCPATH': '{home}'},
        first=f'[ -e "$HOME/{LOCALE}" ] || localedef -f UTF-8 -i tr_TR "$HOME/{LOCALE}"',
        holds='locale.setlocale(locale.LC_ALL, "") and locale.localeconv()["decimal_point"] == "," and time.timezone == -20700',
    ),
    Setting('every warning shown', 'Python shows each warning, those of other packages too', {'PYTHONWARNINGS': 'default'}),
    Setting('spaces and accents', 'the folder of the project is called `les données d’été`', folder='les données d’été'),
    Setting(
        'no network',
        'no network at all, save from the machine to itself',
        unshare=('--map-root-user', '--net'),
        first='ip link set lo up',
        holds='[name for _, name in socket.if_nameindex()] == ["lo"]',
    ),
    Setting(
        'ordinary user',
        'a user without the rights of root',
        unshare=('--map-user=1000', '--map-group=1000'),
        holds='os.getuid() == 1000 and "CapEff:\\t0000000000000000\\n" in open("/proc/self/status").read()',
    ),
    Setting(
        'read-only checkout',
        'nothing can be written into the folder of the project',
        unshare=('--map-root-user', '--mount'),
        first='mount --bind . . && mount -o remount,bind,ro "$PWD" && cd "$PWD"',
        holds='not os.access(".", os.W_OK)',
    ),
    Setting('full disk', 'what is written does not fit: the error names the file, no half is left', files=('tests/test_full_disk.py',)),
]


def inside(unshare, first, command):
    "A command in namespaces of its own, after what a shell does there."
    command = ['sh', '-ec', f'{first}\nexec "$@"', 'sh', *command] if first else command
    return ['unshare', *unshare, *command] if unshare else command


def chosen(setting, args, n):
    "The notebooks and tests of a repetition: all, or its part of them."
    if setting.files:
        return list(setting.files)
    notebooks = [f for f in notebook_files(ROOT) if args.full or bool(re.fullmatch(LONG, f.stem)) == args.long]
    tests = [] if args.long else sorted((ROOT / 'tests').glob('test_*.py'))
    found = (args.files or [str(f.relative_to(ROOT)) for f in [*notebooks, *tests]])[(n - 1) % args.parts :: args.parts]
    return random.Random(n).sample(found, len(found)) if setting.shuffled else found


def counted(report):
    "What passed, what failed and why tests were skipped, from the record that pytest writes."
    told = {'cells': 0, 'tests': 0, 'failed': [], 'skipped': []}
    for case in ElementTree.parse(report).iter('testcase'):
        parts = {part.tag: part for part in case}
        if {'failure', 'error'} & set(parts):
            told['failed'].append(f'{case.get("classname")}: {case.get("name")}')
        elif 'skipped' in parts:
            told['skipped'].append(parts['skipped'].get('message'))
        else:
            told['cells' if case.get('classname').endswith('.ipynb') else 'tests'] += 1
    return told


def environment(setting, tmp, n):
    "The environment of a run: folders of its own, then what the setting changes."
    own = {'HOME': tmp / 'home', 'TMPDIR': tmp / 'temporary', 'MULTILABEL_NB_CACHE': tmp / 'cache', 'PYTHONPATH': tmp / setting.folder}
    for folder in list(own.values())[:3]:
        folder.mkdir()
    changed = {name: value.format(n=n, home=tmp / 'home') for name, value in setting.env.items()}
    return {k: v for k, v in os.environ.items() if k != DATA_VAR} | {k: str(v) for k, v in own.items()} | changed


PROBE = """import locale, multilabel_nb, os, socket, sys, time
assert os.path.dirname(multilabel_nb.__file__) == {package!r}, multilabel_nb.__file__
assert {holds}, 'the setting is not in force'"""


def not_made(setting, root, env):
    "Why a setting cannot be made here; nothing if it can."
    probe = PROBE.format(package=str(root / 'multilabel_nb'), holds=setting.holds)
    command = inside(setting.unshare, setting.first, [sys.executable, '-W', 'ignore', '-c', probe])
    tried = subprocess.run(command, cwd=root, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return tried.stdout.strip().rpartition('\n')[2] if tried.returncode else ''


def repetition(setting, args, n):
    "What came of a setting once: a dict, or the reason why it was not run."
    with tempfile.TemporaryDirectory() as tmp, ExitStack() as stack:
        tmp = Path(tmp).resolve()
        env = environment(setting, tmp, n)
        root = tmp / setting.folder
        subprocess.run(['git', 'clone', '--quiet', str(ROOT), str(root)], check=True)
        commit = subprocess.run(['git', 'rev-parse', '--short', 'HEAD'], cwd=root, capture_output=True, text=True).stdout.strip()
        cache = Path(os.environ.get('MULTILABEL_NB_CACHE') or Path.home() / '.cache' / 'multilabel_nb')
        if cache.exists() and not args.full:  # drawing the stand-ins takes a minute
            shutil.copytree(cache, tmp / 'cache', dirs_exist_ok=True)
        if why := not_made(setting, root, env):
            return why
        files = chosen(setting, args, n)
        options = f'-n {args.jobs if args.jobs > 1 else 0} --dist loadfile -p no:cacheprovider --tb short'.split()
        options += ['--slow'] * bool(setting.files) + ['--no-loadscope-reorder'] * setting.shuffled
        reports = [tmp / f'report{i}.xml' for i in range(setting.at_once)]
        began, started = time.monotonic(), []
        for report in reports:
            command = [sys.executable, '-m', 'pytest', '-q', '--nbval', *options, f'--junitxml={report}', *files]
            log = stack.enter_context(report.with_suffix('.log').open('w'))
            started.append(subprocess.Popen(inside(setting.unshare, setting.first, command), cwd=root, env=env, stdout=log, stderr=log))
        ended = [process.wait() for process in started]
        found = [counted(r) if r.exists() else {'cells': 0, 'tests': 0, 'failed': ['pytest'], 'skipped': []} for r in reports]
        for status, report in zip(ended, reports, strict=True):
            if status:
                print(report.with_suffix('.log').read_text(encoding='utf-8')[-20_000:])
    told = {key: sum((one[key] for one in found), type(found[0][key])()) for key in found[0]}
    if told['skipped'] and not (told['cells'] or told['tests'] or told['failed']):
        return told['skipped'][0]
    passed = not any(ended) and not told['failed']
    return told | {
        'commit': commit,
        'passed': passed,
        'seconds': round(time.monotonic() - began),
        'files': files,
        'parts': 1 if setting.files else args.parts,
    }


def record(setting, done):
    "What the record keeps of the repetitions so far; cells and tests are those of all of them."
    kept = {'name': setting.name, 'changes': setting.changes, 'date': datetime.now(UTC).strftime('%Y-%m-%d')}
    if isinstance(done[-1], str):
        return kept | {'passed': 0, 'tried': 0, 'not_run': done[-1]}
    total = {key: sum(one[key] for one in done) for key in ('passed', 'cells', 'tests', 'seconds')}
    return kept | {
        **total,
        'tried': len(done),
        'parts': done[-1]['parts'],
        'notebooks': len({file for one in done for file in one['files'] if file.endswith('.ipynb')}),
        'skipped': sum(len(one['skipped']) for one in done),
        'failed': sorted({name for one in done for name in one['failed']}),
        'commit': done[-1]['commit'],
        'versions': verified.versions(),
    }


def write(kept, long=False):
    "Put what is known of a setting, or of the longest notebooks in it, into the record, in the order of the table."
    with locked(RESULTS.with_name(f'.{RESULTS.name}.lock')):
        known = {one['name']: one for one in json.loads(RESULTS.read_text(encoding='utf-8'))} if RESULTS.exists() else {}
        before = known.get(kept['name'], {})
        if long:
            known[kept['name']] = before | {'longest': {key: kept[key] for key in kept if key not in ('name', 'changes')}}
        else:
            known[kept['name']] = kept | {key: before[key] for key in before.keys() & {'longest'}}
        listed = [known[setting.name] for setting in SETTINGS if setting.name in known]
        atomic_write(RESULTS, (json.dumps(listed, indent=1, ensure_ascii=False) + '\n').encode())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('only', nargs='?', default='', help='parts of the names of settings, divided by commas; all when none is given')
    parser.add_argument('--n', type=int, default=1, help='repetitions of each')
    parser.add_argument('--full', action='store_true', help='the long notebooks too, and stand-ins drawn anew')
    parser.add_argument('--long', action='store_true', help='the long notebooks alone; the record keeps them beside the others')
    parser.add_argument('--parts', type=int, default=1, help='cut notebooks and files of tests into parts, one for each repetition')
    parser.add_argument('--files', nargs='*', help='notebooks and tests instead of all')
    parser.add_argument('--jobs', type=int, default=2, help='notebooks at a time')
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the copy is removed
    asked = [setting for setting in SETTINGS if any(part.strip() in setting.name for part in args.only.split(','))]
    asked = [setting for setting in asked if not (args.long and setting.files)]
    if not asked:
        raise SystemExit(f'no such setting; there are: {", ".join(setting.name for setting in SETTINGS)}')
    if subprocess.run(['git', 'status', '--porcelain', '-uno'], cwd=ROOT, capture_output=True, text=True).stdout:
        print('note: what is not committed is not run')
    red = []
    for setting in asked:
        done = []
        for n in range(1, args.n + 1):
            done.append(repetition(setting, args, n))
            kept = record(setting, done)
            write(kept, args.long)
            if 'not_run' in kept:
                break
        said = (
            kept.get('not_run') or f'{kept["passed"]} of {kept["tried"]}, {kept["cells"]} cells, {kept["tests"]} tests, {kept["seconds"]} s'
        )
        print(f'{setting.name:<30}{"not run: " * ("not_run" in kept)}{said}', *kept.get('failed', [])[:5], sep='\n   ', flush=True)
        red += [setting] * (kept['passed'] < kept['tried'])
    return int(bool(red))


if __name__ == '__main__':
    sys.exit(main())
