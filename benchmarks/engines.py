"""Time the network of a bundle in other engines, the parts of one prediction, and two shortcuts (8 bits, smaller JPEG decoding), in one run.

`python benchmarks/engines.py` takes some minutes on two idle cores and writes `engines.json` beside this file. OpenVINO takes part where it is
installed (`pip install openvino`), `torch.compile` where a C++ compiler is. All ways take turns. `MULTILABEL_NB_DATA` chooses the data.
"""

import argparse
import json
import statistics
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from inference import MEAN, STD, THRESH, clocked, eighth, machine, predictor, trained

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


def prepared(files, size):
    from multilabel_nb.images import open_rgb
    from multilabel_nb.inference import preprocess

    return np.stack([preprocess(open_rgb(file), size, MEAN, STD) for file in files])


def in_turns(ways, items, rounds):
    "Median milliseconds of each way, one item each round."
    times = {name: [] for name in ways}
    for i in range(rounds + 2):
        for name, way in ways.items():
            time.sleep(0.01)  # threads of torch and OpenVINO wait by spinning
            times[name].append(clocked(lambda go=way, x=items[i % len(items)]: go(x))[0])
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
    "Milliseconds an image on one thread of each part, and of the predictor that does all of them."
    from multilabel_nb.images import open_rgb
    from multilabel_nb.inference import preprocess
    from multilabel_nb.predictor import Predictor

    files = facts['valid']['files']
    decoded = [open_rgb(file) for file in files]
    alone = Predictor(Path(folder) / 'bundle', 'onnx', threads=1)
    ready = [preprocess(image, size, MEAN, STD)[None] for image in decoded]
    ways = {
        'decode': lambda i: open_rgb(files[i]),
        'decode at reduced size': lambda i: open_drafted(files[i], size),
        'resize and normalise': lambda i: preprocess(decoded[i], size, MEAN, STD),
        'network': lambda i: alone.probs(ready[i]),
    }
    return in_turns(ways, range(len(files)), rounds)


def open_drafted(file, size):
    "JPEG decoded at half, a quarter or an eighth, where that is no smaller than what the network takes."
    from PIL import Image

    with Image.open(file) as image:
        image.draft('RGB', (size, size))
        return image.convert('RGB')
