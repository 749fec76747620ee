"""What the library notebook on Ray cannot show: a killed worker, broken files, what listens on the network."""

import math
import os
import signal
import sys
import threading
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from bundled import BAD_FILES, VOCAB, saved, smooth

from multilabel_nb.predictor import Predictor
from multilabel_nb.scale import predict_table, start_ray

if find_spec('ray') is None:
    pytest.skip('the extra [scale] is not installed', allow_module_level=True)

import psutil  # noqa: E402  Jupyter brings it
import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings('error::DeprecationWarning:multilabel_nb')]


@pytest.fixture(scope='module')
def cluster():
    start_ray(2)
    import ray

    yield psutil.Process().children(recursive=True)
    ray.shutdown()


@pytest.fixture(scope='module')
def tiles(tmp_path_factory):
    "4,000 names of a few pictures, and broken files among them."
    folder = tmp_path_factory.mktemp('tiles')
    for i in range(50):
        (folder / f'0000_{i:02}.jpg').write_bytes(saved(smooth(i), 'JPEG'))
    for i in range(50, 4000):
        tile = folder / f'{i:04}.jpg'
        if i % 197 == 0 and i != 1970:
            tile.write_bytes(BAD_FILES['cut.jpg'])
        else:
            os.link(folder / f'0000_{i % 50:02}.jpg', tile)
    return folder


def same_table(out, expected):
    "Row by row, joined by path: labels and errors identical, probabilities within 1e-6."
    rows = sorted(pq.read_table(out).to_pylist(), key=lambda row: row['image'])
    of_one = expected.sort_values('image').to_dict('records')
    for name in ('image', 'labels', 'error'):
        assert [row[name] for row in rows] == [row[name] for row in of_one]
    for name in (f'prob_{label}' for label in VOCAB):
        probs = [math.nan if row[name] is None else row[name] for row in rows]
        np.testing.assert_allclose(probs, [row[name] for row in of_one], rtol=0, atol=1e-6)
    return rows


def workers():
    return [p for p in psutil.Process().children(recursive=True) if 'MapWorker' in ' '.join(p.cmdline())]


def test_only_this_machine_is_listened_to(cluster):
    listening = {c.laddr.ip for p in cluster for c in p.net_connections('inet') if c.status == psutil.CONN_LISTEN}
    assert listening and listening <= {'127.0.0.1', '::ffff:127.0.0.1', '::1'}
    assert not [p for p in cluster if 'dashboard.py' in ' '.join(p.cmdline()) and '--include-dashboard=True' in p.cmdline()]
    assert os.environ['RAY_USAGE_STATS_ENABLED'] == '0'
    with pytest.raises(RuntimeError, match='Ray runs already'):
        start_ray()


@pytest.mark.skipif(sys.platform == 'win32', reason='no SIGKILL')
def test_a_killed_worker_loses_no_image(cluster, good, tiles, tmp_path):
    "4,000 tiles, twenty of them broken, two workers, one killed half-way: the rows of one process."
    half_way, killed = tiles / '2000.jpg', []
    half_way.unlink()
    os.mkfifo(half_way)  # whoever opens it waits for the other end: a broken file that says when it is read

    def kill_half_way():
        while True:
            with open(half_way, 'wb'):
                if not killed:
                    killed.append(workers()[0].pid)
                    os.kill(killed[0], signal.SIGKILL)

    threading.Thread(target=kill_half_way, daemon=True).start()
    out = predict_table(good, tiles, tmp_path / 'out', workers=2, batch=100)
    assert killed and not psutil.pid_exists(killed[0])
    expected = Predictor(good).predict_many(sorted(map(str, tiles.iterdir())), on_error='row')
    rows = same_table(out, expected)
    assert len(rows) == 4000 and sum(row['error'] is not None for row in rows) == 20
    assert [p.name for p in tmp_path.iterdir()] == ['out'], 'something was left beside it'


def test_a_parquet_table_of_paths(cluster, good, tiles, tmp_path):
    files = sorted(map(str, tiles.iterdir()))[:60]
    pq.write_table(pa.table({'image': files, 'other': range(60)}), tmp_path / 'paths.parquet')
    out = predict_table(good, tmp_path / 'paths.parquet', tmp_path / 'out', workers=1, thresh=0.1)
    same_table(out, Predictor(good, thresh=0.1).predict_many(files, on_error='row'))
    pq.write_table(pa.table({'file': files}), tmp_path / 'other.parquet')
    pq.write_table(pa.table({'image': files})[:0], tmp_path / 'none.parquet')
    for paths, error, why in (
        ('other.parquet', ValueError, r"no column image, only \['file'\]"),
        ('none.parquet', ValueError, 'there are none'),
        ('gone.parquet', FileNotFoundError, 'gone'),
    ):
        with pytest.raises(error, match=why):
            predict_table(good, tmp_path / paths, tmp_path / 'no')
    with pytest.raises(ValueError, match='there are none'):
        predict_table(good, [], tmp_path / 'no')
    with pytest.raises(FileNotFoundError, match='gone'):
        predict_table(Path('gone'), files, tmp_path / 'no')
    with pytest.raises(FileExistsError, match='out is there'):
        predict_table(good, files, tmp_path / 'out')
    assert not (tmp_path / 'no').exists()
