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

"""Sample buffer and slot: audio waits in order, and tokens are counted from the prompt's end."""

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest
from support.scripted import RATE, TOKEN, TOKENIZER

from voxtral_ros.model.config import AudioConfig
from voxtral_ros.model.protocol import StreamingProtocol
from voxtral_ros.recognizer.slot import SampleBuffer, Slot

PROTOCOL = StreamingProtocol(TOKENIZER, AudioConfig())
LEFT = 32 * TOKEN  # samples of silence before the audio
EDGE = 200  # more of them, for the first half of the first mel window
LOOK_AHEAD = 40  # samples of the next token that a token needs


def slot_with(n_samples: int, delay: int = 6) -> Slot:
    slot = Slot(0, PROTOCOL, delay)
    slot.feed(np.arange(1, n_samples + 1, dtype=np.float32))
    return slot


@given(st.lists(st.tuples(st.integers(0, 20_000), st.floats(0, 1)), max_size=20))
def test_a_buffer_is_a_queue(steps):
    buffer, held, count = SampleBuffer(), np.zeros(0, np.float32), 0
    for n_new, share in steps:
        new = np.arange(count, count + n_new, dtype=np.float32)
        count += n_new
        buffer.append(new)
        held = np.concatenate((held, new))
        assert len(buffer) == len(held)
        n = int(share * len(held))
        assert np.array_equal(buffer.peek(n), held[:n])
        buffer.drop(n)
        held = held[n:]
    assert np.array_equal(buffer.peek(len(buffer)), held)


def test_a_buffer_keeps_what_it_was_given_even_if_the_giver_changes_it():
    buffer, samples = SampleBuffer(), np.ones(10, np.float32)
    buffer.append(samples)
    samples[:] = 7
    assert (buffer.peek(10) == 1).all()


def test_a_buffer_does_not_grow_with_what_passes_through():
    buffer = SampleBuffer()
    for _ in range(2000):
        buffer.append(np.zeros(TOKEN, np.float32))
        buffer.drop(TOKEN)
    assert buffer._data.nbytes <= 1 << 17


def test_a_buffer_shrinks_again_after_a_backlog():
    buffer = SampleBuffer()
    buffer.append(np.zeros(1_000_000, np.float32))
    buffer.drop(1_000_000)
    for _ in range(1000):
        buffer.append(np.zeros(TOKEN, np.float32))
        buffer.drop(TOKEN)
    assert buffer._data.nbytes <= 1 << 17


def test_the_audio_begins_after_the_silence_of_the_protocol():
    window = slot_with(2 * TOKEN).window(33)
    assert len(window) == 33 * TOKEN + 240
    assert not window[:LEFT + EDGE].any()
    assert window[LEFT + EDGE] == 1.0


def test_windows_of_successive_tokens_share_their_context():
    slot = slot_with(3 * TOKEN)
    slot.advance(32)
    both = slot.window(2).copy()
    first = slot.window(1).copy()
    slot.advance(1)
    second = slot.window(1)
    assert np.array_equal(first, both[:TOKEN + 240])
    assert np.array_equal(second, both[TOKEN:])
    assert np.array_equal(first[TOKEN:], second[:240])


@pytest.mark.parametrize('n_samples, ready', [
    (0, 31), (39, 31), (40, 32), (TOKEN + 39, 32), (TOKEN + 40, 33), (10 * TOKEN + 40, 42)])
def test_a_token_is_ready_when_its_samples_and_the_look_ahead_are_there(n_samples, ready):
    assert slot_with(n_samples).ready == ready


@pytest.mark.parametrize('delay', [1, 6, 30])
def test_the_prompt_is_given_and_the_rest_generated(delay):
    slot = slot_with(100 * TOKEN, delay)
    length = 33 + delay
    assert len(slot.prompt_tokens) == length
    counts = []
    for position in range(length + 3):
        assert slot.position == position
        counts.append((slot.prefill, slot.n_generated))
        slot.advance(1)
    assert counts[0] == (length, 0)
    assert counts[length - 1] == (1, 0)
    assert counts[length] == (0, 1)  # the last position of the prompt predicts the first token
    assert counts[length + 2] == (0, 3)


def test_left_pad_does_not_count_as_fed():
    assert slot_with(RATE).n_samples == RATE
    assert Slot(0, PROTOCOL, 6).n_samples == 0
