"""What `make newest` says of two lock files."""

import versions

LOCK = """numpy==2.4.6 ; python_full_version < '3.12' \\
    --hash=sha256:0
numpy==2.5.5 ; python_full_version >= '3.12' \\
    --hash=sha256:1
ray[data]==2.60.0 \\
    --hash=sha256:2
"""


def test_pins_are_those_of_one_python():
    assert versions.pins(LOCK, '3.11.7') == {'numpy': '2.4.6', 'ray': '2.60.0'}
    assert versions.pins(LOCK, '3.13.0')['numpy'] == '2.5.5'


def test_each_version_that_changes_is_told():
    before = {'numpy': '2.4.6', 'ray': '2.60.0', 'gone': '1'}
    told = [line.split() for line in versions.changes(before, {'numpy': '2.5.5', 'ray': '2.60.0', 'new': '3'})]
    assert told == [['gone', '1', '->', '-'], ['new', '-', '->', '3'], ['numpy', '2.4.6', '->', '2.5.5']]


def test_the_oldest_are_asked_of_what_names_one():
    assert versions.bounded({'requirements': 'numpy>=2 tqdm', 'fastai_requirements': 'fastai==2.8.7 numpy>=2 ray[data]>=2.50'}) == [
        'numpy>=2',
        'ray[data]>=2.50',
    ]
