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

"""A deepened network computes what it did before."""

import dataclasses

import pytest
import torch
from training.add_layers import deepen, spread
from training.train import init_weights
from training.training_network import TrainingNetwork, windowed_attention

from voxtral_ros.model.network import VoxtralRealtime


def deeper(config, encoder, decoder):
    """Return the config with so many layers."""
    return dataclasses.replace(
        config, encoder=dataclasses.replace(config.encoder, n_layers=encoder),
        decoder=dataclasses.replace(config.decoder, n_layers=decoder))


def test_copies_are_spread_evenly():
    assert spread(2, 2) == [(0, False), (1, False)]
    assert spread(2, 3) == [(0, False), (1, False), (1, True)]
    assert spread(4, 6) == [(0, False), (1, False), (1, True), (2, False), (3, False), (3, True)]
    for old, new in ((3, 6), (8, 12), (5, 13)):
        layers = spread(old, new)
        assert len(layers) == new
        assert [layer for layer, copied in layers if not copied] == list(range(old))


@torch.no_grad()
def test_logits_stay_as_they_were(config):
    torch.manual_seed(0)
    config = deeper(config, 2, 2)
    network = VoxtralRealtime(config).eval()
    init_weights(network)
    deep = VoxtralRealtime(deeper(
        config, config.encoder.n_layers + 3, config.decoder.n_layers + 1)).eval()
    deep.load_state_dict(deepen(network.state_dict(), config, deep.config))
    mel = torch.randn(1, config.audio.num_mel_bins, 160)
    tokens = torch.randint(40, config.vocab_size, (1, 20))
    logits, deep_logits = (
        TrainingNetwork(each).eval()(mel, tokens, torch.tensor([6]), windowed_attention)[0]
        for each in (network, deep))
    torch.testing.assert_close(deep_logits, logits)


def test_layers_are_not_taken_away(config):
    deep = deeper(config, 3, 3)
    with pytest.raises(ValueError, match='has 3 layers, more than the 2 asked for'):
        deepen(VoxtralRealtime(deep).state_dict(), deep, deeper(config, 2, 9))
