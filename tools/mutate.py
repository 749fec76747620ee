"""Small faults for a piece of source: `edits(source)` lists places where one can be put in, each an exact replacement of text.

The kinds are the usual ones (a comparison, a sign, a constant, a dropped statement, a condition turned round, an argument that is not
passed on) and those of code that learns from data: an axis, a dtype, the rows or the column of another, results in another order.
Docstrings, annotations, f-strings and texts of errors stay as they are.
"""

import ast
from bisect import bisect
from dataclasses import dataclass
from itertools import accumulate, pairwise


@dataclass(frozen=True)
class Edit:
    kind: str
    start: int  # in bytes, as the positions of `ast` are
    stop: int
    text: str
    line: int  # where the replaced text begins, from 1
    lines: frozenset  # if none of these is executed, the fault cannot show; empty: always executed

    def apply(self, source):
        raw = source.encode()
        return (raw[: self.start] + self.text.encode() + raw[self.stop :]).decode()

    def shown(self, source):
        "The lines it touches, before and after, blanks squeezed."
        raw = source.encode()
        begin, end = raw.rfind(b'\n', 0, self.start) + 1, (raw + b'\n').find(b'\n', self.stop)
        texts = raw[begin:end], raw[begin : self.start] + self.text.encode() + raw[self.stop : end]
        return [' '.join(text.decode().split()) for text in texts]


def swaps(text):
    "Each word of a pair for the other."
    return {a: b for pair in text.split() for one, other in [pair.split('/')] for a, b in [(one, other), (other, one)]}


COMPARE = swaps('</<= >/>= ==/!=') | {'is': 'is not', 'is not': 'is', 'in': 'not in', 'not in': 'in'}
ARITHMETIC = {'+': '-', '-': '+', '*': '/', '/': '*', '//': '/', '**': '*', '%': '*', '&': '|', '|': '&'}
CALLS = swaps('min/max any/all argmin/argmax minimum/maximum zeros/ones floor/ceil amin/amax')
DTYPES = {'float64': 'float32', 'float32': 'float16', 'int64': 'int32', 'double': 'float'}
OTHER_ROWS = swaps('train/valid fit/held fitted/held_out inside/outside tune/test')
REDUCE = set('sum mean any all max min argmax argmin argsort cumsum sort softmax stack concatenate cat'.split())  # noqa: SIM905
LABELS = {'set_title', 'set_xlabel', 'set_ylabel', 'suptitle', 'title', 'xlabel', 'ylabel'}
# Where the order of arguments means nothing, or swapping them is always an error.
UNORDERED = {*CALLS, *'isinstance getattr hasattr issubclass suppress raises array_equal allclose isclose union1d intersect1d zip'.split()}  # noqa: SIM905


def name_of(func):
    return getattr(func, 'attr', getattr(func, 'id', ''))


def literal(node, kind):
    return isinstance(node, ast.Constant) and type(node.value) is kind


class Finder:
    "Walks a tree and gathers edits; `parents` are the nodes around the one looked at, the innermost last."

    def __init__(self, source):
        self.raw = source.encode()
        self.starts = [0, *accumulate(map(len, self.raw.splitlines(keepends=True)))]
        self.found, self.parents = [], []

    def span(self, node):
        return self.starts[node.lineno - 1] + node.col_offset, self.starts[node.end_lineno - 1] + node.end_col_offset

    def source(self, node):
        return self.raw[slice(*self.span(node))].decode()

    def add(self, kind, where, text, node=None):
        start, stop = where if isinstance(where, tuple) else self.span(where)
        node = node or where
        around = next((p for p in [*self.parents, node][::-1] if isinstance(p, ast.stmt)), node)
        whole = node if hasattr(around, 'body') else around
        lines = {*range(whole.lineno, whole.end_lineno + 1), around.lineno}
        if isinstance(around, ast.FunctionDef):  # a default shows when the function is called
            lines = {statement.lineno for statement in around.body}
        lines = frozenset(() if isinstance(around, ast.ClassDef) else lines)
        self.found.append(Edit(kind, start, stop, text, bisect(self.starts, start), lines))

    def between(self, kind, left, right, swaps, node):
        "Replace the operator between two operands; brackets around them stay."
        begin, end = self.span(left)[1], self.span(right)[0]
        for operator in sorted(swaps, key=len, reverse=True):
            at = self.raw.find(operator.encode(), begin, end)
            if at >= 0:
                return self.add(kind, (at, at + len(operator)), swaps[operator], node)

    def walk(self, node):
        getattr(self, f'on_{type(node).__name__}', lambda node: None)(node)
        self.parents.append(node)
        for field, value in ast.iter_fields(node):
            if field not in ('annotation', 'returns', 'decorator_list', 'msg'):
                for child in value if isinstance(value, list) else [value]:
                    if isinstance(child, ast.AST) and not self.left_alone(child):
                        self.walk(child)
        self.parents.pop()

    def left_alone(self, node):
        text = isinstance(node, ast.Expr) and literal(node.value, str)
        warning = isinstance(node, ast.Call) and name_of(node.func) in ('warn', 'TypeVar')
        strict = isinstance(node, ast.keyword) and node.arg == 'strict'  # of `zip`
        return text or warning or strict or isinstance(node, ast.Raise | ast.JoinedStr | ast.Import | ast.ImportFrom)

    def on_Compare(self, node):
        for left, right in pairwise([node.left, *node.comparators]):
            self.between('comparison', left, right, COMPARE, node)

    def on_BinOp(self, node):
        self.between('arithmetic', node.left, node.right, ARITHMETIC, node)

    def on_BoolOp(self, node):
        for left, right in pairwise(node.values):
            self.between('and/or', left, right, {'and': 'or', 'or': 'and'}, node)

    def on_UnaryOp(self, node):
        if not isinstance(node.operand, ast.Constant):
            self.add('sign' if isinstance(node.op, ast.USub) else 'not', node, f'({self.source(node.operand)})')

    def on_Constant(self, node):
        parent = self.parents[-1]
        default = isinstance(parent, ast.arguments)
        if literal(node, bool):
            self.add('bool', node, str(not node.value))
        elif literal(node, float):
            self.add('default' if default else 'float', node, repr(node.value / 2 or 1.0))
        elif literal(node, int) and not self.is_axis(node, parent) and not (isinstance(parent, ast.Subscript) and node.value == 0):
            self.add('off by one', node, str(node.value - 1 if node.value % 2 else node.value + 1))
        elif literal(node, str) and node.value in DTYPES:
            self.add('dtype', node, repr(DTYPES[node.value]))

    def is_axis(self, node, parent):
        if isinstance(parent, ast.keyword) and parent.arg in ('axis', 'dim'):
            return True
        return isinstance(parent, ast.Call) and name_of(parent.func) in REDUCE and node in parent.args

    def on_keyword(self, node):
        if node.arg in ('axis', 'dim') and literal(node.value, int):
            self.add('axis', node.value, str(int(not node.value.value)))
        elif node.arg == 'dtype' and getattr(node.value, 'id', '') == 'float':
            self.add('dtype', node.value, "'float32'")

    def on_Call(self, node):
        name, args = name_of(node.func), [a for a in node.args if not isinstance(a, ast.Starred)]
        if name in CALLS:
            end = self.span(node.func)[1]
            self.add('twin', (end - len(name), end), CALLS[name], node)
        if name == 'sorted' and len(args) == 1:
            self.add('unsorted', node, f'list({self.source(args[0])})')
        if name == 'astype' and getattr(args[0], 'id', '') == 'float':
            self.add('dtype', args[0], "'float32'")
        if name in REDUCE and literal(node.args[-1] if node.args else None, int):
            self.add('axis', node.args[-1], str(int(not node.args[-1].value)))
        if name in LABELS and args:
            self.add('label', args[0], "''")
        for keyword in node.keywords:
            if name == 'set' and keyword.arg in LABELS:
                self.add('label', keyword.value, "''")
        if len(args) > 1 and name not in UNORDERED and not any(isinstance(a, ast.Constant) for a in args[:2]):
            first, second = args[:2]
            gap = self.raw[self.span(first)[1] : self.span(second)[0]].decode()
            swapped = self.source(second) + gap + self.source(first)
            if self.source(first) != self.source(second) and '#' not in gap:
                self.add('swapped', (self.span(first)[0], self.span(second)[1]), swapped, node)

        given = sorted([*node.args, *node.keywords], key=self.span)
        for before, one, after in zip([None, *given], given, [*given[1:], None], strict=False):
            if isinstance(one, ast.keyword) and one.arg and not self.left_alone(one):
                start = self.span(before)[1] if before else self.span(one)[0]
                stop = self.span(after)[0] if after and not before else self.span(one)[1]
                self.add('not passed on', (start, stop), '', node)

    def negate(self, node):
        if not isinstance(node.test, ast.Compare | ast.UnaryOp):  # they have kinds of their own
            self.add('negated', node.test, f'not ({self.source(node.test)})')

    on_IfExp = on_While = negate

    def on_Expr(self, node):
        if isinstance(node.value, ast.Call):
            self.add('dropped', node, 'pass')

    on_AugAssign = lambda self, node: self.add('dropped', node, 'pass')  # noqa: E731

    def on_If(self, node):
        self.negate(node)
        if len(node.body) == 1 and isinstance(node.body[0], ast.Raise) and not node.orelse:
            word = b'elif' if self.raw[self.span(node)[0] :].startswith(b'elif') else b''
            self.add('dropped', node.test if word else node, 'False' if word else 'pass', node.test)

    def on_Name(self, node):
        other = OTHER_ROWS.get(node.id)
        scope = next((p for p in self.parents[::-1] if isinstance(p, ast.FunctionDef)), None)
        if other and scope and isinstance(node.ctx, ast.Load):
            known = {n.id for n in ast.walk(scope) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
            if other in known | {a.arg for a in scope.args.args}:
                self.add('rows', node, other)

    def on_Attribute(self, node):
        if node.attr in DTYPES:
            end = self.span(node)[1]
            self.add('dtype', (end - len(node.attr), end), DTYPES[node.attr], node)

    def on_Subscript(self, node):
        index = node.slice.elts if isinstance(node.slice, ast.Tuple) else []
        if len(index) == 2 and isinstance(index[0], ast.Slice) and isinstance(index[1], ast.Name):
            self.add('column', index[1], f'{index[1].id} - 1')
        elif self.source(node.slice) in ('0', '-1'):
            self.add('column', node.slice, '-1' if self.source(node.slice) == '0' else '0', node)

    def on_Return(self, node):
        if isinstance(node.value, ast.Tuple) and len(node.value.elts) == 2:
            first, second = node.value.elts
            swapped = f'{self.source(second)}, {self.source(first)}'
            self.add('swapped', (self.span(first)[0], self.span(second)[1]), swapped, node)


def edits(source):
    "All edits of a piece of source, those that leave no Python or the same program left out."
    finder = Finder(source)
    finder.walk(ast.parse(source))
    same = ast.dump(ast.parse(source))

    def changes(edit):
        try:
            return ast.dump(ast.parse(edit.apply(source))) != same
        except SyntaxError:
            return False

    return [edit for edit in finder.found if changes(edit)]
