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

"""The client of the original: an update without a model, appends, one bare commit."""

import pytest
from support.realtime import said
from support.scripted import RATE

from voxtral_ros.audio.resample import Resampler


def test_the_example_client_works_unchanged(scripted):
    """
    The steps of the original's example, event by event.

    session.created on connect, session.update without a model, 500 ms appends, one commit.
    """
    with scripted.server.client() as client:
        client.update()
        client.append(scripted.order)
        client.commit()
        *deltas, done = client.until('transcription.done')
    assert deltas
    assert {event['type'] for event in deltas} == {'transcription.delta'}
    assert said(deltas) == done['text'] == 'go to the kitchen'


def test_audio_before_the_update_waits_for_it(scripted, client, engine_has_passed):
    client.append(scripted.order)
    engine_has_passed()
    client.send('nonsense')  # nothing comes before its answer
    assert client.receive()['code'] == 'unknown_event'
    client.update()
    assert 'go to the kitchen'.startswith(client.expect('transcription.delta')['delta'])
    client.commit()
    assert client.until('transcription.done')[-1]['text'] == 'go to the kitchen'


def test_audio_before_the_update_has_the_rate_of_the_update(scripted, client):
    client.append(Resampler(16000, 8000).process(scripted.order, last=True))
    client.update(sample_rate=8000, utterances=True)
    client.commit()
    events = client.until('transcription.done')
    # The marks of the script do not survive the resampling, the loudness does.
    assert [event['audio_end_ms'] for event in events if 'audio_end_ms' in event] == \
        [pytest.approx(1480, abs=64)]


def test_deltas_come_while_audio_is_still_being_appended(scripted, client):
    client.update()
    client.append(scripted.order)  # and no commit
    first = client.expect('transcription.delta')
    assert 'go to the kitchen'.startswith(first['delta'])
    client.commit()
    client.until('transcription.done')


def test_several_utterances_follow_each_other_on_one_connection(scripted, client):
    client.update()
    for _ in range(3):
        client.append(scripted.order)
        client.commit()
        assert client.until('transcription.done')[-1]['text'] == 'go to the kitchen'


def test_audio_after_a_commit_belongs_to_the_next_utterance(scripted, client):
    client.update()
    client.append(scripted.order)
    client.commit()
    client.append(scripted.two)  # without waiting for done
    client.commit()
    texts = [client.until('transcription.done')[-1]['text'] for _ in range(2)]
    assert texts == ['go to the kitchen', 'stop turn left']


def test_audio_that_ends_in_speech_is_written_to_its_end(scripted, client):
    client.update()
    client.append(scripted.two[:round(1.48 * RATE)])
    client.commit()
    assert client.until('transcription.done')[-1]['text'] == 'stop'


def test_a_commit_of_nothing_is_done_at_once(client):
    client.update()
    client.commit()
    assert client.expect('transcription.done')['text'] == ''


def test_a_final_commit_ends_the_audio_as_a_bare_one_does(scripted, client):
    client.update()
    client.append(scripted.order)
    client.commit(final=True)
    assert client.until('transcription.done')[-1]['text'] == 'go to the kitchen'


def test_a_cleared_buffer_is_not_transcribed(scripted, client):
    client.update()
    client.append(scripted.order[:RATE])
    client.send('input_audio_buffer.clear')
    client.append(scripted.two)
    client.commit()
    assert client.until('transcription.done')[-1]['text'] == 'stop turn left'
