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

"""When the result of the linear canceller is taken, and when that of the strict one."""

import numpy as np
import pytest

from voxtral_ros.audio.echo_meter import FRAME
from voxtral_ros.audio.echo_processor import _Gate

SECOND = 100  # frames
NOISE_DB = -75.0


def noise(levels_db):
    """Return noise, each frame of a level, dB of full scale."""
    random = np.random.default_rng(0)
    gains = np.repeat(10 ** (np.asarray(levels_db) / 20), FRAME)
    return (gains * random.standard_normal(len(gains))).astype(np.float32)


def linear_share(near_db, strict_db, block=2):
    """Return how much of each frame is the linear result, which is all ones here."""
    near, strict = noise(near_db), noise(strict_db)
    gate, shares = _Gate(), []
    for begin in range(0, len(near), block * FRAME):
        here = slice(begin, begin + block * FRAME)
        quiet = np.zeros_like(near[here])
        # What comes out of two results that are 0 and 1 is the share; what is judged are others.
        gate._strict, gate._linear = lambda _: quiet, lambda _: quiet + 1  # noqa: B023
        shares.append(gate(near[here], strict[here], near[here]))
    return np.concatenate(shares).reshape(-1, FRAME).mean(1)


@pytest.mark.parametrize('louder_db', [0.0, -20.0, 15.0])
def test_the_strict_result_is_taken_while_only_the_robot_speaks(louder_db):
    # Words with pauses between, in which the echo dies away; WebRTC leaves -45 dB of it.
    word = np.concatenate((np.full(30, -25.0), np.linspace(-25.0, NOISE_DB, 40)))
    near = np.tile(word, 6) + louder_db
    assert not linear_share(near, np.maximum(near.max() - 40.0, NOISE_DB + near * 0)).any()


@pytest.mark.parametrize('louder_db', [0.0, -20.0, 15.0])
def test_the_linear_result_is_taken_soon_after_somebody_speaks(louder_db):
    near = np.full(3 * SECOND, -25.0) + louder_db
    strict = np.full(3 * SECOND, NOISE_DB)
    strict[SECOND:SECOND + 30] = -40.0 + louder_db
    share = linear_share(near, strict)
    assert not share[:SECOND].any()
    assert share[SECOND + 8:SECOND + 100].min() == 1.0
    assert not share[SECOND + 160:].any()


def test_a_click_is_nobody():
    near, strict = np.full(2 * SECOND, -25.0), np.full(2 * SECOND, NOISE_DB)
    strict[SECOND] = -44.0
    assert not linear_share(near, strict).any()


def test_the_share_does_not_depend_on_the_blocks():
    random = np.random.default_rng(1)
    near = random.uniform(-60, -20, 3 * SECOND)
    strict = random.uniform(-80, -30, 3 * SECOND)
    shares = [linear_share(near, strict, block) for block in (1, 3, 60)]
    assert 0 < shares[0].mean() < 1
    np.testing.assert_allclose(shares[1], shares[0], atol=1e-6)
    np.testing.assert_allclose(shares[2], shares[0], atol=1e-6)
