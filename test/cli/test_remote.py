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

"""`voxtral transcribe --url`: files by a server, ours or one that speaks vLLM's dialect."""

import json
import subprocess
import sys

import pytest
from support.realtime import DATA, ServerProcess
from support.scripted import join, PAUSE, Script, scripted_voice, silence
from support.vllm import vllm

from voxtral_ros.cli import remote
from voxtral_ros.cli.main import main

WITHOUT_MODEL = """
import sys
sys.modules['torch'] = sys.modules['voxtral_ros.recognizer.engine'] = None  # importing fails
from voxtral_ros.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def test_a_file_by_a_server_is_as_by_the_model():
    file = str(DATA / 'orders.flac')
    local = subprocess.run([sys.executable, '-m', 'voxtral_ros', 'transcribe', '--json', file],
                           check=True, capture_output=True, text=True)
    with ServerProcess() as server:
        far = subprocess.run([sys.executable, '-c', WITHOUT_MODEL, 'transcribe', '--json', file,
                              '--url', f'ws://127.0.0.1:1/v1/realtime,{server.url}',
                              '--server-model', 'any/voxtral-tiny-en'],
                             check=True, capture_output=True, text=True)
    assert json.loads(far.stdout)['text'] == json.loads(local.stdout)['text']


def test_no_server(monkeypatch, capsys):
    monkeypatch.setattr(remote, '_AWAY_S', 0.0)
    code = main(['transcribe', '--url', 'ws://127.0.0.1:1/v1/realtime', str(DATA / 'orders.flac')])
    assert code == 1
    assert 'no connection to ws://127.0.0.1:1/v1/realtime' in capsys.readouterr().err


def test_a_file_is_not_read_further_than_the_server_follows(monkeypatch):
    monkeypatch.setattr(remote, '_MOST_WAITING_S', 1.0)
    with scripted_voice(), vllm(script := Script()) as server:
        stream = remote.PatientEngine(server.url, '', None).open()
        for word in ' go', ' stop':
            stream.feed(join(silence(1.0), script.say(word), silence(PAUSE)))
            events = stream.poll()
            assert stream._stream.link.waiting_s <= 1.0
            assert [event.text for event in events if getattr(event, 'is_final', False)] \
                == [word.strip()]
        stream.abandon()


@pytest.mark.parametrize('more', [
    ['--url', 'http://host'], ['--url', 'ws://host/v1/realtime', '--model', 'folder'],
    ['--url', 'ws://host/v1/realtime', '--plot', 'x.png'],
    ['--url', 'ws://host/v1/realtime', '--token-file', 'missing']])
def test_what_does_not_go_together_is_refused(more, capsys):
    assert main(['transcribe', str(DATA / 'orders.flac'), *more]) == 2
    assert capsys.readouterr().err.count('\n') == 1
