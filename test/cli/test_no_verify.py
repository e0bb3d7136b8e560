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

"""Damaged weights: commands refuse them, unless they are told not to look."""

import numpy as np
import pytest
from quantization import packable
import soundfile

from voxtral_ros.cli.main import main


@pytest.fixture
def folder(tmp_path):
    """Return a model of which a bit has changed since its checksums were written."""
    return packable.write_damaged(tmp_path / 'model')


@pytest.mark.parametrize('command', ['transcribe', 'evaluate', 'serve'])
def test_damage_ends_a_command_unless_it_does_not_look(folder, tmp_path, capsys, command):
    noise = 0.1 * np.random.default_rng(0).standard_normal(16000)
    soundfile.write(tmp_path / 'a.wav', noise, 16000)
    (tmp_path / 'table.tsv').write_text('file\ttext\na.wav\tone\n')
    options = {'transcribe': [str(tmp_path / 'a.wav')],
               'evaluate': ['--manifest', str(tmp_path / 'table.tsv')],
               'serve': ['--test', str(tmp_path / 'a.wav')]}[command]
    arguments = [command, '--device', 'cpu', '--model', str(folder), *options]
    assert main(arguments) == 2
    assert 'is damaged, its checksum is another' in capsys.readouterr().err
    assert main([*arguments, '--no-verify']) == 0
