"""The reference pages of the site: what the modules export, read from their sources without importing them.

Importing would cost the minute that fastai and torch take to load, and the documentation is in the text: nbdev's way of documenting
puts a comment behind each parameter.
"""

import ast
import io
import re
import textwrap
import tokenize
from dataclasses import dataclass, field
from html import escape

import reference

DEFS = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
SECTION = re.compile(r'^(\w+)\n-{3,}\n', re.M)


@dataclass
class Param:
    "One parameter, attribute or result."

    name: str
    type: str
    default: str
    says: str


@dataclass
class Name:
    "One exported name: a function, a class with its public methods, or a constant."

    name: str
    kind: str  # function, class, method, property or data, as Sphinx calls them
    doc: str
    line: int
    last: int
    signature: str = ''
    notebook: str = ''  # where it is built, from the folder of the notebooks
    cell: str = ''  # the id of the cell there
    value: str = ''  # of a constant
    params: list = field(default_factory=list)
    members: list = field(default_factory=list)


@dataclass
class Module:
    "What one module exports."

    name: str  # with the package: `multilabel_nb.standins.planet`
    doc: str
    path: str
    notebook: str  # that its file says to edit
    names: list
    private: list  # classes that public ones inherit methods from

    @property
    def short(self):
        "Without the package: `standins.planet`."
        return self.name.partition('.')[2]

    @property
    def notebooks(self):
        "Where its names are built: most modules come from one notebook."
        return list(dict.fromkeys([self.notebook, *(name.notebook for name in self.names)]))


# ---- reading a module


@dataclass
class Comments:
    "The comments of a source, without their hashes."

    behind: dict  # line -> the comment behind its code
    alone: dict  # line -> the comment that has it to itself

    def on(self, first, last):
        "What is said of the code on these lines: behind it or, as nbdev reads it too, on the lines above."
        if last in self.behind:
            return self.behind[last]
        above = []
        while (first := first - 1) in self.alone and not self.alone[first].startswith('%%'):
            above.insert(0, self.alone[first])
        return ' '.join(above)

    def of(self, node):
        return self.on(node.lineno, node.end_lineno)


def comments(source):
    "Where a source says what."
    found = Comments({}, {})
    for t in tokenize.generate_tokens(io.StringIO(source).readline):
        if t.type == tokenize.COMMENT:
            lines = found.alone if t.line.lstrip().startswith('#') else found.behind
            lines[t.start[0]] = t.string.lstrip('# ').strip()
    return found


def unparsed(node):
    return ast.unparse(node) if node is not None else ''


def parameters(node, said):
    "The parameters of a function, each with the comment on the line where it ends, or above it, and last what it returns."
    a = node.args
    plain = [*a.posonlyargs, *a.args]
    defaults = [None] * (len(plain) - len(a.defaults)) + a.defaults
    pairs = [*zip(plain, defaults, strict=True), *([(a.vararg, None)] if a.vararg else []), *zip(a.kwonlyargs, a.kw_defaults, strict=True)]
    pairs += [(a.kwarg, None)] if a.kwarg else []
    found = []
    for arg, default in pairs:
        stars = '*' if arg is a.vararg else '**' if arg is a.kwarg else ''
        if arg.arg not in ('self', 'cls'):
            says = said.on(arg.lineno, (default or arg).end_lineno)
            found.append(Param(stars + arg.arg, unparsed(arg.annotation), unparsed(default), says))
    if node.returns is not None and unparsed(node.returns) != 'None':
        found.append(Param('returns', unparsed(node.returns), '', said.of(node.returns)))
    return found


def bare_signature(node):
    "The parameters without their types, which the table below them gives."
    args = ast.parse(ast.unparse(node.args).join(['def f(', '): pass'])).body[0].args
    for arg in [*args.posonlyargs, *args.args, *args.kwonlyargs, *filter(None, [args.vararg, args.kwarg])]:
        arg.annotation = None
    args.args = [arg for arg in args.args if arg.arg not in ('self', 'cls')]
    return f'({ast.unparse(args)})'


def decorators(node):
    return {unparsed(d).split('(')[0].split('.')[-1] for d in node.decorator_list}


def field_default(value):
    "What a field of a dataclass holds when nothing is given: `list()` for `field(default_factory=list)`."
    if not (isinstance(value, ast.Call) and unparsed(value.func) == 'field'):
        return unparsed(value)
    given = {k.arg: unparsed(k.value) for k in value.keywords}
    return f'{given["default_factory"]}()' if 'default_factory' in given else given.get('default', '')


def fields(node, said):
    "The annotated fields of a dataclass or named tuple, but for those of a private type."
    own = [s for s in node.body if isinstance(s, ast.AnnAssign) and not unparsed(s.annotation).startswith('_')]
    return [Param(s.target.id, unparsed(s.annotation), field_default(s.value), said.of(s)) for s in own]


def bases(node, defs):
    "The classes of this module that a class derives from, itself first, and those they derive from."
    own = [defs[unparsed(base)] for base in node.bases if unparsed(base) in defs]
    return [node, *(found for base in own for found in bases(base, defs))]


def read_class(node, said, defs):
    methods = [s for s in node.body if isinstance(s, ast.FunctionDef)]
    init = next((s for base in bases(node, defs) for s in base.body if getattr(s, 'name', '') == '__init__'), None)
    params = parameters(init, said) if init else fields(node, said)
    signature = bare_signature(init) if init else f'({", ".join(p.name for p in params)})' if params else ''
    made = Name(node.name, 'class', ast.get_docstring(node) or '', node.lineno, node.end_lineno, signature, params=params)
    made.members = [read_function(m, said, 'method') for m in methods if ast.get_docstring(m) and not m.name.startswith('_')]
    return made


def read_function(node, said, kind='function'):
    kind = 'property' if 'property' in decorators(node) else kind
    signature = '' if kind == 'property' else bare_signature(node)
    return Name(node.name, kind, ast.get_docstring(node) or '', node.lineno, node.end_lineno, signature, params=parameters(node, said))


def given_names(statement):
    "The names that a statement gives a value."
    targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target] if isinstance(statement, ast.AnnAssign) else []
    return [n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]


BUILT = re.compile(r'(?:\.\./)+\w+/(\S+\.ipynb)(?: #(\w+))?')  # a notebook, seen from a module, and one of its cells


def built(line, said, notebook):
    "The notebook and the cell that a line comes from: nbdev says so above the code of each cell."
    cells = {at: BUILT.match(text.removeprefix('%% ')) for at, text in said.alone.items() if at <= line and text.startswith('%% ')}
    return max(((at, *found.groups()) for at, found in cells.items() if found), default=(0, notebook, ''))[1:]


def read_module(file, package, folder):
    "A module that nbdev wrote into a folder: what `__all__` names, in that order."
    source = file.read_text(encoding='utf-8')
    tree, said = ast.parse(source), comments(source)
    defs = {s.name: s for s in tree.body if isinstance(s, DEFS)}
    constants = {name: s for s in tree.body for name in given_names(s)}
    names = []
    public = ast.literal_eval(unparsed(constants['__all__'].value))
    for name in public:
        if name in defs:
            is_class = isinstance(defs[name], ast.ClassDef)
            names.append(read_class(defs[name], said, defs) if is_class else read_function(defs[name], said))
        elif name in constants:
            at = constants[name]
            value = unparsed(at.value)
            says = said.on(at.lineno, at.lineno)
            shown = value if len(value) < 120 and len(given_names(at)) == 1 else ''
            names.append(Name(name, 'data', says, at.lineno, at.end_lineno, value=shown))
        else:
            raise SystemExit(f'{file.name}: `{name}` is exported, but neither defined nor given a value there')
    notebook = BUILT.search(source, source.index('File to edit: '))[1]
    for name in names:
        name.notebook, name.cell = built(name.line, said, notebook)
    classes = [defs[name] for name in public if isinstance(defs.get(name), ast.ClassDef)]
    above = {base.name: base for node in classes for base in bases(node, defs) if base.name not in public}
    private = [read_class(node, said, defs) for node in above.values()]
    path = file.relative_to(folder)
    module = '.'.join([package, *path.with_suffix('').parts])
    return Module(module, ast.get_docstring(tree) or '', f'{package}/{path.as_posix()}', notebook, names, private)


# ---- writing what `help` shows


def entry(param):
    "One parameter, or the result, as numpy's docstrings have it."
    given = ', '.join(filter(None, [param.type, param.default and f'default {param.default}']))
    head = given if param.name == 'returns' else ' : '.join(filter(None, [param.name, given]))
    wrap = {'initial_indent': ' ' * 4, 'subsequent_indent': ' ' * 4, 'break_long_words': False, 'break_on_hyphens': False}
    return '\n'.join([head, *textwrap.wrap(param.says, 88, **wrap)])


def sections(params):
    "Parameters and result as sections of a docstring."
    both = {
        'Parameters': [p for p in params if p.name != 'returns'],
        'Returns': [p for p in params if p.name == 'returns' and p.says],
    }
    return '\n\n'.join('\n'.join([title, '-' * len(title), *map(entry, some)]) for title, some in both.items() if some)


def documented(module):
    "What has a docstring to add to: public names, and the public methods of all classes, since they are inherited."
    yield from ((name.name, name) for name in module.names)
    for owner in [*module.names, *module.private]:
        yield from ((f'{owner.name}.{member.name}', member) for member in owner.members)


def parameters_module(modules):
    "The module of the package that `help` takes these sections from, a line a name: importing reads no comments."
    lines = ['"What `help` says of parameters and results: written by `make notebooks` from the comments behind them."', '', 'SECTIONS = {']
    for module in modules:
        told = [f'        {path!r}: {text!r},' for path, name in documented(module) if (text := sections(name.params))]
        lines += [f'    {module.short!r}: {{', *told, '    },'] if told else []
    return '\n'.join([*lines, '}', ''])


# ---- writing its page


def paragraph(text):
    "One paragraph of a docstring as Markdown: an example as a session of Python, bare addresses as links."
    if text.startswith('>>>'):
        return f'```pycon\n{text}\n```'
    return re.sub(r'(?<!\]\()(?<![<\[`"])\bhttps?://[^\s)<>,]+[^\s)<>,.;:]', lambda m: f'<{m[0]}>', text)


def prose(text):
    return '\n\n'.join(map(paragraph, re.split(r'\n\s*\n', text.strip())))


def doc_blocks(doc):
    "A docstring as Markdown: what goes before the table of parameters, and its sections, which go after it."
    first, *rest = SECTION.split(doc)
    summary, _, more = first.partition('\n\n')
    after = [prose(more)] if more.strip() else []
    for title, body in zip(rest[::2], rest[1::2], strict=True):
        body = body.strip()
        if re.match(r'\w+\n {2,}', body):  # what is raised, and when
            items = re.split(r'\n(?=\S)', body)
            after.append(f'**{title}**\n\n' + '\n'.join(term(item) for item in items))
        else:
            after.append(f'**{title}**\n\n{prose(body)}')
    return prose(summary), '\n\n'.join(after)


def term(item):
    name, _, says = item.partition('\n')
    return f'- `{name.strip()}`: {prose(" ".join(says.split()))}'


def details(params, types):
    "Parameters, fields and the result, one below the other: name, type and default, and under them the meaning."
    entries = []
    for p in params:
        name = '*returns*' if p.name == 'returns' else f'`{p.name}`'
        default = f'<span class="default">= <code>{escape(p.default, quote=False)}</code></span>' if p.default else ''
        told = ' '.join(filter(None, [name, p.type and reference.typed(p.type, types), default]))
        entries.append(f'{told}\n: {prose(p.says) or "&nbsp;"}')
    return '\n\n'.join(entries)


def sources(name, module, blob, shelf):
    "Where a name is written, how it is built, and the pages that show what it is for."
    found = [f'[source]({blob}/{module.path}#L{name.line}-L{name.last})']
    if '/' in name.notebook:  # a library notebook, whose page has an anchor for each name
        page = name.notebook.removesuffix('.ipynb')
        found.append(f'<a href="../{page}.html#{name.name.lower()}">how it is built</a>')
    return ' · '.join([*found, *shelf.pages.get(name.name, [])])


def directive(name, module, blob, shelf, depth=5):
    "One name as a directive of Sphinx's Python domain, its methods inside."
    summary, after = doc_blocks(name.doc)
    shown = reference.figure(name.name, shelf.pictures[name.name]) if name.name in shelf.pictures else ''
    parts = [summary, details(name.params, shelf.types), after, shown, sources(name, module, blob, shelf)]
    parts += [directive(member, module, blob, shelf, depth - 1) for member in name.members]
    fence = ':' * depth
    value = f':value: {name.value}\n' if name.value else ''
    body = '\n\n'.join(part for part in parts if part)
    return f'{fence}{{py:{name.kind}}} {name.name}{name.signature}\n{value}\n{body}\n{fence}'


def anchor(name):
    "The id that nbdev's links end in, which Sphinx's own ids differ from."
    return f'<span id="{name.lower()}"></span>'


def page(module, blob, shelf=None):
    "The reference page of one module: its names as they are defined, or by what they are for."
    shelf = shelf or reference.Shelf()
    links = ' and '.join(f'[](../{notebook})' for notebook in module.notebooks)
    intro = f'{module.doc}\n\nWritten and explained in {links}.'
    parts = [f'# {module.short}', intro, grouped_list(module, shelf), f'```{{py:module}} {module.name}\n```']
    for title, names in (shelf.groups.get(module.short) or {'': module.names}).items():
        parts += [f'## {title}'] if title else []
        parts += [f'{anchor(n.name)}\n\n{directive(n, module, blob, shelf)}' for n in names]
    return '\n\n'.join(filter(None, parts)) + '\n'


def grouped_list(module, shelf):
    "What a page of several groups holds, a line a group."
    lines = [f'- {title}: {", ".join(to(n, module) for n in names)}' for title, names in shelf.groups.get(module.short, {}).items()]
    return '\n'.join(lines)


def first_line(doc):
    return doc.strip().partition('\n')[0]


def to(name, module):
    "A link to a name."
    return f'{{py:obj}}`{name.name} <{module.name}.{name.name}>`'


def overview(modules):
    "The page that lists every name with its first line."
    order = 'Every exported name, by the module that exports it. A module uses only those above it.'
    wishes = 'You know what you want to do, and not what it is called? See [I want to …](wishes.md).'
    parts = ['# The library', order, wishes]
    for module in modules:
        listed = [f'- {to(n, module)}: {prose(first_line(n.doc))}' for n in module.names]
        parts += [f'## [{module.short}]({module.short}.md)', prose(module.doc), '\n'.join(listed)]
    toc = '\n'.join(['I want to … <wishes>', *(module.short for module in modules)])
    return '\n\n'.join([*parts, reference.types_section(modules), f'```{{toctree}}\n:hidden:\n\n{toc}\n```']) + '\n'
