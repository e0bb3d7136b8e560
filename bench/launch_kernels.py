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

"""
Launch the kernels of one decoder layer and of the head twice each, for a profiler, M=1.

    ncu --clock-control none -s 7 -c 8 \
        -k regex:"matmul_kernel|candidates_kernel|rescore_kernel|attention_kernel" \
        --section SpeedOfLight --section WarpStateStats --section LaunchStats \
        --section Occupancy --section MemoryWorkloadAnalysis python bench/launch_kernels.py

Sizes are those of bench/kernels.py. The first seven launches are left out: code and constants
arrive with them.
"""

from kernels import CUDA, DECODER, DIM, random_weight, VOCABULARY
import torch

from voxtral_ros.backends.cuda.argmax import choose, Head
from voxtral_ros.backends.cuda.attention import attention, n_counters, Ring
from voxtral_ros.backends.cuda.gemm import matmul, matmul_gated, matmul_partial


def main() -> None:
    """Launch them."""
    slots = torch.arange(1, device=CUDA)
    x = {k: torch.randn(1, 1, k, device=CUDA).half() for k, _ in DECODER.values()}
    weights = {name: random_weight(4, *shape) for name, shape in DECODER.items()}
    table = (torch.randn(VOCABULARY, DIM, device=CUDA) / DIM ** 0.5).half()
    special = torch.tensor([2, 32, 33], dtype=torch.int32, device=CUDA)
    head = Head(random_weight(4, DIM, VOCABULARY), table, special, 32)
    penalty = torch.zeros(1, device=CUDA)
    ring = Ring(*(torch.randn(1, 8199, 8, 128, device=CUDA).half() for _ in range(2)), 8192, 1)
    qkv = torch.randn(1, 1, 48 * 128, device=CUDA).half()
    clock = torch.full((1,), 20000, device=CUDA)
    angles = torch.randn(2, 1, 1, 64, device=CUDA)
    counters = torch.zeros(n_counters(1, 1, 32, 8), dtype=torch.int32, device=CUDA)
    for _ in range(2):
        matmul(x[3072], weights['qkv'])
        matmul_partial(x[4096], weights['o'])
        matmul_gated(x[3072], weights['gate_up'])
        matmul_partial(x[9216], weights['down'])
        choose(x[3072], head, slots, penalty)
        attention(qkv, ring, slots, clock, *angles, 32, True, counters)
    torch.cuda.synchronize()


if __name__ == '__main__':
    main()
