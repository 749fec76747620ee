"""The newest packages, or the oldest that settings.ini allows, tried on a copy: what changes, and what breaks."""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from lessons import BIN, ROOT, config
from packaging.markers import Marker
from packaging.requirements import Requirement

LEFT_OUT = shutil.ignore_patterns('.venv', '.git', '_course', '_docs', 'build', 'dist', '*.egg-info', '__pycache__', '.*_cache', '.*.json')
PIN = re.compile(r'^([\w.-]+)(?:\[[^\]]*\])?==([^\s;]+)(?: ; ([^\\]+?))? *\\?$', re.M)


def pins(lock, python):
    "Name and version of each package that a lock file installs on this version of Python."
    here = {'python_version': python.rpartition('.')[0], 'python_full_version': python}
    return {name: version for name, version, marker in PIN.findall(lock) if not marker or Marker(marker).evaluate(here)}


def changes(before, after):
    "A line for each package whose version differs."
    names = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    return [f'{name:<36}{before.get(name, "-"):>14}  ->  {after.get(name, "-")}' for name in names]


def bounded(settings):
    "The requirements of settings.ini that name their oldest version."
    listed = {req for key, reqs in settings.items() if key.endswith('requirements') for req in reqs.split()}
    return sorted(req for req in listed if any(s.operator == '>=' for s in Requirement(req).specifier))


def oldest(settings, python):
    "These at the oldest versions that go together, as constraints."
    how = ['--quiet', '--no-header', '--no-annotate', '--resolution', 'lowest-direct', '--python-version']
    command = [BIN / 'uv', 'pip', 'compile', *how, python, '-']
    said = subprocess.run(command, input='\n'.join(bounded(settings)), capture_output=True, text=True, check=True, cwd=ROOT).stdout
    wanted = {Requirement(req).name for req in bounded(settings)}
    return '\n'.join(f"{name}=={version} ; python_full_version == '{python}'" for name, version, _ in PIN.findall(said) if name in wanted)


def run(*command, cwd):
    print('+', *command, flush=True)
    return subprocess.run(list(map(str, command)), cwd=cwd).returncode


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('which', choices=['newest', 'oldest'])
    parser.add_argument('tests', nargs='+', help='notebooks and tests to run')
    parser.add_argument('--python', required=True, help='the interpreter to try it on')
    parser.add_argument('--hold', default='', help='packages that stay as they are locked')
    args = parser.parse_args()
    python = subprocess.run(
        [args.python, '-c', 'import platform; print(platform.python_version())'], capture_output=True, text=True, check=True
    )
    python = python.stdout.strip()
    with tempfile.TemporaryDirectory() as tmp:
        copy = shutil.copytree(ROOT, Path(tmp) / 'copy', ignore=LEFT_OUT)
        before = pins((copy / 'requirements.lock').read_text(), python)
        held = [f'{name}=={before[name]}' for name in args.hold.split()]
        if args.which == 'oldest':
            held.append(oldest(config(), python))
        (copy / 'held.txt').write_text('\n'.join(held) + '\n')
        newer = '1' if args.which == 'newest' else ''
        lock = 'make', 'lock', f'PYTHON={args.python}', 'LOCK_ARGS=--constraint held.txt', f'UPGRADE={newer}'
        if run(*lock, cwd=copy):
            return f'{args.which} on Python {python}: the requirements do not go together'
        changed = changes(before, pins((copy / 'requirements.lock').read_text(), python))
        print('\n'.join([f'\n{len(changed)} packages change:', *changed, '']), flush=True)
        if run('make', '.venv/.installed', f'PYTHON={args.python}', cwd=copy):
            return f'{args.which} on Python {python}: cannot be installed'
        failed = run('.venv/bin/python', '-m', 'pytest', '--nbval', '-q', '-n', '2', '--dist', 'loadfile', *args.tests, cwd=copy)
    print(f'\n{args.which} on Python {python}: {len(changed)} packages changed, tests {"failed" if failed else "passed"}')
    return failed


if __name__ == '__main__':
    sys.exit(main())
