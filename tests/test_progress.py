"""What takes seconds says so: a bar that comes late enough not to be noise, and none where none is wanted."""

import pytest
import torch

from multilabel_nb import bootstrap_interval, doubt, sweep_intervals, training, tune_weight_decay
from multilabel_nb.doubt import out_of_fold
from multilabel_nb.training import probe_splits

PROBS, TARGS = [[0.9], [0.8], [0.3], [0.2]] * 9, [[1], [1], [0], [0]] * 9
ROWS = torch.arange(24.0)[:, None], torch.tensor([[0.0], [1.0]] * 12)

CALLS = {
    'bootstrap_interval': (lambda **more: bootstrap_interval(PROBS, TARGS, n_boot=7, **more), 7),
    'sweep_intervals': (lambda **more: sweep_intervals(PROBS, TARGS, n_boot=7, **more), 7),
    'out_of_fold': (lambda **more: out_of_fold(lambda train, held_out: [[0.5]] * len(held_out), 9, 3, **more), 3),
    'tune_weight_decay': (lambda **more: tune_weight_decay(*ROWS, (0.1, 1.0), 3, **more), 6),
    'probe_splits': (lambda **more: probe_splits(*ROWS, range(2), **more), 2),
}


@pytest.fixture
def bars(monkeypatch):
    "The bars that are made, shown at once."
    import tqdm

    made = []

    class Bar(tqdm.std.tqdm):
        def __init__(self, *args, delay=0, leave=True, **kwargs):
            assert delay == 2 and not leave
            super().__init__(*args, mininterval=0, **kwargs)
            if not self.disable:
                made.append(self)

    monkeypatch.setattr(tqdm, 'tqdm', Bar)
    for module in (doubt, training):
        monkeypatch.setattr(module, 'tqdm', Bar)
    return made


@pytest.mark.parametrize('name', CALLS)
def test_a_bar_counts_what_is_done(name, bars, capsys):
    call, steps = CALLS[name]
    call()
    assert [(bar.total, bar.n) for bar in bars] == [(steps, steps)]
    assert f'{steps}/{steps}' in capsys.readouterr().err


@pytest.mark.parametrize('name', CALLS)
def test_no_bar_where_none_is_wanted(name, bars, capsys):
    call, _ = CALLS[name]
    call(progress=False)
    assert not bars and capsys.readouterr().err == ''
