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

"""The shipped model on the shipped recordings: real transcripts through the whole product."""

from itertools import product
import json
import os
from pathlib import Path
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from support.realtime import running
from support.scripted import feed, RATE, texts
from support.slow import slow_but

from voxtral_ros.audio.block import AudioBlock
from voxtral_ros.cli.main import main
from voxtral_ros.evaluation.word_error_rate import normalize
from voxtral_ros.node.worker import Worker
from voxtral_ros.recognizer.engine import Engine
from voxtral_ros.recognizer.options import offline_options, StreamOptions
from voxtral_ros.resources import demo_model

DATA = Path(__file__).resolve().parents[1] / 'data'
ORDERS = [
    'robot go to the kitchen and bring me the red cup',
    'turn left and go forward three meters',
    'please put the book next to the lamp and come back',
    'stop following me and return to the charging station',
]


def from_the_shell(*arguments, **options):
    return subprocess.run([sys.executable, '-m', 'voxtral_ros', *map(str, arguments)],
                          capture_output=True, **options)


@pytest.fixture
def voxtral(capfd):
    """Return a function that runs a command in this process, which has torch already."""
    def run(*arguments):
        capfd.readouterr()
        code = main([*map(str, arguments)])
        return subprocess.CompletedProcess(arguments, code, *capfd.readouterr())
    return run


def spoken(texts):
    """Return the words of texts, without punctuation and capitals."""
    return [' '.join(normalize(text)) for text in texts]


def fed(engine, samples, chunk=10 ** 6):
    """Return the ids of all tokens, and the utterances, of samples that are fed in chunks."""
    ids = []
    stream = engine.open(options=offline_options(lambda token: ids.append(token.id)))
    return ids, texts(feed(stream, samples, chunk) + stream.close())


@pytest.fixture(scope='module')
def engine():
    return Engine.load(demo_model(), 'cpu', threads=1, max_streams=2)


@pytest.fixture(scope='module')
def samples():
    return soundfile.read(DATA / 'orders.flac', dtype='float32')[0]


@pytest.fixture(scope='module')
def orders():
    """Return what `voxtral transcribe --json` prints of the spoken orders."""
    result = from_the_shell('transcribe', DATA / 'orders.flac', '--json')
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_orders_are_understood_each_as_one_utterance(orders):
    assert spoken(utterance['text'] for utterance in orders['utterances']) == ORDERS


def test_words_have_rising_times_within_the_sound(orders):
    ends = [word['end_s'] for word in orders['words']]
    assert ends == sorted(ends)
    assert ends[0] > 0
    assert ends[-1] <= orders['audio_s']
    assert all(0 < word['confidence'] <= 1 for word in orders['words'])


def test_words_end_where_the_voice_pauses(orders):
    """Between two orders there is a second of silence: last word before it, first after it."""
    first, second = orders['utterances'][:2]
    assert second['start_s'] - first['end_s'] > 0.5


def test_all_generated_tokens_are_told(orders):
    """N tokens of sound, less the prompt, as the protocol counts them."""
    speech = -(-round(orders['audio_s'] * 16000) // 1280)
    assert len(orders['token_ids']) == 32 + speech + 6 + 11 - 39 + 1


@pytest.mark.parametrize('offset', slow_but(0, 800, of=range(0, 1280, 160)))
def test_orders_are_understood_wherever_the_tokens_begin(engine, samples, offset):
    """A token is 80 ms of audio from the first sample on, which may be any."""
    audio = np.concatenate((np.zeros(offset, np.float32), samples))
    assert spoken(fed(engine, audio)[1]) == ORDERS


@pytest.fixture(scope='module')
def ids(engine, samples):
    """Return the ids of all tokens, of samples that are fed as a token takes them."""
    return fed(engine, samples, 1280)[0]


@pytest.mark.parametrize(('max_chunk_tokens', 'chunk'), slow_but(
    (8, 1283), (3, 10 ** 6), of=product([1, 3, 8, 32], [1283, 10 ** 6])))
def test_tokens_do_not_depend_on_how_a_file_is_fed(samples, ids, max_chunk_tokens, chunk):
    other = Engine.load(demo_model(), 'cpu', threads=1, max_chunk_tokens=max_chunk_tokens)
    assert fed(other, samples, chunk)[0] == ids


def test_the_node_and_a_server_write_what_a_stream_does(engine, samples):
    """In blocks of 20 ms as on a topic, and in messages as to a server."""
    expected = fed(engine, samples)[1]
    worker_events = []
    worker = Worker(engine, 480, StreamOptions(),
                    lambda events, _: worker_events.extend(events))
    for start in range(0, len(samples), 320):
        worker.put(AudioBlock(samples[start:start + 320], RATE, round(start / RATE * 1e9)), 0)
    assert worker.stop(60.0)
    assert texts(worker_events) == expected
    with running(engine) as server, server.client() as client:
        client.update(utterances=True)
        client.append(samples, 3000)
        client.commit()
        segments = [event['text'] for event in client.until('transcription.done')
                    if event['type'] == 'transcription.segment']
    assert segments == expected


def test_a_file_and_raw_samples_on_standard_input_give_the_same_text(engine, orders, ids):
    assert orders['token_ids'] == ids
    samples, rate = soundfile.read(DATA / 'go_forward_ten_meters.flac', dtype='int16')
    result = from_the_shell('transcribe', '-', '--rate', str(rate), '--json',
                            input=samples.tobytes())
    assert rate == RATE
    expected = fed(engine, (samples / 2 ** 15).astype(np.float32))[0]
    assert json.loads(result.stdout)['token_ids'] == expected


def test_a_bad_file_is_one_line_and_the_others_are_still_done(voxtral, tmp_path):
    empty = tmp_path / 'empty.wav'
    empty.touch()
    result = voxtral('transcribe', tmp_path / 'none.wav', empty,
                     DATA / 'go_forward_ten_meters.flac')
    assert result.returncode == 2
    assert len(result.stderr.strip().splitlines()) == 2
    assert 'go_forward_ten_meters' in result.stdout


@pytest.mark.slow
def test_a_plot_is_drawn(voxtral, tmp_path):
    pytest.importorskip('matplotlib', reason='no matplotlib: make .venv/.test')
    picture = tmp_path / 'plot.png'
    result = voxtral('transcribe', DATA / 'go_forward_ten_meters.flac', '--plot', picture)
    assert result.returncode == 0, result.stderr
    assert picture.read_bytes().startswith(b'\x89PNG')


@pytest.mark.slow
def test_a_plot_is_drawn_where_nothing_is_compiled(tmp_path):
    pytest.importorskip('matplotlib', reason='no matplotlib: make .venv/.test')
    picture = tmp_path / 'plot.png'
    result = subprocess.run(
        [sys.executable, '-m', 'voxtral_ros', 'transcribe', DATA / 'go_forward_ten_meters.flac',
         '--plot', picture], env={**os.environ, 'VOXTRAL_CPU_KERNELS': 'off'}, text=True,
        capture_output=True, check=False)
    assert result.returncode == 0, result.stderr
    assert picture.read_bytes().startswith(b'\x89PNG')


def test_labels_for_audacity(voxtral, tmp_path, orders):
    labels = tmp_path / 'labels.txt'
    result = voxtral('transcribe', DATA / 'orders.flac', '--labels', labels)
    assert result.returncode == 0, result.stderr
    rows = [line.split('\t') for line in labels.read_text('utf-8').splitlines()]
    assert [row[2] for row in rows] == [part['text'] for part in orders['utterances']]
    for (start_s, end_s, _), part in zip(rows, orders['utterances'], strict=True):
        assert float(start_s) == pytest.approx(part['start_s'], abs=1e-3)
        assert float(end_s) == pytest.approx(part['end_s'], abs=1e-3)


def test_labels_are_of_one_file_and_where_they_can_be_written(voxtral, tmp_path):
    audio = DATA / 'go_forward_ten_meters.flac'
    result = voxtral('transcribe', audio, audio, '--labels', tmp_path / 'labels.txt')
    assert (result.returncode, result.stderr) == (
        2, 'voxtral transcribe: --labels is of one file; give one\n')
    result = voxtral('transcribe', audio, '--labels', tmp_path / 'none' / 'labels.txt')
    assert result.returncode == 2
    assert result.stderr.endswith('none/labels.txt: No such file or directory\n')
    assert 'ten meters' in result.stdout


def test_the_channel_of_an_array_is_taken_by_its_name(voxtral, tmp_path, capfd):
    """The other one has what the robot plays; the mean of both would be neither."""
    samples, rate_hz = soundfile.read(DATA / 'go_forward_ten_meters.flac', dtype='float32')
    other, _ = soundfile.read(DATA / 'orders.flac', dtype='float32')
    audio = tmp_path / 'two.wav'
    soundfile.write(audio, np.stack((other[:len(samples)], samples), 1), rate_hz)
    result = voxtral('transcribe', audio, '--channel', 'respeaker_xvf3800')
    assert result.stdout.strip() == 'go forward ten meters'
    result = voxtral('transcribe', audio, '--channel', 'respeaker_xvf3000')
    assert result.returncode == 2
    assert 'does not send 2 channels' in result.stderr
    with pytest.raises(SystemExit):
        voxtral('transcribe', audio, '--channel', 'kinect')
    assert 'or respeaker_xvf3000 or respeaker_xvf3800' in capfd.readouterr().err


def test_only_texts_that_were_corrected_are_evaluated(voxtral, tmp_path):
    audio = DATA / 'go_forward_ten_meters.flac'
    table = tmp_path / 'transcripts.tsv'
    table.write_text(f'checked\tfile\ttext\nx\t{audio}\tgo forward nine meters\n'
                     f'\t{audio}\tsomething\n', 'utf-8')
    result = voxtral('evaluate', '--manifest', table, '--json')
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)['word_error_rate'] == 0.25
    assert result.stderr == 'voxtral evaluate: 1 of 2 texts are not checked; not counted\n'
    table.write_text(table.read_text('utf-8').replace('\nx', '\n'), 'utf-8')
    result = voxtral('evaluate', '--manifest', table)
    assert result.returncode == 2
    assert 'none of 2 texts is checked' in result.stderr


def test_evaluate_prints_the_word_error_rate(voxtral, tmp_path):
    result = voxtral('evaluate', '--manifest', DATA / 'manifest.tsv', '--only', 'orders',
                     '--json', '--texts', tmp_path / 'texts.tsv')
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report['words'] == 38
    assert report['word_error_rate'] == 0
    assert (tmp_path / 'texts.tsv').read_text().count('\n') == 2


@pytest.mark.slow
def test_evaluate_tells_kinds_of_recordings_apart(voxtral, tmp_path):
    manifest = tmp_path / 'voices.tsv'
    manifest.write_text('\n'.join([
        'voice\tfile\ttext', f'engine\t{DATA}/orders.flac\t{" ".join(ORDERS)}',
        f'person\t{DATA}/go_forward_ten_meters.flac\tgo forward ten meters', '',
        f'person\t{DATA}/austen_0880.flac\tnothing of this is said']), encoding='utf-8')
    result = voxtral('evaluate', '--manifest', manifest, '--by', 'voice', '--json')
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    kinds = report['by']
    assert {name: (kind['recordings'], kind['words']) for name, kind in kinds.items()} == {
        'engine': (1, 38), 'person': (2, 9)}
    assert kinds['engine']['word_error_rate'] == 0 < kinds['person']['word_error_rate']
    errors = sum(kind['word_error_rate'] * kind['words'] for kind in kinds.values())
    assert report['word_error_rate'] == pytest.approx(errors / 47)

    plain = voxtral('evaluate', '--manifest', manifest, '--by', 'voice').stdout.splitlines()
    assert [line.split(':')[0] for line in plain] == [
        'voice engine', 'voice person', '3 recordings, 47 words, 24 s']


def test_what_cannot_be_read_is_named_and_not_counted(voxtral, tmp_path):
    manifest = tmp_path / 'some.tsv'
    manifest.write_text('file\ttext\nnone.wav\tone two three\n'
                        f'{DATA}/go_forward_ten_meters.flac\tgo forward ten meters\n',
                        encoding='utf-8')
    result = voxtral('evaluate', '--manifest', manifest, '--streams', '2', '--json')
    assert result.returncode == 2
    assert 'none.wav' in result.stderr
    assert json.loads(result.stdout)['words'] == 4


@pytest.mark.parametrize(('text', 'message'), [
    ('file\ttext\na.wav\tone\nb.wav two\n', 'line 3: 1 columns, the first line has 2'),
    ('file\twords\na.wav\tone\n', 'columns file, text, voice'),
])
def test_a_manifest_that_is_none_is_refused(voxtral, tmp_path, text, message):
    manifest = tmp_path / 'bad.tsv'
    manifest.write_text(text, encoding='utf-8')
    more = ['--by', 'voice'] if 'voice' in message else []
    result = voxtral('evaluate', '--manifest', manifest, *more)
    assert result.returncode == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_silence_and_noise_stay_without_text(engine):
    rng = np.random.default_rng(0)
    stream = engine.open(options=offline_options())
    events = []
    for level in (0.0, 0.001, 0.02, 0.2):
        stream.feed((level * rng.standard_normal(16000 * 5)).astype(np.float32))
        events += stream.poll()
    events += stream.close()
    assert [event.text for event in events if hasattr(event, 'text')] == []
