"""What the page on guarantees shows of the records in benchmarks/: faults put in on purpose, other settings, coverage, load."""

import json
from collections import Counter

from mutants import count, equivalents, key


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
    by_module, survivors, equal = count(found['mutants'], same), [], []
    for one in (one for one in found['mutants'] if not one['killed_by']):
        told = f'- `{one["file"]}`: {code(one["before"])} became {code(one["after"])}'
        (equal if key(one) in same else survivors).append(told + (f' ({same[key(one)]})' if key(one) in same else ''))
    total, shown = by_module['in all'], ('mutants', 'notebooks', 'killed', 'equivalent', 'survivors')
    lines = [[m if m == 'in all' else f'`{m}`', *(str(row[name]) for name in shown)] for m, row in by_module.items()]
    real = total['mutants'] - total['equivalent']
    said = (
        f'Of {total["mutants"]} faults, out of {found["sites"]} possible ones, {total["equivalent"]} change nothing that one could see. '
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
        result = f'{one["passed"]} of {one["tried"]} passed' + f', each with one of {one["parts"]} parts' * (one['parts'] > 1)
        result += f'; failed: {len(one["failed"])} cells or tests' * bool(one['failed'])
        cells = f'{one["cells"]} cells of {one["notebooks"]} notebooks, ' if one['notebooks'] else ''
        in_all = f'{cells}{one["tests"]} tests'
        if long := one.get('longest'):
            in_all += f'; the {long["notebooks"]} longest notebooks: {long["passed"]} of {long["tried"]} passed, {long["cells"]} cells'
        lines.append([one['name'], one['changes'], result, in_all, one['date']])
    using = next((one['versions'] for one in reversed(found) if 'versions' in one), {})
    table = rows(['setting', 'what is different', 'result', 'in all', 'last run'], lines)
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


def load_text(root):
    "What many threads and kills did, test by test."
    found = read(root, 'load')
    if not found:
        return '*Not run.*'
    told = found['found'] | dict.fromkeys(found['failed'], '*failed*')
    spoken = {name: name.removeprefix('test_').translate(str.maketrans({'_': ' ', '[': ' (', ']': ')'})) for name in told}
    return '\n'.join([f'Run {found["date"]}, on two cores.\n', *(f'- {spoken[name]}: {text}' for name, text in told.items())])
