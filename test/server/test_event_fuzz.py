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

"""Any sequence of events, right and wrong ones, in any order: the server answers and lives on."""

import base64
import json

from hypothesis import given, HealthCheck, settings
from hypothesis import strategies as st
from support.realtime import encoded
from support.scripted import silence

SOUND = encoded(silence(0.3))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner,
                                                                max_size=3), max_leaves=6)
KINDS = st.sampled_from([
    'session.update', 'transcription_session.update', 'input_audio_buffer.append',
    'input_audio_buffer.commit', 'input_audio_buffer.clear', 'session.created'])
RIGHT = st.sampled_from([
    {'type': 'session.update'}, {'type': 'session.update', 'model': 'tiny'},
    {'type': 'session.update', 'utterances': True, 'words': True, 'delay_ms': 240},
    {'type': 'session.update', 'session': {'turn_detection': None}},
    {'type': 'session.update', 'sample_rate': 8000},
    {'type': 'input_audio_buffer.append', 'audio': SOUND},
    {'type': 'input_audio_buffer.commit'}, {'type': 'input_audio_buffer.clear'},
    {'type': 'input_audio_buffer.commit', 'final': True},
    {'type': 'input_audio_buffer.commit', 'final': False}])
NEARLY = st.fixed_dictionaries({'type': KINDS}, optional={
    'model': JSON, 'session': JSON, 'final': JSON, 'delay_ms': JSON, 'words': JSON,
    'utterances': JSON, 'sample_rate': JSON,
    'audio': JSON | st.binary(max_size=9).map(lambda data: base64.b64encode(data).decode())})
MESSAGES = RIGHT.map(json.dumps) | NEARLY.map(json.dumps) | JSON.map(json.dumps) \
    | st.text(max_size=30) | st.binary(max_size=30)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(messages=st.lists(MESSAGES, max_size=12))
def test_every_stream_of_events_is_survived(scripted, messages):
    with scripted.server.client() as client:
        for message in messages:
            client.socket.send(message)
        # After all that the session still does what it is there for.
        client.send('input_audio_buffer.clear')
        client.send('session.update', model='')
        client.send('nonsense')  # its answer comes after all others
        while 'nonsense' not in json.dumps(client.receive()):
            pass
    with scripted.server.client() as client:
        client.update()
        client.append(scripted.order)
        client.commit()
        assert client.until('transcription.done')[-1]['text'] == 'go to the kitchen'
    assert scripted.server.server.metrics.value('voxtral_engine_failures_total') == 0
