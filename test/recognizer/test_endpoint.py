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

"""Endpointing: utterances end in pauses, after their last word, and never inside a group."""

from dataclasses import replace
from itertools import pairwise

import pytest
from support.scripted import (
    DELAY, encode, feed, finals, join, open_stream, PAUSE, RATE, Script, scripted_voice, silence,
    texts, transcribe, transcripts, voice)

from voxtral_ros.recognizer.endpoint import Endpointer, EndpointOptions
from voxtral_ros.recognizer.events import SpeechActivity
from voxtral_ros.recognizer.options import StreamOptions
from voxtral_ros.recognizer.turns import TurnOptions
from voxtral_ros.recognizer.vad import VadOptions, VoiceActivity
from voxtral_ros.recognizer.watchdog import WatchdogOptions

DELAYS = [1, 6, 15, 30]


@pytest.fixture(autouse=True)
def voice_activity():
    with scripted_voice():
        yield


def endpoint(**options: float) -> StreamOptions:
    """Return options of a stream that does not mind if the same words come again and again."""
    return StreamOptions(endpoint=EndpointOptions(**options),
                         watchdog=WatchdogOptions(repeated_tokens=0))


def ended_at(script: Script, audio, options: StreamOptions, delay: int = DELAY) -> float:
    """Return how many seconds of the audio it takes until the first final text."""
    stream = open_stream(script, options, delay)
    chunk = RATE // 100
    for start in range(0, len(audio), chunk):
        if finals(feed(stream, audio[start:start + chunk])):
            return (start + chunk) / RATE
    raise AssertionError('no utterance ended')


# ---- where utterances end ----

@pytest.mark.parametrize('delay', DELAYS)
def test_a_pause_ends_an_utterance(delay):
    script = Script()
    audio = join(silence(0.8), script.say(' stop'), script.say(' here'), silence(PAUSE),
                 script.say(' turn'), script.say(' left'), silence(PAUSE))
    stream = open_stream(script, delay=delay)
    events = feed(stream, audio)
    assert texts(events + stream.close()) == ['stop here', 'turn left']


def test_a_shorter_pause_does_not():
    script = Script()
    audio = join(script.say(' stop'), silence(0.64), script.say(' here'), silence(PAUSE))
    assert texts(transcribe(script, audio, endpoint(silence_s=0.8))) == ['stop here']
    assert texts(transcribe(script, audio, endpoint(silence_s=0.5))) == ['stop', 'here']


@pytest.mark.parametrize('silence_s', [0.3, 0.5, 0.8, 1.5])
@pytest.mark.parametrize('delay', DELAYS)
def test_an_utterance_ends_soon_after_silence_and_delay(silence_s, delay):
    """End when the delayed tail is out, where the stream does not look ahead."""
    script = Script()
    audio = join(silence(2.4), script.say(' stop', '.'), silence(6.0))
    speech_end_s = 2.88
    options = replace(endpoint(silence_s=silence_s), turns=TurnOptions(eager_s=0.0))
    after_s = ended_at(script, audio, options, delay) - speech_end_s
    tail_s = 0.08 * delay
    assert max(silence_s, tail_s) <= after_s <= max(silence_s, tail_s + 0.9) + 0.15


@pytest.mark.parametrize('late', [-3, 0, 2, 3])
@pytest.mark.parametrize('delay', [6, 30])
@pytest.mark.parametrize('silence_s', [0.3, 0.8])
def test_a_word_that_comes_early_or_late_still_belongs_before_the_pause(late, delay, silence_s):
    """Words may be written 0.24 s before or after the moment that their time stands for."""
    script = Script()
    audio = join(silence(2.4), script.say(' stop', late=late), silence(1.2),
                 script.say(' turn', late=late), silence(2.0), silence(PAUSE))
    events = feed(open_stream(script, endpoint(silence_s=silence_s), delay), audio)
    assert texts(events) == ['stop', 'turn']


def test_several_pauses_may_lie_within_the_delay():
    """Process three commands before the first is written, with 2.4 s of delay."""
    script = Script()
    parts = [join(script.say(word, seconds=0.24), silence(0.48))
             for word in (' stop', ' turn', ' left')]
    audio = join(silence(3.2), *parts, silence(5.0))
    options = StreamOptions(endpoint=EndpointOptions(silence_s=0.3))
    events = feed(open_stream(script, options, delay=30), audio)
    assert texts(events) == ['stop', 'turn', 'left']
    spoken = [event.active for event in events if isinstance(event, SpeechActivity)]
    assert spoken == [True, False] * 3


def test_pauses_before_the_first_token_count():
    """Process 2.48 s before the first token at the longest delay; the pause in it is one too."""
    script = Script()
    audio = join(silence(0.16), script.say(' stop'), silence(1.04), script.say(' turn'),
                 silence(5.0))
    options = endpoint(silence_s=0.3)
    assert texts(transcribe(script, audio, options, delay=6)) == ['stop', 'turn']
    assert texts(transcribe(script, audio, options, delay=30)) == ['stop', 'turn']


def test_the_pads_of_the_model_end_an_utterance_where_voice_activity_transcribes_noise():
    script = Script()
    audio = join(script.say(' stop'), voice(5.0), script.say(' turn'), voice(6.0))
    events = feed(open_stream(script, endpoint(pad_silence_s=3.0)), audio)
    assert texts(events) == ['stop', 'turn']
    assert texts(feed(open_stream(script, endpoint(pad_silence_s=4.0)), audio)) == ['stop', 'turn']
    assert texts(feed(open_stream(script, endpoint(pad_silence_s=9.0)), audio)) == []


def test_a_longer_silence_that_is_asked_for_is_waited_for():
    """Let people think: 5 s of silence are asked for, and 4 s are no end."""
    script = Script()
    audio = join(script.say(' stop'), silence(4.0), script.say(' here'), silence(7.0))
    assert texts(transcribe(script, audio, endpoint(silence_s=5.0))) == ['stop here']


def test_a_long_utterance_is_cut_at_a_word():
    script = Script()
    audio = join(*(script.say(' turn', ' left', 's', seconds=0.8) for _ in range(20)),
                 silence(PAUSE))
    events = transcribe(script, audio, endpoint(max_utterance_s=5.0))
    assert ' '.join(texts(events)) == ' '.join(['turn lefts'] * 20)
    assert len(texts(events)) == 4
    for final in finals(events):
        assert len(final.words) % 2 == 0  # groups stay whole
        assert final.end_s - final.start_s < 5.0 + 0.8


def test_a_long_utterance_is_cut_where_one_group_follows_the_other():
    """Cut fast speech, too, in which no pad stands between the groups."""
    script = Script()
    audio = join(*(script.say(' turn', seconds=0.16) for _ in range(60)), silence(PAUSE))
    published = finals(transcribe(script, audio, endpoint(max_utterance_s=3.0)))
    assert len(published) == 4
    for before, after in pairwise(published):
        assert before.end_s <= after.start_s <= before.end_s + 0.2


@pytest.mark.parametrize('piece', [' turn', '请', 'a', 'é', b'\xe8\xaf\xb7 ', b' \xe8'])
@pytest.mark.parametrize('announced', [True, False])
def test_a_group_without_end_does_not_make_an_utterance_longer(piece, announced):
    """Cut also where the model never pauses: at a word, or inside one that never ends."""
    script = Script()
    n = 250  # tokens, 20 s
    audio = join(silence(0.8), script.say(*[piece] * (n // len(encode(piece))),
                                          announced=announced), voice(20.0), silence(3.0))
    stream = open_stream(script, endpoint(max_utterance_s=5.0))
    events = feed(stream, audio) + stream.close()
    published = finals(events)
    assert max(len(final.text) for final in published) < (5.0 + 2.5) / 0.08 * len(piece)
    assert all(final.end_s - final.start_s <= 7.5 for final in published)
    assert len(published) >= 3
    text = piece if isinstance(piece, str) else piece.decode('utf-8', 'replace')
    assert ''.join(''.join(texts(events)).split()) == text.strip() * (n // len(encode(piece)))


def test_noise_before_the_first_word_does_not_count_as_a_long_utterance():
    script = Script()
    audio = join(voice(12.0), script.say(' stop'), script.say(' here'), silence(PAUSE))
    events = transcribe(script, audio, endpoint(max_utterance_s=5.0))
    assert texts(events) == ['stop here']
    assert finals(events)[0].start_s > 12.48 - 5.0


# ---- groups ----

@pytest.mark.parametrize('late', [0, 2, 4, 6])
@pytest.mark.parametrize('n_words', [2, 4, 8])
def test_a_group_that_runs_into_the_pause_stays_whole(late, n_words):
    script = Script()
    audio = join(silence(0.8), script.say(*[' turn'] * n_words, '.', late=late), silence(3.0))
    assert texts(transcribe(script, audio)) == ['turn' + ' turn' * (n_words - 1) + '.']


@pytest.mark.parametrize('silence_s', [0.8, 3.2])
@pytest.mark.parametrize('at_s', [0.4, 1.2, 2.0, 2.4, 2.48, 2.56, 2.64])
def test_quiet_words_in_the_pause_stay_in_one_utterance(silence_s, at_s):
    """Say a group so softly that voice activity processes a pause all along."""
    script = Script()
    audio = join(silence(0.8), script.say(' stop'), silence(at_s),
                 script.say(' turn', ' left', ' here', voiced=0.25), silence(5.0))
    published = texts(transcribe(script, audio, endpoint(silence_s=silence_s)))
    assert published in (['stop turn left here'], ['stop', 'turn left here'])


def test_a_group_without_end_is_cut():
    """Do not wait for ever: a model that babbles through the pause is cut after 2 s."""
    script = Script()
    babble = script.say(*[' and'] * 80)
    audio = join(silence(0.8), babble, silence(4.0))
    stream = open_stream(script)
    assert len(texts(feed(stream, audio))) >= 1


def test_a_new_group_after_the_pause_starts_the_next_utterance():
    """Finalise the old one before anything of the new one is published."""
    script = Script()
    audio = join(silence(0.8), script.say(' stop', *[' and'] * 10), silence(0.8),
                 script.say(' turn', seconds=0.24), silence(3.0))
    events = transcripts(transcribe(script, audio))
    order = [event.utterance_id for event in events]
    assert order == sorted(order)
    assert texts(events) == ['stop' + ' and' * 10, 'turn']


# ---- the endpointer by itself ----

def endpointer(*audio, **options: float) -> Endpointer:
    """Return an endpointer whose voice activity has processed audio, 80 ms at a time."""
    activity = VoiceActivity(VadOptions())
    pointer = Endpointer(EndpointOptions(**options), activity)
    audio = join(*audio)
    for start in range(0, len(audio), 1280):
        activity.push(audio[start:start + 1280])
        pointer.update(pointer.options.silence_s)
    return pointer


def test_a_boundary_lies_in_the_pause():
    pointer = endpointer(voice(1.6), silence(1.0))
    assert not pointer.starts_new(1.7, 0.0)
    assert pointer.starts_new(2.5, 0.0)
    assert not pointer.is_over(1.8, False, 0.0)
    assert pointer.is_over(2.5, False, 0.0)
    assert not pointer.is_over(2.5, True, 0.0)
    pointer.close(2.5)
    assert not pointer.starts_new(2.6, 0.0)


def test_a_pause_has_one_boundary_however_long_it_is():
    pointer = endpointer(voice(1.6), silence(30.0))
    assert len(pointer._boundaries) == 1
    pointer.close(2.5)
    assert not pointer.starts_new(25.0, 24.0)


def test_closing_keeps_the_boundaries_that_lie_ahead():
    pointer = endpointer(voice(0.96), silence(1.04), voice(0.96), silence(1.04))
    pointer.close(2.4)
    assert pointer.starts_new(3.9, 2.1)
    assert not pointer.starts_new(3.0, 2.1)


@pytest.mark.parametrize('transcribed, expected', [(0.05, False), (0.15, True), (0.9, True)])
def test_speech_is_expected_where_anything_like_it_was_transcribed(transcribed, expected):
    pointer = endpointer(silence(4.0), voice(0.64, transcribed), silence(4.0))
    assert pointer.expects_speech(4.64) == expected
    assert pointer.expects_speech(3.9) == expected  # written early
    assert pointer.expects_speech(6.0) == expected  # written late
    assert not pointer.expects_speech(1.0)
    assert not pointer.expects_speech(8.0)


def test_speech_is_expected_everywhere_if_nothing_is_asked_for():
    assert endpointer(silence(8.0), min_speech_probability=0.0).expects_speech(4.0)
