"""What the library notebook on Ray cannot show: a killed worker, broken files, what listens on the network."""

import math
import os
import signal
import sys
import threading
from functools import reduce
from importlib.util import find_spec
from operator import add
from pathlib import Path

import nbformat
import numpy as np
import pytest
from bundled import BAD_FILES, VOCAB
from nbclient import NotebookClient

from multilabel_nb.data_drift import ProbHistogram
from multilabel_nb.predictor import Predictor
from multilabel_nb.scale import predict_table, start_ray
from multilabel_nb.sources import planet_sample
from multilabel_nb.streaming import StreamingSweep

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
    "4,000 names of the stand-in's tiles, and broken files among them."
    folder = tmp_path_factory.mktemp('tiles')
    drawn = sorted((planet_sample() / 'train').iterdir())
    for i in range(4000):
        tile = folder / f'{i:04}.jpg'
        if i % 197 == 0 and i not in (0, 1970):
            tile.write_bytes(BAD_FILES['cut.jpg'])
        else:
            tile.symlink_to(drawn[i % len(drawn)].resolve())
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


def test_a_million_rows_are_counted_in_parts_and_added(cluster):
    import pandas as pd
    import ray

    def counted(batch):
        "A batch of numbers of rows to one row of counts; probabilities and targets are drawn from the first number."
        rng = np.random.default_rng(int(batch['id'].iloc[0]))
        probs = rng.random((len(batch), len(VOCAB)), np.float32)
        sweep = StreamingSweep(len(VOCAB)).update(probs, rng.random(probs.shape) < probs)
        return pd.DataFrame({'sweep': [sweep], 'hist': [ProbHistogram(VOCAB).update(probs)]})

    rows, size = ray.data.range(10**6, override_num_blocks=4), 50_000
    parts = rows.map_batches(counted, batch_size=size, batch_format='pandas').take_all()
    assert len(parts) == 20
    here = [counted(pd.DataFrame({'id': range(i, i + size)})).iloc[0] for i in range(0, 10**6, size)]
    for name in ('sweep', 'hist'):
        there, alone = (reduce(add, [part[name] for part in side]) for side in (parts, here))
        np.testing.assert_array_equal(there.counts, alone.counts)
        assert there.counts.sum() == 10**6 * len(VOCAB)


def test_the_lesson_explains_itself_without_ray():
    "Its cells on Ray skip and say so; `make test` runs it with Ray."
    lesson = nbformat.read(Path(__file__).parents[1] / 'nbs' / '13_scale.ipynb', as_version=4)
    hide = 'import importlib.util as u; find = u.find_spec; u.find_spec = lambda name: None if name == "ray" else find(name)'
    lesson.cells.insert(0, nbformat.v4.new_code_cell(hide))
    ray_cells = [cell for cell in lesson.cells if cell.cell_type == 'code' and 'HAS_RAY:' in cell.source]
    NotebookClient(lesson, timeout=300).execute()
    said = [''.join(o.get('text', '') for o in cell.outputs) for cell in ray_cells]
    assert len(said) == 3 and all(text == 'skipped: pip install multilabel_nb[scale]\n' for text in said)
