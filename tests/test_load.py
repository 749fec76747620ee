"""Many at once, and kills at random moments: the same answers in flat memory, and nothing half-written.

`make load` takes 50 kills and two minutes, and `benchmarks/load.json` keeps what it found. Saving a bundle is killed in `test_bundle.py`, a
run with `--resume` in `test_command.py`; several want one stand-in in `test_sources.py`.
"""

import itertools
import multiprocessing
import os
import random
import shutil
import signal
import tarfile
import threading
import time
from pathlib import Path

import pytest
from bundled import saved, smooth
from test_sources import archive, entries

from multilabel_nb.files import build_folder
from multilabel_nb.predictor import Predictor
from multilabel_nb.sources import fetch, missing_files
from multilabel_nb.standins.folder import is_whole
from multilabel_nb.standins.planet import make_planet

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not Path('/proc/self/statm').exists(), reason='needs Linux')]

N = 16


def in_memory():
    "Megabytes of memory that this process holds."
    return int(Path('/proc/self/statm').read_text().split()[1]) * os.sysconf('SC_PAGE_SIZE') / 2**20


def under_load(bundle, engine, seconds):
    "Threads ask one predictor in a random order: answers, those that differed, and the memory at the ends of the second and last quarter."
    predictor = Predictor(bundle, engine=engine)
    pictures = [saved(smooth(i), 'JPEG') for i in range(20)]
    expected = [predictor.predict(picture).probs for picture in pictures]
    until, differ, asked = time.monotonic() + seconds, [], itertools.count()

    def ask(seed):
        rng = random.Random(seed)
        while time.monotonic() < until:
            i = rng.randrange(len(pictures))
            found = predictor.predict(pictures[i]).probs
            differ.extend(label for label, p in expected[i].items() if abs(found[label] - p) > 1e-6)
            next(asked)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(N)]
    for thread in threads:
        thread.start()
    memory = []
    while time.monotonic() < until:
        memory.append(in_memory())
        time.sleep(seconds / 40)
    for thread in threads:
        thread.join()
    quarters = [sorted(memory[i * len(memory) // 4 : (i + 1) * len(memory) // 4]) for i in range(4)]
    return next(asked), differ, *(quarters[i][len(quarters[i]) // 2] for i in (1, 3))


@pytest.fixture(scope='module')
def own():
    "Starts functions of this file in processes of their own, which have imported everything when they begin."
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(['test_load', 'fastai.data.external'])
    return context


@pytest.mark.parametrize('engine', ['onnx', 'torch'])
def test_sixteen_threads_get_the_same_answers_in_flat_memory(engine, good, own, request, record_property):
    with own.Pool(1) as pool:
        asked, differ, before, after = pool.apply(under_load, (good, engine, request.config.getoption('--load-seconds')))
    record_property('load', f'{asked:,} answers to {N} threads, {len(differ)} differ; memory {before:.0f} MB, later {after:.0f} MB')
    assert asked > 100 and not differ
    assert after < 1.05 * before


def draw(home, begun, url):
    begun.set()
    build_folder(home / 'planet_sample', is_whole, lambda tmp: make_planet(tmp / 'planet_sample', n=40))


def download(home, begun, url):
    begun.set()
    fetch(f'{url}/planet_sample.tgz', home / 'planet_sample', 'planet_sample')


def arrived(folder):
    return not missing_files(folder, 'planet_sample') and len(entries(folder / 'train')) == 20


@pytest.mark.parametrize('work, whole', [(draw, is_whole), (download, arrived)], ids=['caching', 'downloading'])
def test_killed_at_random_moments_leaves_nothing_half(work, whole, own, served, tmp_path, request, record_property):
    """Beside a kill there is the whole set or none; the next run completes it and removes what was left."""

    def start():
        begun = own.Event()
        process = own.Process(target=work, args=(tmp_path, begun, url))
        process.start()
        assert begun.wait(60)
        return process

    def finish(process):
        process.join(60)
        assert process.exitcode == 0 and whole(made) and entries(tmp_path) == ['planet_sample']
        shutil.rmtree(made)

    bodies, url = served
    bodies['/planet_sample.tgz'] = archive((tarfile.TarInfo('planet_sample/more'), os.urandom(20_000_000)))  # so that it takes a while
    made, times = tmp_path / 'planet_sample', []
    for _ in range(3):
        process, began = start(), time.monotonic()
        finish(process)
        times.append(time.monotonic() - began)
    rng, kills, during = random.Random(0), request.config.getoption('--kills') or 5, 0
    for _ in range(kills):
        process = start()
        time.sleep(rng.uniform(0, min(times)))
        process.kill()
        process.join(60)
        during += process.exitcode == -signal.SIGKILL
        assert whole(made) or not made.exists()
        shutil.rmtree(made, ignore_errors=True)  # else the next would have nothing to do
    finish(start())
    assert during > kills / 2
    record_property('load', f'{kills} kills, {during} of them during the work: nothing half, and the next run completed it')
