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

"""The dialect of vLLM: a model in session.update, a commit to start, a final commit to end."""

import base64
import math

import pytest
from support.realtime import Client, encoded, MODEL, said
from support.scripted import RATE, silence

from voxtral_ros.recognizer.events import SpeechActivity, Transcript, Word
from voxtral_ros.server.dialects.vllm import VllmTranscription
from voxtral_ros.server.job import Update


@pytest.fixture
def client(scripted):
    with scripted.server.client() as connection:
        connection.update(model=MODEL)
        yield connection


def test_greeting(scripted):
    with Client(scripted.server.url) as client:
        created = client.receive()
    assert {'type', 'id', 'created'} <= created.keys()
    assert created['type'] == 'session.created'
    assert created['id'].startswith('sess-')
    assert isinstance(created['created'], int)


def test_scripted_conversation(scripted, client):
    client.commit()
    client.append(scripted.order)
    client.commit(final=True)
    *deltas, done = client.until('transcription.done')
    assert all(event.keys() == {'type', 'delta'} for event in deltas)
    assert said(deltas) == done['text'] == 'go to the kitchen'
    assert done.keys() == {'type', 'text', 'usage'}
    usage = done['usage']
    assert usage['prompt_tokens'] == 1 + 32 + 6
    assert usage['total_tokens'] == usage['prompt_tokens'] + usage['completion_tokens']


def test_text_stands_at_the_token_that_wrote_it():
    word = Transcript(1, 0, False, 'go', 'go', (Word('go', 1.0, 0.9),), 0.5, 1.0)
    started = SpeechActivity(True, 0.5)
    update = Update([started, word], token_marks=(0, 0, 1, 2))
    deltas = [event['delta'] for event in VllmTranscription(every_token=True).events(update)]
    assert deltas == ['', '', 'go', '']


@pytest.mark.parametrize('block', [500, 8000, 10**6])
def test_every_token_has_a_delta_however_the_audio_comes(scripted, client, block):
    client.commit()
    client.append(scripted.two, block)
    client.commit(final=True)
    *deltas, done = client.until('transcription.done')
    assert len(deltas) == done['usage']['completion_tokens']
    # The groups of words end at 1.48 and 3.96 s; a client that counts deltas takes 80 ms for each
    # and finds the end of the first word of a group one token before its text.
    assert [(index, event['delta']) for index, event in enumerate(deltas) if event['delta']] == [
        (1 + math.ceil(1.48 / 0.08), 'stop'), (1 + math.ceil(3.96 / 0.08), ' turn'),
        (2 + math.ceil(3.96 / 0.08), ' left')]


@pytest.mark.parametrize('n_samples, n_tokens', [
    (0, 0), (1, 10), (39, 10), (40, 11), (1280, 11), (1319, 11), (1320, 12), (57_280, 55)])
@pytest.mark.parametrize('delay_ms', [80, 480, 2400])
def test_tokens_are_as_many_as_in_vllm(client, n_samples, n_tokens, delay_ms):
    """The numbers are those of vLLM 0.33's own VoxtralRealtimeBuffer."""
    client.update(model=MODEL, delay_ms=delay_ms)
    client.commit()
    client.append([0.0] * n_samples)
    client.commit(final=True)
    *deltas, done = client.until('transcription.done')
    prompt = 33 + delay_ms // 80 if n_samples else 0  # counted with the first token
    assert len(deltas) == n_tokens
    assert done['usage'] == {
        'prompt_tokens': prompt, 'completion_tokens': n_tokens, 'total_tokens': prompt + n_tokens,
        'prompt_tokens_details': None, 'completion_tokens_details': None}


@pytest.mark.parametrize('spelt', ['true', 'TRUE', 'yes', 'On', '1', 1, 1.0])
def test_final_as_clients_spell_it(scripted, client, spelt):
    client.append(scripted.order)
    client.commit(final={'true': 'false', 1: 0}.get(spelt, False))
    client.commit(final=spelt)
    assert client.until('transcription.done')[-1]['text'] == 'go to the kitchen'


@pytest.mark.parametrize('broken', [
    lambda text: base64.encodebytes(base64.b64decode(text)).decode(),
    lambda text: text[:7] + '\r\n\t ' + text[7:] + '\n'], ids=['mime', 'spaces'])
def test_base64_with_line_breaks(scripted, client, broken):
    client.send('input_audio_buffer.append', audio=broken(encoded(scripted.order)))
    client.commit()
    client.commit(final=True)
    assert client.until('transcription.done')[-1]['text'] == 'go to the kitchen'


def test_after_model_not_found_nothing_is_transcribed(scripted, engine_has_passed):
    with scripted.server.client() as client:
        client.update(model='gpt')
        assert client.expect('error')['code'] == 'model_not_found'
        client.append(scripted.order)
        engine_has_passed()
        client.commit()
        assert client.expect('error')['code'] == 'model_not_validated'
        client.commit(final=True)
        assert client.expect('error')['code'] == 'model_not_validated'
        client.update(model=MODEL)
        client.commit()
        client.commit(final=True)
        assert client.until('transcription.done')[-1]['text'] == 'go to the kitchen'


def test_a_bare_commit_ends_nothing(scripted, client):
    client.append(scripted.order)
    client.commit()
    while not client.receive()['delta']:
        pass
    client.commit()  # while one runs it is ignored
    client.append(scripted.two)
    client.commit(final=True)
    assert client.until('transcription.done')[-1]['text'] == 'go to the kitchen stop turn left'


def test_appends_may_come_before_the_commit(scripted, client):
    client.append(scripted.order)
    client.commit()
    client.commit(final=True)
    assert client.until('transcription.done')[-1]['text'] == 'go to the kitchen'


def test_nothing_starts_before_a_commit(scripted, client):
    client.append(scripted.order)
    client.send('nonsense')  # its answer would come after the deltas
    assert client.receive()['code'] == 'unknown_event'
    client.commit()
    client.commit(final=True)
    client.until('transcription.done')


def test_a_final_commit_starts_nothing_and_its_mark_stays_in_the_queue(scripted, client):
    client.append(scripted.order)
    client.commit(final=True)
    client.send('nonsense')
    assert client.receive()['code'] == 'unknown_event'
    client.commit()
    assert client.until('transcription.done')[-1]['text'] == 'go to the kitchen'


def test_audio_between_final_commit_and_done_is_discarded(scripted, client):
    with scripted.server.engine.held():
        client.commit()
        client.append(scripted.order)
        client.commit(final=True)
        client.append(scripted.two)
        client.send('nonsense')
        assert client.receive()['code'] == 'unknown_event'  # so all of it was received
    client.until('transcription.done')
    client.commit()
    client.append(silence(0.5))
    client.commit(final=True)
    assert client.until('transcription.done')[-1]['text'] == ''


def test_several_utterances_per_connection(scripted, client):
    for samples, text in ((scripted.order, 'go to the kitchen'), (scripted.two, 'stop turn left')):
        client.commit()
        client.append(samples)
        client.commit(final=True)
        assert client.until('transcription.done')[-1]['text'] == text


def test_less_than_the_first_token_needs_says_nothing_until_the_end(client):
    client.commit()
    client.append(silence(0.5))
    client.send('nonsense')
    assert client.receive()['code'] == 'unknown_event'
    client.commit(final=True)
    client.until('transcription.done')


def test_update_has_no_answer(client):
    client.update(model=MODEL)
    client.send('nonsense')
    assert client.receive()['code'] == 'unknown_event'


def test_the_empty_model_passes(scripted):
    with scripted.server.client() as client:
        client.update(model='')
        client.commit()
        client.append(scripted.order[:RATE])
        client.commit(final=True)
        client.until('transcription.done')


@pytest.mark.parametrize('send, code', [
    (lambda client: client.socket.send('{'), 'invalid_json'),
    (lambda client: client.update(model=5), 'invalid_event'),
    (lambda client: client.update(model='gpt'), 'model_not_found'),
    (lambda client: client.send('input_audio_buffer.append', audio='%%%'), 'invalid_audio'),
    (lambda client: client.send('input_audio_buffer.append', audio='AAAA'), 'invalid_audio'),
    (lambda client: client.send('input_audio_buffer.append', audio=''), 'invalid_audio'),
    (lambda client: client.send('input_audio_buffer.append'), 'processing_error'),
    (lambda client: client.send('sing'), 'unknown_event'),
])
def test_errors_have_the_codes_of_vllm_and_do_not_close(scripted, client, send, code):
    send(client)
    error = client.expect('error')
    assert error.keys() == {'type', 'error', 'code'}
    assert error['code'] == code
    assert isinstance(error['error'], str)
    client.commit()
    client.append(scripted.order)
    client.commit(final=True)
    assert client.until('transcription.done')[-1]['text'] == 'go to the kitchen'


def test_commit_before_update_is_not_validated(scripted):
    with scripted.server.client() as client:
        client.commit()
        assert client.expect('error')['code'] == 'model_not_validated'
