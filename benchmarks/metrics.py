"""Time and weigh the per-label report beside scikit-learn's `classification_report` + `average_precision_score`, in one run.

`python benchmarks/metrics.py` takes about half a minute at 1,000,000x17 and exits with 1 when a bound is broken. Memory is measured in
fresh processes that have loaded the libraries (warmed up on a small table) and the input: the highest resident size ever reached, less
the resident size just before the call. torch and numpy are both in it, which `tracemalloc` would not promise.
"""

import argparse
import json
import platform
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

N_ITEMS, N_LABELS, THRESH = 1_000_000, 17, 0.5
AT_MOST_TIME, AT_MOST_MEMORY = 0.25, 3.0  # of scikit-learn's time; of the input's size


def make_input(n_items, seed=0):
    "Probabilities (float32) and answers (bool) with a long tail: the first label on nearly every row, the last on one of a thousand."
    rng = np.random.default_rng(seed)
    targs = rng.random((n_items, N_LABELS)) < np.geomspace(0.9, 0.001, N_LABELS)
    logits = 3 * targs - 2 + rng.normal(size=targs.shape)
    return (1 / (1 + np.exp(-logits))).astype(np.float32), targs


def ours(probs, targs):
    "One row a label: precision, recall, F1, average precision, support."
    from multilabel_nb.reports import per_label_report

    return per_label_report(probs, targs, thresh=THRESH)[['precision', 'recall', 'f1', 'average_precision', 'support']].to_numpy()


def theirs(probs, targs):
    "The same table by scikit-learn."
    from sklearn.metrics import average_precision_score, classification_report

    report = classification_report(targs, probs > THRESH, output_dict=True, zero_division=0)
    rows = np.array([list(report[str(j)].values()) for j in range(N_LABELS)])
    return np.column_stack([rows[:, :3], average_precision_score(targs, probs, average=None), rows[:, 3]])


WAYS = {'ours': ours, 'scikit-learn': theirs}


def measure_time(n_items, rounds):
    "The fastest of some rounds of each, taken in turns; both must agree."
    probs, targs = make_input(n_items)
    best, results = dict.fromkeys(WAYS, np.inf), {}
    for way in WAYS.values():
        way(probs[:1000], targs[:1000])
    for _ in range(rounds):
        for name, way in WAYS.items():
            began = time.perf_counter()
            results[name] = way(probs, targs)
            best[name] = min(best[name], time.perf_counter() - began)
    np.testing.assert_allclose(*results.values(), atol=1e-9)
    return best


def peak_memory():
    "The most bytes this process has held. Linux's `ru_maxrss` begins with what the parent held."
    status = Path('/proc/self/status')
    if status.exists():
        return int(re.search(r'VmHWM:\s+(\d+) kB', status.read_text())[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == 'darwin' else 1024)


def child(name, folder):
    "In a fresh process: how many bytes one call takes on top of its input."
    import psutil

    WAYS[name](*make_input(1000))
    probs, targs = (np.load(Path(folder) / f'{what}.npy') for what in ('probs', 'targs'))
    before = psutil.Process().memory_info().rss
    WAYS[name](probs, targs)
    print(json.dumps({'extra': peak_memory() - before, 'input': probs.nbytes + targs.nbytes}))


def measure_memory(n_items):
    "Extra bytes of each way, over the bytes of its input."
    ratios = {}
    with tempfile.TemporaryDirectory() as folder:
        for what, array in zip(('probs', 'targs'), make_input(n_items), strict=True):
            np.save(Path(folder) / f'{what}.npy', array)
        for name in WAYS:
            command = [sys.executable, __file__, '--child', name, '--folder', folder]
            found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            ratios[name] = found['extra'] / found['input']
    return ratios


def machine():
    "Where this was measured."
    import sklearn
    import torch

    cpu = Path('/proc/cpuinfo')
    models = [line.split(':')[1].strip() for line in cpu.read_text().splitlines() if line.startswith('model name')] if cpu.exists() else []
    name = (models or [platform.processor() or platform.machine()])[0]
    versions = f'torch {torch.__version__.split("+")[0]}, numpy {np.__version__}, scikit-learn {sklearn.__version__}'
    return f'{name}, {torch.get_num_threads()} threads, {versions}'


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--items', type=int, default=N_ITEMS)
    parser.add_argument('--rounds', type=int, default=2)
    parser.add_argument('--json', action='store_true', help='print one line of JSON instead of the table')
    parser.add_argument('--child', choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument('--folder', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        return child(args.child, args.folder)
    memory, seconds = measure_memory(args.items), measure_time(args.items, args.rounds)
    time_ratio = seconds['ours'] / seconds['scikit-learn']
    if args.json:
        print(json.dumps({'machine': machine(), 'seconds': seconds, 'time_ratio': time_ratio, 'memory_ratios': memory}))
    else:
        print(f'{machine()}; {args.items}x{N_LABELS}, fastest of {args.rounds}')
        for name in WAYS:
            print(f'{name:<14} {seconds[name]:7.2f} s   extra memory {memory[name]:.2f} times the input')
        print(f'time ratio {time_ratio:.3f} (at most {AT_MOST_TIME}), memory ratio {memory["ours"]:.2f} (at most {AT_MOST_MEMORY})')
    sys.exit(time_ratio > AT_MOST_TIME or memory['ours'] > AT_MOST_MEMORY)


if __name__ == '__main__':
    main()
