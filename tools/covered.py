"""Lines and branches of the library that the notebooks alone execute: `make coverage`.

A notebook runs its exported cells itself, other notebooks import the module, and both count for the module: an exported cell is compiled
under the name of the module, at the lines where the module has it. `benchmarks/coverage.json` keeps the shares, and the site shows them.
"""

import argparse
import json
import sys
import tempfile
from collections import defaultdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import coverage
from forked import copied, forked, inside, run_notebook, warm_up
from lessons import ROOT, atomic_write, notebook_files
from mutants import above, module_file, owned
from tqdm import tqdm

RESULTS = ROOT / 'benchmarks' / 'coverage.json'
WRITTEN = '*/_modidx.py', '*/_parameters.py'  # lists that tools write


def places(folder):
    "By notebook, where the library has its exported cells: file of the module, lines above the cell."
    found = defaultdict(dict)
    for notebook, cell, module in owned(folder, without=()):
        path = module_file(module, folder)
        found[notebook][cell.id] = str(path), above(path.read_text(encoding='utf-8'), cell)
    return found


def measurer(folder, **options):
    source = [str(folder / 'multilabel_nb')]
    watch = coverage.Coverage(data_file=str(folder / '.coverage'), branch=True, source=source, omit=WRITTEN, config_file=False, **options)
    watch.exclude('^__all__ = ')  # nbdev writes it: no cell has it
    return watch


def measured(file, folder, at):
    "Run a notebook and leave beside the copy what it executed; why it fails, or None."
    watch = measurer(folder, data_suffix=True)
    watch.start()
    try:
        return run_notebook(file, folder, places=at)['why']
    finally:
        watch.stop()
        watch.save()


def shares(folder):
    "By module: lines and branches, how many of them ran, and the lines where one did not."
    watch = measurer(folder)
    watch.combine([str(folder)], keep=True)
    with tempfile.NamedTemporaryFile(suffix='.json') as out:
        watch.json_report(outfile=out.name)
        files = json.loads(Path(out.name).read_text(encoding='utf-8'))['files']
    found = {}
    for path, told in files.items():
        total, missed = told['summary'], {*told['missing_lines'], *(line for line, _ in told['missing_branches'])}
        found[inside(str(Path(path).absolute()), folder)] = {
            'lines': total['num_statements'],
            'lines_run': total['covered_lines'],
            'branches': total['num_branches'],
            'branches_run': total['covered_branches'],
            'missing': sorted(missed),
        }
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('only', nargs='*', help='parts of the names of notebooks; then nothing is recorded')
    args = parser.parse_args()
    files = [f.relative_to(ROOT) for f in notebook_files() if not args.only or any(part in f.name for part in args.only)]
    failed = []
    with tempfile.TemporaryDirectory() as tmp:
        folder = copied(Path(tmp).resolve())
        warm_up(folder)
        at = places(folder)
        for file in tqdm(files, unit='notebook'):
            if why := forked(partial(measured, file, folder, at[file]), 900):
                failed.append(f'{file}: {why}')
        found = shares(folder)
    for module, row in sorted(found.items()):
        lines, branches = (row[f'{what}_run'] / max(row[what], 1) for what in ('lines', 'branches'))
        print(f'{module:<28}{lines:>8.1%}{branches:>8.1%}  {" ".join(map(str, row["missing"]))}')
    for what in ('lines', 'branches'):
        print(f'{what}: {sum(row[f"{what}_run"] for row in found.values()) / sum(row[what] for row in found.values()):.1%}')
    print(*failed, sep='\n')
    if not args.only and not failed:
        kept = {'date': datetime.now(UTC).strftime('%Y-%m-%d'), 'notebooks': len(files), 'modules': dict(sorted(found.items()))}
        atomic_write(RESULTS, (json.dumps(kept, indent=1) + '\n').encode())
    return int(bool(failed))


if __name__ == '__main__':
    sys.exit(main())
