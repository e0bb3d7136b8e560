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

"""Simulated rooms begin with the direct sound and reach far persons."""

import numpy as np
import pytest
from training.conditions import direct_to_reverberant_db
from training.rooms import DIRECT_END, impulse_response, LENGTH, main, place

pytest.importorskip('pyroomacoustics', reason='needs pyroomacoustics, which training has alone')


def test_persons_are_in_the_room_and_at_most_six_metres_away():
    random = np.random.default_rng(0)
    size = np.array([4.0, 3.0, 2.5])
    distances = []
    for _ in range(200):
        person, microphone = place(size, random)
        for point in (person, microphone):
            assert (point > 0.2).all() and (point < size - 0.2).all()
        distances.append(np.linalg.norm(person - microphone))
    assert 0.4 <= min(distances) < 0.6
    assert 2.5 < max(distances) <= 6.0


def test_the_direct_sound_is_first_and_the_energy_one():
    responses = np.stack([impulse_response(seed) for seed in range(12)])
    assert responses.shape == (12, LENGTH)
    np.testing.assert_allclose(np.square(responses).sum(1), 1, rtol=1e-4)
    # The sound is at sample 8 to within its interpolation; nothing but that filter is before.
    assert (np.abs(responses[:, 5:12]).max(1) > 0.7 * np.abs(responses[:, :40]).max(1)).all()
    assert (np.square(responses[:, :4]).sum(1) < 0.02).all()
    drr = np.array([direct_to_reverberant_db(each, DIRECT_END) for each in responses])
    assert drr.min() < -3 < 3 < drr.max()


def test_the_energy_of_the_direct_sound_is_told_apart():
    response = np.zeros((2, LENGTH))
    response[:, 8] = 1.0
    response[0, 2000] = 0.1  # -20 dB
    response[1, 3000] = 10.0
    np.testing.assert_allclose([direct_to_reverberant_db(each, DIRECT_END) for each in response],
                               [20, -20], atol=1e-3)


def test_a_file_has_them_all(tmp_path, capsys):
    main(['--out', str(tmp_path), '--count', '3', '--processes', '1', '--seed', '5'])
    rooms = np.load(tmp_path / 'rooms.npy')
    assert rooms.shape == (3, LENGTH) and rooms.dtype == np.float16
    np.testing.assert_allclose(rooms[1].astype(np.float32), impulse_response(6), atol=2e-3)
    assert '3 rooms' in capsys.readouterr().out
