"""What the last test run found out about each lesson, kept for the stamps of the site.

`make test` writes `.verified.json` (never committed: it belongs to the run that wrote it; the workflow that publishes the site tests
first). A lesson's entry holds only for the notebook it was tested as, whose digest it carries.
"""

import hashlib
import json
import platform
import re
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from lessons import ROOT, atomic_write, config

RECORD = ROOT / '.verified.json'
PACKAGES = ('torch', 'fastai', 'timm', 'numpy', 'pandas', 'onnxruntime')
SOURCES = re.compile(r'\b(planet_sample|pascal_2007|biwi_head_pose|bears)\(')


def key(file):
    "What a notebook is called in the record: its path from the folder of the notebooks."
    parts = Path(file).parts
    return '/'.join(parts[len(parts) - parts[::-1].index(config()['nbs_path']) :])


def digest(file):
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()


def code_cells(file):
    return [c for c in json.loads(Path(file).read_text(encoding='utf-8'))['cells'] if c['cell_type'] == 'code']


def data_used(file):
    "The sets that a notebook's code asks for."
    return sorted({name for cell in code_cells(file) for name in SOURCES.findall(''.join(cell['source']))})


def versions():
    "Of Python and the packages that lessons compute with."
    found = {'Python': platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


@dataclass
class Watch:
    "Follows a pytest run and notes which notebooks passed as a whole."

    digests: dict = field(default_factory=dict)  # at the start
    passed: dict = field(default_factory=lambda: defaultdict(int))  # cells
    failed: set = field(default_factory=set)
    seconds: dict = field(default_factory=lambda: defaultdict(float))

    def begin(self, files):
        self.digests = {file: digest(file) for file in files}

    def note(self, file, when, outcome, seconds):
        "One report of pytest: the setup, call or teardown of one cell."
        self.seconds[file] += seconds
        if outcome != 'passed':
            self.failed.add(file)
        elif when == 'call':
            self.passed[file] += 1

    def entries(self):
        "A notebook counts when each of its cells ran and passed, and it is still what it was at the start."
        now = datetime.now(UTC).strftime('%Y-%m-%d')
        found = {}
        for file, before in self.digests.items():
            whole = self.passed[file] == len(code_cells(file)) and file not in self.failed and digest(file) == before
            if whole and self.passed[file]:
                told = {'cells': self.passed[file], 'seconds': round(self.seconds[file]), 'data': data_used(file), 'versions': versions()}
                found[key(file)] = {'sha256': before, 'date': now, **told}
        return found


def load(record=RECORD):
    "The entries by file name; none when there is no record, or one that was not written by this."
    try:
        return json.loads(record.read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return {}


def save(entries, record=RECORD):
    "Add to the record what a run found; what it did not look at stays."
    if entries:
        atomic_write(record, json.dumps({**load(record), **entries}, indent=1, sort_keys=True).encode() + b'\n')


def stamp(file, entries):
    "The line on a lesson: when it was last verified, with what, in how long; or that it was not."
    entry = entries.get(key(file))
    if not entry or entry['sha256'] != digest(file):
        return '*not verified*: the tests have not run on this text as it stands.'
    data = ' and '.join(f'{name} (stand-in)' for name in entry['data']) or 'no data set'
    using = ', '.join(f'{name} {number}' for name, number in entry['versions'].items())
    return f'*last verified* {entry["date"]}: {entry["cells"]} cells run in {entry["seconds"]} s on {data}, with {using}.'
