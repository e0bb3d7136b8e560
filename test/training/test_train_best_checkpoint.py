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

"""The best checkpoint: lowest error rate on real speech and few false words in noise."""

from argparse import Namespace
import json

import pytest
import torch
from training import train

PARAMS = {'dim': 1}


@pytest.fixture
def evaluated(config, tmp_path, monkeypatch):
    """Return a function that evaluates weights of one value and returns the best so far."""
    trainer = train.Trainer(config, torch.device('cpu'), 1e-3, False)
    (tmp_path / 'tekken.json').write_text('{}', encoding='utf-8')
    kept = {}
    monkeypatch.setattr(train, 'save', lambda network, params, tekken, folder: kept.update(
        {folder.name: next(network.parameters()).flatten()[0].item()}))
    monkeypatch.setattr(train, 'load_sets', lambda root: {})
    arguments = Namespace(root=tmp_path, out=tmp_path)

    def evaluate(value, **rates):
        torch.nn.init.constant_(next(trainer.ema.parameters()), value)
        monkeypatch.setattr(train, 'evaluate', lambda *_: rates)
        train.evaluate_and_save(trainer, arguments, PARAMS, 0.0, 1.0)
        return kept.get('best')

    return evaluate


def test_the_best_has_the_lowest_error_rate_on_real_speech(evaluated, tmp_path):
    assert evaluated(1.0, dev_a=0.5, dev_b=0.3, kokoro=0.1) == 1
    assert evaluated(2.0, dev_a=0.5, dev_b=0.4, kokoro=0.0) == 1
    assert evaluated(3.0, dev_a=0.6, dev_b=0.1, kokoro=0.9) == 3
    lines = (tmp_path / 'curve.jsonl').read_text(encoding='utf-8').splitlines()
    assert [json.loads(line)['kokoro'] for line in lines] == [0.1, 0.0, 0.9]


def test_false_words_in_noise_count_as_errors(evaluated):
    assert evaluated(1.0, dev_a=0.40, dev_noise=500.0) == 1
    assert evaluated(2.0, dev_a=0.39, dev_noise=800.0) == 1
    assert evaluated(3.0, dev_a=0.41, dev_noise=100.0) == 3
    assert evaluated(4.0, dev_a=0.43, dev_noise=0.0) == 3  # noise alone does not make it the best


def test_without_development_sets_nothing_is_best(evaluated):
    assert evaluated(1.0, kokoro=0.1) is None
    assert evaluated(2.0) is None
