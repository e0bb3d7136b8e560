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

"""When a turn ends, to the chunk of voice activity; and where it began."""

from __future__ import annotations

import numpy as np
import pytest
from support.scripted import (
    join, open_stream, PAUSE, Script, scripted_voice, silence, TOKEN, voice)

from voxtral_ros.recognizer.endpoint import EndpointOptions
from voxtral_ros.recognizer.events import Event, SpeechActivity, Transcript, Turn, TurnKind
from voxtral_ros.recognizer.options import StreamOptions

CHUNK_S = 0.032
BLOCK = 160  # samples, 10 ms


def fed(script: Script, audio: np.ndarray, block: int = BLOCK,
        options: StreamOptions | None = None) -> list[tuple[float, Event]]:
    """Return events with the time of the audio that was there when they came."""
    with scripted_voice():
        stream = open_stream(script, options)
        found = []
        for start in range(0, len(audio), block):
            stream.feed(audio[start:start + block])
            found += [((start + block) / 16000, event) for event in stream.poll()]
        stream.abandon()
    return found


def order(start_s: float) -> tuple[Script, np.ndarray]:
    """Return an order that begins at a moment, and ends 0.6 s later."""
    script = Script()
    return script, join(silence(start_s), script.say(' go', seconds=0.6), silence(PAUSE))


@pytest.mark.parametrize('start_s', [1.0, 1.01, 1.02, 1.03, 1.04, 1.05, 1.06, 1.07])
@pytest.mark.parametrize('silence_s', [0.8, 0.96, 0.7])
def test_the_end_waits_for_no_token_of_the_model(start_s, silence_s):
    """Tokens are 80 ms; a pause that is long enough between two of them ends the turn there."""
    options = StreamOptions(endpoint=EndpointOptions(silence_s=silence_s))
    found = fed(*order(start_s), options=options)
    (final_s, final), = [(now_s, event) for now_s, event in found
                         if isinstance(event, Transcript) and event.is_final]
    (end_s, end), = [(now_s, event) for now_s, event in found
                     if isinstance(event, Turn) and event.kind is TurnKind.END]
    assert final.text == end.text == 'go'
    assert final_s == end_s
    # The chunk in which the pause is long enough, and the block that brings its last sample.
    assert silence_s <= end_s - end.end_s < silence_s + CHUNK_S + BLOCK / 16000 + 1e-6


def hesitating(pause_s: float) -> tuple[Script, np.ndarray]:
    script = Script()
    return script, join(
        silence(0.5), script.say(' go', seconds=0.6), silence(pause_s),
        script.say(' left', seconds=0.6), silence(0.3), voice(0.3), silence(PAUSE),
        script.say(' stop', seconds=0.4), silence(PAUSE))


@pytest.mark.parametrize('pause_s', [0.3, 0.5, 0.77, 0.79, 0.8, 0.82, 0.85, 0.9, 1.2])
def test_events_and_their_order_do_not_depend_on_how_the_audio_comes(pause_s):
    """Pauses that end, or just do not end, an utterance in the middle of a token are the test."""
    script, audio = hesitating(pause_s)
    expected = [event for _, event in fed(script, audio, TOKEN)]
    for block in (100, 320, 512, 1000, 1280, 8000, len(audio)):
        found = [event for _, event in fed(script, audio, block)]
        assert found == expected, block


def test_a_turn_begins_where_it_began_when_its_first_word_is_written_after_a_pause():
    """The model is late: by then somebody has gone on, and set in a second time."""
    script, audio = hesitating(0.6)
    turns = [event for _, event in fed(script, audio)
             if isinstance(event, Turn) and event.utterance_id == 1]
    assert [turn.kind.name for turn in turns] == [
        'START', 'EAGER_END', 'RESUMED', 'EAGER_END', 'RESUMED', 'EAGER_END', 'END']
    assert [turn.start_s for turn in turns] == pytest.approx(len(turns) * [0.5], abs=CHUNK_S)


def test_speech_that_stops_is_said_in_the_middle_of_a_token():
    activities = [(now_s, event) for now_s, event in fed(*order(1.03))
                  if isinstance(event, SpeechActivity) and not event.active]
    (now_s, activity), = activities
    assert now_s - activity.time_s < 0.2 + CHUNK_S + BLOCK / 16000 + 1e-6
