"""What a reader of the site sees of an exported cell before opening it: what it defines, what that takes and says, and how it ends.

The cell folds, and its core stands above the fold. A cell that the core repeats almost as a whole stays open.
"""

import ast
import re
import textwrap

import api_pages
import checked_cells
from nbformat.v4 import new_markdown_cell

SHORT = 3  # lines of a cell, or lines that a core leaves out, up to which nothing folds
SHOWN = 8  # lines of a body that are shown as a whole
ENDS = 4  # lines of the last statement of a longer body
WIDTH = 84  # characters
INDENT = '    '
FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef


def signature(node):
    "How a definition begins, its parameters without types and comments."
    above = [f'@{ast.unparse(d)}' for d in node.decorator_list]
    if isinstance(node, ast.ClassDef):
        bases = ', '.join(map(ast.unparse, node.bases))
        return [*above, f'class {node.name}{bases and f"({bases})"}:']
    args = ast.parse(f'def f({ast.unparse(node.args)}): pass').body[0].args
    for arg in [*args.posonlyargs, *args.args, *args.kwonlyargs, *filter(None, [args.vararg, args.kwarg])]:
        arg.annotation = None
    begins, given = f'def {node.name}(', ast.unparse(args)
    if len(begins + given) + 2 <= WIDTH:
        return [*above, f'{begins}{given}):']
    return [*above, begins, *textwrap.wrap(f'{given},', WIDTH, initial_indent=INDENT, subsequent_indent=INDENT), '):']


def says(node):
    "The first sentence of a docstring, in quotes."
    doc = ' '.join((ast.get_docstring(node) or '').partition('\n\n')[0].split())
    first = re.match(r'.*?(?<!et al)\.(?= |$)|.*', doc)[0]
    return textwrap.wrap(f'"""{first}"""', WIDTH, initial_indent=INDENT, subsequent_indent=INDENT) if first else []


def ending(node, lines):
    "The body of a function if it is short, else its last statement."
    body = node.body[ast.get_docstring(node) is not None :]
    if not body:
        return []
    whole = lines[body[0].lineno - 1 : node.end_lineno]
    last = lines[body[-1].lineno - 1 : node.end_lineno]
    return whole if len(whole) <= SHOWN else [f'{INDENT}...', *(last if len(last) <= ENDS else [])]


def members(node):
    "The fields of a class and how its public methods begin."
    own = [f'{INDENT}{ast.unparse(n)}' for n in node.body if isinstance(n, ast.AnnAssign)]
    methods = [n for n in node.body if isinstance(n, FUNCTIONS) and (n.name == '__init__' or not n.name.startswith('_'))]
    shown = [textwrap.indent('\n'.join([*signature(n)[:-1], f'{signature(n)[-1]} ...']), INDENT) for n in methods]
    return own + '\n'.join(shown).split('\n') if shown else own


def core(source):
    "The lines of an exported cell that a reader needs: of each public name, in its order."
    lines, found = source.split('\n'), []
    for node in checked_cells.parse(source).body:
        if isinstance(node, api_pages.DEFS) and not node.name.startswith('_'):
            rest = members(node) if isinstance(node, ast.ClassDef) else ending(node, lines)
            found.append([*signature(node), *says(node), *rest])
        elif any(not name.startswith('_') for name in api_pages.given_names(node)):
            whole = lines[node.lineno - 1 : node.end_lineno]
            found.append(whole if len(whole) <= SHOWN else [f'{lines[node.lineno - 1].partition("=")[0]}= ...'])
    return '\n\n'.join('\n'.join(part) for part in found)


def what(source, module):
    "What a fold holds: `tune_thresholds and 2 helpers: 38 lines, exported to thresholds`."
    body = checked_cells.parse(source).body
    names = [n.name for n in body if isinstance(n, api_pages.DEFS)] + [name for n in body for name in api_pages.given_names(n)]
    public = [name for name in dict.fromkeys(names) if not name.startswith('_')]
    shown = public or [*dict.fromkeys(names)][:3]
    more = len({*names} - {*shown})
    said = [*shown, *([f'{more} {"helper" if public else "other"}{"s" * (more > 1)}'] if more else [])] or ['code']
    first = ', '.join(said[:-1]) + ' and ' if len(said) > 1 else ''
    return f'{first}{said[-1]}: {source.count(chr(10)) + 1} lines, exported to {module}'


def module_of(source, default):
    "The module that an exported cell goes to."
    named = re.match(r'#\|\s*exports?[ \t]+(\S+)', source)
    return named[1] if named else default


def fold_exported(cell, module):
    "Fold an exported cell; the cell with its core that stands above it, or none."
    shown, lines = core(cell.source), cell.source.strip().count('\n') + 1
    repeated = shown.count('\n') + 1 + SHORT if shown else SHOWN
    if checked_cells.only_imports(cell.source) or lines <= max(SHORT, repeated):
        return None
    said = what(cell.source.strip(), module)
    cell.metadata['tags'] = [*cell.metadata.get('tags', []), 'hide-input', 'exported']
    prompts = {'code_prompt_show': said, 'code_prompt_hide': said}
    cell.metadata['mystnb'] = {**cell.metadata.get('mystnb', {}), **prompts}
    return new_markdown_cell(f':::{{container}} core\n```python\n{shown}\n```\n:::', id=f'{cell.id}-core') if shown else None


def answers(cells):
    "Put the cells that prove an answer behind the fold that the answer stands in."
    found, opened = [], ''
    for cell in [*cells, new_markdown_cell('', id='end')]:
        if opened and cell.cell_type == 'markdown':
            found.append(new_markdown_cell('</details>', id=f'{opened}-end'))
            opened = ''
        elif opened:
            cell.metadata['tags'] = [*cell.metadata.get('tags', []), 'proof']
        if cell.cell_type == 'markdown' and re.search(r'<summary>Answer</summary>.*</details>\s*\Z', cell.source, re.S):
            cell.source, opened = cell.source.rstrip().removesuffix('</details>'), cell.id
        found.append(cell)
    return found[:-1]
