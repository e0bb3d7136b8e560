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


"""The order of what waits for the recogniser: audio, flushes, and who waits for them."""

import numpy as np

from voxtral_ros.audio.block import AudioBlock
from voxtral_ros.node.audio_queue import AudioQueue


def blocks(n, seconds=0.02):
    return [(AudioBlock(np.zeros(round(16000 * seconds), np.float32), 16000, None), at)
            for at in range(n)]


def called(queue):
    """Return the names of those whose time it is."""
    names = []
    while callback := queue.take_callback():
        names.append(callback)
    return names


def test_who_waits_is_called_when_what_was_there_is_gone():
    queue = AudioQueue()
    queue.call_here('first')
    queue.put(blocks(5))
    queue.call_here('second')
    queue.put_flush()
    queue.call_here('third')
    assert called(queue) == ['first']
    assert len(queue.take()) == 4  # a token of audio
    assert not queue.is_due
    assert not queue.take_flush()  # there is still audio before it
    assert len(queue.take()) == 1
    assert called(queue) == ['second']
    assert queue.take() == ()
    assert queue.take_flush()
    assert called(queue) == ['third']
    assert not queue and not queue.take_flush()


def test_what_is_dropped_or_forgotten_is_gone():
    queue = AudioQueue()
    queue.put(blocks(10))
    queue.call_here('dropped')
    queue.put(blocks(10))
    queue.call_here('forgotten')
    assert round(queue.drop(0.11), 6) == 0.3
    assert called(queue) == ['dropped']
    assert round(queue.waiting_s, 6) == 0.1
    queue.clear()
    assert called(queue) == ['forgotten']
    assert queue.waiting_s == 0.0
    queue.put(blocks(1))
    queue.call_here('later')
    assert not queue.is_due
