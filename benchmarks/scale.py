"""Bulk prediction by one process, by two that share the list, and on Ray, in one run; and training on one process and on two.

`python benchmarks/scale.py` takes about eight minutes on two idle cores, writes `scale.json` beside this file and exits with 1 when a bound
is broken. The ways take turns, each in a process of its own, so that whatever else the machine does hits all alike. All but one of them
have two threads for the network. `MULTILABEL_NB_DATA` chooses the data: its tiles, under 4,000 names.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
from inference import machine, trained

from multilabel_nb.files import write_atomically
from multilabel_nb.predictor import Predictor

TILES, SIZE, SEEDS = 4000, 128, 5
COMMAND = [sys.executable, '-m', 'multilabel_nb.command', '--csv', '--bs', '8']


# --- the parts of a prediction ----------------------------------------------------------------------------------------


def per_second(work, items, repeats=5):
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        for item in items:
            work(item)
        seconds.append(time.perf_counter() - began)
    return len(items) / statistics.median(seconds)


def parts(bundle, files):
    "Images a second of each part, on one core; and of a predictor with one thread."
    import onnxruntime

    from multilabel_nb.images import open_rgb
    from multilabel_nb.inference import preprocess

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(bundle / 'model.onnx', options)
    name, prepare = session.get_inputs()[0].name, partial(preprocess, size=SIZE, mean=[0.5] * 3, std=[0.5] * 3)
    imgs = [open_rgb(file) for file in files[:200]]
    arrays = [prepare(img)[None] for img in imgs]
    rates = {
        'open and decode': per_second(open_rgb, files[:200]),
        'resize and normalise': per_second(prepare, imgs),
        'network': per_second(lambda x: session.run(None, {name: x}), arrays),
    }
    return {**rates, 'all of them, the limit': 1 / sum(1 / rate for rate in rates.values())}


# --- ways to predict ----------------------------------------------------------------------------------------------------


def one_process(bundle, files, out, threads):
    "Seconds to start, seconds to predict."
    began = time.perf_counter()
    predictor = Predictor(bundle, threads=threads)
    predictor.predict_many(files[:8])
    ready = time.perf_counter()
    predictor.predict_many(files, workers=threads).to_parquet(out)
    return ready - began, time.perf_counter() - ready


def on_ray(bundle, files, out, threads):
    "The same; a small table shows how long the workers take to start."
    from multilabel_nb.scale import predict_table, start_ray

    began = time.perf_counter()
    start_ray(threads)
    predict_table(bundle, files[:8], out.with_suffix('.small'), workers=threads)
    ready = time.perf_counter()
    predict_table(bundle, files, out, workers=threads)
    return ready - began, time.perf_counter() - ready


def by_shards(bundle, files, out, threads):
    "A process for each shard; their start is in the seconds."
    began, listing = time.perf_counter(), out.with_suffix('.txt')
    listing.write_text('\n'.join(map(str, files)))
    options = ['--threads', '1', '--workers', '1']
    runs = []
    for i in range(1, threads + 1):
        with open(listing) as stdin, open(out.with_suffix(f'.{i}.csv'), 'w') as stdout:
            shard = [*COMMAND, *options, '--shard', f'{i}/{threads}', str(bundle), '-']
            runs.append(subprocess.Popen(shard, stdin=stdin, stdout=stdout))
    assert not any(run.wait() for run in runs)
    return 0, time.perf_counter() - began


WAYS = {
    'one process, one thread': (one_process, 1),
    'one process': (one_process, 2),
    'two processes, a shard each': (by_shards, 2),
    'Ray, two workers': (on_ray, 2),
}


def memory():
    "Bytes that this process and its children hold, shared pages once for each."
    import psutil

    me = psutil.Process()
    return sum(p.memory_info().rss for p in [me, *me.children(recursive=True)])


def measure_way(way, bundle, files, out):
    "Seconds and the most memory, looked at ten times a second; as a line of JSON."
    import threading

    function, threads = WAYS[way]
    most, done = [memory()], threading.Event()

    def watch():
        while not done.wait(0.1):
            try:
                most.append(memory())
            except Exception:  # a child has just ended
                continue

    watcher = threading.Thread(target=watch)
    watcher.start()
    start, seconds = function(bundle, files, out, threads)
    done.set()
    watcher.join()
    print(json.dumps({'start': start, 'seconds': seconds, 'memory in MB': max(most) / 1e6}))


def run_way(way, tmp, turn):
    "In a process of its own."
    arguments = [sys.executable, __file__, '--way', way, '--in', str(tmp), '--turn', str(turn)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def bulk(tmp, repeats):
    "Medians of each way, in turns."
    found = {way: [] for way in WAYS}
    for turn in range(repeats):
        for way in WAYS:
            found[way].append(run_way(way, tmp, turn))
    table = {way: {name: statistics.median(row[name] for row in rows) for name in rows[0]} for way, rows in found.items()}
    for row in table.values():
        row['images a second'] = TILES / row['seconds']
    ratios = [a['seconds'] / b['seconds'] for a, b in zip(found['one process'], found['Ray, two workers'], strict=True)]
    return table, statistics.median(ratios)


def compared(tmp):
    "Largest difference of a probability, and label sets that differ, between one process and Ray."
    import pandas as pd

    one, ray = (pd.read_parquet(out(tmp, way, 0)).sort_values('image') for way in ('one process', 'Ray, two workers'))
    columns = [name for name in one if name.startswith('prob_')]
    differ = sum(list(a) != list(b) for a, b in zip(one['labels'], ray['labels'], strict=True))
    assert list(one['image']) == list(ray['image'])
    return {'largest difference': float(np.abs(one[columns].to_numpy() - ray[columns].to_numpy()).max()), 'label sets': differ}


def out(tmp, way, turn):
    return tmp / f'{list(WAYS).index(way)}_{turn}.parquet'


# --- training on several processes ------------------------------------------------------------------------------------


def maps_of(files, rows):
    "The last maps of the backbone `(n, F, 4, 4)`."
    import torch

    from multilabel_nb.backbones import load_backbone
    from multilabel_nb.images import open_rgb
    from multilabel_nb.inference import preprocess

    body, found = load_backbone().eval(), []
    with torch.inference_mode():
        for start in range(0, len(rows), 50):
            batch = [preprocess(open_rgb(files[i]), SIZE, [0.5] * 3, [0.5] * 3) for i in rows[start : start + 50]]
            found.append(body(torch.from_numpy(np.stack(batch))))
    return torch.cat(found).clone()


def train_head(x, y, valid_x, seed, epochs=16, bs=128, lr=2e-3):
    "fastai's head, with batch normalisation and dropout, on joint batches; probabilities of all validation rows."
    import torch
    import torch.distributed as dist
    from torch.nn.functional import binary_cross_entropy_with_logits
    from torch.nn.parallel import DistributedDataParallel
    from torch.utils.data import DistributedSampler

    from multilabel_nb.heads import MLPHead
    from multilabel_nb.scale import gather_rows

    torch.manual_seed(seed)
    net = DistributedDataParallel(MLPHead(x.shape[1], y.shape[1]))
    torch.manual_seed(1000 * seed + dist.get_rank())  # dropout differs from process to process
    opt = torch.optim.AdamW(net.parameters(), lr)
    sampler, world = DistributedSampler(x, seed=seed), dist.get_world_size()
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        for rows in torch.tensor(list(sampler)).split(bs // world):
            opt.zero_grad()
            binary_cross_entropy_with_logits(net(x[rows]), y[rows]).backward()
            opt.step()
    with torch.no_grad():
        rows = list(DistributedSampler(valid_x, shuffle=False))
        probs = net.module.eval()(valid_x[rows]).sigmoid()
    return gather_rows(probs, len(valid_x))


def train_rank(tmp):
    "What each process of torchrun does."
    import torch
    import torch.distributed as dist

    from multilabel_nb.metrics import mean_average_precision

    torch.set_num_threads(1)
    dist.init_process_group('gloo')
    x, y, valid_x, valid_y = torch.load(tmp / 'rows.pt')
    began = time.perf_counter()
    scores = [mean_average_precision(train_head(x, y, valid_x, seed), valid_y) for seed in range(SEEDS)]
    if dist.get_rank() == 0:
        print(json.dumps({'mAP': scores, 'seconds': time.perf_counter() - began}), flush=True)
    dist.destroy_process_group()


def training(tmp):
    "mAP of five seeds and seconds, by one process of one thread and by two; the batches are the same rows."
    import torch

    from multilabel_nb.readers import read_labels
    from multilabel_nb.sources import planet_sample
    from multilabel_nb.splits import random_split
    from multilabel_nb.tables import build_vocab, drop_rare_labels, image_files, one_hot

    src = planet_sample()
    df, _ = drop_rare_labels(read_labels(src / 'labels.csv', verbose=False), min_count=10)
    splits, files = random_split(len(df), 0.2, seed=42), image_files(df, src / 'train')
    targs = torch.from_numpy(one_hot(df, build_vocab(df, splits[0]))).float()
    torch.save([part for rows in splits for part in (maps_of(files, rows), targs[rows])], tmp / 'rows.pt')
    found = {}
    for n in (1, 2):
        torchrun = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', str(n)]
        done = subprocess.run([*torchrun, __file__, '--train', '--in', str(tmp)], capture_output=True, text=True, check=True)
        row = json.loads(next(line for line in done.stdout.splitlines() if line.startswith('{"mAP"')))
        found[f'{n} process' + 'es' * (n > 1)] = {
            **{'mAP': [round(score, 4) for score in row['mAP']], 'mean': round(statistics.mean(row['mAP']), 4)},
            **{'std': round(statistics.stdev(row['mAP']), 4), 'seconds': round(row['seconds'], 1)},
        }
    return found


# --- all of it --------------------------------------------------------------------------------------------------------


def prepare(tmp):
    "A bundle, and 4,000 names of the tiles that there are."
    from multilabel_nb.sources import data_name, planet_sample

    facts = trained(tmp, SIZE)
    (tmp / 'tiles').mkdir()
    for i in range(TILES):
        os.symlink(Path(facts['files'][i % len(facts['files'])]).resolve(), tmp / 'tiles' / f'{i:04}.jpg')
    return data_name(planet_sample())


def bounds(result):
    wrong = []
    if result['Ray beside one process']['label sets'] or result['Ray beside one process']['largest difference'] > 1e-6:
        wrong.append('Ray answers differently')
    if result['Ray, as fast as one process'] < 0.5:
        wrong.append('Ray, the start of its workers included, is less than half as fast as one process with as many threads')
    one, two = (result['training'][name] for name in ('1 process', '2 processes'))
    if abs(one['mean'] - two['mean']) > 2 * max(one['std'], two['std']):
        wrong.append('two processes score otherwise than one')
    return wrong


def rounded(x):
    if isinstance(x, dict):
        return {name: rounded(value) for name, value in x.items()}
    return float(f'{x:.3g}') if isinstance(x, float) else x


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--repeats', type=int, default=3)
    parser.add_argument('--out', type=Path, default=Path(__file__).with_suffix('.json'))
    for name, options in {'--way': {'choices': WAYS}, '--in': {'type': Path, 'dest': 'tmp'}, '--turn': {'type': int}}.items():
        parser.add_argument(name, **options, help=argparse.SUPPRESS)
    parser.add_argument('--train', action='store_true', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.train:
        return train_rank(args.tmp)
    if args.way:
        files = sorted(map(str, (args.tmp / 'tiles').iterdir()))
        return measure_way(args.way, args.tmp / 'bundle', files, out(args.tmp, args.way, args.turn))
    with tempfile.TemporaryDirectory() as folder:
        tmp, busy = Path(folder), machine()
        result = {'machine': busy, 'data': prepare(tmp), 'tiles': TILES, 'size': SIZE}
        files = sorted(map(str, (tmp / 'tiles').iterdir()))
        result['parts, images a second on one core'] = parts(tmp / 'bundle', files)
        result['ways'], ratio = bulk(tmp, args.repeats)
        result |= {'Ray, as fast as one process': ratio, 'Ray beside one process': compared(tmp), 'training': training(tmp)}
    result = rounded(result)
    wrong = bounds(result)
    print(json.dumps(result, indent=1) + '\n' + '\n'.join(wrong or ['all bounds hold']))
    write_atomically(args.out, (json.dumps(result, indent=1) + '\n').encode())
    return int(bool(wrong))


if __name__ == '__main__':
    sys.exit(main())
