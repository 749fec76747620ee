"""Time the losses beside PyTorch's, torchvision's and timm's in one run: forward and backward, medians, ratios.

`python benchmarks/losses.py` takes a few seconds at 4096x80, and exits with 1 when a ratio is above its bound. BCE and focal loss call
the function they are compared with, so their ratio is what the checks cost.
"""

import argparse
import json
import platform
import statistics
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from timm.loss import AsymmetricLossMultiLabel
from torchvision.ops import sigmoid_focal_loss

from multilabel_nb.losses import MultiLabelAsymmetric, MultiLabelBCE, MultiLabelFocal

N_ITEMS, N_LABELS = 4096, 80
# ours, theirs, how many times theirs ours may take
PAIRS = {
    'BCE / torch': (MultiLabelBCE(), F.binary_cross_entropy_with_logits, 2.0),
    'focal / torchvision': (MultiLabelFocal(), lambda z, t: sigmoid_focal_loss(z, t, reduction='mean'), 1.5),
    'asymmetric / timm': (MultiLabelAsymmetric(), AsymmetricLossMultiLabel(reduction='mean'), 1.0),
}


def seconds(loss, logits, targs):
    "One forward and backward."
    synchronise = torch.cuda.synchronize if logits.is_cuda else lambda: None
    synchronise()
    began = time.perf_counter()
    torch.autograd.grad(loss(logits, targs), logits)
    synchronise()
    return time.perf_counter() - began


def medians(losses, logits, targs, repeats, warmup=3):
    "Median seconds of each loss, in turns so that whatever else the machine does hits all alike."
    turns = [[seconds(loss, logits, targs) for loss in losses] for _ in range(warmup + repeats)]
    return [statistics.median(times) for times in zip(*turns[warmup:], strict=True)]


def measure(repeats=31, device='cpu', n_items=N_ITEMS):
    "Rows of the table."
    gen = torch.Generator().manual_seed(0)
    logits = (torch.randn(n_items, N_LABELS, generator=gen) * 3).to(device).requires_grad_()
    targs = (torch.rand(n_items, N_LABELS, generator=gen) < 0.05).float().to(device)
    rows = []
    for name, (*pair, bound) in PAIRS.items():
        ours, theirs = medians(pair, logits, targs, repeats)
        rows.append({'what': name, 'ours_ms': ours * 1e3, 'theirs_ms': theirs * 1e3, 'ratio': ours / theirs, 'bound': bound})
    return rows


def machine(device):
    "Where this was measured."
    cpu = Path('/proc/cpuinfo')
    models = [line.split(':')[1].strip() for line in cpu.read_text().splitlines() if line.startswith('model name')] if cpu.exists() else []
    name = torch.cuda.get_device_name() if device == 'cuda' else (models or [platform.processor() or platform.machine()])[0]
    return f'{name}, {torch.get_num_threads()} thread(s), torch {torch.__version__.split("+")[0]}'


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--repeats', type=int, default=31)
    parser.add_argument('--items', type=int, default=N_ITEMS, help='rows of a batch; the bounds are for the default')
    parser.add_argument('--threads', type=int, default=1, help='one by default: with more, a busy machine makes the ratios noise')
    parser.add_argument('--device', default='cpu', choices=['cpu', 'cuda'])
    parser.add_argument('--json', action='store_true', help='print one line of JSON instead of the table')
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = measure(args.repeats, args.device, args.items)
    if args.json:
        print(json.dumps({'machine': machine(args.device), 'rows': rows}))
    else:
        print(f'{machine(args.device)}; forward and backward at {args.items}x{N_LABELS}, median of {args.repeats}')
        for row in rows:
            print('{what:<20} {ours_ms:7.2f} ms {theirs_ms:7.2f} ms   ratio {ratio:.2f} (at most {bound})'.format(**row))
    sys.exit(any(row['ratio'] > row['bound'] for row in rows))


if __name__ == '__main__':
    main()
