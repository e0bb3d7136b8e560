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

"""What session.update may ask for beyond the other dialects."""

import pytest
from support.realtime import MODEL, said
from support.scripted import join, PAUSE, silence

from voxtral_ros.audio.resample import Resampler


def test_without_asking_there_are_only_deltas_and_done(scripted, client):
    client.update()
    client.append(scripted.two)
    client.commit()
    kinds = {event['type'] for event in client.until('transcription.done')}
    assert kinds == {'transcription.delta', 'transcription.done'}


def test_utterances_are_segments_with_times(scripted, client):
    client.update(utterances=True)
    client.append(scripted.two)
    client.commit()
    events = client.until('transcription.done')
    first, second = [event for event in events if event['type'] == 'transcription.segment']
    assert (first['text'], second['text']) == ('stop', 'turn left')
    assert (first['id'], second['id']) == (1, 2)
    assert 0 < first['start_s'] < first['end_s'] < second['start_s'] < second['end_s']
    assert 'words' not in first
    assert said(events) == 'stop turn left'


def test_segments_come_while_audio_is_still_being_appended(scripted, client):
    client.update(utterances=True)
    client.append(scripted.two)  # and no commit
    assert client.until('transcription.segment')[-1]['text'] == 'stop'
    client.commit()
    client.until('transcription.done')


def test_speech_is_published_with_utterances(scripted, client):
    client.update(utterances=True)
    client.append(scripted.order)
    client.commit()
    events = client.until('transcription.done')
    started = [event['audio_start_ms'] for event in events
               if event['type'] == 'input_audio_buffer.speech_started']
    stopped = [event['audio_end_ms'] for event in events
               if event['type'] == 'input_audio_buffer.speech_stopped']
    assert started == [pytest.approx(1000, abs=40)]
    assert stopped == [pytest.approx(1480, abs=40)]


@pytest.mark.parametrize('block', [500, 8000, 10**6])
def test_words_of_the_deltas_add_up_to_the_words_of_the_segments(scripted, client, block):
    client.update(words=True, utterances=True)
    client.append(join(scripted.two, scripted.order), block)
    client.commit()
    words, whole = [], []
    for event in client.until('transcription.done'):
        if event['type'] == 'transcription.delta':
            goes_on = words and not event['delta'][0].isspace()
            words[len(words) - bool(goes_on):] = event['words']
        elif event['type'] == 'transcription.segment':
            whole += event['words']
    assert words == whole
    assert [word['text'] for word in words] == [
        'stop', 'turn', 'left', 'go', 'to', 'the', 'kitchen']
    assert words[0]['confidence'] == 1.0
    assert words[2]['confidence'] < 1.0


def test_words_without_spaces_are_told_apart(scripted, client):
    client.update(words=True)
    client.append(join(silence(1.0), *(scripted.script.say(word) for word in '请去去哈哈'),
                       scripted.script.say('。'), silence(PAUSE)))
    client.commit()
    words = [event['words'] for event in client.until('transcription.done')
             if event['type'] == 'transcription.delta' and event['delta']]
    assert [[word['text'] for word in some] for some in words] == [
        ['请'], ['去'], ['去'], ['哈'], ['哈'], ['哈。']]
    ends_s = [some[-1]['end_s'] for some in words]
    assert ends_s == sorted(ends_s)
    assert len(set(ends_s)) == 5


@pytest.mark.parametrize('rate', [8000, 44100, 48000])
def test_sample_rate(scripted, client, rate):
    client.update(sample_rate=rate, utterances=True)
    client.append(Resampler(16000, rate).process(scripted.order, last=True))
    client.commit()
    events = client.until('transcription.done')
    speech = [event for event in events if event['type'].startswith('input_audio_buffer')]
    # The marks of the script do not survive the resampling, the loudness does.
    assert [event.get('audio_start_ms', event.get('audio_end_ms')) for event in speech] == \
        [pytest.approx(1000, abs=64), pytest.approx(1480, abs=64)]


def test_sample_rate_cannot_change_within_audio(scripted, client):
    client.update()
    client.append(scripted.order)
    client.update(sample_rate=8000)
    errors = [event for event in client.until('error') if event['type'] == 'error']
    assert errors[0]['code'] == 'invalid_event'
    client.commit()
    client.until('transcription.done')
    client.update(sample_rate=8000)
    client.commit()
    client.expect('transcription.done')


def test_delay_is_that_of_the_next_generation(scripted, client):
    client.update(model=MODEL, delay_ms=2400)
    client.commit()
    client.append(scripted.order)
    client.commit(final=True)
    assert client.until('transcription.done')[-1]['usage']['prompt_tokens'] == 1 + 32 + 30


@pytest.mark.parametrize('option', [
    {'delay_ms': 100}, {'delay_ms': -80}, {'delay_ms': True}, {'delay_ms': '480'},
    {'delay_ms': 10**400}, {'delay_ms': float('nan')}, {'delay_ms': float('inf')},
    {'words': 2}, {'utterances': 'maybe'}, {'sample_rate': 5}, {'sample_rate': 16000.5},
    {'sample_rate': 10**100}, {'sample_rate': False}, {'model': 5}, {'model': ['tiny']}])
def test_wrong_options_are_refused_and_change_nothing(client, option):
    client.update(**{'utterances': True, **option})
    error = client.expect('error')
    assert error['code'] == 'invalid_event'
    assert next(iter(option)).split('_')[0] in error['error']
    client.commit()  # still before any update
    assert client.expect('error')['code'] == 'model_not_validated'
