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

"""The measures of the comparison count right."""

from pathlib import Path

from bench.scripts import load
import pytest
import torch

from voxtral_ros.evaluation.manifest import read_manifest
from voxtral_ros.model.loading import load_network
from voxtral_ros.model.protocol import StreamingProtocol
from voxtral_ros.model.tokenizer import Tokenizer
from voxtral_ros.quantization.calibration import embed, generate
from voxtral_ros.resources import demo_model

streams = load('token_streams')

MANIFEST = Path(__file__).resolve().parents[1] / 'data' / 'manifest.tsv'
DELAY = 6  # tokens
PAD = 32


@pytest.fixture(scope='module')
def tokenizer():
    return Tokenizer.load(demo_model())


def test_a_network_agrees_with_what_it_has_written(tokenizer):
    network = load_network(demo_model(), dtype=torch.float32)
    protocol = StreamingProtocol(tokenizer, network.config.audio)
    recordings = [recording.samples() for recording in read_manifest(MANIFEST)[1:4:2]]
    embeddings = embed(network, protocol, recordings, DELAY)
    written = generate(network, protocol, embeddings, DELAY)
    for audio, tokens in zip(embeddings, written, strict=True):
        logits = streams.score(network, protocol, audio, tokens, DELAY)
        assert torch.equal(logits.argmax(-1), tokens)


def test_margins_at_boundaries():
    #                          |word | text|                  |text
    tokens = torch.tensor([PAD, 33, 1005, PAD, PAD, PAD, 1007])
    logits = torch.zeros(len(tokens), 1010)
    logits[:, PAD] = torch.arange(1.0, 8.0)
    logits[:, 1009] = 0.5  # the best other one
    margins = streams.margins(logits, tokens, PAD)
    assert margins.before.tolist() == [0.5, 5.5]
    assert margins.onset.tolist() == [1.5, 6.5]
    assert margins.offset.tolist() == [3.5]


def test_words_stand_where_their_first_token_is(tokenizer):
    go, robot, ot = (tokenizer.n_special + tokenizer.pieces.index(piece)
                     for piece in (b' go', b' rob', b'ot'))
    tokens = torch.tensor([PAD, 33, robot, ot, PAD, 33, go, PAD])
    assert streams.words(tokens, tokenizer) == [('robot', 2), ('go', 6)]


def test_shifts_are_of_words_that_both_have():
    def at(*pairs):
        return [streams.WordAt(*pair) for pair in pairs]

    before = at(('go', 3), ('to', 6), ('the', 9), ('kitchen', 12))
    after = at(('go', 4), ('two', 6), ('the', 8), ('kitchen', 12), ('now', 20))
    assert streams.shifts(before, after) == [1, -1, 0]


def test_a_text_becomes_the_tokens_that_write_it(tokenizer):
    text = 'robot go to the kitchen'
    tokens = streams.encode(text, tokenizer)
    assert tokenizer.decode(tokens) == f' {text}'
    assert len(tokens) < 12  # pieces, not letters
