"""Coverage by notebooks: an exported cell counts for its module, at the lines where the module has it, and only what ran counts."""

import subprocess
import sys
from pathlib import Path

import covered
import mutants
import pytest

ROOT = Path(__file__).resolve().parents[1]


def test_exported_cells_have_their_places():
    "Also those of stand-ins and exercises; a line of the cell is that line of the module."
    at, seen = covered.places(ROOT), set()
    for notebook, cell, module in mutants.owned(ROOT, without=()):
        path, lines = at[notebook][cell.id]
        module_lines, source = Path(path).read_text(encoding='utf-8').splitlines(), cell.source.splitlines()
        told = [(n, line) for n, line in enumerate(source) if line.strip() and not line.startswith('#|') and 'import' not in line]
        assert all(module_lines[lines + n] == line.rstrip() for n, line in told), (notebook, cell.id)
        seen.add(module.partition('.')[0])
    assert {'files', 'standins', 'exercises'} <= seen


RUN = """
import sys, tempfile
from functools import partial
from pathlib import Path

sys.path.insert(0, {tools!r})
from covered import copied, forked, measured, places, shares, warm_up

with tempfile.TemporaryDirectory() as tmp:
    folder = copied(Path(tmp).resolve())
    warm_up(folder)
    notebook = Path('nbs/library/costs.ipynb')
    assert forked(partial(measured, notebook, folder, places(folder)[notebook]), 300) is None
    found = shares(folder)
    costs, command = found['costs'], found['command']
    assert costs['lines_run'] == costs['lines'] > 15, costs
    assert command['lines_run'] == 0 and len(command['missing']) == command['lines'] > 100, command
    assert '_parameters' not in found and '_modidx' not in found
"""


@pytest.mark.slow
def test_a_notebook_covers_its_own_module():
    out = subprocess.run([sys.executable, '-c', RUN.format(tools=str(ROOT / 'tools'))], capture_output=True, text=True, cwd=ROOT)
    assert out.returncode == 0, out.stderr
