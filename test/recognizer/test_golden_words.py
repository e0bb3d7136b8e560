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

"""Ids of the real model over real clips: their texts, words and times come out of a stream."""

from functools import cache

import pytest
from support import golden
from support.scripted import feed, finals, RATE, ScriptedEngine

from voxtral_ros.model.tokenizer import Tokenizer
from voxtral_ros.recognizer.options import StreamOptions
from voxtral_ros.recognizer.stream import Stream

CLIPS = golden.golden_clips()
DELAY = 6  # of these clips


@cache
def tokenizer() -> Tokenizer:
    path = golden.mistral_vocabulary()
    if path is None:
        pytest.skip(golden.MISSING_VOCABULARY)
    return Tokenizer(golden.vocabulary_bytes(path)[:130_072])


@pytest.fixture(scope='module', params=range(3), ids=lambda n: f'clip{n}')
def clip(request):
    if request.param >= len(CLIPS):
        pytest.skip(golden.MISSING_CLIPS)
    return CLIPS[request.param]


@pytest.fixture(scope='module')
def transcribed(clip):
    """Return the stream, its events and the length of the clip in seconds."""
    audio, rate = pytest.importorskip('soundfile').read(clip.wav, dtype='float32')
    assert rate == RATE
    engine = ScriptedEngine(ids=clip.ids, tokenizer=tokenizer())
    stream = Stream(engine, DELAY, StreamOptions())
    return stream, feed(stream, audio) + stream.close(), len(audio) / RATE


def test_as_many_tokens_are_taken_as_the_model_gave(clip, transcribed):
    assert transcribed[0].stats.tokens == len(clip.ids)


def test_the_text_is_that_of_the_model(clip, transcribed):
    assert ' '.join(final.text for final in finals(transcribed[1])) == clip.text.strip()


def test_words_are_in_order_and_within_the_clip(clip, transcribed):
    words = [word for final in finals(transcribed[1]) for word in final.words]
    assert [word.text for word in words] == clip.text.split()
    ends = [word.end_s for word in words]
    assert ends == sorted(ends)
    assert 0 < ends[0] < 2.0
    assert transcribed[2] - 1.5 < ends[-1] <= transcribed[2]


def test_no_word_is_discarded(transcribed):
    assert transcribed[0].stats.discarded_words == 0


def test_utterances_lie_where_voice_activity_transcribes_speech(transcribed):
    """The first word may be written while its audio goes on, the last with its audio over."""
    stream, events, _ = transcribed
    for final in finals(events):
        assert stream._voice.voiced_s(final.start_s, final.end_s) \
            > 0.5 * (final.end_s - final.start_s)
