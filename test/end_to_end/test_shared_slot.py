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

"""Robots that share one slot of the demo model understand their orders."""

import numpy as np
from support.realtime import DATA
from voxtral_ros.audio.files import read_file
from voxtral_ros.audio.resample import resampled
from voxtral_ros.evaluation.word_error_rate import normalize, word_errors
from voxtral_ros.recognizer.engine import Engine
from voxtral_ros.recognizer.events import Transcript
from voxtral_ros.resources import demo_model

RATE = 16000
SAID = ('robot go to the kitchen and bring me the red cup turn left and go forward three meters '
        'please put the book next to the lamp and come back stop following me and return to the '
        'charging station')


def test_three_robots_take_turns_with_one_slot():
    orders = np.concatenate(list(resampled(read_file(DATA / 'orders.flac'))))
    orders = np.append(orders, np.zeros(3 * RATE, np.float32))
    engine = Engine.load(demo_model(), 'cpu', max_open=3)
    robots = [engine.open(idle_slot_s=0.5) for _ in range(3)]
    events = [[] for _ in robots]
    for turn in range(4):
        for start in range(0, len(orders), RATE // 2):
            block = orders[start:start + RATE // 2]
            for n, robot in enumerate(robots):
                robot.feed(block if n == turn % 3 else np.zeros_like(block))
            engine.process()
            for n, robot in enumerate(robots):
                events[n] += robot.poll()
    assert engine.n_open == 1
    texts = [[event for event in found if isinstance(event, Transcript) and event.is_final]
             for found in events]
    words = [normalize(' '.join(event.text for event in found)) for found in texts]
    assert word_errors(SAID.split(), words[1]) <= 4
    assert word_errors(words[1], words[2]) <= 2
    # The first robot heard them twice; the second time in a slot that others had meanwhile.
    assert word_errors(words[1] * 2, words[0]) <= 4
    again = [event.end_s for event in texts[0]][len(texts[1]):]
    assert np.allclose(again, [event.end_s + 2 * len(orders) / RATE for event in texts[1]],
                       atol=0.25)
