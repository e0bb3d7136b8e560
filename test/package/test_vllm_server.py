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

"""What the check against a real vLLM starts and mends, without vLLM."""

from pathlib import Path
import runpy
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from support.realtime import wait_until

torch = pytest.importorskip('torch')

SERVER = runpy.run_path(str(Path(__file__).resolve().parents[2] / 'tools' / 'vllm_server.py'))
WINDOW, HOP, TOKEN = 400, 160, 1280
LOOK_BACK, LOOK_AHEAD = 840, 40  # 52.5 ms and 2.5 ms
USED = 11  # frames of a later chunk that the convolutions look at, counted from its end


class Encoder:
    """Computes centred frames as vLLM does."""

    config = SimpleNamespace(window_size=WINDOW, hop_length=HOP)

    def compute_whisper_melspec(self, audio):
        stft = torch.stft(audio, WINDOW, HOP, window=torch.hann_window(WINDOW),
                          return_complex=True)
        return stft[..., :-1].abs()


@pytest.fixture
def frames(monkeypatch, tmp_path):
    """Return two functions that compute frames: vLLM's, and the mended one of the plugin."""
    mended = type('Mended', (Encoder,), {})
    names = 'vllm', 'vllm.model_executor', 'vllm.model_executor.models'
    for name in (*names, f'{names[-1]}.voxtral'):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules[f'{names[-1]}.voxtral'].VoxtralEncoderModel = mended
    folder = SERVER['plugin'](tmp_path)
    runpy.run_path(str(folder / 'mended_mel.py'))['register']()
    return Encoder().compute_whisper_melspec, mended().compute_whisper_melspec


@pytest.mark.parametrize('n', [40, 41, 57])
def test_frames_of_a_later_chunk_are_those_of_the_whole_audio(frames, n):
    centred, mended = frames
    audio = torch.from_numpy(np.random.default_rng(n).standard_normal(60 * TOKEN, np.float32))
    chunk = audio[n * TOKEN - LOOK_BACK:(n + 1) * TOKEN + LOOK_AHEAD]
    first = (n + 1) * TOKEN // HOP - USED
    whole = centred(audio)[:, first:first + USED]
    assert torch.allclose(mended(chunk)[:, -USED:], whole, atol=1e-3)
    assert not torch.allclose(centred(chunk)[:, -USED:], whole, atol=1.0)


@pytest.mark.parametrize('n_tokens', [1, 34, 39])
def test_the_first_chunk_is_left_as_it_is(frames, n_tokens):
    centred, mended = frames
    audio = torch.randn(n_tokens * TOKEN + LOOK_AHEAD)
    assert torch.equal(mended(audio), centred(audio))


def test_a_plugin_is_found_where_it_was_written(tmp_path, monkeypatch):
    from importlib.metadata import entry_points
    monkeypatch.syspath_prepend(SERVER['plugin'](tmp_path))
    found = [entry.value for entry in entry_points(group='vllm.general_plugins')]
    assert found == ['mended_mel:register']


def fake(folder, script):
    """Return an environment whose Python is a shell script."""
    program = folder / 'venv' / 'bin' / 'python'
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\n{script}\n')
    program.chmod(0o755)
    return folder / 'venv'


def test_a_server_that_ends_says_why(tmp_path):
    venv = fake(tmp_path, 'echo no such model: "$4"; exit 1')
    with SERVER['Vllm'](venv, Path('demo'), tmp_path) as vllm, \
            pytest.raises(RuntimeError, match='no such model: demo'):
        vllm.wait()


def test_what_a_server_started_ends_with_it(tmp_path):
    pids = tmp_path / 'pids'
    venv = fake(tmp_path, f'sleep 600 & echo $! > {pids}.new; mv {pids}.new {pids}; wait')
    with SERVER['Vllm'](venv, Path('demo'), tmp_path):
        while not pids.exists():
            pass
    command = Path(f'/proc/{pids.read_text().strip()}/cmdline')
    wait_until(lambda: not command.exists() or not command.read_bytes())  # a zombie has none
