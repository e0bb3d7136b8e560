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

"""OpenAI's own SDK as a client; every event is what its types say."""

import base64

import pytest
import soundfile
from support.realtime import DATA, ServerProcess

from voxtral_ros.audio.resample import Resampler
from voxtral_ros.evaluation.word_error_rate import normalize, word_errors

openai = pytest.importorskip('openai', reason='the SDK of requirements/test.txt is missing')
pydantic = pytest.importorskip('pydantic')
realtime = pytest.importorskip('openai.types.realtime')

RATE_HZ = 24_000
ORDER_S = 5.0  # of the recording: the first of its orders, and the pause behind it
ORDER = 'robot go to the kitchen and bring me the red cup'
STARTED, STOPPED = 'input_audio_buffer.speech_started', 'input_audio_buffer.speech_stopped'
COMMITTED = 'input_audio_buffer.committed'
DELTA = 'conversation.item.input_audio_transcription.delta'
COMPLETED = 'conversation.item.input_audio_transcription.completed'


@pytest.fixture(scope='module')
def server():
    with ServerProcess('--idle-timeout-s', 60) as process:  # then a test fails that waits in vain
        yield process


@pytest.fixture(scope='module')
def order():
    """Return an order and a pause as the SDK wants them: base64 of PCM16 at 24 kHz, in pieces."""
    samples, rate_hz = soundfile.read(DATA / 'orders.flac', dtype='float32')
    samples = Resampler(rate_hz, RATE_HZ).process(samples[:round(ORDER_S * rate_hz)], last=True)
    pcm = (samples * 32767).astype('<i2').tobytes()
    return [base64.b64encode(pcm[start:start + RATE_HZ]).decode()
            for start in range(0, len(pcm), RATE_HZ)]


@pytest.fixture
def connect(server):
    client = openai.OpenAI(api_key='none', base_url=f'{server.http}/v1')

    def connect(**options):
        return client.realtime.connect(
            **options, websocket_connection_options={'proxy': None, 'max_size': None})
    return connect


def until(connection, kind):
    """Return the events up to the first of a kind; the types of the SDK must hold for each."""
    exactly = pydantic.TypeAdapter(realtime.RealtimeServerEvent)
    events = [connection.recv()]
    while events[-1].type != kind:
        events.append(connection.recv())
    for event in events:
        exactly.validate_python(event.to_dict())
    return events


def is_the_order(transcript):
    return word_errors(ORDER.split(), normalize(transcript)) <= 1


def test_a_start_without_an_update(connect, order):
    with connect(extra_query={'intent': 'transcription'}) as connection:
        created, = until(connection, 'session.created')
        assert created.session.audio.input.format.rate == RATE_HZ
        for audio in order:
            connection.input_audio_buffer.append(audio=audio)
        events = until(connection, COMPLETED)
    kinds = [event.type for event in events if event.type != DELTA]
    assert kinds == [STARTED, STOPPED, COMMITTED, COMPLETED]
    assert is_the_order(events[-1].transcript)
    assert ''.join(event.delta for event in events if event.type == DELTA) == \
        events[-1].transcript
    assert {event.item_id for event in events} == {events[-1].item_id}
    assert 1 < events[-1].usage.seconds < ORDER_S


def test_commits_of_the_client(connect, order):
    with connect(model='gpt-4o-transcribe') as connection:
        until(connection, 'session.created')
        connection.session.update(session={
            'type': 'transcription', 'audio': {'input': {
                'format': {'type': 'audio/pcm', 'rate': RATE_HZ}, 'turn_detection': None,
                'transcription': {'model': 'gpt-4o-transcribe', 'language': 'en'}}}})
        updated = until(connection, 'session.updated')[-1]
        assert updated.session.audio.input.turn_detection is None
        previous = None
        for _ in range(2):
            for audio in order:
                connection.input_audio_buffer.append(audio=audio)
            connection.input_audio_buffer.commit()
            events = until(connection, COMPLETED)
            committed, = [event for event in events if event.type == COMMITTED]
            assert committed.item_id == events[-1].item_id
            assert committed.previous_item_id == previous
            assert is_the_order(events[-1].transcript)
            previous = committed.item_id


def test_keywords(connect, order):
    with connect(extra_query={'intent': 'transcription'}) as connection:
        until(connection, 'session.created')
        connection.session.update(session={'type': 'transcription', 'audio': {'input': {
            'transcription': {'model': 'gpt-live-transcribe', 'keywords': ['read cup :5']}}}})
        updated = until(connection, 'session.updated')[-1]
        assert updated.session.audio.input.transcription.keywords == ['read cup :5.0']
        for audio in order:
            connection.input_audio_buffer.append(audio=audio)
        assert normalize(until(connection, COMPLETED)[-1].transcript) == \
            ORDER.replace('red', 'read').split()
        connection.session.update(session={'type': 'transcription', 'audio': {'input': {
            'transcription': {'keywords': ['cup :full']}}}})
        assert until(connection, 'error')[-1].error.code == 'invalid_phrases'


def test_errors_and_clearing(connect, order):
    with connect(extra_query={'intent': 'transcription'}) as connection:
        until(connection, 'session.created')
        connection.input_audio_buffer.commit(event_id='too early')
        error = until(connection, 'error')[-1].error
        assert (error.code, error.event_id) == ('input_audio_buffer_commit_empty', 'too early')
        connection.input_audio_buffer.append(audio=order[0])
        connection.input_audio_buffer.clear()
        until(connection, 'input_audio_buffer.cleared')
