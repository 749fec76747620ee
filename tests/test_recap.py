"""The page to print: each row of its tables leads to headings that exist, with a cell that checks something below them."""

import re
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / 'tools'))

import checked_cells  # noqa: E402

NBS = ROOT / 'nbs'


def sources(name):
    return [cell.source for cell in nbformat.read(NBS / name, as_version=4).cells if cell.cell_type == 'markdown']


PAGE = '\n'.join(sources('recap.ipynb'))
LINKS = sorted(set(re.findall(r'\]\(([^)\s#]+\.ipynb)#([^)\s]+)\)', PAGE)))
ROWS = [line for line in PAGE.splitlines() if line.startswith('| ') and not line.startswith('| you want')]


def anchor(heading):
    "As JupyterLab makes it: the text that is shown, with hyphens for blanks."
    return heading.replace('`', '').replace('*', '').replace(' ', '-')


def headings(cells):
    "(anchor, level, cells from the one with this heading to the next heading of its level or above)"
    found = []
    for i, cell in enumerate(cells):
        if cell.cell_type == 'markdown':
            text = re.sub(r'```.*?```', '', cell.source, flags=re.S)
            found += [(i, len(marks), title.strip()) for marks, title in re.findall(r'^(#+) (.+)$', text, re.M)]
    for n, (i, level, title) in enumerate(found):
        end = next((j for j, other, _ in found[n + 1 :] if other <= level), len(cells))
        yield anchor(title), cells[i : end + (end == i)]


def proof(cells, wanted):
    "Checked cells below the heading with this anchor; which there must be once, since a browser stops at the first."
    (below,) = [section for name, section in headings(cells) if name == wanted]
    return [cell for cell in below if cell.cell_type == 'code' and checked_cells.is_checked(cell)]


@pytest.mark.parametrize('file, wanted', LINKS, ids=['#'.join(link) for link in LINKS])
def test_a_checked_cell_follows_the_heading(file, wanted):
    assert proof(nbformat.read(NBS / file, as_version=4).cells, wanted)


def test_a_heading_without_a_check_is_noticed():
    text, code = nbformat.v4.new_markdown_cell, nbformat.v4.new_code_cell
    cells = [
        text('# A\n\n> b'),
        text('## `x` of *y*?'),
        text('## Next'),
        code('assert x'),
        text('### Part'),
        code('x = 1'),
        text('## Twice'),
    ]
    cells += [text('## Twice'), code('assert x')]
    assert [name for name, _ in headings(cells)] == ['A', 'x-of-y?', 'Next', 'Part', 'Twice', 'Twice']
    assert proof(cells, 'A') and proof(cells, 'Next') and not proof(cells, 'x-of-y?') and not proof(cells, 'Part')
    for wanted in ('Twice', 'Nowhere'):
        with pytest.raises(ValueError):
            proof(cells, wanted)


def test_every_entry_of_the_tables_is_linked():
    tables = {}
    for line in ROWS:
        asked, *entries = [entry.strip() for entry in line.strip('|').split(' | ')]
        tables.setdefault(len(entries), []).append(asked.strip())
        assert all('.ipynb#' in entry for entry in entries), line
    assert set(tables) == {3, 4} and tables[3] == tables[4] and len(tables[3]) == 5


def test_every_link_to_a_lesson_names_a_heading():
    assert not re.findall(r'\]\(\d\d_\w+\.ipynb\)', PAGE) and len(LINKS) > 30
