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

"""Processes that train together: the mean of their gradients, and one who says when to stop."""

import os
from pathlib import Path
import subprocess
import sys

import pytest
import torch
from training.train import agreed, share_gradients

ROOT = Path(__file__).resolve().parents[2]

WORK = """
import sys
import torch
import torch.distributed as dist
from training.train import agreed, share_gradients
dist.init_process_group('gloo')
rank = dist.get_rank()
torch.manual_seed(0)
network = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 1))
network[1].requires_grad_(False)  # has no gradient to share
torch.manual_seed(1 + rank)
network(torch.randn(4, 3)).square().sum().backward()
alone = [parameter.grad.clone() for parameter in network[0].parameters()]
share_gradients(network)
shared = [parameter.grad for parameter in network[0].parameters()]
torch.save((alone, shared, agreed(0.25 + rank)), f'{sys.argv[1]}/{rank}')
dist.destroy_process_group()
"""


def test_two_processes_train_as_one(tmp_path):
    (tmp_path / 'work.py').write_text(WORK, encoding='utf-8')
    subprocess.run([sys.executable, '-m', 'torch.distributed.run', '--standalone',
                    '--nproc-per-node', '2', tmp_path / 'work.py', tmp_path], check=True,
                   env=os.environ | {'PYTHONPATH': f'{ROOT}:{os.environ.get("PYTHONPATH", "")}'})
    (alone0, shared0, said0), (alone1, shared1, said1) = (
        torch.load(tmp_path / str(rank)) for rank in (0, 1))
    for ours, theirs, mean, same in zip(alone0, alone1, shared0, shared1, strict=True):
        assert not torch.equal(ours, theirs)
        torch.testing.assert_close(mean, (ours + theirs) / 2)
        assert torch.equal(mean, same)
    assert said0 == said1 == 0.25


def test_one_process_agrees_with_itself():
    network = torch.nn.Linear(1, 1)
    network(torch.ones(1)).backward()
    share_gradients(network)
    assert network.weight.grad.item() == 1
    assert agreed(0.5) == pytest.approx(0.5)
