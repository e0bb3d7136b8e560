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

"""A shorter window of the decoder: what params.json could have said, and memory for less."""

import numpy as np
import pytest
from support import checkpoints
import torch

from voxtral_ros.backends import selection
from voxtral_ros.backends.cuda.memory import plan_memory
from voxtral_ros.model.checkpoint import open_weights
from voxtral_ros.model.config import ConfigError
from voxtral_ros.recognizer.engine import Engine

OWN, LESS = 150, 40
SAMPLES = (0.1 * np.random.default_rng(0).standard_normal(20 * 16000)).astype(np.float32)


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
    """Return folders of the same weights with windows of two sizes."""
    found = {}
    for window in (OWN, LESS):
        params = checkpoints.tiny_params(sliding_window=window)
        found[window] = tmp_path_factory.mktemp(f'window-{window}')
        checkpoints.write_checkpoint(found[window], params, checkpoints.random_tensors(params, 3),
                                     checkpoints.tiny_tekken())
    return found


def tokens(engine):
    slot = engine.take_slot(6)
    slot.feed(SAMPLES)
    while engine.step():
        pass
    return [(token.id, token.probability) for token in slot.tokens]


@pytest.mark.parametrize('window', [0, OWN])
def test_the_window_of_the_model_changes_nothing(folders, window):
    plain, same = Engine.load(folders[OWN]), Engine.load(folders[OWN], window=window)
    assert tokens(same) == tokens(plain)
    assert same.backend.cache_bytes == plain.backend.cache_bytes


def test_a_shorter_window_is_that_of_a_model_which_was_made_so(folders):
    found, expected = Engine.load(folders[OWN], window=LESS), Engine.load(folders[LESS])
    assert tokens(found) == tokens(expected) != tokens(Engine.load(folders[OWN]))
    assert found.backend.cache_bytes == expected.backend.cache_bytes


def test_the_plan_knows_the_window(folders, monkeypatch):
    monkeypatch.setattr(selection.cpu_library, 'available', lambda: False)
    planned = []
    for window in (0, LESS):
        with open_weights(folders[OWN], window) as (config, weights):
            planned.append(plan_memory(config, weights, torch.float32, 2, 8, False))
    assert [plan.caches for plan in planned] == [
        Engine.load(folders[OWN], max_streams=2, window=window).backend.cache_bytes
        for window in (0, LESS)]
    assert planned[0].weights == planned[1].weights


@pytest.mark.parametrize('window', [-1, OWN + 1])
def test_a_window_that_the_model_cannot_have_is_refused(folders, window):
    with pytest.raises(ConfigError, match=f'the window is {window} tokens, .* 1 to {OWN}'):
        Engine.load(folders[OWN], window=window)
