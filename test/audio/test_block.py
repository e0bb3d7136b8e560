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
"""AudioBlock and its helpers."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from voxtral_ros.audio.block import AudioBlock, AudioError, check_rate, samples_to_ns


def test_duration_is_rounded_to_the_nearest_nanosecond():
    assert AudioBlock(np.zeros(1280, np.float32), 16_000, None).duration_ns == 80_000_000
    assert AudioBlock(np.zeros(1, np.float32), 44_100, 5).duration_ns == 22_676
    assert samples_to_ns(2, 44_100) == 45_351


def test_a_block_is_immutable_and_unstamped_means_none():
    block = AudioBlock(np.zeros(3, np.float32), 8_000, None)
    assert (block.stamp_ns, block.frame_id, block.n_bad) == (None, '', 0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        block.rate_hz = 16_000


@pytest.mark.parametrize('rate_hz', [8_000, 44_100, 192_000])
def test_real_rates_are_accepted(rate_hz):
    assert check_rate(rate_hz) == rate_hz


@pytest.mark.parametrize('rate_hz', [0, -16_000, 7_999, 192_001])
def test_other_rates_are_refused_with_the_rate_in_the_message(rate_hz):
    with pytest.raises(AudioError, match=f'{rate_hz} Hz'):
        check_rate(rate_hz)


def test_audio_error_is_a_value_error():
    assert issubclass(AudioError, ValueError)
