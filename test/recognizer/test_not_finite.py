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

"""A network whose output is not a number says so, everywhere: it would stay silent for ever."""

import math

import numpy as np
import pytest
from quantization import packable
from safetensors.torch import save_file
import soundfile
from support.scripted import DELAY, join, PAUSE, Script, scripted_voice, ScriptedEngine, silence
import torch

from voxtral_ros.cli.main import main
from voxtral_ros.model.checkpoint import WEIGHTS
from voxtral_ros.recognizer.engine import Engine
from voxtral_ros.recognizer.events import Transcript
from voxtral_ros.recognizer.interface import NotFinite
from voxtral_ros.recognizer.options import StreamOptions
from voxtral_ros.recognizer.stream import Stream

NOISE = (0.1 * np.random.default_rng(0).standard_normal(80000)).astype(np.float32)
# What one damaged number does: to all logits, to those of one token, by way of the encoder.
PLACES = {
    'last norm': ('norm.weight', (5,), math.nan),
    'one token': (packable.HEAD, (1200, 3), math.nan),
    'key': ('layers.0.attention.wk.weight', (7, 9), math.inf),
    'encoder': (packable.ENCODER_LINEARS[2], (0, 0), math.nan),
}


@pytest.fixture(params=PLACES)
def folder(request, tmp_path):
    name, index, value = PLACES[request.param]
    weights = {key: tensor.clone() for key, tensor in packable.tensors().items()}
    weights[name][index] = value
    folder = packable.write(tmp_path / 'model')
    save_file(weights, folder / WEIGHTS)
    return folder


@pytest.fixture(params=[('cpu', 'float32'), ('cpu', 'bfloat16'), ('cuda', 'bfloat16')],
                ids='-'.join)
def engine(request, folder):
    device, dtype = request.param
    if device == 'cuda' and not torch.cuda.is_available():
        pytest.skip('no GPU: needs one of NVIDIA')
    try:
        return Engine.load(folder, device, dtype, max_streams=2)
    except ValueError as error:  # a head is packed for the kernels while it is loaded
        assert device == 'cuda'
        assert 'not a number' in str(error)
        pytest.skip('refused when it was loaded')


def test_polling_says_so_and_the_slot_comes_back(engine):
    stream = engine.open()
    stream.feed(NOISE)
    with pytest.raises(NotFinite, match='voxtral verify'):
        stream.poll()
    with pytest.raises(NotFinite):
        stream.poll()
    assert stream.abandon() == []
    assert not engine.n_open


def test_closing_says_so(engine):
    stream = engine.open()
    stream.feed(NOISE)
    with pytest.raises(NotFinite):
        stream.close()
    assert not engine.n_open


def test_warming_up_says_so(engine):
    with pytest.raises(NotFinite):
        engine.warm_up()
    assert not engine.n_open


@pytest.mark.parametrize('command', ['transcribe', 'evaluate', 'serve'])
def test_commands_end_with_an_error(folder, tmp_path, capsys, command):
    soundfile.write(tmp_path / 'a.wav', NOISE, 16000)
    (tmp_path / 'table.tsv').write_text('file\ttext\na.wav\tone\n')
    options = {'transcribe': [str(tmp_path / 'a.wav')],
               'evaluate': ['--manifest', str(tmp_path / 'table.tsv')],
               'serve': ['--port', '0']}[command]
    code = main([command, '--device', 'cpu', '--model', str(folder), *options])
    assert code == (2 if command == 'serve' else 1)
    assert 'the logits of the model are not numbers' in capsys.readouterr().err


def test_only_the_stream_itself_fails():
    """Others in the same pass go on, and what it has written before stays."""
    script = Script()
    engine = ScriptedEngine(script)
    with scripted_voice():
        bad, good = (Stream(engine, DELAY, StreamOptions()) for _ in range(2))
        for stream, probability in ((bad, math.nan), (good, 0.9)):
            stream.feed(join(silence(1.0), script.say(' go'), silence(PAUSE),
                             script.say(' stop', probability=probability), silence(PAUSE)))
        engine.process()
        with pytest.raises(NotFinite):
            bad.poll()
        texts = [[event.text for event in events
                  if isinstance(event, Transcript) and event.is_final]
                 for events in (bad.abandon(), good.poll())]
    assert texts == [['go'], ['go', 'stop']]
