"""The guide: each page's code runs as it stands and prints what the page says; and what every page has."""

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import guide_pages
import lessons
import nbformat
import pytest
from guide_pages import PAGES
from hosted import build_site

ROOT = Path(__file__).resolve().parents[1]
# They train, write ONNX, start processes or import a large library.
SLOW = {'backbones', 'cheat-sheet', 'deploy', 'heat-maps', 'label-errors', 'many-images', 'names', 'own-network', 'train'}
LOOKED_UP = {'index', 'pitfalls', 'cite'}  # pages without code
each_page = pytest.mark.parametrize('name', PAGES)
each_task = pytest.mark.parametrize('name', sorted(set(PAGES) - LOOKED_UP))


@pytest.mark.beyond_gate
@pytest.mark.parametrize('name', sorted(set(PAGES) - LOOKED_UP - SLOW))
def test_a_page_prints_what_it_says(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = guide_pages.differences(PAGES[name])
    assert not said, said


@pytest.mark.slow
@pytest.mark.many(5)
@pytest.mark.parametrize('name', sorted(SLOW))
def test_a_long_page_prints_what_it_says(name, tmp_path):
    command = [sys.executable, guide_pages.__file__, name]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert ran.returncode == 0, ran.stderr[-3000:]


def test_a_page_that_says_something_else_is_noticed(tmp_path):
    """A wrong output, one that is not shown, and one that is not printed any more."""
    page = tmp_path / 'wrong.md'
    page.write_text(
        '```python\nprint(2)\n```\n\n```text\n3\n```\n\n```python\nprint(4)\n```\n\nWords.\n\n```python\nx = 5\n```\n\n```text\n6\n```\n'
    )
    said = guide_pages.differences(page)
    assert said.count('wrong.md, the code at line') == 3 and '-3\n+2' in said and '+4' in said and '-6' in said
    page.write_text('```python\nx = 2\n```\n\n```python\nprint(x)  \n```\n\n```text\n2\n```\n')
    assert guide_pages.differences(page) == ''


@each_task
def test_a_page_has_short_code_and_leads_on(name):
    """At most fifteen lines a block, not wider than the page; a link to a lesson and one to the reference."""
    text = PAGES[name].read_text(encoding='utf-8')
    found = [*guide_pages.blocks(text)]
    sizes = {block.line: sum(bool(line.strip()) for line in block.code.splitlines()) for block in found}
    assert found and max(sizes.values()) <= 15, sizes
    assert not [line for block in found for line in block.code.splitlines() if len(line) > 88]
    assert re.search(r'\]\(\.\./\w+\.ipynb', text) and '](../api/' in text


@each_page
def test_a_page_begins_with_its_title_and_is_listed(name):
    text = PAGES[name].read_text(encoding='utf-8')
    title, words = re.match(r'# (.+)\n\n(.+)\n', text).groups()
    assert len(title) > 10 and (len(words) > 60 or name == 'cheat-sheet')
    assert name == 'index' or f']({name}.md)' in PAGES['index'].read_text(encoding='utf-8')


@pytest.mark.beyond_gate
@each_task
def test_back_ticked_calls_are_of_the_library(name):
    """Functions that the text of a page names as a call exist, and take the arguments by name that it gives them."""
    import inspect

    import multilabel_nb

    prose = guide_pages.BLOCK.sub('', PAGES[name].read_text(encoding='utf-8'))
    for code in re.findall(r'`([a-z_]+\([^`]*\))`', prose):
        called = ast.parse(code.replace('…', 'x').replace('[[x]]', 'x').replace('x, x', 'x'), mode='eval').body
        function = getattr(multilabel_nb, called.func.id, None)
        if function is not None and not isinstance(function, type):
            takes = inspect.signature(function).parameters
            assert {k.arg for k in called.keywords} <= set(takes) or any(p.kind is p.VAR_KEYWORD for p in takes.values()), code


def test_the_citation_is_of_this_version():
    text = (ROOT / 'CITATION.cff').read_text(encoding='utf-8')
    config = lessons.config()
    said = dict(re.findall(r'^([\w-]+): "?(.*?)"?$', text, re.M))
    assert said['version'] == config['version'] and said['repository-code'] == config['git_url']
    assert said['url'] == f'{config["doc_host"]}{config["doc_baseurl"]}/' and said[
        'title'
    ] == f'{config["title"]}: {config["description"]}'.replace('Multi-label', 'multi-label')


def test_all_pitfalls_are_listed_with_their_places():
    """Each block quote of a lesson that opens with the word, once, on one line, its links and its anchor seen from the guide."""
    files, config = build_site.notebooks(ROOT, lessons.config())[0], lessons.config()
    text = build_site.pitfalls(files, config)
    sources = [cell.source for file in files for cell in nbformat.read(file, as_version=4).cells if cell.cell_type == 'markdown']
    told = sum(source.count('> **Pitfall.**') for source in sources)
    listed = re.findall(r'^- (.+) \[Proof\]\(<\.\./(\d\d_\w+\.ipynb)#\S.*>\)$', text, re.M)
    assert len(listed) == told > 40 and not re.search(r'\]\(\d\d_', text)


def test_the_guide_stands_at_the_side_and_in_llms_txt(tmp_path):
    """Tasks in the order of the first page, below it; pages to look something up in beside it."""
    config = lessons.config()
    shutil.copytree(guide_pages.FOLDER, tmp_path / 'guide')
    side = build_site.write_guide(tmp_path)
    tasks = re.findall(r'^(.+) <([\w-]+)\.md>$', (tmp_path / 'guide' / 'index.md').read_text(encoding='utf-8'), re.M)
    assert tasks[0] == ('Load your own dataset', 'label-tables') and side[0] == 'I have … / I want … <guide/index.md>'
    assert {name for _, name in tasks} | {re.search(r'guide/(.+)\.md', entry)[1] for entry in side} == set(PAGES)
    told = build_site.llms(ROOT, config)
    assert all(f'({build_site.home_url(config)}guide/{name}.html): ' in told for name in PAGES)
    assert told.index('## Guide') < told.index('## Lessons') < told.index('## Reference')
