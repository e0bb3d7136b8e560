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

"""Turns: a client learns of the end before the model has written all of it, if it wants to."""

import pytest
from support.scripted import join, PAUSE, silence

TURN_KINDS = ('turn.start', 'turn.eager', 'turn.resumed', 'turn.end')
COMPLETED = 'conversation.item.input_audio_transcription.completed'


def turns(events):
    return [event for event in events if event['type'] in TURN_KINDS]


@pytest.mark.parametrize('dialect', [{}, {'model': ''}])
def test_a_turn_starts_may_end_and_ends(scripted, client, dialect):
    client.update(turns=True, utterances=True, words=True, **dialect)
    if dialect:
        client.commit()
    client.append(join(silence(1.0), scripted.script.say(' go', ' left')))
    client.append(silence(0.9))  # too little for the model to write all of it
    events = client.until('turn.end')
    start, eager, end = turns(events)
    assert start == {'type': 'turn.start', 'id': 1, 'start_s': pytest.approx(1.0, abs=0.04),
                     'end_s': pytest.approx(1.0, abs=0.04)}
    assert (eager['type'], end['type']) == ('turn.eager', 'turn.end')
    for event in (eager, end):
        assert (event['id'], event['text']) == (1, 'go left')
        assert [word['text'] for word in event['words']] == ['go', 'left']
        assert event['start_s'] == start['start_s']
        assert event['end_s'] == pytest.approx(1.48, abs=0.04)
    segment = next(event for event in events if event['type'] == 'transcription.segment')
    assert (segment['id'], segment['text'], segment['words']) == (1, 'go left', end['words'])
    client.commit(final=True)
    events = client.until('transcription.done')
    assert events[-1]['text'] == 'go left'
    assert turns(events) == []


def test_a_turn_that_goes_on_is_resumed(scripted, client):
    script = scripted.script
    client.update(turns=True)
    client.append(join(silence(1.0), script.say(' turn'), silence(0.6), script.say(' left'),
                       silence(PAUSE)))
    events = client.until('turn.end')
    assert [event['type'] for event in turns(events)] == [
        'turn.start', 'turn.eager', 'turn.resumed', 'turn.eager', 'turn.end']
    assert [event.get('text') for event in turns(events)] == [
        None, 'turn', None, 'turn left', 'turn left']
    assert {event['id'] for event in turns(events)} == {1}
    assert turns(events)[2]['end_s'] == pytest.approx(2.08, abs=0.04)
    assert not any('words' in event for event in turns(events))


@pytest.fixture
def looks(scripted):
    """Return the slots that were looked ahead in."""
    looks, engine = [], scripted.server.engine
    looking_ahead = engine.looking_ahead
    engine.looking_ahead = lambda slot: looks.append(slot) or looking_ahead(slot)
    yield looks
    del engine.looking_ahead


def test_without_asking_nobody_looks_ahead(scripted, client, looks):
    client.update(utterances=True)
    client.append(scripted.two)
    client.commit()
    assert turns(client.until('transcription.done')) == []
    assert looks == []


def test_a_flag_that_is_none_is_refused(client):
    client.update(turns='perhaps')
    assert client.expect('error')['code'] == 'invalid_event'


# ---- OpenAI ----

def opened(client, **detection):
    client.send('session.update', session={'type': 'transcription', 'audio': {'input': {
        'format': {'type': 'audio/pcm', 'rate': 16000},
        'turn_detection': {'type': 'server_vad', **detection}}}})
    return client.receive()


@pytest.mark.parametrize(('detection', 'pause_s'), [
    ({}, 0.8), ({'silence_duration_ms': 400}, 0.4), ({'silence_duration_ms': 1500}, 1.5),
    ({'silence_duration_ms': 200}, 0.2), ({'silence_duration_ms': None, 'threshold': 0.5}, 0.8)])
def test_an_item_is_completed_when_the_pause_is_over(scripted, client, detection, pause_s):
    """And not half a second later, when the model has written it."""
    session = opened(client, **detection)['session']
    assert session['audio']['input']['turn_detection'] == {
        'type': 'server_vad', 'silence_duration_ms': round(1000 * pause_s)}
    speech = join(silence(1.0), scripted.script.say(' go', ' left'))
    client.append(join(speech, silence(pause_s - 0.1)))
    client.append(silence(0.2))
    events = client.until(COMPLETED)
    assert events[-1]['transcript'] == 'go left'
    stopped = next(event for event in events
                   if event['type'] == 'input_audio_buffer.speech_stopped')
    assert stopped['audio_end_ms'] == pytest.approx(1480, abs=40)
    assert stopped['item_id'] == events[-1]['item_id']
    # The next one is another item, all of it.
    client.append(join(speech, silence(pause_s + 0.1)))
    assert client.until(COMPLETED)[-1]['transcript'] == 'go left'


def test_without_turn_detection_nobody_looks_ahead(scripted, client, looks):
    opened(client)
    client.send('session.update', session={'turn_detection': None})
    client.receive()
    client.append(scripted.two)
    client.commit()
    assert client.until(COMPLETED)[-1]['transcript'] == 'stop turn left'
    assert looks == []


def test_no_item_is_completed_before_the_pause_is_over(scripted, client):
    opened(client, silence_duration_ms=1500)
    client.append(join(silence(1.0), scripted.script.say(' go'), silence(1.3),
                       scripted.script.say(' left'), silence(PAUSE)))
    assert client.until(COMPLETED)[-1]['transcript'] == 'go left'


@pytest.mark.parametrize('value', [0, -5, 1e9, '500', True, [], float('nan')])
def test_a_pause_that_is_none_is_refused(client, value):
    error = opened(client, silence_duration_ms=value)
    assert error['type'] == 'error'
    assert 'silence_duration_ms' in error['error']['message'] \
        if isinstance(error['error'], dict) else error['error']
