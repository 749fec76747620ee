"""A full disk: the error names the file, what was there before is still whole, and no half is left."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from bundled import COMMAND, saved, smooth
from settings import inside

from multilabel_nb.bundle_files import load_config, write_bundle
from multilabel_nb.files import digest

pytestmark = pytest.mark.slow

SMALL = ('--map-root-user', '--mount'), 'mount -t tmpfs -o size={size} none "$DISK"'


@pytest.fixture
def on_small_disk(tmp_path, monkeypatch):
    "Runs a command while the folder `disk` is a disk of a few kilobytes; what is on it afterwards comes back as a folder."
    disk, after = tmp_path / 'disk', tmp_path / 'after'
    disk.mkdir()
    monkeypatch.setenv('DISK', str(disk))
    monkeypatch.setenv('MULTILABEL_NB_CACHE', str(disk / 'cache'))

    def run(command, size='200k', before=()):
        first = '\n'.join([SMALL[1].format(size=size), *(f'cp -r "{path}" "$DISK"' for path in before)])
        keep = ['sh', '-c', f'"$@"; status=$?; cp -a "$DISK" "{after}"; exit $status', 'sh', *map(str, command)]
        shutil.rmtree(after, ignore_errors=True)
        ran = subprocess.run(inside(SMALL[0], first, keep), capture_output=True, text=True, cwd=tmp_path, timeout=300)
        return ran, after

    probe, _ = run(['true'])
    if probe.returncode:
        pytest.skip(f'no small disk can be made here: {probe.stderr.strip()}')
    return run


def files(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob('*') if p.is_file())


def python(code):
    return [sys.executable, '-c', code]


@pytest.mark.parametrize('source', ['planet_sample', 'pascal_2007', 'biwi_head_pose', 'bears'])
def test_a_stand_in(on_small_disk, source, tmp_path):
    ran, after = on_small_disk(python(f'from multilabel_nb.sources import {source}\n{source}()'))
    place = tmp_path / 'disk' / 'cache' / 'standin-1' / source
    assert ran.returncode == 1 and ran.stderr.endswith(f"OSError: [Errno 28] No space left on device: '{place}'\n"), ran.stderr
    assert files(after) == [] and not any(after.rglob(f'*{source}*'))


def test_a_file_that_was_there(on_small_disk, tmp_path):
    (tmp_path / 'thresholds.json').write_bytes(b'old')
    code = 'from multilabel_nb.files import write_atomically\nwrite_atomically("disk/thresholds.json", bytes(10**6))'
    ran, after = on_small_disk(python(code), before=[tmp_path / 'thresholds.json'])
    assert "No space left on device: 'disk/thresholds.json'" in ran.stderr
    assert files(after) == ['thresholds.json'] and (after / 'thresholds.json').read_bytes() == b'old'


@pytest.mark.parametrize('name', ['bundle', 'bundle.zip'])
def test_a_bundle_that_was_there(on_small_disk, good, name, tmp_path):
    config = {key: value for key, value in load_config(good).items() if key != 'files'}
    old = {file.name: file.read_bytes() for file in good.iterdir() if file.name != 'config.json'}
    write_bundle(tmp_path / name, config, old, overwrite=False)
    code = 'from pathlib import Path\nfrom multilabel_nb.bundle_files import write_bundle\n'
    code += f'write_bundle(Path("disk/{name}"), {config!r}, {{"model.onnx": bytes(10**7)}}, overwrite=True)'
    ran, after = on_small_disk(python(code), '8m', before=[tmp_path / name])
    assert ran.returncode == 1 and f"No space left on device: 'disk/{name}" in ran.stderr, ran.stderr
    assert digest(after / name) == digest(tmp_path / name) and os.listdir(after) == [name]


@pytest.mark.parametrize('to', ['--resume', 'standard output'])
def test_predictions(on_small_disk, good, tmp_path, to):
    "The command says where there is no more room; after that, with room, `--resume` goes on."
    folder = tmp_path / 'pictures'
    folder.mkdir()
    for number in range(60):
        (folder / f'{number:02}.png').write_bytes(saved(smooth(number % 4)))
    command = [*COMMAND, good, folder, '--csv']
    if to == '--resume':
        ran, after = on_small_disk([*command, '--resume', 'disk/out.csv'], '4k')
        assert ran.returncode == 2 and "multilabel-predict: [Errno 28] No space left on device: 'disk/out.csv'" in ran.stderr
        assert 0 < len((after / 'out.csv').read_bytes()) <= 4096
        subprocess.run([*map(str, command), '--resume', after / 'out.csv'], check=True, capture_output=True)
        whole = subprocess.run(list(map(str, command)), check=True, capture_output=True).stdout
        assert (after / 'out.csv').read_bytes() == whole
    else:
        ran, _ = on_small_disk(['sh', '-c', '"$@" > disk/out.csv', 'sh', *command], '4k')
        assert "multilabel-predict: [Errno 28] No space left on device: 'standard output'" in ran.stderr and ran.returncode


def test_a_tool_of_the_project(on_small_disk, tmp_path):
    (tmp_path / 'a.ipynb').write_bytes(b'old')
    tools = Path(__file__).resolve().parents[1] / 'tools'
    code = f'import sys\nsys.path.insert(0, {str(tools)!r})\nfrom lessons import Path, atomic_write\n'
    code += 'atomic_write(Path("disk/a.ipynb"), bytes(10**6))'
    ran, after = on_small_disk(python(code), before=[tmp_path / 'a.ipynb'])
    assert "No space left on device: 'disk/a.ipynb'" in ran.stderr
    assert files(after) == ['a.ipynb'] and (after / 'a.ipynb').read_bytes() == b'old'
