"""Which code cells of a notebook would go red if what they show were false: `python tools/checked_cells.py nbs/*.ipynb`.

A cell is *checked* when it asserts, or has a stored output that nbval compares. Cells that export or only import do not count.
At least half of the others must be checked, and the next code cell after one that is not must be one that is.
"""

import ast
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import nbformat
from IPython.core.inputtransformer2 import TransformerManager

SWALLOWS = {'AssertionError', 'Exception', 'BaseException'}
# `<Axes: title=…>`, `[<Line2D>]`: says that there is an object, not what is in it.
BARE_REPR = re.compile(r'\s*[\[(]*<[^<>]*>(,\s*<[^<>]*>)*[\])]*\s*\Z')
DIRECTIVE = re.compile(r'#\|\s*(\w+)')
COMMENTS = {'NBVAL_IGNORE_OUTPUT': 'nbval-ignore-output', 'NBVAL_SKIP': 'nbval-skip'}


@dataclass
class Share:
    "What was counted in one notebook."

    name: str
    counted: int  # code cells that neither export nor only import
    checked: int
    ignored: int  # of all code cells, those whose output is ignored
    cells: int  # all code cells
    loose: list  # sources of unchecked cells that no checked cell follows

    @property
    def problems(self):
        found = [f'{self.name}: unchecked, and no checked cell right after it:\n{source}' for source in self.loose]
        if self.checked * 2 < self.counted:
            found.append(f'{self.name}: only {self.checked} of {self.counted} cells are checked')
        if self.ignored * 4 > self.cells:
            found.append(f'{self.name}: {self.ignored} of {self.cells} code cells ignore their output')
        return found


def parse(source):
    "The cell as Python, magics and all."
    return ast.parse(TransformerManager().transform_cell(source))


def directives(source):
    return {m[1] for line in source.splitlines() if (m := DIRECTIVE.match(line))}


def is_exported(source):
    return any(d.startswith('export') for d in directives(source))


def only_imports(source):
    "Whether a cell does nothing but import, or nothing at all (a directive alone)."
    return all(isinstance(node, ast.Import | ast.ImportFrom) for node in parse(source).body)


def called(node):
    "The last name of what a call calls: `b` of `a.b(…)`."
    func = node.func
    return getattr(func, 'attr', getattr(func, 'id', ''))


def swallows(node):
    "Whether a statement keeps an AssertionError from coming through."
    if isinstance(node, ast.Try):
        types = [h.type for h in node.handlers]
        names = {n.id for t in types if t for n in ast.walk(t) if isinstance(n, ast.Name)}
        return None in types or bool(names & SWALLOWS)
    return isinstance(node, ast.With) and any(
        isinstance(i.context_expr, ast.Call) and called(i.context_expr) == 'suppress' for i in node.items
    )


def asserts(node):
    "Whether running a piece of code can fail by an assertion: not in a function that is only defined, not under an `except` that hides it."
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
        return False
    if isinstance(node, ast.Assert):
        return not isinstance(node.test, ast.Constant | ast.Tuple | ast.List | ast.JoinedStr)
    if isinstance(node, ast.Call) and re.match(r'(test_|assert_)\w|raises\Z', called(node)):
        return True
    children = list(ast.iter_child_nodes(node))
    if swallows(node):
        children = [c for c in children if c not in node.body]
    return any(asserts(c) for c in children)


def is_compared(output):
    "Whether nbval compares this stored output, and there is something in it to compare."
    if output.output_type == 'stream':
        return output.name == 'stdout' and bool(output.text.strip())
    data = output.get('data', {})
    if any(kind.startswith('image/') or 'widget' in kind for kind in data):
        return False
    if 'text/html' in data:
        return True
    text = data.get('text/plain', '')
    return bool(text.strip()) and not BARE_REPR.match(text)


def tags(cell):
    comments = {COMMENTS[word] for line in cell.source.splitlines() if (word := line.strip().lstrip('# ')) in COMMENTS and '#' in line}
    return {*cell.metadata.get('tags', []), *comments}


def is_checked(cell):
    if tags(cell) & {'nbval-skip', 'raises-exception'}:
        return False  # never run; or free to fail
    if asserts(parse(cell.source)):
        return True
    return 'nbval-ignore-output' not in tags(cell) and any(is_compared(o) for o in cell.outputs)


def share(nb, name):
    "Count the cells of a notebook."
    cells = [c for c in nb.cells if c.cell_type == 'code' and c.source.strip()]
    exempt = [is_exported(c.source) or only_imports(c.source) for c in cells]
    checked = [not e and is_checked(c) for c, e in zip(cells, exempt, strict=True)]
    loose = [c.source for c, e, now, then in zip(cells, exempt, checked, [*checked[1:], False], strict=True) if not (e or now or then)]
    ignored = sum('nbval-ignore-output' in tags(c) for c in cells)
    return Share(name, exempt.count(False), sum(checked), ignored, len(cells), loose)


def shares(files):
    return [share(nbformat.read(f, as_version=4), Path(f).name) for f in files]


def table(rows):
    lines = [f'{"notebook":<28}{"cells":>7}{"checked":>9}{"share":>8}']
    lines += [f'{r.name:<28}{r.counted:>7}{r.checked:>9}{r.checked / max(r.counted, 1):>8.0%}' for r in rows]
    return '\n'.join(lines)


if __name__ == '__main__':
    found = shares(sys.argv[1:])
    print(table(found))
    problems = [p for r in found for p in r.problems]
    print('\n' + '\n\n'.join(problems) if problems else '')
    sys.exit(bool(problems))
