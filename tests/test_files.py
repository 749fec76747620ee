"""What the notebook on files cannot show: a full disk, and locks between processes."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from multilabel_nb.files import build_folder, digest, locked, write_atomically


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    file = tmp_path / 'a.json'
    write_atomically(file, b'old')
    monkeypatch.setattr(os, 'replace', lambda *_: (_ for _ in ()).throw(OSError(28, 'disk full')))
    with pytest.raises(OSError, match=re.escape(f"disk full: '{file}'")):
        write_atomically(file, b'new')
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b'old']


def test_a_lock_that_someone_removed_is_let_go(tmp_path):
    with locked(tmp_path / 'lock'):
        (tmp_path / 'lock').unlink()
    assert not list(tmp_path.iterdir())


def test_a_leftover_that_cannot_be_removed_is_left(tmp_path):
    (tmp_path / '.made.old.tmp').write_text('a file, where a folder was expected')
    made = build_folder(tmp_path / 'made', Path.exists, lambda folder: folder)
    assert made.is_dir() and (tmp_path / '.made.old.tmp').is_file()


def test_a_digest_has_one_order_of_files(tmp_path, monkeypatch):
    for name in 'abc':
        (tmp_path / name).write_text(name)
    before, rglob = digest(tmp_path), Path.rglob
    monkeypatch.setattr(Path, 'rglob', lambda path, pattern: list(rglob(path, pattern))[::-1])
    assert digest(tmp_path) == before


ADD = """
import sys
from pathlib import Path
from multilabel_nb.files import locked
number = Path(sys.argv[1])
for _ in range(50):
    with locked(f'{number}.lock') as held:
        number.write_text(str(int(number.read_text()) + held))
"""


def test_processes_wait_for_each_other(tmp_path):
    number = tmp_path / 'number'
    number.write_text('0')
    processes = [subprocess.Popen([sys.executable, '-c', ADD, str(number)]) for _ in range(3)]
    assert [process.wait(timeout=60) for process in processes] == [0] * 3
    assert number.read_text() == '150' and os.listdir(tmp_path) == ['number']


def test_a_killed_holder_lets_go(tmp_path):
    code = f'from multilabel_nb.files import locked\nwith locked({str(tmp_path / "lock")!r}):\n    print("held", flush=True); input()'
    with subprocess.Popen([sys.executable, '-c', code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == 'held\n'
        process.kill()
    with locked(tmp_path / 'lock') as held:
        assert held
