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

"""Events of OpenAI's transcription sessions as aliases."""

import pytest
from support.realtime import encoded

DELTA = 'conversation.item.input_audio_transcription.delta'
COMPLETED = 'conversation.item.input_audio_transcription.completed'
GA = {'type': 'transcription', 'audio': {'input': {
    'format': {'type': 'audio/pcm', 'rate': 16000}, 'transcription': {'model': 'whisper-1'}}}}


def test_session_is_answered(client):
    client.send('transcription_session.update', session={'input_audio_format': 'pcm16'})
    updated = client.expect('transcription_session.updated')
    assert updated['session']['turn_detection'] == {'type': 'server_vad'}
    assert updated['session']['sample_rate'] == 24000
    client.send('session.update', session=GA)
    client.expect('session.updated')


def test_without_turn_detection_a_commit_ends_an_item(scripted, client):
    manual = {'audio': {'input': {**GA['audio']['input'], 'turn_detection': None}}}
    client.send('session.update', session=manual)
    assert client.expect('session.updated')['session']['turn_detection'] is None
    client.append(scripted.two)
    client.commit()
    *events, completed = client.until(COMPLETED)
    assert completed['transcript'] == 'stop turn left'
    assert ''.join(event['delta'] for event in events if event['type'] == DELTA) == \
        completed['transcript']
    assert [event['item_id'] for event in events
            if event['type'] == 'input_audio_buffer.committed'] == [completed['item_id']]


def test_with_turn_detection_every_utterance_is_an_item(scripted, client):
    client.send('session.update', session=GA)
    client.expect('session.updated')
    client.append(scripted.two)
    first, second = client.until(COMPLETED), client.until(COMPLETED)
    assert (first[-1]['transcript'], second[-1]['transcript']) == ('stop', 'turn left')
    assert first[-1]['item_id'] != second[-1]['item_id']
    kinds = [event['type'] for event in first]
    assert kinds.index('input_audio_buffer.speech_started') < kinds.index(DELTA)


def test_a_second_commit_is_answered_although_the_first_is_under_way(scripted, client):
    manual = {'audio': {'input': {**GA['audio']['input'], 'turn_detection': None}}}
    client.send('session.update', session=manual)
    client.expect('session.updated')
    for audio in (scripted.order, scripted.two):
        client.append(audio)
        client.commit()
    items = []
    for text in ('go to the kitchen', 'stop turn left'):
        *events, completed = client.until(COMPLETED)
        assert completed['transcript'] == text
        items += [event['item_id'] for event in events
                  if event['type'] == 'input_audio_buffer.committed']
        assert items[-1] == completed['item_id']
    assert len(set(items)) == 2


def test_an_update_leaves_what_it_does_not_name(client):
    manual = {'audio': {'input': {**GA['audio']['input'], 'turn_detection': None}}}
    for session in (manual, {'type': 'transcription'}, {'audio': {'input': {}}}):
        client.send('session.update', session=session)
        updated = client.expect('session.updated')['session']
        assert (updated['sample_rate'], updated['turn_detection']) == (16000, None)
    client.send('session.update', session={'turn_detection': {'type': 'server_vad'}})
    updated = client.expect('session.updated')['session']
    assert (updated['sample_rate'], updated['turn_detection']['type']) == (16000, 'server_vad')


def test_errors_are_objects(client):
    client.send('session.update', session=GA)
    client.expect('session.updated')
    client.send('response.create')
    error = client.expect('error')['error']
    assert error['code'] == 'unknown_event'
    assert 'response.create' in error['message']


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
