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

"""OpenAI's dialect of transcription sessions, event by event."""

import pytest
from support.realtime import Client, encoded, MODEL, said

from voxtral_ros.audio.resample import Resampler
from voxtral_ros.recognizer.events import SpeechActivity, Transcript, Word
from voxtral_ros.server.dialects.openai import OpenAIDialect
from voxtral_ros.server.events import SessionOptions
from voxtral_ros.server.job import Update

DELTA = 'conversation.item.input_audio_transcription.delta'
COMPLETED = 'conversation.item.input_audio_transcription.completed'
COMMITTED = 'input_audio_buffer.committed'
GA = {'type': 'transcription', 'audio': {'input': {
    'format': {'type': 'audio/pcm', 'rate': 16000}, 'transcription': {'model': 'whisper-1'}}}}
MANUAL = {'audio': {'input': {**GA['audio']['input'], 'turn_detection': None}}}


def test_session_is_answered_in_the_form_it_came_in(client):
    client.send('transcription_session.update', session={'input_audio_format': 'pcm16'})
    old = client.expect('transcription_session.updated')['session']
    assert old['turn_detection'] == {'type': 'server_vad', 'silence_duration_ms': 800}
    assert old['input_audio_format'] == 'pcm16'
    client.send('session.update', session=GA)
    new = client.expect('session.updated')['session']
    assert new['type'] == 'transcription'
    assert new['audio']['input']['format'] == {'type': 'audio/pcm', 'rate': 16000}
    assert new['id'] == old['id']


def test_the_greeting_is_both_of_vllm_and_of_openai(scripted):
    with Client(scripted.server.url) as client:
        created = client.expect('session.created')
    assert created['id'] == created['session']['id']
    assert created['session']['type'] == 'transcription'
    assert created['session']['audio']['input']['transcription'] == {'model': MODEL}


def test_without_turn_detection_a_commit_ends_an_item(scripted, client):
    client.send('session.update', session=MANUAL)
    assert client.expect('session.updated')['session']['audio']['input']['turn_detection'] is None
    client.append(scripted.two)
    client.commit()
    *events, completed = client.until(COMPLETED)
    assert completed['transcript'] == 'stop turn left'
    assert ''.join(event['delta'] for event in events if event['type'] == DELTA) == \
        completed['transcript']
    assert [event['item_id'] for event in events
            if event['type'] == COMMITTED] == [completed['item_id']]


def test_with_turn_detection_every_utterance_is_an_item(scripted, client):
    client.send('session.update', session=GA)
    client.expect('session.updated')
    client.append(scripted.two)
    first, second = client.until(COMPLETED), client.until(COMPLETED)
    assert (first[-1]['transcript'], second[-1]['transcript']) == ('stop', 'turn left')
    assert first[-1]['item_id'] != second[-1]['item_id']
    kinds = [event['type'] for event in first]
    assert kinds.index('input_audio_buffer.speech_started') < kinds.index(DELTA)
    previous = None
    for events in (first, second):
        committed = [event for event in events if event['type'] == COMMITTED]
        assert [event['item_id'] for event in committed] == [events[-1]['item_id']]
        assert committed[0]['previous_item_id'] == previous
        previous = events[-1]['item_id']
        assert {event['item_id'] for event in events} == {previous}
        assert events[-1]['usage'] == {'type': 'duration', 'seconds': pytest.approx(0.5, abs=0.2)}


def test_a_second_commit_is_answered_although_the_first_is_under_way(scripted, client):
    client.send('session.update', session=MANUAL)
    client.expect('session.updated')
    for audio in (scripted.order, scripted.two):
        client.append(audio)
        client.commit()
    items = []
    for text in ('go to the kitchen', 'stop turn left'):
        *events, completed = client.until(COMPLETED)
        assert completed['transcript'] == text
        items += [event['item_id'] for event in events
                  if event['type'] == COMMITTED]
        assert items[-1] == completed['item_id']
    assert len(set(items)) == 2


def test_an_update_leaves_what_it_does_not_name(client):
    for session in (MANUAL, {'type': 'transcription'}, {'audio': {'input': {}}}):
        client.send('session.update', session=session)
        updated = client.expect('session.updated')['session']['audio']['input']
        assert (updated['format']['rate'], updated['turn_detection']) == (16000, None)
    client.send('session.update', session={'turn_detection': {'type': 'server_vad'}})
    updated = client.expect('session.updated')['session']['audio']['input']
    assert (updated['format']['rate'], updated['turn_detection']['type']) == (16000, 'server_vad')


def test_errors_are_objects(client):
    client.send('session.update', session=GA)
    client.expect('session.updated')
    client.send('response.create', event_id='mine')
    error = client.expect('error')['error']
    assert error['code'] == 'unknown_event'
    assert 'response.create' in error['message']
    assert error['event_id'] == 'mine'
    client.send('response.create', event_id=['mine'])
    assert client.expect('error')['error']['event_id'] is None


def test_frames_that_are_too_long_have_an_error_object_too(scripted):
    with scripted.server.client() as client:
        client.send('session.update', session=GA)
        client.expect('session.updated')
        client.send('input_audio_buffer.append', audio='A' * 9_000_000)
        events, code = client.rest()
    assert 'too long' in events[0]['error']['message']
    assert code == 1009


def test_an_empty_commit_is_an_error(scripted, client):
    client.send('session.update', session=MANUAL)
    client.expect('session.updated')
    client.commit()
    assert client.expect('error')['error']['code'] == 'input_audio_buffer_commit_empty'
    with scripted.server.engine.held():
        client.append(scripted.order)
        client.commit()
        client.commit()  # while the first is under way
        client.expect(COMMITTED)
        assert client.expect('error')['error']['code'] == 'input_audio_buffer_commit_empty'
    assert client.until(COMPLETED)[-1]['transcript'] == 'go to the kitchen'


def test_a_clear_is_answered(scripted, client):
    client.send('session.update', session=MANUAL)
    client.expect('session.updated')
    client.append(scripted.order[:16000])
    client.send('input_audio_buffer.clear')
    client.expect('input_audio_buffer.cleared')
    client.append(scripted.two)
    client.commit()
    assert client.until(COMPLETED)[-1]['transcript'] == 'stop turn left'


def test_times_count_from_the_start_of_the_session(scripted, client):
    client.send('session.update', session=GA)
    client.expect('session.updated')
    starts = []
    for _ in range(2):
        client.append(scripted.order)
        client.commit()
        starts += [event['audio_start_ms'] for event in client.until(COMPLETED)
                   if 'audio_start_ms' in event]
    length_ms = len(scripted.order) / 16
    assert starts == [pytest.approx(1000, abs=40), pytest.approx(length_ms + 1000, abs=40)]


def test_speech_that_goes_on_begins_the_next_item():
    transcription = OpenAIDialect('sess', MODEL).transcription(SessionOptions(utterances=True), 0)
    stop = Transcript(1, 0, True, 'stop', 'stop', (Word('stop', 1.5, 0.9),), 1.0, 1.5)
    events = list(transcription.events(Update([
        SpeechActivity(True, 1.0), SpeechActivity(False, 1.5), SpeechActivity(True, 2.0), stop])))
    *before, committed, completed, started = events
    assert committed['item_id'] == completed['item_id'] == before[0]['item_id']
    assert started['type'] == 'input_audio_buffer.speech_started'
    assert started['audio_start_ms'] == 2000
    assert started['item_id'] != completed['item_id']


@pytest.mark.parametrize('more', ['', '&model=gpt-4o-transcribe'])
def test_the_address_says_it_so_no_update_is_needed(scripted, more):
    with Client(f'{scripted.server.url}?intent=transcription{more}') as client:
        client.expect('session.created')
        client.append(Resampler(16000, 24000).process(scripted.order, last=True), 10**6)
        client.commit()
        events = client.until(COMPLETED)
    # The marks of the script do not survive the resampling, the loudness does.
    assert [event['audio_start_ms'] for event in events if 'audio_start_ms' in event] == \
        [pytest.approx(1000, abs=64)]
    assert all(event['event_id'] for event in events)


def test_a_model_in_the_address_does_not_say_that_it_is_openai(scripted):
    with Client(f'{scripted.server.url}?model={MODEL}') as client:
        client.expect('session.created')
        client.append(scripted.order)  # as a client of vLLM may, before its update
        client.update(model=MODEL)
        client.commit()
        client.commit(final=True)
        assert client.until('transcription.done')[-1]['text'] == 'go to the kitchen'


@pytest.mark.parametrize('query', [f'model={MODEL}', 'intent=transcription'])
def test_a_client_of_vllm_is_understood_at_any_address(scripted, query):
    with Client(f'{scripted.server.url}?{query}') as client:
        client.expect('session.created')
        client.update(model=MODEL)
        client.commit()
        client.append(scripted.order)  # 16 kHz
        client.commit(final=True)
        *deltas, done = client.until('transcription.done')
        assert said(deltas) == done['text'] == 'go to the kitchen'


@pytest.mark.parametrize('session', [
    5, None, {'input_audio_format': 'g711_ulaw'}, {'delay_ms': 'soon'},
    {'audio': {'input': {'format': {'type': 'audio/pcm', 'rate': 5}}}}])
def test_what_is_not_supported_is_refused(client, session):
    client.send('session.update', session=session)
    assert client.expect('error')['code'] == 'invalid_event'


def test_commit_before_a_session_is_not_validated(client):
    client.send('input_audio_buffer.append', audio=encoded([0.0] * 100))
    client.commit()
    assert client.expect('error')['code'] == 'model_not_validated'
