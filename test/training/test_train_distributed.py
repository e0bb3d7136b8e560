# Copyright 2026 voxtral_ros maintainers
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

"""Distributed training: all-reduce of the gradients, and rank 0 decides when to stop."""

import os
from pathlib import Path
import subprocess
import sys

import pytest
import torch
from training.train import all_reduce_gradients, broadcast

ROOT = Path(__file__).resolve().parents[2]

WORK = """
import sys
import torch
import torch.distributed as dist
from training.train import all_reduce_gradients, broadcast
dist.init_process_group('gloo')
rank = dist.get_rank()
torch.manual_seed(0)
network = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 1))
network[1].requires_grad_(False)  # has no gradient
torch.manual_seed(1 + rank)
network(torch.randn(4, 3)).square().sum().backward()
alone = [parameter.grad.clone() for parameter in network[0].parameters()]
all_reduce_gradients(network)
reduced = [parameter.grad for parameter in network[0].parameters()]
torch.save((alone, reduced, broadcast(0.25 + rank)), f'{sys.argv[1]}/{rank}')
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path):
    (tmp_path / 'work.py').write_text(WORK, encoding='utf-8')
    subprocess.run([sys.executable, '-m', 'torch.distributed.run', '--standalone',
                    '--nproc-per-node', '2', tmp_path / 'work.py', tmp_path], check=True,
                   env=os.environ | {'PYTHONPATH': f'{ROOT}:{os.environ.get("PYTHONPATH", "")}'})
    (alone0, reduced0, number0), (alone1, reduced1, number1) = (
        torch.load(tmp_path / str(rank)) for rank in (0, 1))
    for ours, theirs, mean, same in zip(alone0, alone1, reduced0, reduced1, strict=True):
        assert not torch.equal(ours, theirs)
        torch.testing.assert_close(mean, (ours + theirs) / 2)
        assert torch.equal(mean, same)
    assert number0 == number1 == 0.25


def test_one_process_needs_no_other():
    network = torch.nn.Linear(1, 1)
    network(torch.ones(1)).backward()
    all_reduce_gradients(network)
    assert network.weight.grad.item() == 1
    assert broadcast(0.5) == pytest.approx(0.5)
