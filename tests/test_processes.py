"""Training on two processes (gloo, on the CPU): the gradient, and a validation score in spite of padding, are those of one process."""

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

SCRIPT = """
import json, sys
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DistributedSampler
from multilabel_nb.scale import gather_rows

dist.init_process_group('gloo')
rank, world = dist.get_rank(), dist.get_world_size()
torch.manual_seed(0)  # the same network and data in each process
net, loss = torch.nn.Linear(6, 3), torch.nn.BCEWithLogitsLoss()
images, targs = torch.randn(7, 6), (torch.rand(7, 3) < 0.5).float()

parallel = DistributedDataParallel(net)
share = slice(rank * 3, rank * 3 + 3)  # of a joint batch of six
loss(parallel(images[share]), targs[share]).backward()
ours = [p.grad.clone() for p in net.parameters()]
net.zero_grad()
loss(net(images[:6]), targs[:6]).backward()
off = max((a - p.grad).abs().max().item() for a, p in zip(ours, net.parameters()))

right = ((net(images) > 0) == targs.bool()).float().detach()  # of each row and label
rows = list(DistributedSampler(right, shuffle=False))  # seven rows become eight
same = torch.equal(gather_rows(right[rows], 7), right)
padded = torch.equal(gather_rows(right[rows], 8), right[[*range(7), 0]])
if rank == 0:
    with open(sys.argv[1], 'w') as file:
        json.dump({'off': off, 'same': same, 'padded': padded}, file)
dist.destroy_process_group()
"""


def test_two_processes_are_one(tmp_path):
    script, out = tmp_path / 'train.py', tmp_path / 'out.json'
    script.write_text(SCRIPT)
    torchrun = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', '2']
    subprocess.run([*torchrun, str(script), str(out)], check=True, timeout=300)
    found = json.loads(out.read_text())
    assert found['off'] < 1e-5
    assert found['same'] and found['padded']
