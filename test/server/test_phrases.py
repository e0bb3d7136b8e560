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

"""Phrases that a client of the server expects: its own, those of the server, and none."""

import threading

import pytest
from server.test_engine_failure import Frail
from support.realtime import (
    Client, DATA, MODEL, running, said, ServedScript, ServerProcess, wait_until)
from support.scripted import join, PAUSE, RATE, Script, scripted_voice, silence, voice

from voxtral_ros.audio.files import read_file
from voxtral_ros.audio.resample import resampled
from voxtral_ros.recognizer.phrases import MAX_PHRASES, PhraseList

SEGMENT = 'transcription.segment'
COMPLETED = 'conversation.item.input_audio_transcription.completed'


class Speaker:
    """Says two words that are names, to who expects these."""

    def __init__(self, script):
        self.kowalski = join(silence(1.0), script.say(' robot', name='Kowalski'), silence(PAUSE))
        self.pantry = join(silence(1.0), script.say(' the', name='pantry'), silence(PAUSE))
        self.open = join(silence(1.0), script.say(' stop'), voice(1.2))  # more may follow
        self.goes_on = join(script.say(' robot', name='Kowalski'), silence(PAUSE))


@pytest.fixture
def script():
    with scripted_voice():
        yield Script()


@pytest.fixture
def speaker(script):
    return Speaker(script)


class Unhurried(ServedScript):
    """Complains when it has to find tokens in its own thread."""

    def prepare_phrases(self, phrases):
        assert threading.current_thread().name != 'engine'
        super().prepare_phrases(phrases)

    def expect_phrases(self, slot, phrases):
        assert not phrases or phrases in self.prepared
        super().expect_phrases(slot, phrases)


@pytest.fixture
def server(script):
    with running(Unhurried(script)) as server:
        yield server


@pytest.fixture
def client(server):
    with server.client() as client:
        yield client


def text_of(client, audio, model=None):
    """Return the text of some audio in a generation of its own."""
    if model is not None:
        client.commit()
    client.append(audio)
    client.commit(final=True)
    return client.until('transcription.done')[-1]['text']


def segment(client, audio):
    """Return the text of an utterance; the generation goes on."""
    client.append(audio)
    return client.until(SEGMENT)[-1]['text']


# ---- the list ----

@pytest.mark.parametrize('model', [None, MODEL, ''])
def test_the_next_generation_expects_the_phrases(client, speaker, model):
    fields = {} if model is None else {'model': model}
    client.update(**fields)
    assert text_of(client, speaker.kowalski, model) == 'robot'
    client.update(**fields, phrases=['Kowalski', 'conservatory :3'])
    assert text_of(client, speaker.kowalski, model) == 'Kowalski'
    client.update(**fields, words=True)  # leaves what it does not name
    assert text_of(client, speaker.kowalski, model) == 'Kowalski'
    client.update(phrases=['pantry'])
    assert text_of(client, join(speaker.kowalski, speaker.pantry), model) == 'robot pantry'
    client.update(phrases=[])
    assert text_of(client, join(speaker.kowalski, speaker.pantry), model) == 'robot the'


@pytest.mark.parametrize('form', ['new', 'old'])
def test_keywords_of_openai_are_phrases(client, speaker, form):
    def update(transcription):
        if form == 'old':
            client.send('transcription_session.update',
                        session={'input_audio_transcription': transcription})
            session = client.expect('transcription_session.updated')['session']
            return session['input_audio_transcription']
        client.send('session.update', session={'audio': {'input': {
            'format': {'type': 'audio/pcm', 'rate': RATE}, 'transcription': transcription}}})
        return client.expect('session.updated')['session']['audio']['input']['transcription']

    def text():
        client.send('session.update', session={'audio': {'input': {
            'format': {'type': 'audio/pcm', 'rate': RATE}}}})
        client.expect('session.updated')
        client.append(speaker.kowalski)
        return client.until(COMPLETED)[-1]['transcript']

    assert update({'model': 'gpt-live-transcribe', 'keywords': ['Kowalski', 'pantry :3']}) == {
        'model': MODEL, 'keywords': ['Kowalski', 'pantry :3.0']}
    assert text() == 'Kowalski'
    assert update({'language': 'en'})['keywords'] == ['Kowalski', 'pantry :3.0']
    assert update({'keywords': ['Kowalski'], 'phrase_boost': 1.5})['keywords'] == [
        'Kowalski :1.5']
    assert text() == 'Kowalski'
    assert update({'keywords': []}) == {'model': MODEL}
    assert text() == 'robot'
    client.send('session.update', session={
        'audio': {'input': {'transcription': {'keywords': ['...']}}}})
    error = client.until('error')[-1]['error']
    assert (error['code'], error['type']) == ('invalid_phrases', 'invalid_request_error')
    assert '"keywords": phrase 1' in error['message']


def test_a_list_counts_from_the_next_utterance_on(client, speaker):
    client.update(utterances=True)
    assert segment(client, speaker.kowalski) == 'robot'
    client.update(phrases=['Kowalski'])
    assert segment(client, speaker.kowalski) == 'Kowalski'
    client.append(speaker.open)
    client.until('transcription.delta')
    client.update(phrases=['pantry'])
    assert segment(client, speaker.goes_on) == 'stop Kowalski'
    assert segment(client, speaker.kowalski) == 'robot'
    assert segment(client, speaker.pantry) == 'pantry'


def test_a_list_is_for_the_audio_that_comes_after_it(server, client, speaker):
    """However late the engine gets to it."""
    client.update(utterances=True)
    with server.engine.held():
        client.append(speaker.kowalski)
        client.update(phrases=['Kowalski'])
        client.append(join(speaker.kowalski, speaker.pantry))
        client.update(phrases=['pantry'])
        client.append(join(speaker.kowalski, speaker.pantry))
        client.update(phrases=['sofa'])
        client.commit()
        client.send('nonsense')
        client.until('error')  # so all of it was received
    texts = [event['text'] for event in client.until('transcription.done')
             if event['type'] == SEGMENT]
    assert texts == ['robot', 'Kowalski', 'the', 'robot', 'pantry']


def test_sessions_have_lists_of_their_own(server, speaker):
    with server.client() as one, server.client() as other, server.client() as third:
        one.update(phrases=['Kowalski'])
        other.update(phrases=['pantry'])
        third.update()
        for client in (one, other, third):
            client.append(join(speaker.kowalski, speaker.pantry))
        for client in (one, other, third):
            client.commit()
        assert [client.until('transcription.done')[-1]['text'] for client in (
            one, other, third)] == ['Kowalski the', 'robot pantry', 'robot the']


def test_a_session_that_goes_on_after_a_failure_expects_the_same(script, speaker):
    engine = Frail(script)
    with running(engine) as server, server.client() as client:
        client.update(utterances=True, phrases=['pantry'])
        assert segment(client, speaker.pantry) == 'pantry'
        client.update(phrases=['Kowalski'])
        assert segment(client, speaker.kowalski) == 'Kowalski'
        engine.failing = 1
        client.append(voice(0.5))
        client.until('error')
        assert segment(client, speaker.kowalski) == 'Kowalski'


def test_the_greeting_says_that_phrases_may_be_listed(server):
    with Client(server.url) as client:
        assert client.expect('session.created')['phrases'] == MAX_PHRASES


# ---- what is refused ----

WRONG = [
    ('Kowalski', 'expected a list'), ({'Kowalski': 3}, 'expected a list'), (7, 'expected a list'),
    (True, 'expected a list'), (['Kowalski', 7], 'expected a list'),
    ([['Kowalski']], 'expected a list'), ([None], 'expected a list'),
    (['Kowalski', '?!'], 'phrase 2'), (['Kowalski :much'], 'no number'),
    (['Kowalski :11'], '0 to 10'), (['Kowalski :-1'], '0 to 10'), (['Kowalski :nan'], 'no number'),
    (['Kowal\0ski'], 'control characters'), (['Kowalski \ud800'], 'control characters'),
    (['K' * 201], '201 characters'), (['K' * 10**6], '1000000 characters'),
    ([f'Kowalski {n}' for n in range(1001)], '1001 entries'), ([''] * 10**5, '100000 entries')]
BOOSTS = [True, 'much', [2], -0.1, 10.5, float('nan'), float('inf'), 10**400]


@pytest.mark.parametrize(('phrases', 'reason'), WRONG)
def test_lists_that_cannot_be_are_refused_and_change_nothing(client, speaker, phrases, reason):
    client.update(phrases=['Kowalski'])
    client.update(phrases=phrases, model='gpt', utterances=True)
    error = client.expect('error')
    assert error['code'] == 'invalid_phrases'
    assert reason in error['error']
    assert len(error['error']) < 400
    client.append(speaker.kowalski)
    client.commit()
    events = client.until('transcription.done')
    assert events[-1]['text'] == 'Kowalski'
    assert not any(event['type'] == SEGMENT for event in events)


@pytest.mark.parametrize('boost', BOOSTS)
def test_boosts_that_cannot_be_are_refused(client, boost):
    client.update(phrases=['Kowalski'], phrase_boost=boost)
    error = client.expect('error')
    assert error['code'] == 'invalid_phrases'
    assert '"phrase_boost"' in error['error']


@pytest.mark.parametrize('fields', [{}, {'phrases': None}])
def test_a_boost_without_a_list_is_refused(client, fields):
    client.update(phrase_boost=3, **fields)
    error = client.expect('error')
    assert error['code'] == 'invalid_phrases'
    assert 'add "phrases"' in error['error']


def test_a_model_that_cannot_expect_phrases_says_so(server, client, speaker, monkeypatch):
    def prepare(_):
        raise ValueError('no phrase can be spelt in this vocabulary')

    monkeypatch.setattr(server.engine, 'prepare_phrases', prepare)
    client.update(phrases=['Kowalski'])
    error = client.expect('error')
    assert (error['code'], error['error']) == (
        'invalid_phrases', 'no phrase can be spelt in this vocabulary')
    client.update()
    assert text_of(client, speaker.kowalski) == 'robot'


# ---- the phrases of the server ----

def test_the_phrases_of_the_server_are_for_who_lists_none(script, speaker):
    both = join(speaker.kowalski, speaker.pantry)
    with running(Unhurried(script), phrases=PhraseList.parse(['Kowalski'])) as server, \
            server.client() as client, server.client() as openai:
        client.update()
        assert text_of(client, both) == 'Kowalski the'
        client.update(phrases=['pantry'])
        assert text_of(client, both) == 'robot pantry'
        client.update(phrases=[])
        assert text_of(client, both) == 'robot the'
        client.update(phrases=None)
        assert text_of(client, both) == 'Kowalski the'
        openai.send('session.update', session={'audio': {'input': {
            'format': {'type': 'audio/pcm', 'rate': RATE}, 'turn_detection': None}}})
        updated = openai.expect('session.updated')['session']['audio']['input']
        assert updated['transcription']['keywords'] == ['Kowalski']
        openai.append(both)
        openai.commit()
        assert openai.until(COMPLETED)[-1]['transcript'] == 'Kowalski the'


# ---- how long it takes ----

class Slow(ServedScript):
    """Takes long to find the tokens of phrases."""

    def __init__(self, script):
        super().__init__(script)
        self.preparing, self.found = threading.Event(), threading.Event()

    def prepare_phrases(self, phrases):
        self.preparing.set()
        assert self.found.wait(60)
        super().prepare_phrases(phrases)


def test_others_are_transcribed_while_phrases_are_prepared(script, speaker):
    engine = Slow(script)
    with running(engine) as server, server.client() as client, server.client() as other:
        client.update(phrases=['Kowalski'])
        client.append(speaker.kowalski)
        client.commit()
        assert engine.preparing.wait(60)
        other.update()
        assert text_of(other, speaker.kowalski) == 'robot'
        engine.found.set()
        assert client.until('transcription.done')[-1]['text'] == 'Kowalski'


def test_a_client_that_goes_while_its_phrases_are_prepared_leaves_nothing(script, speaker):
    engine = Slow(script)
    with running(engine) as server:
        with server.client() as client, server.client() as other:
            client.update(phrases=['Kowalski'])
            assert engine.preparing.wait(60)
            other.update(phrases=['pantry'])  # waits behind it
        wait_until(lambda: not server.server.connections)
        engine.found.set()
        with server.client() as client:
            client.update(phrases=['sofa'])
            assert text_of(client, speaker.kowalski) == 'robot'
    assert PhraseList.parse(['pantry']) not in engine.prepared


# ---- the demo model ----

def strange(n):
    """Return a phrase of characters that no vocabulary has as they are."""
    alphabet = ''.join(map(chr, (*range(0x100, 0x180), *range(0x400, 0x450),
                                 *range(0x4e00, 0x4e80), *range(0x1f300, 0x1f340))))
    return f'{n}' + ''.join(alphabet[(7 * n + 31 * k) % len(alphabet)] for k in range(5))


def test_the_demo_model_writes_what_is_expected(tmp_path):
    order = join(*resampled(read_file(DATA / 'go_forward_ten_meters.flac')))
    file = tmp_path / 'phrases.txt'
    file.write_text('# words that sound alike\nmetres\n')
    with ServerProcess('--phrases', file, '--phrase-boost', 5) as server, \
            server.client() as client, server.client() as other:
        for connection in (client, other):
            connection.update(utterances=True)
        other.update(phrases=[])
        assert segment_of(client, order) == 'go forward ten metres'
        assert segment_of(other, order) == 'go forward ten meters'
        other.update(phrases=[*map(strange, range(MAX_PHRASES - 1)), 'tan meters :6.5'])
        assert segment_of(other, order) == 'go forward tan meters'
        client.update(phrases=['tan meters'], phrase_boost=0)
        assert segment_of(client, order) == 'go forward ten meters'


def segment_of(client, order):
    client.append(order)
    client.append(silence(1.5))
    events = client.until(SEGMENT)
    assert said(events)
    return events[-1]['text']
