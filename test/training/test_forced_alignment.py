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

"""Word ends are where the attention of Whisper moves on to the next word."""

import numpy as np
import pytest
from training.forced_alignment import end_of_audio, plausible, word_ends


def test_a_word_ends_where_the_token_after_it_begins():
    # Two words of two and one tokens; token 3 ends the text.
    path = [(0, 0), (0, 9), (1, 10), (1, 20), (1, 30), (2, 31), (2, 49), (3, 50), (3, 60)]
    assert word_ends(path, [2, 1], 2.0) == pytest.approx([31 * 0.02 - 0.06, 50 * 0.02 - 0.06])


def test_ends_stay_within_the_recording():
    path = [(0, 0), (1, 2), (2, 100)]
    assert word_ends(path, [1, 1], 1.5) == [0.0, 1.5]


@pytest.mark.parametrize(('ends', 'possible'), [
    ([0.4, 0.6, 1.0], True),
    ([0.4, 0.41, 1.0], True),  # one word not separated from the next
    ([0.4, 0.41, 0.42, 0.43], False),  # the audio lacks the rest of the text
    ([2.0, 2.01, 2.02, 3.0], False),
    ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7], False),
    ([0.0], False),
])
def test_a_text_that_does_not_match_the_audio_is_implausible(ends, possible):
    assert plausible(ends) is possible


@pytest.mark.parametrize(('aligned_s', 'end_s'), [
    (0.85, 1.05),  # 50 ms after the audio ends
    (1.02, 1.05),
    (1.3, 1.45),  # the audio ends long before
    (0.4, 0.55),  # the audio goes on: there is more speech
    (1.95, 2.0),  # not after the recording
])
def test_the_last_of_a_few_words_ends_with_the_audio(aligned_s, end_s):
    samples = np.random.default_rng(0).normal(0, 0.002, 32000).astype(np.float32)
    samples[6400:16000] += 0.3 * np.sin(np.arange(9600) * 0.1, dtype=np.float32)
    assert end_of_audio(samples, aligned_s) == pytest.approx(end_s, abs=0.025)


def test_silence_has_no_end_of_audio():
    assert end_of_audio(np.zeros(16000, np.float32), 0.5) == pytest.approx(0.65)
