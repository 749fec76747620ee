"""Time and weigh prediction from a bundle beside fastai's, in one run: one image, a folder, a cold start; and what smaller variants cost.

`python benchmarks/inference.py` takes about five minutes on two idle cores, writes `inference.json` beside this file and exits with 1 when
a bound is broken. The ways take turns, so that whatever else the machine does hits all alike. `MULTILABEL_NB_DATA` chooses the data.
"""

import argparse
import json
import os
import platform
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import product
from pathlib import Path

SIZE, MEAN, STD, SEED, THRESH = 256, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), 42, 0.5
ENGINES = ('onnx', 'torch')
AT_LEAST = {  # how many times as fast as fastai
    'one image, onnx': 3.0,
    'one image, torch': 1.5,
    'a thousand, onnx': 2.5,
    'cold start, onnx': 20.0,
}
AT_MOST = {'cold start of onnx in seconds': 1.0, 'largest difference of a probability': 1e-4, 'label sets that differ': 0}


# --- what is measured on ----------------------------------------------------------------------------------------------


def trained(folder, size=SIZE):
    "What `train` made in this folder, now or in an earlier run."
    kept = Path(folder) / 'trained.json'
    if not kept.exists():
        kept.write_text(json.dumps(train(folder, size)))
    return json.loads(kept.read_text())


def train(folder, size):
    "A probe behind EfficientNet-Lite0, saved as fastai's pickle and as a bundle; what the other steps need, as a dictionary."
    import torch

    from multilabel_nb.bundle import save_bundle
    from multilabel_nb.datasets import multilabel_dataloaders, multilabel_datasets
    from multilabel_nb.readers import read_labels
    from multilabel_nb.sources import data_name, planet_sample
    from multilabel_nb.splits import random_split
    from multilabel_nb.tables import build_vocab, drop_rare_labels
    from multilabel_nb.training import multilabel_learner, train_probe

    src = planet_sample()
    df, _ = drop_rare_labels(read_labels(src / 'labels.csv', verbose=False), min_count=10)
    splits = random_split(len(df), valid_pct=0.2, seed=SEED)
    vocab = build_vocab(df, splits[0])
    dsets = multilabel_datasets(df, src / 'train', vocab, splits)
    dls = multilabel_dataloaders(dsets, size=size, mean=MEAN, std=STD, augment=False, device=torch.device('cpu'))
    learn = multilabel_learner(dls, model=train_probe(dls), thresh=THRESH, path=folder)
    learn.export('learner.pkl')
    save_bundle(Path(folder) / 'bundle', learn.model, vocab, size, MEAN, STD, thresh=THRESH)
    files = [str(src / 'train' / f'{name}.jpg') for name in df.image_name]
    train_side, valid_side = ({'files': [files[i] for i in rows], 'labels': df.labels.iloc[rows].tolist()} for rows in splits)
    everything = sorted(map(str, (src / 'train').glob('*.jpg')))
    return {'data': data_name(src), 'vocab': vocab, 'files': everything, 'train': train_side, 'valid': valid_side}


def fastai_learner(folder):
    "From the pickle, as a fastai user deploys it."
    import warnings

    import multilabel_nb.training  # noqa: F401  the classes that the pickle names; silences a warning of fastai's import

    warnings.simplefilter('ignore')
    from fastai.learner import load_learner

    return load_learner(Path(folder) / 'learner.pkl', cpu=True)


def predictor(folder, engine):
    from multilabel_nb.predictor import Predictor

    return Predictor(Path(folder) / 'bundle', engine=engine)


def fastai_probs(learn, files, bs, workers):
    dl = learn.dls.test_dl(files, bs=bs, num_workers=workers)
    with learn.no_bar(), learn.no_logging():
        return learn.get_preds(dl=dl)[0].numpy()


# --- one image, and a thousand ----------------------------------------------------------------------------------------


def clocked(work):
    "Seconds by the wall and by this process's share of the processors."
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def one_image(learn, predictors, files):
    "Median milliseconds of a prediction, each way on the same images, ten at a time in turns."
    ways = {'fastai': learn.predict, **{engine: p.predict for engine, p in predictors.items()}}
    times = {way: [] for way in ways}
    with learn.no_bar(), learn.no_logging():
        for file in files[:3]:
            for predict in ways.values():
                predict(file)
        for start in range(3, len(files), 10):
            for way, predict in ways.items():
                times[way] += [clocked(lambda f=file, go=predict: go(f)) for file in files[start : start + 10]]
    medians = {way: [statistics.median(column) * 1e3 for column in zip(*pairs, strict=True)] for way, pairs in times.items()}
    return {way: {'ms': wall, 'cpu_ms': cpu} for way, (wall, cpu) in medians.items()}


def best_fastai(learn, files):
    "Batch size and workers with which `get_preds` is fastest on some of the images."
    grid = {f'{bs} a batch, {workers} workers': (bs, workers) for bs, workers in product((4, 16, 64), (0, 2))}
    seconds = {name: clocked(lambda s=setting: fastai_probs(learn, files, *s))[0] for name, setting in grid.items()}
    best = min(seconds, key=seconds.get)
    return grid[best], {name: len(files) / s for name, s in seconds.items()}


def a_folder(learn, predictors, files, trial):
    "Images a second of each way over all files, in alternating halves."
    setting, grid = best_fastai(learn, files[:trial])
    ways = {'fastai': lambda part: fastai_probs(learn, part, *setting), **{engine: p.predict_many for engine, p in predictors.items()}}
    seconds = dict.fromkeys(ways, 0.0)
    for way in ways.values():
        way(files[:16])
    for part in (files[::2], files[1::2]):
        for way, work in ways.items():
            seconds[way] += clocked(lambda p=part, go=work: go(p))[0]
    return {
        'images': len(files),
        'fastai_at_its_best': dict(zip(('bs', 'workers'), setting, strict=True)),
        'fastai_grid_images_per_second': grid,
        'images_per_second': {way: len(files) / s for way, s in seconds.items()},
    }


def agreement(learn, predictors, files, others):
    "How far the engines are from fastai, on images of the training's kind and on others of many sizes (resized on the way)."
    import numpy as np

    found = {}
    for what, some in (('the same kind', files), ('many sizes', others)):
        expected = fastai_probs(learn, some, 16, 0)
        sets = [set(np.flatnonzero(row > THRESH)) for row in expected]
        for engine, p in predictors.items():
            frame = p.predict_many(some)
            probs = frame.filter(like='prob_').to_numpy()
            labels = [{p.vocab.index(x) for x in row} for row in frame.labels]
            differing = sum(a != b for a, b in zip(sets, labels, strict=True))
            found[f'{engine}, {what}'] = {
                'images': len(some),
                'largest_difference': float(abs(probs - expected).max()),
                'label_sets_that_differ': differing,
            }
    return found


# --- a new process ----------------------------------------------------------------------------------------------------


def peak_mib():
    "The highest memory of this process. On Linux from /proc, since a child's `ru_maxrss` begins at its parent's."
    status = Path('/proc/self/status')
    if status.exists():
        return int(re.search(r'VmHWM:\s+(\d+) kB', status.read_text())[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == 'darwin' else 2**10)


def child(way, task, folder):
    "In a fresh process: from the first import to the first answer, or through the folder; seconds and the highest memory."
    began = time.perf_counter()
    facts = json.loads((Path(folder) / 'facts.json').read_text())
    if way == 'fastai':
        learn = fastai_learner(folder)
        with learn.no_bar(), learn.no_logging():
            answer = learn.predict(facts['files'][0])
        more = lambda: fastai_probs(learn, facts['files'], facts['bs'], 0)  # noqa: E731  in this process, to be weighed whole
    else:
        p = predictor(folder, way)
        answer = p.predict(facts['files'][0])
        more = lambda: p.predict_many(facts['files'])  # noqa: E731
    seconds = time.perf_counter() - began
    assert answer
    if task == 'folder':
        more()
    print(json.dumps({'seconds': seconds, 'peak_mib': peak_mib(), 'heavy': sorted({'torch', 'fastai', 'pandas'} & set(sys.modules))}))


def in_new_process(way, task, folder):
    began = time.perf_counter()
    command = [sys.executable, __file__, '--child', way, '--task', task, '--folder', str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return {**json.loads(done.stdout.splitlines()[-1]), 'with_interpreter': time.perf_counter() - began}


def cold_starts(folder, rounds):
    "Median seconds of a new process's first answer, and the memory it took; the first round, which fills the disk's cache, does not count."
    ways = ('fastai', *ENGINES)
    runs = {way: [] for way in ways}
    for _ in range(rounds + 1):
        for way in ways:
            runs[way].append(in_new_process(way, 'one', folder))
    table = {}
    for way, found in runs.items():
        table[way] = {key: statistics.median(run[key] for run in found[1:]) for key in ('seconds', 'with_interpreter', 'peak_mib')}
        table[way]['fastest'], table[way]['imports'] = min(run['seconds'] for run in found), found[0]['heavy']
    return table


# --- smaller variants -------------------------------------------------------------------------------------------------


def prepared(files, size=SIZE):
    "Images as the network takes them."
    import numpy as np

    from multilabel_nb.images import open_rgb
    from multilabel_nb.inference import preprocess

    return np.stack([preprocess(open_rgb(file), size, MEAN, STD) for file in files])


def half(model, path, calibration):
    "Weights and arithmetic in 16 bits, input and output in 32."
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    onnx.save(convert_float_to_float16(onnx.load(model), keep_io_types=True), path)


def eighth(model, path, calibration):
    "Weights and activations in 8 bits, their ranges learnt from training images."
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        images = iter(calibration)

        def get_next(self):
            image = next(self.images, None)
            return None if image is None else {'images': image[None]}

    cleaned = f'{path}.cleaned'
    quant_pre_process(str(model), cleaned, skip_symbolic_shape=True)
    quantize_static(
        cleaned,
        str(path),
        Reader(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    os.remove(cleaned)


def variants(folder, facts, n_calibration):
    "Size, milliseconds an image and mean average precision on the held-out rows of fp32, fp16 and int8."
    import numpy as np
    import onnxruntime as ort

    from multilabel_nb.reports import score_report
    from multilabel_nb.tables import one_hot

    paths = {name: Path(folder) / f'{name}.onnx' for name in ('fp32', 'fp16', 'int8')}
    shutil.copy(Path(folder) / 'bundle' / 'model.onnx', paths['fp32'])
    for make, name in ((half, 'fp16'), (eighth, 'int8')):
        make(paths['fp32'], paths[name], prepared(facts['train']['files'][:n_calibration]))
    options = ort.SessionOptions()
    options.log_severity_level = 3
    sessions = {name: ort.InferenceSession(path, options, providers=['CPUExecutionProvider']) for name, path in paths.items()}
    logits, times = {name: [] for name in paths}, {name: [] for name in paths}
    for image in prepared(facts['valid']['files']):
        for name, session in sessions.items():
            began = time.perf_counter()
            logits[name].append(session.run(None, {'images': image[None]})[0])
            times[name].append(time.perf_counter() - began)
    targs, train_targs = (one_hot(facts[side]['labels'], facts['vocab']) for side in ('valid', 'train'))
    table = {}
    for name in paths:
        probs = 1 / (1 + np.exp(-np.concatenate(logits[name]).astype(np.float64)))
        report = score_report(probs, targs, train_targs, THRESH)
        scores = {'mAP': report.mAP['model'], 'accuracy_multi': report.accuracy_multi['model']}
        table[name] = {'mb': paths[name].stat().st_size / 1e6, 'ms': statistics.median(times[name]) * 1e3, **scores}
    baselines = {who: {'mAP': report.mAP[who], 'accuracy_multi': report.accuracy_multi[who]} for who in ('all-negative', 'constant')}
    return {'held_out': len(targs), **table, **baselines}


# --- all of it --------------------------------------------------------------------------------------------------------


def machine():
    "Where this was measured, and how busy it was."
    from importlib.metadata import version

    cpu = Path('/proc/cpuinfo')
    models = [line.split(':')[1].strip() for line in cpu.read_text().splitlines() if line.startswith('model name')] if cpu.exists() else []
    libraries = {name: version(name) for name in ('fastai', 'torch', 'onnxruntime', 'numpy', 'pillow')}
    load = os.getloadavg()[0] if hasattr(os, 'getloadavg') else None
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
    name = (models or [platform.processor() or platform.machine()])[0]
    return {'cpu': name, 'cores': cores, 'load_average': load, 'python': platform.python_version(), **libraries}


def judge(result):
    "Every ratio and number that has a bound, with it."
    one, many, cold = result['one_image'], result['folder']['images_per_second'], result['cold_start']
    ratios = {f'one image, {e}': one['fastai']['ms'] / one[e]['ms'] for e in ENGINES}
    ratios |= {f'a thousand, {e}': many[e] / many['fastai'] for e in ENGINES}
    ratios |= {f'cold start, {e}': cold['fastai']['seconds'] / cold[e]['seconds'] for e in ENGINES}
    rows = [{'what': name, 'value': ratio, 'at_least': AT_LEAST.get(name)} for name, ratio in ratios.items()]
    agreed = result['agreement'].values()
    values = cold['onnx']['seconds'], max(x['largest_difference'] for x in agreed), sum(x['label_sets_that_differ'] for x in agreed)
    rows += [{'what': name, 'value': value, 'at_most': most} for (name, most), value in zip(AT_MOST.items(), values, strict=True)]
    for row in rows:
        low, high = row.get('at_least'), row.get('at_most')
        row['kept'] = (low is None or row['value'] >= low) and (high is None or row['value'] <= high)
    return rows


def measure(args, folder):
    "The whole run."
    from multilabel_nb.sources import pascal_2007

    busy = machine()
    facts = trained(folder)
    learn, predictors = fastai_learner(folder), {engine: predictor(folder, engine) for engine in ENGINES}
    src = pascal_2007()
    others = sorted(map(str, (src / 'train').glob('*.jpg')))[: args.agree // 5]
    result = {'machine': busy, 'data': facts['data'], 'size': SIZE, 'labels': len(facts['vocab'])}
    result['one_image'] = one_image(learn, predictors, facts['files'][: args.repeats + 3])
    result['folder'] = a_folder(learn, predictors, facts['files'][: args.images], min(96, args.images))
    result['agreement'] = agreement(learn, predictors, facts['files'][: args.agree], others)
    facts['bs'], facts['files'] = result['folder']['fastai_at_its_best']['bs'], facts['files'][: args.images // 4]
    (Path(folder) / 'facts.json').write_text(json.dumps(facts))
    del learn, predictors
    result['cold_start'] = cold_starts(folder, args.rounds)
    result['folder']['peak_mib'] = {way: in_new_process(way, 'folder', folder)['peak_mib'] for way in ('fastai', *ENGINES)}
    result['variants'] = variants(folder, facts, 64)
    return {**result, 'judged': judge(result)}


def show(result):
    for name in ('one_image', 'folder', 'cold_start', 'agreement', 'variants'):
        print(f'\n{name}')
        for key, value in result[name].items():
            shown = {k: round(v, 4) if isinstance(v, float) else v for k, v in value.items()} if isinstance(value, dict) else value
            print(f'  {key:<28} {shown}')
    print()
    for row in result['judged']:
        bound = f'(at least {row["at_least"]})' if row.get('at_least') else f'(at most {row["at_most"]})' if 'at_most' in row else ''
        print(f'{"ok" if row["kept"] else "MISSED":<7} {row["what"]:<38} {row["value"]:9.4g} {bound}')


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--images', type=int, default=1000, help='in the folder')
    parser.add_argument('--repeats', type=int, default=40, help='single images')
    parser.add_argument('--rounds', type=int, default=3, help='new processes of each way, besides the first')
    parser.add_argument('--agree', type=int, default=500, help='images on which the engines are compared with fastai')
    parser.add_argument('--out', type=Path, default=Path(__file__).with_suffix('.json'))
    parser.add_argument('--folder', help='an empty folder to keep the trained network in, or one that an earlier run has filled')
    for hidden in ('--child', '--task'):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        return child(args.child, args.task, args.folder)
    with tempfile.TemporaryDirectory() as scratch:
        result = measure(args, args.folder or scratch)
    show(result)
    from multilabel_nb.files import write_atomically  # here: children measure what their own imports cost

    write_atomically(args.out, (json.dumps(result, indent=1) + '\n').encode())
    sys.exit(not all(row['kept'] for row in result['judged']))


if __name__ == '__main__':
    main()
