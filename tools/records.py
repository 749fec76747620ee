"""What the page on guarantees shows of the records in benchmarks/: faults put in on purpose, other settings, coverage."""

import json
from collections import Counter, defaultdict

from mutants import equivalents, key


def rows(header, lines):
    "A Markdown table."
    return '\n'.join(['| ' + ' | '.join(header) + ' |', '|' + '---|' * len(header), *('| ' + ' | '.join(line) + ' |' for line in lines)])


def read(root, name):
    file = root / 'benchmarks' / f'{name}.json'
    return json.loads(file.read_text(encoding='utf-8')) if file.exists() else None


def code(text):
    "Text as code, whatever backticks are in it."
    return f'`` {text} ``' if '`' in text else f'`{text}`'


def folded(title, lines):
    "A list behind a line that opens it."
    return f'<details><summary>{title}</summary>\n\n' + '\n'.join(lines) + '\n\n</details>'


def share(part, whole):
    return f'{part / whole:.1%}' if whole else 'none'


def mutants_text(root):
    "By module: faults, how many were noticed, and those that nothing noticed."
    found, same = read(root, 'mutants'), equivalents()
    if not found:
        return '*Not measured.*'
    by_module, survivors, equal = defaultdict(Counter), [], []
    for one in found['mutants']:
        by, module = one['killed_by'], one['id'].partition(':')[0]
        for row in (by_module[module], by_module['']):
            row['faults'] += 1
            row['notebooks'] += by not in (None, 'tests')
            row['killed'] += by is not None
            row['equivalent'] += by is None and key(one) in same
        if by is None:
            told = f'- `{one["file"]}`: {code(one["before"])} became {code(one["after"])}'
            (equal if key(one) in same else survivors).append(told + (f' ({same[key(one)]})' if key(one) in same else ''))
    total = by_module.pop('')
    lines = []
    for module, row in [*sorted(by_module.items()), ('in all', total)]:
        missed = row['faults'] - row['killed'] - row['equivalent']
        numbers = row['faults'], row['notebooks'], row['killed'], row['equivalent'], missed
        lines.append([module if module == 'in all' else f'`{module}`', *map(str, numbers)])
    real = total['faults'] - total['equivalent']
    said = (
        f'Of {total["faults"]} faults, out of {found["sites"]} possible ones, {total["equivalent"]} change nothing that one could see. '
        f'Of the other {real}, {total["killed"]} ({share(total["killed"], real)}) were noticed; {total["notebooks"]} '
        f'({share(total["notebooks"], real)}) by notebooks alone. For some that were missed at first, an assertion was added; '
        'of faults that nobody has looked at yet, fewer may be noticed.'
    )
    table = rows(['module', 'faults', 'noticed by notebooks', 'noticed', 'no difference', 'missed'], lines)
    lists = [folded(f'The {len(survivors)} faults that were missed', survivors)] * bool(survivors)
    lists += [folded(f'The {len(equal)} faults that make no difference, and why', equal)] * bool(equal)
    return '\n\n'.join([said, table, *lists])


def settings_text(root):
    "What came of each setting: how often it passed, with how many cells and tests, when."
    found = read(root, 'settings')
    if not found:
        return '*Not run.*'
    lines = []
    for one in found:
        if 'not_run' in one:
            lines.append([one['name'], one['changes'], f'*not run*: {one["not_run"]}', '', one['date']])
            continue
        result = f'{one["passed"]} of {one["tried"]} passed' + (f'; failed: {len(one["failed"])} cells or tests' if one['failed'] else '')
        cells = f'{one["cells"]} cells of {one["notebooks"]} notebooks, ' if one['notebooks'] else ''
        lines.append([one['name'], one['changes'], result, f'{cells}{one["tests"]} tests', one['date']])
    using = next((one['versions'] for one in reversed(found) if 'versions' in one), {})
    table = rows(['setting', 'what is different', 'result', 'each time', 'last run'], lines)
    return '\n\n'.join([table, 'With ' + ', '.join(f'{name} {number}' for name, number in using.items()) + '.'] if using else [table])


def coverage_text(root):
    "By module: the share of lines and of branches that the notebooks alone execute."
    found = read(root, 'coverage')
    if not found:
        return '*Not measured.*'
    total = Counter()
    for row in found['modules'].values():
        total.update({name: value for name, value in row.items() if name != 'missing'})
    both = lambda row: [share(row['lines_run'], row['lines']), share(row['branches_run'], row['branches'])]  # noqa: E731
    lines = [[f'`{module}`', *both(row)] for module, row in sorted(found['modules'].items())]
    said = f'Measured {found["date"]}, with {found["notebooks"]} notebooks: {both(total)[0]} of lines, {both(total)[1]} of branches.'
    return f'{said}\n\n{rows(["module", "lines", "branches"], [*lines, ["in all", *both(total)]])}'
