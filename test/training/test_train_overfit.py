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

"""From an empty folder to a model that overfits to two orders, through the streaming engine."""

import json
from pathlib import Path

import pytest
import soundfile
from training import sequences, train, utterances, vocabulary
from training.synthesis.shards import ShardWriter

from voxtral_ros.quantization.weights import WEIGHTS

DATA = Path(__file__).resolve().parents[1] / 'data'
RATE = 16000
# Out of orders.flac: text, begin and end in seconds, ends of the words in seconds from there.
SPOKEN = [('red cup', 2.90, 3.75, [0.30, 0.70]),
          ('come back', 10.74, 11.60, [0.24, 0.62])]


@pytest.fixture
def root(tmp_path):
    """Return a training folder with what train.main reads, and the same as a development set."""
    samples, _ = soundfile.read(DATA / 'orders.flac', dtype='int16')
    texts = [text for text, *_ in SPOKEN]
    for shard, sentences in (('kokoro0', 'sentences.txt'), ('eval_dev', 'eval_dev.txt')):
        writer = ShardWriter(tmp_path / 'shards' / shard)
        for number, (_, begin, end, ends) in enumerate(SPOKEN):
            writer.add(number, samples[int(begin * RATE):int(end * RATE)], ends)
        writer.flush()
        (tmp_path / sentences).write_text('\n'.join(texts) + '\n', encoding='utf-8')
    for _, sentences, _ in train.sources(0.5):
        (tmp_path / sentences).touch()
    pieces = vocabulary.pieces(vocabulary.train(texts))
    (tmp_path / 'tekken.json').write_text(json.dumps(vocabulary.tekken(pieces)), encoding='utf-8')
    params = json.loads(Path(train.__file__).with_name('params.json').read_text(encoding='utf-8'))
    params |= {'dim': 128, 'n_layers': 1, 'hidden_dim': 256, 'n_heads': 2, 'n_kv_heads': 1,
               'vocab_size': vocabulary.N_SPECIAL + len(pieces)}
    params['multimodal']['whisper_model_args']['encoder_args'] |= {
        'dim': 128, 'n_layers': 2, 'hidden_dim': 256, 'n_heads': 2, 'n_kv_heads': 2,
        'vocab_size': params['vocab_size']}
    (tmp_path / 'params.json').write_text(json.dumps(params), encoding='utf-8')
    return tmp_path


@pytest.mark.slow
def test_the_network_overfits_to_two_orders(root, monkeypatch):
    # For hundreds of steps instead of thousands: one delay, one tempo, no sound effects.
    monkeypatch.setattr(sequences, 'DELAYS', (6,))
    monkeypatch.setattr(sequences, '_SOUND_EFFECTS', (0, 0))
    monkeypatch.setattr(utterances, '_TIME_STRETCHED', 0.0)

    train.main(['--root', str(root), '--out', str(root / 'model'),
                '--params', str(root / 'params.json'), '--steps', '250', '--batch', '8',
                '--tokens', '66', '--learning-rate', '5e-3', '--warmup', '20', '--ema', '10',
                '--workers', '0', '--device', 'cpu', '--eager', '--no-augmentation',
                '--eval-every', '1e9'])

    *_, last = (root / 'model' / 'curve.jsonl').read_text(encoding='utf-8').splitlines()
    assert json.loads(last)['dev'] == 0.0
    best, end = (folder / WEIGHTS for folder in (root / 'model' / 'best', root / 'model'))
    assert best.read_bytes() == end.read_bytes()
