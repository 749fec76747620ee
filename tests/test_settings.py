"""Other settings: each is in force where it says so, a failure shows, and what cannot be made here is not run rather than green."""

import json
import subprocess
from argparse import Namespace

import pytest
import settings
from settings import SETTINGS, Setting, chosen, counted, inside, record

ARGS = {'full': False, 'long': False, 'files': [], 'jobs': 1, 'n': 1, 'parts': 1}
BY_NAME = {setting.name: setting for setting in SETTINGS}

TEST = """
import locale, os, pathlib, socket, time
import pytest

def test_in_here():
    {code}
"""

# What a test sees from inside, setting by setting.
SEEN = {
    'another hash seed': 'assert os.environ["PYTHONHASHSEED"] == "1"',
    'one thread': 'assert os.environ["OMP_NUM_THREADS"] == "1"',
    'two threads': 'assert os.environ["OMP_NUM_THREADS"] == "2"',
    'random order': 'pass',
    'two at once': 'pass',
    'another time zone and locale': 'locale.setlocale(locale.LC_ALL, ""); assert locale.str(.5) == "0,5" and time.tzname[0] == "+0545"',
    'every warning shown': 'assert os.environ["PYTHONWARNINGS"] == "default"',
    'spaces and accents': 'assert pathlib.Path.cwd().name == "les données d’été"',
    'no network': 'pytest.raises(OSError, socket.create_connection, ("192.0.2.1", 80), 5); socket.create_server(("127.0.0.1", 0)).close()',
    'ordinary user': 'a = pathlib.Path("a"); a.touch(0o200); assert os.getuid() == 1000; pytest.raises(PermissionError, a.read_text)',
    'read-only checkout': 'pytest.raises(OSError, pathlib.Path("a").write_text, "a"); pathlib.Path("~/a").expanduser().write_text("a")',
}


@pytest.fixture
def project(tmp_path, monkeypatch):
    "A project of one test; the setting's run of it."
    root = tmp_path / 'project'
    for file in ('multilabel_nb/__init__.py', 'nbs/keep', 'tests/test_one.py'):
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text('')
    (root / 'settings.ini').write_text('[DEFAULT]\nnbs_path = nbs\n')
    monkeypatch.setattr(settings, 'ROOT', root)
    monkeypatch.setattr(settings, 'RESULTS', root / 'settings.json')
    monkeypatch.setenv('MULTILABEL_NB_CACHE', str(tmp_path / 'none'))

    def run(setting, code):
        (root / 'tests' / 'test_one.py').write_text(TEST.format(code=code))
        git = ['git', '-c', 'user.name=a', '-c', 'user.email=a@example.org']
        for command in (['init', '-q'], ['add', '-A'], ['commit', '-qm', 'all']):
            subprocess.run([*git, *command], cwd=root, check=True)
        return settings.repetition(setting, Namespace(**ARGS | {'files': ['tests/test_one.py']}), 1)

    return run


@pytest.mark.slow
@pytest.mark.parametrize('name', SEEN)
def test_a_setting_is_in_force(project, name):
    found = project(BY_NAME[name], SEEN[name])
    if isinstance(found, str):
        pytest.skip(found)
    assert found['passed'] and (found['cells'], found['tests']) == (0, BY_NAME[name].at_once), found


@pytest.mark.slow
def test_a_failure_shows(project, capsys):
    found = project(BY_NAME['one thread'], 'assert 1 + 1 == 3')
    assert not found['passed'] and found['failed'] == ['tests.test_one: test_in_here'] and 'assert (1 + 1) == 3' in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize(
    'broken, why',
    [
        ({'holds': '1 == 2'}, 'the setting is not in force'),
        ({'first': 'echo no locales here; exit 3'}, 'no locales here'),
        ({'unshare': ('--no-such-namespace',)}, 'unshare'),
    ],
)
def test_what_cannot_be_made_is_not_run(project, broken, why):
    said = project(Setting('a', 'b', **broken), 'pass')
    assert isinstance(said, str) and why in said


def test_every_setting_but_the_full_disk_is_seen_from_inside():
    assert [*SEEN, 'full disk'] == [setting.name for setting in SETTINGS] and len(SETTINGS) == 12


def test_what_is_run():
    def files(name, n=1, **args):
        return chosen(BY_NAME[name], Namespace(**ARGS | args), n)

    plain, full, long = files('one thread'), files('one thread', full=True), files('one thread', long=True)
    assert 'nbs/05_metrics.ipynb' in plain and 'tests/test_files.py' in plain and 'nbs/06_training.ipynb' in long
    assert sorted(plain + long) == sorted(full) and all(file.endswith('.ipynb') for file in long)
    mixed = files('random order')
    assert mixed != plain and sorted(mixed) == sorted(plain) and mixed != files('random order', 2)
    for name in 'one thread', 'random order':
        parts = [files(name, n, full=True, parts=10) for n in range(1, 11)]
        assert sorted(sum(parts, [])) == sorted(full) and max(map(len, parts)) - min(map(len, parts)) <= 1
    assert files('full disk', 3, parts=10) == ['tests/test_full_disk.py']


def test_a_command_runs_inside():
    assert inside((), '', ['a', 'b']) == ['a', 'b'] and inside(('--net',), '', ['a']) == ['unshare', '--net', 'a']
    out = subprocess.run(inside((), 'cd /', ['sh', '-c', 'echo "$1 in $PWD"', 'sh', 'a b']), capture_output=True, text=True)
    assert out.stdout == 'a b in /\n'


def test_cells_and_tests_are_counted(tmp_path):
    report = tmp_path / 'report.xml'
    report.write_text(
        '<testsuites><testsuite><testcase classname="nbs.a.ipynb" name="Cell 0"/><testcase classname="nbs.a.ipynb" name="Cell 1"><failure/>'
        '</testcase><testcase classname="tests.test_b" name="test_c"/><testcase classname="tests.test_b" name="test_d"><error/></testcase>'
        '<testcase classname="tests.test_b" name="test_e"><skipped message="slow"/></testcase></testsuite></testsuites>'
    )
    assert counted(report) == {'cells': 1, 'tests': 1, 'failed': ['nbs.a.ipynb: Cell 1', 'tests.test_b: test_d'], 'skipped': ['slow']}


def test_the_record(tmp_path, monkeypatch):
    "Kept in the order of the table; one of two that passed is no green setting, and neither is one that was not run."
    monkeypatch.setattr(settings, 'RESULTS', tmp_path / 'settings.json')
    once = {'commit': 'abc', 'cells': 3, 'tests': 4, 'failed': [], 'skipped': ['slow'], 'passed': True, 'seconds': 7, 'parts': 3}
    once['files'] = ['nbs/a.ipynb', 'tests/test_a.py']
    done = [once, once | {'failed': ['x: y'], 'passed': False, 'files': ['nbs/b.ipynb']}]
    for setting, came in (SETTINGS[1], done), (SETTINGS[0], ['no locales here']), (SETTINGS[1], [*done, once]):
        settings.write(record(setting, came))
    first, second = json.loads(settings.RESULTS.read_text(encoding='utf-8'))
    assert first['name'] == SETTINGS[0].name and (first['passed'], first['tried'], first['not_run']) == (0, 0, 'no locales here')
    assert (second['passed'], second['tried'], second['seconds'], second['failed']) == (2, 3, 21, ['x: y'])
    assert (second['cells'], second['tests'], second['skipped'], second['notebooks'], second['parts']) == (9, 12, 3, 2, 3)
    assert second['commit'] == 'abc' and 'torch' in second['versions']
    settings.write(record(SETTINGS[1], [once]), long=True)
    settings.write(record(SETTINGS[1], [once]))
    again = json.loads(settings.RESULTS.read_text(encoding='utf-8'))[1]
    assert again['passed'] == again['tried'] == again['longest']['passed'] == 1 and not again['longest'].keys() & {'name', 'longest'}
