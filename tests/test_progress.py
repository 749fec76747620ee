"""What takes seconds says so: a bar that comes late enough not to be noise, and none where none is wanted."""

import pandas as pd
import pytest
import torch
from PIL import Image

from multilabel_nb import doubt, training
from multilabel_nb.doubt import out_of_fold
from multilabel_nb.splits import check_split, picture_groups
from multilabel_nb.training import extract_features, probe_splits, tune_weight_decay
from multilabel_nb.uncertainty import bootstrap_interval, sweep_intervals

PROBS, TARGS = [[0.9], [0.8], [0.3], [0.2]] * 9, [[1], [1], [0], [0]] * 9
ROWS = torch.arange(24.0)[:, None], torch.tensor([[0.0], [1.0]] * 12)
TABLE = pd.DataFrame({'image_name': ['a.png', 'b.png', 'c.png'], 'labels': [['x'], ['x'], ['x']]})


class Batches(list):
    device = 'cpu'


BATCHES = Batches([(torch.zeros(1, 3, 2, 2), torch.zeros(1, 1))] * 2)

# The call, its steps, and the seconds that the bar waits; `folder` holds the pictures of TABLE.
CALLS = {
    'bootstrap_interval': (lambda folder, **more: bootstrap_interval(PROBS, TARGS, n_boot=7, **more), 7, 2),
    'sweep_intervals': (lambda folder, **more: sweep_intervals(PROBS, TARGS, n_boot=7, **more), 7, 2),
    'out_of_fold': (lambda folder, **more: out_of_fold(lambda fit, held: [[0.5]] * len(held), 9, 3, **more), 3, 2),
    'extract_features': (lambda folder, **more: extract_features(torch.nn.Identity(), BATCHES, **more), 2, 0),
    'tune_weight_decay': (lambda folder, **more: tune_weight_decay(*ROWS, (0.1, 1.0), 3, **more), 6, 2),
    'probe_splits': (lambda folder, **more: probe_splits(*ROWS, range(2), **more), 2, 2),
    'picture_groups': (lambda folder, **more: picture_groups(TABLE, folder, **more), 3, 0),
    'check_split': (lambda folder, **more: check_split(TABLE, ([0, 1], [2]), folder, **more), 3, 0),
}


@pytest.fixture
def bars(monkeypatch):
    "The bars that are made, shown at once."
    import tqdm

    made = []

    class Bar(tqdm.std.tqdm):
        def __init__(self, *args, delay=0, leave=True, **kwargs):
            assert not leave
            self.waits = delay
            super().__init__(*args, mininterval=0, **kwargs)
            if not self.disable:
                made.append(self)

    monkeypatch.setattr(tqdm, 'tqdm', Bar)
    for module in (doubt, training):
        monkeypatch.setattr(module, 'tqdm', Bar)
    return made


@pytest.fixture
def folder(tmp_path):
    for shade, name in enumerate(TABLE['image_name']):
        Image.new('L', (2, 2), shade).save(tmp_path / name)
    return tmp_path


@pytest.mark.parametrize('name', CALLS)
def test_a_bar_counts_what_is_done(name, bars, capsys, folder):
    call, steps, waits = CALLS[name]
    call(folder)
    assert [(bar.total, bar.n, bar.waits) for bar in bars] == [(steps, steps, waits)]
    assert f'{steps}/{steps}' in capsys.readouterr().err


@pytest.mark.parametrize('name', CALLS)
def test_no_bar_where_none_is_wanted(name, bars, capsys, folder):
    call, *_ = CALLS[name]
    call(folder, progress=False)
    assert not bars and capsys.readouterr().err == ''
