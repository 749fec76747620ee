"""Mutation score of the notebooks and tests: `make mutants N=100`.

A mutant is one small fault (`tools/mutate.py`) in an exported cell and in its module alike. It is *killed* when a cell raises, when an
output differs from the stored one, when a test fails, or when time runs out (`tools/forked.py` runs them). The notebook that owns the cell
comes first, then two others that execute the line, then tests of the module. Each is measured once, when it is first needed.
"""

import argparse
import ast
import hashlib
import json
import random
import re
import resource
import signal
import tempfile
import time
import tomllib
from collections import Counter, defaultdict
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import nbformat
from checked_cells import is_exported
from forked import Watch, copied, forked, run_notebook, run_tests, warm_up
from lessons import MACHINERY, ROOT, atomic_write, notebook_files
from mutate import Edit, edits
from tqdm import tqdm

RESULTS = ROOT / 'benchmarks' / 'mutants.json'
MEASURED = ROOT / '.mutants.json'  # seconds of notebooks and tests, and lines that notebooks execute, kept between calls
EQUIVALENT = ROOT / 'tools' / 'mutants.toml'
# Tests of the tree itself: style, sizes, the site, packaging, notebooks against modules.
LEFT_OUT = re.compile(r'test_(house|project|course|wheel|site|browser|live|search|guide|help|recap|processes|mutants)\.py')
AT_MOST = 2, 10  # other notebooks, and seconds of tests
TO_NOTE = 60  # seconds to note the lines of another notebook, which takes several times as long as the notebook does; else it is left out


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


def above(text, cell):
    "How many lines a module has above the first line of a cell, as if it had the cell's directives, too."
    head = next(n for n, line in enumerate(cell.source.splitlines(), 1) if line.strip() and not line.startswith('#|'))
    return text[: section(text, cell.id)[0]].count('\n') + 1 - head


def owned(root=ROOT, without=MACHINERY):
    "Exported cells of the notebooks that build the library: notebook, cell, module."
    for file in notebook_files(root):
        default = None
        for cell in nbformat.read(file, as_version=4).cells:
            default = next(iter(re.findall(r'^#\|\s*default_exp\s+(\S+)', cell.source, re.M)), default)
            if cell.cell_type == 'code' and is_exported(cell.source):
                module = re.search(r'#\|\s*exporti?[ \t]*(\S*)', cell.source)[1] or default
                if module.partition('.')[0] not in without:
                    yield file.relative_to(root), cell, module


def mutants(only=(), root=ROOT):
    "All mutants, by module."
    found, seen = defaultdict(list), Counter()
    for notebook, cell, module in owned(root):
        if only and module not in only:
            continue
        text = module_file(module, root).read_text(encoding='utf-8')
        first = above(text, cell)
        for edit in edits(cell.source):
            line = first + edit.line
            name = f'{module}:{line}:{edit.kind}'
            seen[name] += 1
            source, shown = edit.apply(cell.source), edit.shown(cell.source)
            found[module].append(Mutant(f'{name}:{seen[name]}', module, notebook, cell.id, line, first, *shown, source, edit))
    return dict(found)


def sample(found, n, seed, kept=()):
    "As many of each module, those of the record first, in an order that a larger `n` continues."
    order = {module: random.Random(f'{seed}:{module}').sample(all_, len(all_)) for module, all_ in sorted(found.items())}
    order = {module: sorted(all_, key=lambda m: m.id not in kept) for module, all_ in order.items()}
    ranked = sorted((rank, module, m.id, m) for module, all_ in order.items() for rank, m in enumerate(all_))
    return [m for *_, m in ranked[:n]]


# ---- one mutant after the other


def processor():
    "Seconds of the processor that ended processes used: other work beside this one does not change them."
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class Runner:
    def __init__(self, folder, progress=print):
        self.folder, self.say = folder, progress
        self.known = json.loads(MEASURED.read_text(encoding='utf-8')) if MEASURED.exists() else {}
        library = sorted((ROOT / 'multilabel_nb').rglob('*.py'))
        self.library = hashlib.sha256(b''.join(p.read_bytes() for p in library)).hexdigest()
        self.notebooks = [f.relative_to(ROOT) for f in notebook_files()]
        self.library_notebooks = [f for f in self.notebooks if f.parent.name == 'library' and not f.name.startswith('standin')]
        self.tests = [f.relative_to(ROOT) for f in sorted((ROOT / 'tests').glob('test_*.py')) if not LEFT_OUT.match(f.name)]
        self.text = {f: (ROOT / f).read_text(encoding='utf-8') for f in [*self.notebooks, *self.tests]}

    def measured(self, target, work, seconds=900):
        "What an unmutated notebook or test file gives, and its seconds, from this call or an earlier one."
        file = str(target).partition(',')[0].partition('::')[0]
        digest = hashlib.sha256((self.library + self.text[Path(file)]).encode()).hexdigest()
        if self.known.get(target, {}).get('digest') != digest:
            began = processor()
            found = forked(work, seconds)
            found = {'why': found} if isinstance(found, str) else found
            self.known[target] = {'digest': digest, 'seconds': processor() - began, **found}
            atomic_write(MEASURED, json.dumps(self.known).encode())
            self.say(f'{target}: {self.known[target]["seconds"]:.1f} s {found["why"] or ""}')
        return self.known[target]

    def notebook(self, stage, file):
        "A notebook as a stage of `judge`, if it passes without a fault."
        run = partial(run_notebook, file, self.folder)
        one = self.measured(str(file), run)
        if one['why'] is None:
            yield stage, run, one['seconds']

    def lines(self, file):
        "The lines that another notebook executes."
        return self.measured(f'{file}, lines noted', partial(run_notebook, file, self.folder, trace=True), TO_NOTE).get('lines', {})

    def mentions(self, module, files):
        "Files with names of a module, those with most of them first."
        text = module_file(module, ROOT).read_text(encoding='utf-8')
        names = ast.literal_eval(re.search(r'^__all__ = (\[.*?\])$', text, re.M | re.S)[1])
        word = re.compile(rf'multilabel_nb\.{re.escape(module)}\b|\b({"|".join(names) or "-"})\b')
        count = {f: len(word.findall(self.text[f])) for f in files}
        return sorted((f for f in files if count[f]), key=lambda f: (-count[f], f))

    def executes(self, mutant, seen):
        lines = {mutant.first + line for line in mutant.edit.lines}
        inside = mutant.edit.lines & set(seen.get(f'cell:{mutant.cell}', ()))
        return not lines or bool(inside or lines & set(seen.get(mutant.module, ())))

    def by_notebooks(self, mutant):
        "The owner, always, for it may execute the line in a process of its own; then others that do: stage, work, seconds without a fault."
        yield from self.notebook('owner', mutant.notebook)
        others = (f for f in self.mentions(mutant.module, self.library_notebooks) if f != mutant.notebook)
        for file in islice((f for f in others if self.executes(mutant, self.lines(f))), AT_MOST[0]):
            yield from self.notebook(str(file), file)

    def by_tests(self, mutant):
        "The tests of the module, its examples, then others that import it, the quick ones of each first, as long as there is time."
        own, imports = f'tests/test_{mutant.module.partition(".")[0]}.py', f'from multilabel_nb.{mutant.module} import'
        importing = [str(f) for f in self.tests if imports in self.text[f]]
        left = AT_MOST[1]
        for file in dict.fromkeys([own, 'tests/test_docstrings.py', *importing, 'tests/test_door.py']):
            if Path(file) not in self.text:
                continue
            # a module whose tests are all slow has no others
            more = ['--slow'] if file == own and re.search(r'^pytestmark = .*\bslow\b', self.text[Path(file)], re.M) else []
            target = f'{file}::test_examples[multilabel_nb.{mutant.module}]' if 'docstrings' in file else file
            run = partial(run_tests, folder=self.folder, more=more)
            tests = self.measured(target, partial(run, [target], watch=Watch())).get('tests') or {}
            chosen = []
            for name, seconds in sorted(tests.items(), key=lambda item: item[1]):
                if seconds < left:
                    chosen, left = [*chosen, name], left - seconds
            if chosen:
                yield 'tests', partial(run, chosen), sum(map(tests.get, chosen))

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

    def judge(self, mutant, stages):
        "Which stage kills a mutant, and how."
        verdict = {'killed_by': None, 'how': None, 'seconds': 0}
        for stage, work, seconds in stages:
            began = time.monotonic()
            with self.planted(mutant):
                found = forked(work, 3 * seconds + 10)
            why = found if isinstance(found, str) else found['why']
            verdict['seconds'] = round(verdict['seconds'] + time.monotonic() - began, 1)
            if why:
                return verdict | {'killed_by': stage, 'how': ': '.join(why.split(': ')[:2])}
        return verdict


# ---- results


def equivalents():
    "Mutants that change nothing one could see: (module, before, after) and the reason."
    listed = tomllib.loads(EQUIVALENT.read_text(encoding='utf-8')).get('equivalent', []) if EQUIVALENT.exists() else []
    return {(e['module'], e['before'], e['after']): e['reason'] for e in listed}


def key(record):
    return record['id'].partition(':')[0], record['before'], record['after']


def record(mutant, verdict):
    return {
        'id': mutant.id,
        'file': f'multilabel_nb/{mutant.module.replace(".", "/")}.py:{mutant.line}',
        'notebook': str(mutant.notebook),
        'before': mutant.before,
        'after': mutant.after,
        **verdict,
    }


def still(records, now):
    "Records of mutants that are there now, perhaps on another line; by today's id."
    places = defaultdict(list)
    for m in now.values():
        places[m.module, m.before, m.after].append(m.id)
    kept = {}
    for r in sorted(records, key=lambda r: r['id'] not in places[key(r)]):  # those on their old line choose first
        free = [i for i in places[key(r)] if i not in kept]
        if free:
            at = r['id'] if r['id'] in free else free[0]
            kept[at] = r | {'id': at, 'file': f'{r["file"].partition(":")[0]}:{now[at].line}'}
    return kept


def count(records, same):
    "By module, and in all: mutants, killed by the owner, by notebooks alone, by all, equivalent, survivors."
    rows = defaultdict(Counter)
    for r in records:
        by = r['killed_by']
        for row in (rows[r['id'].partition(':')[0]], rows['in all']):
            row['mutants'] += 1
            row['owner'] += by == 'owner'
            row['notebooks'] += by not in (None, 'tests')
            row['killed'] += by is not None
            row['equivalent'] += by is None and key(r) in same
            row['survivors'] += by is None and key(r) not in same
    return dict(sorted(rows.items(), key=lambda item: (item[0] == 'in all', item[0])))


def table(records, same):
    columns = ['mutants', 'owner', 'notebooks', 'killed', 'equivalent', 'survivors']
    lines = [f'{"module":<20}' + ''.join(f'{c:>11}' for c in columns)]
    lines += [f'{module:<20}' + ''.join(f'{row[c]:>11}' for c in columns) for module, row in count(records, same).items()]
    return '\n'.join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--n', type=int, default=100, help='mutants in all, spread over the modules')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--only', nargs='*', default=[], help='modules')
    parser.add_argument('--kinds', nargs='*', default=[], help='kinds of faults (tools/mutate.py); all when none is given')
    parser.add_argument('--fresh', action='store_true', help='judge those again, too, that were killed before')
    parser.add_argument('--survivors', action='store_true', help='no new ones: those of the record that nothing killed, judged again')
    parser.add_argument('--notebooks', action='store_true', help='leave out the tests')
    parser.add_argument('--results', type=Path, default=RESULTS, help='the record, in JSON')
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that a running fork is ended, too
    found, same = mutants(), equivalents()
    now = {m.id: m for all_ in found.values() for m in all_}
    kept = still(json.loads(args.results.read_text(encoding='utf-8'))['mutants'] if args.results.exists() else [], now)
    if args.survivors:
        found = {module: [m for m in all_ if m.id in kept and not kept[m.id]['killed_by']] for module, all_ in found.items()}
    if args.kinds:
        found = {module: [m for m in all_ if m.edit.kind in args.kinds] for module, all_ in found.items()}
    asked = sample({module: all_ for module, all_ in found.items() if module in (args.only or found)}, args.n, args.seed, kept)
    chosen = [m for m in asked if args.fresh or not (m.id in kept and (kept[m.id]['killed_by'] or key(kept[m.id]) in same))]
    with tempfile.TemporaryDirectory() as tmp:
        folder = copied(Path(tmp).resolve())
        warm_up(folder)
        runner = Runner(folder, tqdm.write)
        # tests only for what no notebook noticed
        for stages in [runner.by_notebooks, runner.by_tests][: 1 if args.notebooks else 2]:
            for mutant in tqdm(chosen, unit='mutant', desc=stages.__name__):
                kept[mutant.id] = record(mutant, runner.judge(mutant, stages(mutant)))
                data = {'sites': len(now), 'mutants': [kept[i] for i in sorted(kept)]}
                atomic_write(args.results, (json.dumps(data, indent=1, ensure_ascii=False) + '\n').encode())
            chosen = [m for m in chosen if not kept[m.id]['killed_by']]
    for r in kept.values():
        if not r['killed_by'] and key(r) not in same:
            print(f'survives: {r["id"]} ({r["notebook"]})\n   {r["before"]}\n   {r["after"]}')
    print(table(kept.values(), same))


if __name__ == '__main__':
    main()
