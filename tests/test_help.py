"""`help` says of each public name what the comments behind its parameters say; and importing stays as quick as it was."""

import importlib
import inspect
import json
import operator
import pydoc
import re
import subprocess
import sys
from pathlib import Path

import api_pages
import lessons
import pytest
from fastcore.docments import parse_docstring

import multilabel_nb
from multilabel_nb import Prediction, Predictor, Thresholds, load_backbone, tune_thresholds

PACKAGE = Path(multilabel_nb.__file__).parent
ROOMS = [api_pages.read_module(file, 'multilabel_nb', PACKAGE) for file in lessons.exported(PACKAGE.parent) if file.name != '_modidx.py']


def words(text):
    return ' '.join(text.split())


@pytest.mark.parametrize('room', [room for room in ROOMS if room.names], ids=lambda room: room.short)
def test_help_says_what_the_comments_say(room):
    module = importlib.import_module(room.name)
    for path, name in api_pages.documented(room):
        if name.kind == 'data':
            continue
        told = words(inspect.getdoc(operator.attrgetter(path)(module)))
        assert words(name.doc.split('\n\n')[0]) in told
        for param in name.params:
            assert param.says or param.name == 'returns', f'{path}: nothing is said of {param.name}'
            assert words(param.says) in told, f'{path}: {param.name}'
            assert param.name == 'returns' or f'{param.name} :' in told or f' {param.name} ' in told, f'{path}: {param.name}'
        titles = re.findall(r'(\w+) -{4,} ', told)
        assert len(titles) == len(set(titles)), f'{path} has a section twice: {titles}'


@pytest.mark.filterwarnings('ignore:Unknown section Example')
def test_sections_stand_in_numpys_order_and_form():
    doc = inspect.getdoc(tune_thresholds)
    assert re.findall(r'(\w+)\n-{4,}\n', doc) == ['Parameters', 'Returns', 'Raises', 'Example']
    read = parse_docstring(tune_thresholds)
    assert list(read.Parameters) == list(inspect.signature(tune_thresholds).parameters)
    assert read.Parameters['probs'].desc == ['probabilities in [0, 1], `(N, C)`, of rows that trained no model']
    assert read.Returns.type == 'TunedThresholds'


@pytest.mark.parametrize(
    ('what', 'says'),
    [
        (load_backbone, 'pretrained : bool, default True\n        False: random weights'),
        (Predictor, 'engine : '),
        (Predictor.predict_many, 'progress : bool, default False'),
        (Prediction, 'error : str | None, default None\n'),
        (Thresholds.load, 'Returns\n'),
    ],
    ids=['function', 'class', 'method', 'named tuple', 'class method'],
)
def test_help_as_a_terminal_shows_it(what, says):
    assert says in pydoc.plain(pydoc.render_doc(what))


def test_the_reference_of_the_site_gives_parameters_once():
    for room in ROOMS:
        assert not re.search('Parameters|----------\n', api_pages.page(room, 'blob')), room.short


def test_what_was_renamed_since_is_passed_over(monkeypatch):
    from multilabel_nb import _parameters, files

    before = files.digest.__doc__
    monkeypatch.setattr(_parameters, 'SECTIONS', {'files': {'gone': 'Parameters', 'digest.gone': 'Parameters'}})
    multilabel_nb._add_sections(files)
    assert files.digest.__doc__ == before


def test_a_room_that_is_loaded_again_is_documented_once():
    code = 'import importlib; from multilabel_nb import files; importlib.reload(files); print(files.digest.__doc__.count("Parameters\\n"))'
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout.strip() == '1'


def test_the_package_itself_loads_no_texts_and_a_room_reads_no_source():
    code = (
        'import json, sys, multilabel_nb\nfirst = set(sys.modules)\n'
        'import multilabel_nb.files\nprint(json.dumps([sorted(first), sorted(sys.modules)]))'
    )
    out = subprocess.run([sys.executable, '-I', '-c', code], capture_output=True, text=True, check=True).stdout
    first, after = json.loads(out)
    assert 'multilabel_nb._parameters' in set(after) - set(first)
    assert not {'tokenize', 'fastcore', 'inspect'} & set(after)
