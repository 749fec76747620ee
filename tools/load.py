"""Run the tests that kill and load at full length: `make load`. `benchmarks/load.json` keeps what they found, and the site shows it."""

import argparse
import json
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

from lessons import ROOT, atomic_write
from settings import counted

RESULTS = ROOT / 'benchmarks' / 'load.json'
TESTS = [f'tests/test_{name}.py' for name in ('load', 'sources', 'bundle', 'command')]


def told(report):
    "By test, what it counted."
    cases = ElementTree.parse(report).iter('testcase')
    return {case.get('name'): p.get('value') for case in cases for p in case.iter('property') if p.get('name') == 'load'}


def joined(old, found, failed):
    "The record: of tests that did not run this time what it had, of the others what came now."
    failed = failed + [name for name in old['failed'] if name not in found and name not in failed]
    return {'found': {name: text for name, text in (old['found'] | found).items() if name not in failed}, 'failed': failed}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--kills', type=int, default=50, help='of each kind')
    parser.add_argument('--seconds', type=float, default=120, help='how long sixteen threads ask one predictor')
    parser.add_argument(
        '--only',
        default='load or killed or at_once_give',
        help='as -k of pytest; the record keeps what it has of other tests',
    )
    args = parser.parse_args()
    length = [f'--kills={args.kills}', f'--load-seconds={args.seconds}']
    with tempfile.TemporaryDirectory() as tmp:
        report = Path(tmp) / 'report.xml'
        options = ['-m', 'slow', '--slow', '-k', args.only, f'--junitxml={report}']
        status = subprocess.run([sys.executable, '-m', 'pytest', *options, *length, *TESTS], cwd=ROOT).returncode
        found, failed = told(report), [name.rpartition(': ')[2] for name in counted(report)['failed']]
    old = json.loads(RESULTS.read_text(encoding='utf-8')) if RESULTS.exists() else {'found': {}, 'failed': []}
    kept = {'date': datetime.now(UTC).strftime('%Y-%m-%d')} | joined(old, found, failed)
    atomic_write(RESULTS, (json.dumps(kept, indent=1) + '\n').encode())
    return status


if __name__ == '__main__':
    sys.exit(main())
