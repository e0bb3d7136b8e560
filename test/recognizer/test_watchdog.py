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

"""Watchdog: a penalty ends a blank loop, else a new start processes the last seconds again."""

import logging
import random

import pytest
from support.scripted import (
    DELAY, feed, finals, join, open_stream, PAUSE, RATE, Script, scripted_voice, silence, texts,
    transcripts, voice)

from voxtral_ros.recognizer.endpoint import EndpointOptions
from voxtral_ros.recognizer.options import StreamOptions
from voxtral_ros.recognizer.stream import Stream
from voxtral_ros.recognizer.vad import VadOptions, VoiceActivity
from voxtral_ros.recognizer.watchdog import Action, Watchdog, WatchdogOptions

NEVER = 99.0  # a penalty that is never reached
REPEAT = 16.0  # seconds of speech without a word after which a stream starts afresh


@pytest.fixture(autouse=True)
def voice_activity():
    with scripted_voice():
        yield


def penalties(stream: Stream) -> list[float]:
    return stream._engine.penalties


def blank_loop_with_words(script: Script, until_penalty: float, seconds: float):
    """Return a word, so many seconds of speech with lost words in it, and two words."""
    lost = join(*(script.say(' and', seconds=0.16) for _ in range(round(seconds / 0.16))))
    return join(script.say(' stop'), script.blank_loop(until_penalty), lost, silence(0.48),
                script.say(' turn'), script.say(' left'), silence(PAUSE))


# ---- the penalty ----

def test_a_healthy_stream_is_left_alone():
    script = Script()
    words = random.Random(0).choices((' turn', ' left', ' robot', ' stop', ' and'), k=200)
    audio = join(*(script.say(*words[n:n + 2]) for n in range(0, 200, 2)), silence(PAUSE))
    stream = open_stream(script)
    feed(stream, audio)
    assert penalties(stream) == []
    assert (stream.stats.watchdog_penalties, stream.stats.watchdog_resets) == (0, 0)


def test_the_penalty_rises_until_the_first_text_and_is_gone_then(caplog):
    script = Script()
    stream = open_stream(script)
    with caplog.at_level(logging.WARNING):
        events = feed(stream, blank_loop_with_words(script, 2.0, 9.6))
    ramp = penalties(stream)[:-1]
    assert ramp == [0.5 * n for n in range(1, len(ramp) + 1)]
    assert ramp[-1] >= 2.0
    assert penalties(stream)[-1] == 0.0
    assert stream.stats.watchdog_penalties == 1
    assert stream.stats.watchdog_resets == 0
    assert len(caplog.records) == 1
    assert texts(events)[-1].endswith('turn left')


def test_the_penalty_begins_after_so_many_seconds_of_speech():
    script = Script()
    stream = open_stream(script)
    audio = join(script.say(' stop'), script.blank_loop(NEVER), voice(20.0))
    spoken_of_s = 8.0 + 0.48 + 2 * 0.08  # since the word was written
    feed(stream, audio[:round((spoken_of_s + 0.08 * DELAY - 0.1) * RATE)])
    assert penalties(stream) == []
    feed(stream, audio[round((spoken_of_s + 0.08 * DELAY - 0.1) * RATE):][:round(0.3 * RATE)])
    assert penalties(stream)


def test_the_penalty_has_a_limit():
    script = Script()
    stream = open_stream(script)
    feed(stream, join(script.blank_loop(NEVER), voice(15.0)))
    assert max(penalties(stream)) == 7.0


def test_every_blank_loop_counts():
    script = Script()
    stream = open_stream(script)
    for n in range(1, 4):
        feed(stream, blank_loop_with_words(script, 1.0, 9.6))
        assert stream.stats.watchdog_penalties == n


def test_a_penalty_does_not_outlast_the_speech_that_it_was_for():
    """Take the penalty back when the speech is long over, or it provokes text in silence."""
    script = Script()
    stream = open_stream(script)
    feed(stream, join(script.blank_loop(NEVER), voice(9.6), silence(90.0)))
    assert penalties(stream)
    assert penalties(stream)[-1] == 0.0


# ---- the new start ----

def test_a_new_start_transcribes_the_last_words_again():
    script = Script()
    lost = join(voice(15.0), *(script.say(word) for word in (' turn', ' left', ' here')))
    audio = join(script.say(' stop'), script.blank_loop(NEVER), lost, silence(PAUSE),
                 script.say(' you'), silence(PAUSE))
    stream = open_stream(script)
    events = feed(stream, audio)
    assert stream.stats.watchdog_resets == 1
    assert stream._engine.n_open == 1
    assert texts(events) == ['stop', 'turn left here', 'you']


def test_times_are_right_after_a_new_start():
    script = Script()
    before = join(script.say(' stop'), script.blank_loop(NEVER), voice(15.04))
    lost = join(*(script.say(word) for word in (' turn', ' left', ' here')))
    audio = join(before, lost, silence(PAUSE), script.say(' you'), silence(PAUSE))
    events = feed(open_stream(script), audio)
    published = finals(events)
    start_s = len(before) / RATE
    assert [word.end_s for word in published[1].words] == pytest.approx(
        [start_s + 0.48 * n for n in (1, 2, 3)], abs=0.081)
    assert published[2].end_s == pytest.approx(
        start_s + len(lost) / RATE + PAUSE + 0.48, abs=0.081)
    assert published[2].start_s == pytest.approx(published[2].end_s - 0.48, abs=0.15)


def test_the_new_start_waits_for_a_pause():
    script = Script()
    stream = open_stream(script)
    feed(stream, join(script.blank_loop(NEVER), voice(REPEAT + 4.0)))
    assert stream.stats.watchdog_resets == 0
    feed(stream, silence(1.0))
    assert stream.stats.watchdog_resets == 1


def test_the_penalty_starts_anew_too():
    script = Script()
    stream = open_stream(script)
    feed(stream, join(script.blank_loop(NEVER), voice(REPEAT + 1), silence(1.0)))
    assert penalties(stream)[-1] == 7.0
    n_before = len(penalties(stream))
    feed(stream, join(script.blank_loop(NEVER), voice(10.0)))
    assert penalties(stream)[n_before:][:2] == [0.5, 1.0]
    assert stream.stats.watchdog_penalties == 2


def test_the_new_start_does_not_wait_for_ever():
    script = Script()
    stream = open_stream(script)
    feed(stream, join(script.blank_loop(NEVER), voice(2 * REPEAT + 1.0)))
    assert stream.stats.watchdog_resets == 1


@pytest.mark.parametrize('preroll_s', [5.0, 18.0, 60.0])
def test_words_that_were_published_are_not_published_again(preroll_s):
    script = Script()
    audio = join(*(script.say(' turn', seconds=0.8) for _ in range(5)), script.blank_loop(NEVER),
                 voice(REPEAT + 1), silence(5.0))
    options = StreamOptions(watchdog=WatchdogOptions(preroll_s=preroll_s))
    stream = open_stream(script, options)
    assert texts(feed(stream, audio)) == ['turn turn turn turn turn']
    assert stream.stats.watchdog_resets == 1


def test_a_blank_loop_that_comes_again_does_not_hold_the_stream_up():
    """Go on even if what is processed again leads into the same blank loop and a new start."""
    script = Script()
    watchdog = WatchdogOptions(speech_s=2.0, reset_after_s=1.0, preroll_s=20.0)
    options = StreamOptions(watchdog=watchdog)
    audio = join(silence(0.8), script.say(' stop'), script.blank_loop(NEVER), voice(20.0),
                 silence(2.0), script.say(' turn'), silence(PAUSE))
    assert texts(feed(open_stream(script, options), audio))[-1] == 'turn'


def test_the_open_utterance_ends_with_the_old_start():
    script = Script()
    endpoint = EndpointOptions(pad_silence_s=99.0, max_utterance_s=99.0)
    audio = join(script.say(' stop'), script.blank_loop(NEVER), voice(2 * REPEAT + 1),
                 script.say(' turn'), silence(PAUSE))
    events = feed(open_stream(script, StreamOptions(endpoint)), audio)
    assert texts(events) == ['stop', 'turn']
    assert [event.utterance_id for event in transcripts(events)] == sorted(
        event.utterance_id for event in transcripts(events))


@pytest.mark.parametrize('preroll_s', [0.0, 0.01, 1.0, 5.0, 12.34])
def test_any_preroll_will_do(preroll_s):
    script = Script()
    audio = join(script.blank_loop(NEVER), voice(REPEAT + 1), silence(PAUSE), script.say(' turn'),
                 silence(PAUSE))
    stream = open_stream(script, StreamOptions(watchdog=WatchdogOptions(preroll_s=preroll_s)))
    events = feed(stream, audio)
    assert stream.stats.watchdog_resets == 1
    assert texts(events) == ['turn']
    assert finals(events)[0].end_s == pytest.approx(len(audio) / RATE - PAUSE, abs=0.081)


@pytest.mark.parametrize('audio', [
    silence(120.0), join(voice(7.0), silence(113.0)), voice(60.0, voiced=0.3)])
def test_true_silence_is_no_blank_loop(audio):
    script = Script()
    stream = open_stream(script)
    feed(stream, audio, RATE)
    assert penalties(stream) == []
    assert stream.stats.watchdog_resets == 0


def test_the_watchdog_can_be_switched_off():
    script = Script()
    stream = open_stream(script, StreamOptions(watchdog=WatchdogOptions(speech_s=0.0)))
    feed(stream, join(script.blank_loop(NEVER), voice(60.0), silence(PAUSE)))
    assert penalties(stream) == []
    assert stream.stats.watchdog_resets == 0


@pytest.mark.parametrize('until_penalty', [2.0, NEVER])
def test_chunking_changes_nothing_in_a_blank_loop(until_penalty):
    """Take the same decisions whether the engine takes one token in a step or has a backlog."""
    script = Script()
    audio = blank_loop_with_words(script, until_penalty, 17.0)
    events = feed(open_stream(script, max_chunk_tokens=1), audio)
    assert feed(open_stream(script), audio) == events
    assert feed(open_stream(script), audio, len(audio)) == events


# ---- a new start while a flush waits ----

def test_closing_a_stream_in_a_blank_loop_reports_the_words_that_are_transcribed_again():
    """Process everything in one poll: the new start comes while the flush of close waits."""
    script = Script()
    endpoint = EndpointOptions(silence_s=30.0, pad_silence_s=30.0)
    lost = join(voice(15.0), *(script.say(word) for word in (' turn', ' left', ' here')))
    audio = join(script.say(' stop'), script.blank_loop(NEVER), lost, silence(0.4))
    stream = open_stream(script, StreamOptions(endpoint))
    stream.feed(audio)
    assert texts(stream.close()) == ['stop', 'turn left here']


def test_a_flush_ends_the_utterance_although_the_stream_starts_afresh():
    script = Script()
    endpoint = EndpointOptions(silence_s=30.0, pad_silence_s=30.0)
    before = join(script.blank_loop(NEVER), voice(REPEAT), silence(0.4), script.say(' turn'))
    after = join(silence(0.4), script.say(' left'), silence(1.0))
    stream = open_stream(script, StreamOptions(endpoint))
    stream.feed(before)
    stream.flush()
    stream.feed(after)
    stream.flush()
    assert texts(stream.poll()) == ['turn', 'left']
    assert stream.stats.watchdog_resets == 1


# ---- the watchdog by itself ----

def watch(*audio, **options: float) -> Watchdog:
    activity = VoiceActivity(VadOptions())
    activity.push(join(*audio))
    return Watchdog(WatchdogOptions(**options), activity)


def test_only_speech_counts_not_the_time_that_passes():
    dog = watch(*[voice(0.96), silence(3.2)] * 10)
    assert dog.blank_written(32.0) is Action.NOTHING  # 7.7 s of speech
    assert dog.blank_written(35.0) is Action.PENALISE  # 8.6 s


def test_text_starts_the_count_anew():
    dog = watch(voice(12.0))
    assert dog.blank_written(9.0) is Action.PENALISE
    assert dog.text_written(9.1, 1000) is Action.RELEASE
    assert dog.penalty == 0.0
    assert dog.text_written(9.2, 1001) is Action.NOTHING
    assert dog.blank_written(12.0) is Action.NOTHING


def test_options_set_the_ramp():
    dog = watch(voice(12.0), speech_s=2.0, penalty_per_token=1.5, max_penalty=4.0)
    ramp = []
    for n in range(4):
        assert dog.blank_written(3.0 + 0.08 * n) is Action.PENALISE
        ramp.append(dog.penalty)
    assert ramp == [1.5, 3.0, 4.0, 4.0]
