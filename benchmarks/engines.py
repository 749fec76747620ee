"""Time a bundle's network in other engines, the parts of one prediction, and JPEG decoding at reduced size, in one run.

`python benchmarks/engines.py` takes ten minutes on two idle cores and writes `engines.json` beside this file. OpenVINO takes part where it
is installed (`pip install openvino`); `torch.compile` needs a C++ compiler. All ways take turns. `MULTILABEL_NB_DATA` chooses the data.
"""

import argparse
import json
import statistics
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from inference import MEAN, STD, THRESH, clocked, eighth, machine, predictor, prepared, trained

from multilabel_nb.files import write_atomically

BATCHES = {'one image': 1, 'eight': 8}


def torch_network(folder):
    "What the engine torch of the bundle runs, and the arrangement of memory that it runs it in."
    import torch

    network = predictor(folder, 'torch').probs.network
    channels_last = lambda images: torch.from_numpy(images).contiguous(memory_format=torch.channels_last)  # noqa: E731
    return network, channels_last


def torch_ways(folder):
    import torch

    network, as_tensor = torch_network(folder)
    compiled = torch.compile(network, dynamic=False)

    def run(net):
        def logits(images):
            with torch.inference_mode():
                return net(as_tensor(images)).numpy()

        return logits

    return {'torch': run(network), 'torch.compile': run(compiled)}


def onnx_way(path):
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
    return lambda images: session.run(None, {'images': images})[0]


def openvino_ways(path, shapes):
    import openvino

    core, ways = openvino.Core(), {}
    for bits in ('f32', 'bf16'):
        compiled = {}
        for shape in shapes:
            model = core.read_model(path)
            model.reshape({'images': shape})
            compiled[shape] = core.compile_model(model, 'CPU', {'PERFORMANCE_HINT': 'LATENCY', 'INFERENCE_PRECISION_HINT': bits})
        ways[f'OpenVINO, {bits}'] = lambda images, nets=compiled: nets[images.shape](images)[0]
    return ways


def in_turns(ways, items, rounds):
    "Median milliseconds of each way, one item each round."
    times, n = {name: [] for name in ways}, len(items)
    for i in range(rounds + 2):
        for name, way in ways.items():
            time.sleep(0.01)  # threads of torch and OpenVINO wait by spinning
            times[name].append(clocked(lambda go=way, x=items[i % n]: go(x))[0])
    return {name: statistics.median(t[2:]) * 1e3 for name, t in times.items()}


def engines(folder, facts, size, rounds):
    "Milliseconds an image of each engine, for one image and for eight at once, and how far its logits are from those of torch."
    images = prepared(facts['valid']['files'][:64], size)
    model, small = str(Path(folder) / 'bundle' / 'model.onnx'), str(Path(folder) / 'int8.onnx')
    eighth(model, small, prepared(facts['train']['files'][:64], size))
    ways = torch_ways(folder) | {'onnxruntime': onnx_way(model), 'onnxruntime, int8': onnx_way(small)}
    if find_spec('openvino'):
        ways |= openvino_ways(model, [(n, 3, size, size) for n in BATCHES.values()])
    table = {name: {} for name in ways}
    for what, n in BATCHES.items():
        parts = [images[start : start + n] for start in range(0, len(images) - n + 1, n)]
        for name, ms in in_turns(ways, parts, rounds).items():
            table[name][f'ms, {what}'] = ms / n
    expected = np.concatenate([ways['torch'](images[i : i + 8]) for i in range(0, 64, 8)])
    for name, way in ways.items():
        found = np.concatenate([way(images[i : i + 8]) for i in range(0, 64, 8)])
        table[name]['largest difference of a logit'] = float(abs(found - expected).max())
    return table


def parts(folder, facts, size, rounds):
    "Milliseconds an image of each part on one thread, of the predictor for one image, and of a folder (with all threads)."
    from multilabel_nb.images import open_rgb
    from multilabel_nb.inference import preprocess

    files = facts['valid']['files']
    decoded = [open_rgb(file) for file in files]
    both = predictor(folder, 'onnx')
    ways = {
        'decode': lambda i: open_rgb(files[i]),
        'resize and normalise': lambda i: preprocess(decoded[i], size, MEAN, STD),
        'predict, one image': lambda i: both.predict(files[i]),
    }
    found = in_turns(ways, range(len(files)), rounds)
    runs = [clocked(lambda: both.predict_many(files))[0] / len(files) * 1e3 for _ in range(5)]
    return found | {'predict_many': statistics.median(runs)}


def judged(table, parts, cores):
    """Prediction against decoding and the network alone, with the fastest engine in 32 bits.

    In a folder the threads share all the work, so decoding counts by the core.
    """
    whole = {name: row for name, row in table.items() if row['largest difference of a logit'] < 1e-3}
    one, many = (min(row[f'ms, {what}'] for row in whole.values()) for what in BATCHES)
    return {
        'one image': parts['predict, one image'] / (parts['decode'] + one),
        'a folder': parts['predict_many'] / (parts['decode'] / cores + many),
    }


def photographs(folder, facts, n, side=3000):
    "The tiles as large JPEG files, decoded whole and at reduced size: images a second, probabilities, labels, mAP."
    from PIL import Image

    from multilabel_nb.images import open_rgb
    from multilabel_nb.predictor import Predictor
    from multilabel_nb.reports import score_report
    from multilabel_nb.tables import one_hot

    files, targs = facts['valid']['files'][:n], one_hot(facts['valid']['labels'][:n], facts['vocab'])
    large = Path(folder) / 'large'
    large.mkdir(exist_ok=True)
    for file in files:
        open_rgb(file).resize((side, side * 3 // 4), Image.BICUBIC).save(large / Path(file).name, quality=90)
    paths = [large / Path(file).name for file in files]
    ways = {name: Predictor(Path(folder) / 'bundle', 'onnx', draft=name == 'reduced') for name in ('whole', 'reduced')}
    seconds, probs, table = {name: [] for name in ways}, {}, {}
    for _ in range(3):
        for name, predict in ways.items():
            began = time.perf_counter()
            frame = predict.predict_many(paths)
            seconds[name].append(time.perf_counter() - began)
            probs[name] = frame.filter(like='prob_').to_numpy()
    for name in ways:
        report = score_report(probs[name], targs, one_hot(facts['train']['labels'], facts['vocab']), THRESH)
        rows = {'mAP': report.mAP, 'accuracy_multi': report.accuracy_multi}
        table[name] = {'images a second': n / statistics.median(seconds[name]), **{key: x['model'] for key, x in rows.items()}}
    gap = abs(probs['whole'] - probs['reduced'])
    differ = int(((probs['whole'] >= THRESH) != (probs['reduced'] >= THRESH)).sum())
    return table | {'difference': {'mean': float(gap.mean()), 'largest': float(gap.max()), 'decisions': differ, 'of': gap.size}}


def measure(folder, size, args):
    folder = Path(folder) / str(size)
    folder.mkdir(parents=True, exist_ok=True)
    facts = trained(folder, size)
    table, of = engines(folder, facts, size, args.rounds), parts(folder, facts, size, args.rounds)
    ratios = judged(table, of, machine()['cores'])
    return {'data': facts['data'], 'engines': table, 'parts': of, 'ratios': ratios, 'photographs': photographs(folder, facts, args.large)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--sizes', type=int, nargs='+', default=[256, 128])
    parser.add_argument('--rounds', type=int, default=60)
    parser.add_argument('--large', type=int, default=100, help='large JPEG files')
    parser.add_argument('--out', type=Path, default=Path(__file__).with_suffix('.json'))
    args = parser.parse_args()
    busy = machine()
    with tempfile.TemporaryDirectory() as scratch:
        found = {f'{size} px': measure(scratch, size, args) for size in args.sizes}
    result = {'machine': busy, **found}
    write_atomically(args.out, (json.dumps(result, indent=1) + '\n').encode())
    print(json.dumps(result, indent=1))


if __name__ == '__main__':
    main()
