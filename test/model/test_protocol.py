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

"""The protocol in numbers of mistral_common: pads, prompt, delays, what a token speaks about."""

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest
from support.checkpoints import BOS, STREAMING_PAD, tiny_vocabulary
from support.scripted import TOKEN, TOKENIZER

from voxtral_ros.model.config import AudioConfig
from voxtral_ros.model.protocol import StreamingProtocol
from voxtral_ros.model.tokenizer import StreamingConstants, Tokenizer
from voxtral_ros.recognizer.slot import Slot

PROTOCOL = StreamingProtocol(TOKENIZER, AudioConfig())
DELAYS = [*range(1, 16), 30]


def generated(n_samples: int, delay: int, flushes: int = 1) -> int:
    """Return how many tokens are generated for so much audio, with flushes after it."""
    slot = Slot(0, PROTOCOL, delay)
    slot.feed(np.zeros(n_samples, np.float32))
    for _ in range(flushes):
        slot.feed(np.zeros(PROTOCOL.right_pad(slot.n_samples, delay), np.float32))
    slot.advance(slot.ready)
    return slot.n_generated


def test_a_token_is_80_ms_of_audio():
    assert (PROTOCOL.samples_per_token, PROTOCOL.token_s, PROTOCOL.token_ms) == (1280, 0.08, 80)


@pytest.mark.parametrize('tokens', DELAYS)
def test_delays_of_80_to_1200_ms_and_2400_ms(tokens):
    assert PROTOCOL.delay_tokens(80 * tokens) == tokens
    assert PROTOCOL.delay_tokens(80.0 * tokens) == tokens


@pytest.mark.parametrize('delay_ms', [
    0, -80, 1, 79, 81, 120, 479.9, 1280, 2320, 2480, float('nan'), float('inf')])
def test_other_delays_are_refused(delay_ms):
    with pytest.raises(ValueError, match='80 to 1200'):
        PROTOCOL.delay_tokens(delay_ms)


def test_without_a_delay_that_of_the_checkpoint_counts():
    assert PROTOCOL.delay_tokens() == 6
    tokenizer = Tokenizer(tiny_vocabulary(), streaming=StreamingConstants(960))
    assert StreamingProtocol(tokenizer, AudioConfig()).delay_tokens() == 12


@pytest.mark.parametrize('delay', DELAYS)
def test_the_prompt_is_the_start_token_and_pads(delay):
    assert PROTOCOL.prompt_tokens(delay) == [BOS] + [STREAMING_PAD] * (32 + delay)


@pytest.mark.parametrize('n_samples, delay, n_embeds', [
    (57_280, 6, 94), (74_240, 6, 107), (127_040, 6, 149)])
def test_a_clip_gives_as_many_tokens_as_in_the_reference(n_samples, delay, n_embeds):
    """Check the three golden clips: N positions, N - 38 generated tokens."""
    assert generated(n_samples, delay) == n_embeds - 38


@given(st.integers(0, 100_000), st.sampled_from(DELAYS))
def test_a_flush_adds_a_tail_of_ten_tokens(n_samples, delay):
    """Generate a token for each 80 ms of audio, one for the shift and ten for the longest word."""
    assert generated(n_samples, delay) == -(-n_samples // TOKEN) + 11


@given(st.integers(0, 100_000), st.sampled_from(DELAYS), st.integers(1, 4))
def test_every_flush_uses_the_audio_up_to_its_last_token(n_samples, delay, flushes):
    slot = Slot(0, PROTOCOL, delay)
    slot.feed(np.zeros(n_samples, np.float32))
    for _ in range(flushes):
        slot.feed(np.zeros(PROTOCOL.right_pad(slot.n_samples, delay), np.float32))
        slot.advance(slot.ready)
        # Silence and audio are whole tokens; what is left is the context of the next one.
        assert len(slot._samples) == PROTOCOL.context


def test_a_generated_token_speaks_about_the_audio_up_to_80_ms_after_its_index():
    assert [PROTOCOL.transcribed_s(k) for k in (0, 1, 99)] == pytest.approx([0.08, 0.16, 8.0])


@pytest.mark.parametrize('delay', [1, 6, 30])
def test_the_delay_is_how_much_more_was_transcribed_than_is_spoken_about(delay):
    slot = Slot(0, PROTOCOL, delay)
    slot.feed(np.zeros(100 * TOKEN, np.float32))
    slot.advance(len(slot.prompt_tokens))
    assert slot.n_generated == 1
    transcribed_s = (slot.position - 32) * PROTOCOL.token_s
    assert transcribed_s - PROTOCOL.transcribed_s(0) == pytest.approx(delay * PROTOCOL.token_s)
