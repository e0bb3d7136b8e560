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

"""What is expected of boards that nobody has measured."""

import pytest
from support import checkpoints

from voxtral_ros.backends.base import WeightBytes
from voxtral_ros.backends.benchmark import Board, BYTES_PER_CLOCK_AND_SM, PassBytes
from voxtral_ros.model.config import ModelConfig

WEIGHTS = WeightBytes(encoder=1_000_000_000, decoder=1_600_000_000, head=200_000_000)
WINDOW = 8192


@pytest.fixture(scope='module')
def config():
    return ModelConfig.from_params(checkpoints.real_params())


def board(memory_rate, n_sms, clock):
    return Board('some', memory_rate, n_sms, clock)


def test_memory_limits_a_board_with_many_multiprocessors(config):
    counted = PassBytes.of(config, WEIGHTS)
    slow = counted.predicted_s(board(70e9, 16, 1e9), 2, 1000)
    # 80 % of the peak, 2.5 ms for a call of the encoder and 2 ms for one of the decoder.
    assert slow == pytest.approx(counted.per_token(2, 1000) / 56e9 + 2.5e-3 / 2 + 2e-3)
    assert counted.predicted_s(board(70e9, 32, 1e9), 2, 1000) == slow
    assert counted.predicted_s(board(140e9, 16, 1e9), 2, 1000) < 0.6 * slow


def test_multiprocessors_limit_a_board_with_few_or_slow_ones(config):
    counted = PassBytes.of(config, WEIGHTS)
    expected = counted.per_token(3, 500, 0.6) / (BYTES_PER_CLOCK_AND_SM * 4 * 0.5e9)
    assert counted.predicted_s(board(1e12, 4, 0.5e9), 3, 500, 0.6) == pytest.approx(expected)
    for more in (board(1e12, 8, 0.5e9), board(1e12, 4, 1e9)):
        assert counted.predicted_s(more, 3, 500, 0.6) == pytest.approx(expected / 2)
    assert counted.predicted_s(board(2e12, 4, 0.5e9), 3, 500, 0.6) == pytest.approx(expected)


def test_a_full_window_costs_its_keys_and_values(config):
    counted = PassBytes.of(config, WEIGHTS)
    window = WINDOW * 2 * 26 * 8 * 128 * 2  # layers, heads, dimensions, bytes
    assert counted.per_token(4, WINDOW) - counted.per_token(4, 0) == window
    assert counted.window_share(4, WINDOW) == window / counted.per_token(4, WINDOW)
    assert counted.window_share(4, 0) == 0
    # Fewer passes of the decoder read it less often.
    assert counted.window_share(4, WINDOW, 0.5) < counted.window_share(4, WINDOW)
    encoder = 750 * 2 * 32 * 32 * 64 * 2
    assert counted.per_token(4, 0) == (1_000_000_000 + encoder) / 4 + 1_800_000_000


def test_caches_in_8_bits_have_a_scale_for_every_head(config):
    half, full = PassBytes.of(config, WEIGHTS, 8), PassBytes.of(config, WEIGHTS, 16)
    assert half.decoder_cache == full.decoder_cache // 2 + 2 * 26 * 8 * 2
    assert half.encoder_cache == full.encoder_cache // 2 + 750 * 2 * 32 * 32 * 2
    assert half.weights == full.weights
