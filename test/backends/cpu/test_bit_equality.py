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

"""A stream is the same to the last bit, whoever is beside it and however it is cut."""

import pytest
import torch
from voxtral_ros.backends.cpu.backend import NativeStep

native = pytest.importorskip('support.native')

N_TOKENS = 24


@pytest.fixture(scope='module', params=['tiny', 'odd'])
def network(request, tmp_path_factory):
    sizes = native.ODD if request.param == 'odd' else {}
    return native.random_network(tmp_path_factory.mktemp('bits'), **sizes)


def run(network, cuts, rows, slots):
    """Return ids, chances and memory of the first of some streams, passed in pieces."""
    step = NativeStep(network, native.PAD, 5, max(cuts))
    native.open_streams(step, network, 5)
    for slot in slots:  # the same stream, whatever the slot
        step.state.delay_scales[:, slot] = step.state.delay_scales[:, 0]
        step.state.origin[slot] = 0
        step.pad_penalty[slot] = 0.25
    sound = native.noise(5, N_TOKENS, 0)[rows]
    ids, chances, position = [], [], 0
    with torch.inference_mode():
        for n_tokens in cuts:
            start = 1280 * position
            windows = sound[:, start:start + 1280 * n_tokens + 240].copy()
            position += n_tokens
            more = step.generate(slots, windows, position)
            ids += more[0][0]
            chances += more[1][0]
    assert position == N_TOKENS
    rings = []
    for ring, per_token in ((step.state.encoder_ring, 4), (step.state.decoder_ring, 1)):
        newest = torch.arange(N_TOKENS * per_token - ring.window, N_TOKENS * per_token)
        for tensor in (ring.keys, ring.values):
            rings.append(tensor[:, slots[0], newest % ring.capacity])
    return ids, chances, rings


@pytest.mark.parametrize('name', native.instruction_sets())
@pytest.mark.parametrize(('cuts', 'rows', 'slots'), [
    ([1] * 24, [0, 1], [0, 1]), ([1] * 24, [0, 1, 2], [3, 0, 1]),
    ([1] * 24, [0, 4, 1, 2], [1, 4, 0, 2]), ([2, 1] * 8, [0, 4, 3, 1, 2], [4, 0, 1, 2, 3]),
    ([8, 8, 8], [0], [0]), ([5, 1, 7, 3, 8], [0], [2]), ([3] * 8, [0, 1, 2], [1, 2, 3])])
def test_a_row_does_not_depend_on_the_batch(network, name, cuts, rows, slots):
    with native.instructions(name):
        alone = run(network, [1] * N_TOKENS, [0], [0])
        ids, chances, rings = run(network, cuts, rows, slots)
    assert (ids, chances) == alone[:2]
    assert len(set(ids)) > 2
    for ring, expected in zip(rings, alone[2], strict=True):
        assert ring.equal(expected)
