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

"""Once everything is warm, passes without a graph are made of those that have one."""

import numpy as np
import pytest
from support import checkpoints
from support.cuda import backend_without_graphs, on_gpu

from voxtral_ros.recognizer.engine import Engine
from voxtral_ros.resources import demo_model

N_STREAMS, CHUNK = 3, 4
SIZES = {
    'dim': 256, 'head_dim': 64, 'hidden_dim': 512, 'n_heads': 4, 'n_kv_heads': 2,
    'vocab_size': 1088, 'encoder.dim': 256, 'encoder.head_dim': 64, 'encoder.hidden_dim': 512,
    'encoder.n_heads': 4, 'encoder.n_kv_heads': 4}


def passes(backend):
    """Return tokens and probabilities of passes of many sizes."""
    rng = np.random.default_rng(0)
    for slot in range(N_STREAMS):
        backend.reset(slot, 6)
        backend.replace_token(slot, checkpoints.STREAMING_PAD, 0)

    def windows(n_streams, n_tokens):
        return 0.1 * rng.standard_normal((n_streams, n_tokens * 1280 + 240)).astype(np.float32)

    prompts = [[1, *[checkpoints.STREAMING_PAD] * (CHUNK - 1)]] * N_STREAMS
    out = [backend.prefill([2, 0, 1], windows(3, CHUNK), prompts)]
    for count in range(12):
        slots = [[0], [1, 0], [2, 1, 0]][count % 3]
        out.append(backend.decode(slots, windows(len(slots), 1 + count % CHUNK)))
    return [(tokens.ids, tokens.probs) for tokens in out]


def test_a_pass_in_parts_is_the_pass(tmp_path):
    params = checkpoints.tiny_params(**SIZES)
    folder = checkpoints.write_checkpoint(
        tmp_path, params, checkpoints.random_tensors(params, 1), checkpoints.tiny_tekken())
    results = []
    for is_warm in (False, True):
        backend = backend_without_graphs(folder, max_streams=N_STREAMS, max_chunk_tokens=CHUNK)
        backend._is_warm = is_warm  # and has no graph
        results.append(passes(backend))
    for (ids, probs), (expected_ids, expected) in zip(*results, strict=True):
        assert ids == expected_ids
        for found, wanted in zip(probs, expected, strict=True):
            assert found == pytest.approx(wanted, rel=1e-4)
    assert len({token for ids, _ in results[0] for row in ids for token in row}) > 3


@on_gpu
@pytest.mark.parametrize('kv_cache', ['16', '8'])
def test_nothing_is_captured_once_all_is_warm(kv_cache):
    results = []
    for is_warm in (False, True):
        engine = Engine.load(demo_model(), 'cuda', 'float16', N_STREAMS, CHUNK,
                             kv_cache=kv_cache)
        backend = engine.backend
        backend.speculative_decoding = None
        if is_warm:
            backend.warm_up()
        graphs = set(backend._graphs)
        results.append(passes(backend))
        assert (set(backend._graphs) == graphs) is is_warm
    assert results[0] == results[1]
