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

import numpy as np
import pytest

cpu = pytest.importorskip('support.cpu')

N_TOKENS = 24


@pytest.fixture(scope='module', params=['tiny', 'odd'])
def folder(request, tmp_path_factory):
    sizes = cpu.ODD if request.param == 'odd' else {}
    return cpu.random_checkpoint(tmp_path_factory.mktemp('bits'), **sizes)


def run(folder, cuts, rows, slots, int8_cache):
    """Return ids, probabilities and KV caches of the first of some streams, passed in pieces."""
    backend = cpu.cpu_backend(folder, 5, max(cuts), int8_cache)
    cpu.open_streams(backend, 5)
    for slot in slots:  # the same stream, whatever the slot
        backend.state.delay_scales[:, slot] = backend.state.delay_scales[:, 0]
        backend.set_pad_penalty(slot, 0.25)
    noise = cpu.noise(5, N_TOKENS, 0)[rows]
    ids, probs, position = [], [], 0
    for n_tokens in cuts:
        start = 1280 * position
        windows = noise[:, start:start + 1280 * n_tokens + 240].copy()
        position += n_tokens
        more = backend.decode(slots, windows)
        ids += more[0][0]
        probs += more[1][0]
    assert position == N_TOKENS
    caches = []
    stacks = ((backend.state.encoder, backend.config.encoder, 4),
              (backend.state.decoder, backend.config.decoder, 1))
    for stack, config, per_token in stacks:
        newest = np.arange(N_TOKENS * per_token - config.sliding_window, N_TOKENS * per_token)
        for array in cpu.positions(stack):
            caches.append(array[:, slots[0], newest % array.shape[2]])
    return ids, probs, caches


@pytest.mark.parametrize('name', cpu.instruction_sets())
@pytest.mark.parametrize(('cuts', 'rows', 'slots'), [
    ([1] * 24, [0, 1], [0, 1]), ([1] * 24, [0, 1, 2], [3, 0, 1]),
    ([1] * 24, [0, 4, 1, 2], [1, 4, 0, 2]), ([2, 1] * 8, [0, 4, 3, 1, 2], [4, 0, 1, 2, 3]),
    ([8, 8, 8], [0], [0]), ([5, 1, 7, 3, 8], [0], [2]), ([3] * 8, [0, 1, 2], [1, 2, 3])])
@pytest.mark.parametrize('int8_cache', [False, True])
def test_a_row_does_not_depend_on_the_batch(folder, name, cuts, rows, slots, int8_cache):
    with cpu.instructions(name):
        alone = run(folder, [1] * N_TOKENS, [0], [0], int8_cache)
        ids, probs, caches = run(folder, cuts, rows, slots, int8_cache)
    assert (ids, probs) == alone[:2]
    assert len(set(ids)) > 2
    for cache, expected in zip(caches, alone[2], strict=True):
        assert np.array_equal(cache, expected)
