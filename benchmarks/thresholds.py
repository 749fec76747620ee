"""Time and weigh the exact sweep of lesson 07 beside the source texts' loop, scikit-learn's curves and torchmetrics', in one run.

`python benchmarks/thresholds.py` takes about five minutes, writes `thresholds.json` beside this file, and exits with 1 when a bound is
broken. Everybody gets the same random probabilities (float32) and answers, each in the form it asks for. Times are medians, taken in turns.
Memory is measured in fresh processes that have loaded the libraries (warmed up on a small table) and the input: the highest resident size
ever reached (`getrusage`), less the resident size just before the call.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from functools import partial
from pathlib import Path

import numpy as np

from multilabel_nb.choosing import tune_thresholds
from multilabel_nb.files import write_atomically
from multilabel_nb.streaming import StreamingSweep
from multilabel_nb.thresholds import confusion_at_thresholds, sweep_thresholds

SIZES = {'small': (2_510, 20), 'middle': (40_479, 17), 'large': (1_000_000, 17)}
GROWTH = (10_000, 40_479, 200_000, 1_000_000)  # rows of 17 labels
REPEATS = {'small': 15, 'middle': 5, 'large': 3}
N_BINS = 100  # of torchmetrics' binned curve
STREAM = 10_000_000
# what is divided by what, at which sizes, and what the ratio must be
BOUNDS = [
    ('the loop', 'counts of each label', ('large',), 1),
    ('scikit-learn', 'curves of each label', ('small', 'middle', 'large'), 2),
    ('torchmetrics, exact', 'curves of each label', ('small', 'middle', 'large'), 2),
    ('torchmetrics, binned', 'curves of each label', ('middle',), 10),
]
AT_MOST_MEMORY, AT_MOST_STREAM = 4.0, 0.1  # times the input; share that the peak grows while the rows grow tenfold


def make_input(n_items, n_labels, seed=0):
    "Probabilities (float32) and answers (bool) with a long tail: the first label on nearly every row, the last on one of a thousand."
    rng = np.random.default_rng(seed)
    targs = rng.random((n_items, n_labels), dtype=np.float32) < np.geomspace(0.9, 0.001, n_labels)
    logits = rng.standard_normal((n_items, n_labels), dtype=np.float32)
    logits += 3 * targs.astype(np.float32) - 2
    return 1 / (1 + np.exp(-logits)), targs


# ---- time


def the_loop(probs, targs):
    "The second source text's sweep: 29 thresholds, fastai's `accuracy_multi` at each."
    import torch
    from fastai.metrics import accuracy_multi

    return [accuracy_multi(probs, targs, thresh=thresh, sigmoid=False) for thresh in torch.linspace(0.05, 0.95, 29)]


def by_sklearn(probs, targs):
    from sklearn.metrics import precision_recall_curve

    return [precision_recall_curve(t, p) for p, t in zip(probs.T, targs.T, strict=True)]


def by_torchmetrics(probs, targs, thresholds=None):
    from torchmetrics.functional.classification import multilabel_precision_recall_curve

    return multilabel_precision_recall_curve(probs, targs, num_labels=probs.shape[1], thresholds=thresholds)


def curves(probs, targs):
    "Precision and recall at every threshold, from the counts."
    every = confusion_at_thresholds(probs, targs)
    return [(c.score('precision'), c.score('recall'), c.thresh) for c in every]


def ways(size, probs, targs):
    "Who is timed at a size, and on what. The library's own calls get what fastai's `get_preds` gives: tensors of float32."
    import torch

    p, t, whole = torch.from_numpy(probs), torch.from_numpy(targs).float(), torch.from_numpy(targs).long()
    found = {
        'counts of each label': lambda: sum(1 for _ in confusion_at_thresholds(p, t)),
        'counts of all (micro)': lambda: next(confusion_at_thresholds(p.reshape(-1, 1), t.reshape(-1, 1))),
        'curves of each label': lambda: curves(p, t),
        'table, macro, 1001 thresholds': lambda: sweep_thresholds(p, t, 1001, average='macro'),
        'the loop': lambda: the_loop(p, t),
        'scikit-learn': lambda: by_sklearn(probs, targs),
        'torchmetrics, exact': lambda: by_torchmetrics(p, whole),
    }
    if size != 'large':  # where it would have seventeen million rows, and is refused unless asked for
        found['table, micro, exact'] = lambda: sweep_thresholds(p, t)
    if size == 'middle':  # at the largest it asks for more memory than most machines have
        found['torchmetrics, binned'] = lambda: by_torchmetrics(p, whole, N_BINS)
    return found


def timed(call):
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def medians(calls, repeats):
    "Median seconds of each, in turns so that whatever else the machine does hits all alike."
    turns = [[timed(call) for call in calls.values()] for _ in range(repeats)]
    return {name: statistics.median(times) for name, times in zip(calls, zip(*turns, strict=True), strict=True)}


def check_agreement():
    "All of them say the same, or none of the times mean anything."
    import torch

    probs, targs = make_input(*SIZES['small'])
    p, t = torch.from_numpy(probs), torch.from_numpy(targs)
    table = sweep_thresholds(probs, targs, torch.linspace(0.05, 0.95, 29))
    np.testing.assert_allclose(table.accuracy, the_loop(p, t.float()), atol=1e-6)
    theirs = by_sklearn(probs, targs), zip(*by_torchmetrics(p, t.long()), strict=True)
    for ours, *others in zip(curves(probs, targs), *theirs, strict=True):
        for precision, recall, thresh in others:  # on at or above theirs is on above ours, one step below
            np.testing.assert_array_equal(thresh, ours[2][1:])
            np.testing.assert_allclose(precision[:-1], ours[0][:-1], atol=1e-6)
            np.testing.assert_allclose(recall[:-1], ours[1][:-1], atol=1e-6)


def measure_times(threads):
    "Rows of the table at each size, by so many threads of torch (numpy has one)."
    import torch

    torch.set_num_threads(threads)
    rows = []
    for size, (n_items, n_labels) in SIZES.items():
        medians(ways(size, *make_input(1000, n_labels)), 1)  # warms them up
        seconds = medians(ways(size, *make_input(n_items, n_labels)), REPEATS[size])
        rows += [{'threads': threads, 'size': f'{n_items}x{n_labels}', 'what': name, 'seconds': s} for name, s in seconds.items()]
    return rows


def ratios(rows):
    "Each comparison with its bound."
    seconds = {(row['threads'], row['size'], row['what']): row['seconds'] for row in rows}
    found = []
    for threads in sorted({row['threads'] for row in rows}):
        for theirs, ours, sizes, bound in BOUNDS:
            for size in ('x'.join(map(str, SIZES[size])) for size in sizes):
                ratio = seconds[threads, size, theirs] / seconds[threads, size, ours]
                found.append({'threads': threads, 'size': size, 'what': f'{theirs} / {ours}', 'ratio': ratio, 'at_least': bound})
    return found


def exponents():
    "How the cost grows: the slope of log seconds over log rows."
    calls = {
        'counts of each label': lambda p, t: sum(1 for _ in confusion_at_thresholds(p, t)),
        'choosing': lambda p, t: tune_thresholds(p, t),
    }
    slopes = {}
    for name, call in calls.items():
        seconds = []
        for n_items in GROWTH:
            bound = partial(call, *make_input(n_items, 17))
            seconds.append(statistics.median(timed(bound) for _ in range(3)))
        slopes[name] = {'exponent': np.polyfit(np.log(GROWTH), np.log(seconds), 1)[0], 'seconds': dict(zip(GROWTH, seconds, strict=True))}
    return slopes


# ---- memory


CHOICES = {
    'one per label': lambda p, t: tune_thresholds(p, t),
    'one for all, macro': lambda p, t: tune_thresholds(p, t, per_label=False),
    'one for all, micro': lambda p, t: tune_thresholds(p, t, per_label=False, average='micro'),
}


def peak():
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == 'darwin' else 1024)


def resident():
    import psutil

    return psutil.Process().memory_info().rss


def child_input():
    "The largest input into files: made where it is measured, it would raise the peak before the measurement begins."
    for what, array in zip(('probs', 'targs'), make_input(*SIZES['large']), strict=True):
        np.save(Path(os.environ['BENCHMARK_FOLDER']) / f'{what}.npy', array)


def child_choice(name):
    "In a fresh process: how many bytes one choice takes on top of its input."
    CHOICES[name](*make_input(1000, 17))
    probs, targs = (np.load(Path(os.environ['BENCHMARK_FOLDER']) / f'{what}.npy') for what in ('probs', 'targs'))
    before, began = resident(), time.perf_counter()
    CHOICES[name](probs, targs)
    return {'seconds': time.perf_counter() - began, 'extra': peak() - before, 'input': probs.nbytes + targs.nbytes}


def child_stream():
    "In a fresh process: ten million rows, made a batch at a time; the peak after a tenth of them and after all."
    histogram, began = StreamingSweep(17), time.perf_counter()
    before, peaks, size = resident(), [], 100_000
    for i in range(STREAM // size):
        histogram.update(*make_input(size, 17, seed=i))
        if (i + 1) * size in (STREAM // 10, STREAM):
            peaks.append(peak() - before)
    table = histogram.compute()
    assert table.tp.iloc[0] + table.fp.iloc[0] == STREAM * 17, 'not every probability was counted'
    return {'seconds': time.perf_counter() - began, 'peaks': peaks}


CHILDREN = {'input': child_input, 'stream': child_stream, **{name: partial(child_choice, name) for name in CHOICES}}


def measure_memory():
    "Each choice and the stream, in a process of its own. Comes first: a child's peak begins at its parent's."
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in CHILDREN:
            command = [sys.executable, __file__, '--child', name]
            env = {**os.environ, 'BENCHMARK_FOLDER': folder}
            found[name] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True, env=env).stdout)
    return {name: row for name, row in found.items() if row}


# ---- what is said


def machine():
    "Where this was measured."
    import sklearn
    import torch
    import torchmetrics

    cpu = Path('/proc/cpuinfo')
    models = [line.split(':')[1].strip() for line in cpu.read_text().splitlines() if line.startswith('model name')] if cpu.exists() else []
    name = (models or [platform.processor() or platform.machine()])[0]
    modules = {'numpy': np, 'torch': torch, 'scikit-learn': sklearn, 'torchmetrics': torchmetrics}
    versions = (f'{what} {module.__version__.split("+")[0]}' for what, module in modules.items())
    return ', '.join([f'{name}, {os.cpu_count()} cores', *versions])


def say(result):
    "The tables, and whether every bound holds."
    print(result['machine'])
    for row in result['times']:
        print('{threads} thread(s)  {size:<11} {what:<30} {seconds:9.4f} s'.format(**row))
    holds = True
    for row in result['ratios']:
        holds &= row['ratio'] >= row['at_least']
        print('{threads} thread(s)  {size:<11} {what:<45} {ratio:6.2f} (at least {at_least})'.format(**row))
    for name, slope in result['growth'].items():
        print(f'{name}: seconds grow as N^{slope["exponent"]:.2f}')
    memory = dict(result['memory'])
    first, last = memory.pop('stream')['peaks']
    for name, row in memory.items():
        ratio = row['extra'] / row['input']
        holds &= ratio <= AT_MOST_MEMORY
        print(f'choosing {name}: {row["seconds"]:.1f} s, extra memory {ratio:.2f} times the input (at most {AT_MOST_MEMORY})')
    holds &= last <= (1 + AT_MOST_STREAM) * first
    seconds = result['memory']['stream']['seconds']
    print(f'stream of {STREAM:,} rows, {seconds:.0f} s; peak {first / 1e6:.0f} MB after a tenth, {last / 1e6:.0f} MB at the end')
    return holds


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--threads', type=int, nargs='+', default=[1, 2], help="torch's, one run of the times for each")
    parser.add_argument('--child', choices=CHILDREN, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        return print(json.dumps(CHILDREN[args.child]()))
    memory = measure_memory()
    warnings.filterwarnings('ignore')
    check_agreement()
    times = [row for threads in args.threads for row in measure_times(threads)]
    result = {'machine': machine(), 'times': times, 'ratios': ratios(times), 'growth': exponents(), 'memory': memory}
    holds = say(result)
    write_atomically(Path(__file__).with_suffix('.json'), (json.dumps(result, indent=1) + '\n').encode())
    sys.exit(not holds)


if __name__ == '__main__':
    main()
