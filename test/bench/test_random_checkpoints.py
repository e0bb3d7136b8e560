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

"""Random checkpoints in pieces: what is written is a model, in every form, and it writes words."""

from bench.scripts import load
import numpy as np
import pytest

from voxtral_ros.cli.main import main
from voxtral_ros.model.checkpoint import check_folder, open_weights
from voxtral_ros.model.tokenizer import Tokenizer
from voxtral_ros.quantization.format import Recipe
from voxtral_ros.recognizer.engine import Engine

random_checkpoints = load('random_checkpoints')
SIZES = {'dim': 256, 'n_layers': 12, 'head_dim': 64, 'hidden_dim': 256, 'n_heads': 4,
         'n_kv_heads': 2, 'vocab_size': 12288,
         'encoder': {'dim': 128, 'n_layers': 12, 'head_dim': 32, 'hidden_dim': 256, 'n_heads': 4,
                     'n_kv_heads': 4, 'vocab_size': 12288}}
RECIPES = {'bf16': None, 'original': Recipe(), 'compact': Recipe(encoder_bits=8, head_bits=4)}


@pytest.fixture(scope='module', params=RECIPES)
def checkpoint(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    params = random_checkpoints.tiny_params(**SIZES)
    recipe = RECIPES[request.param]
    return random_checkpoints.write_large_checkpoint(folder, params, recipe), recipe


def test_it_is_a_model_in_the_form_that_was_asked_for(checkpoint):
    folder, recipe = checkpoint
    check_folder(folder)
    kinds = {16: 'dense', 8: 'int8', 4: 'int4'}
    with open_weights(folder, verify=True) as (_, weights):
        for name in weights.stored:
            assert weights.kind(name) == kinds[recipe.bits(name) if recipe else 16]
    if recipe:
        assert main(['verify', str(folder)]) == 0


def test_it_writes_many_words_and_not_one_again_and_again(checkpoint):
    folder, _ = checkpoint
    engine = Engine.load(folder, 'cpu', threads=1)
    slot = engine.take_slot(6)
    noise = np.random.default_rng(0).standard_normal(6 * 16000)
    slot.feed((0.1 * noise * np.sin(np.arange(len(noise)) / 4000)).astype(np.float32))
    engine.process()
    ids = [token.id for token in slot.tokens]
    assert len(ids) > 60
    text = [token for token in ids if token >= 1000]
    assert len(set(text)) > 20, ids


def test_every_text_token_is_a_word_of_its_own(checkpoint):
    folder, _ = checkpoint
    pieces = Tokenizer.load(folder).pieces
    assert len(set(pieces)) == len(pieces) == SIZES['vocab_size'] - 1000
    assert b' ba' in pieces and b' bababa' in pieces


def test_there_are_words_enough_for_the_real_vocabulary():
    words = list(random_checkpoints.random_words())
    assert len(set(words)) == len(words) > 131072
