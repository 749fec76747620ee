"""The words that stand for the pictures of a notebook: a caption, and a description for whoever does not see it.

A code cell may say them itself, `#| fig-cap: …` and `#| fig-alt: …`. Else they are put together from what the cell writes into the
picture (its titles and axis labels) and from the prose before it, which introduces it. `#| fig-class: photo` keeps the dark page from
turning a picture round that looks like a drawing.
"""

import ast
import base64
import io
import re

import checked_cells
import numpy as np
import vector
from PIL import Image

DIRECTIVE = re.compile(r'^#\|\s*(fig-cap|fig-alt|fig-class):\s*(.+)$', re.M)
SETTERS = {'set_title': 'title', 'title': 'title', 'suptitle': 'suptitle', 'set_xlabel': 'xlabel', 'xlabel': 'xlabel'}
SETTERS |= {'set_ylabel': 'ylabel', 'ylabel': 'ylabel'}
WORDS = ('suptitle', 'title', 'xlabel', 'ylabel')
SOURCE = re.compile(r'^(\w+) = (planet_sample|pascal_2007|biwi_head_pose|bears)\(', re.M)


def pictures(cell):
    "The PNG and JPEG data that a cell shows."
    return [o.data[kind] for o in cell.get('outputs', []) for kind in ('image/png', 'image/jpeg') if kind in o.get('data', {})]


def vectors(cell):
    "The SVG that a cell shows."
    return [o.data[vector.SVG] for o in cell.get('outputs', []) if vector.SVG in o.get('data', {})]


def kind(cell):
    "What the style of the site goes by: `plot`, which has colours for either page, `drawing` or `photo`."
    if vectors(cell):
        return 'plot'
    return dict(DIRECTIVE.findall(cell.source)).get('fig-class') or ('drawing' if all(map(is_drawing, pictures(cell))) else 'photo')


def is_drawing(data):
    "Whether a picture is lines and bars on white, rather than photographs: most of it is white, and it has few colours."
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert('RGB')).reshape(-1, 3).astype(int)
    return bool((pixels > 250).all(1).mean() > 0.45 and len(np.unique(pixels @ [65536, 256, 1])) < 4000)


def text(node, sources):
    "What a piece of code writes, if the code alone says it: constants, and the names of data sets. Else nothing."
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.Call) and checked_cells.called(node) == 'data_name' and isinstance(node.args[0], ast.Name):
        return sources.get(node.args[0].id, '')
    if isinstance(node, ast.FormattedValue):
        return text(node.value, sources)
    if isinstance(node, ast.JoinedStr):
        parts = [text(part, sources) for part in node.values]
        return ''.join(parts) if all(parts) else ''
    return ''


def bound(call, signatures):
    "The arguments of a call by their names, where the notebook says what the positions are called."
    name = checked_cells.called(call)
    names = signatures.get(name, [SETTERS[name]] if name in SETTERS else [])
    return {**dict(zip(names, call.args, strict=False)), **{k.arg: k.value for k in call.keywords}}


def written(tree, signatures, sources):
    "Titles and axis labels of a cell, by kind, each once."
    found = {word: [] for word in WORDS}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            for word, value in bound(node, signatures).items():
                said = ' '.join(text(value, sources).split()) if word in found else ''
                if said and said not in found[word]:
                    found[word].append(said)
    return found


def plain(markdown):
    "The last paragraph of some prose, without its marks; nothing if it is no prose."
    last = [p for p in re.split(r'\n\s*\n', markdown.strip()) if p.strip()][-1:]
    if not last or re.match(r'[#|<$]|```', last[0].strip()):
        return ''
    said = re.sub(r'\[([^\]]*)\]\([^)]*\)', r'\1', last[0])
    return ' '.join(re.sub(r'^>\s*|[*`]', '', said, flags=re.M).split())


def escaped(words):
    "So that a caption is no markup."
    return re.sub(r'([\\*_`\[\]<>$|{}])', r'\\\1', words)


def shortened(words, most=350):
    return words if len(words) <= most else words[:most].rpartition(' ')[0] + ' …'


def words_of(cell, prose, signatures, sources):
    "Caption and description of one cell's picture; either may be empty."
    given = dict(DIRECTIVE.findall(cell.source))
    said = written(checked_cells.parse(cell.source), signatures, sources)
    titles = said['suptitle'] or said['title']
    caption = given.get('fig-cap') or (titles[0] if titles else re.split(r'(?<=[.:!?]) ', prose)[0].rstrip('.:'))
    axes = [f'{axis} axis: {", ".join(said[key])}' for axis, key in (('Horizontal', 'xlabel'), ('vertical', 'ylabel')) if said[key]]
    panels = [t for t in said['title'] if t != caption]
    parts = ['' if prose.startswith(caption) else caption, 'panels: ' + ', '.join(panels) if panels else '', '; '.join(axes), prose]
    return caption, given.get('fig-alt') or shortened('. '.join(p.rstrip('.') for p in parts if p) + '.')


def describe(nb, name):
    "For each cell of a notebook that shows a picture: what myst-nb is to write under it and behind it."
    code = [c for c in nb.cells if c.cell_type == 'code']
    sources = {var: f'{data} (stand-in)' for c in code for var, data in SOURCE.findall(c.source)}
    defs = [n for c in code for n in ast.walk(checked_cells.parse(c.source)) if isinstance(n, ast.FunctionDef)]
    signatures = {d.name: [a.arg for a in d.args.args] for d in defs}
    found, prose = {}, ''
    for index, cell in enumerate(nb.cells):
        if cell.cell_type == 'markdown':
            prose = plain(cell.source)
        elif pictures(cell):
            caption, alt = words_of(cell, prose, signatures, sources)
            if not caption:
                raise SystemExit(f'{name}: the picture of cell {index} has no words: give it a title, or say `#| fig-alt: …`')
            label = f'Figure {len(found) + 1}. '
            figure = {'caption': label + escaped(caption), 'name': f'fig-{name.partition(".")[0]}-{len(found) + 1}'}
            found[cell.id] = {'image': {'alt': alt, 'classes': kind(cell)}, 'figure': figure}
    return found


def first_row(data):
    "A picture cut at the widest blank band of its middle: the first row of a gallery."
    image = Image.open(io.BytesIO(data)).convert('RGB')
    blank = (np.asarray(image) > 250).all(axis=(1, 2))
    middle = range(len(blank) // 4, 3 * len(blank) // 4)
    bands = [run for run in re.finditer('1+', ''.join('01'[int(b)] for b in blank)) if run.start() in middle]
    if bands:
        widest = max(bands, key=lambda run: run.end() - run.start())
        image = image.crop((0, 0, image.width, widest.start() + 6))
    out = io.BytesIO()
    image.save(out, 'PNG', optimize=True)
    return out.getvalue()
