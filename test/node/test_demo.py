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

"""`make demo`: shipped speech through the node, from a file or a microphone."""

from pathlib import Path
import re
import signal
import subprocess
import tempfile
from threading import Thread

from audio.virtual_microphone import missing, VirtualMicrophone
import pytest
from support.processes import ends_with_us

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / 'tools' / 'demo.sh'
ORDERS = ROOT / 'test' / 'data' / 'orders.flac'


def test_the_recording():
    printed = subprocess.run([DEMO], check=True, capture_output=True, text=True, timeout=300)
    assert 'robot go to the kitchen and bring me the red cup' in printed.stdout
    assert '4 utterances. Words appeared ' in printed.stdout
    assert len(re.findall(r'EAGER_END [0-9.]+ s, final [0-9.]+ s after', printed.stdout)) == 4
    assert printed.stderr == ''


@pytest.mark.slow
@pytest.mark.skipif(missing() is not None, reason=missing() or '')
def test_the_microphone_until_ctrl_c():
    with tempfile.TemporaryDirectory(prefix='ear') as folder, \
            VirtualMicrophone(Path(folder)) as ear:
        demo = subprocess.Popen(
            [*ends_with_us('INT'), DEMO], env={**ear.environment, 'MIC': 'Robot_Ear'},
            stdout=subprocess.PIPE, text=True, start_new_session=True)
        players, printed = [], ''

        def speak():
            """Play the orders until one is understood: on a busy machine, sound gets lost."""
            for _ in range(5):
                players.append(ear.play(ORDERS))
                players[-1].wait()
                if 'kitchen' in printed or demo.poll() is not None:
                    return
            demo.kill()  # or reading what it prints would take for ever

        speaking = Thread(target=speak)
        try:
            assert demo.stdout is not None
            assert demo.stdout.readline() == 'Speak English; Ctrl-C ends.\n'
            while 'kitchen' not in printed:
                character = demo.stdout.read(1)
                assert character, printed
                printed += character
                # On a busy machine, that nobody speaks is reported first, and for as long.
                if speaking.ident is None and re.search(
                        'listening to the microphone|the audio is digital silence', printed):
                    speaking.start()
            demo.send_signal(signal.SIGINT)
            printed += demo.communicate(timeout=60)[0]
        finally:
            demo.kill()
            demo.wait()
            for player in players:
                player.kill()
            if speaking.ident:
                speaking.join()
    assert demo.returncode == 0
    assert 'utterances. Words appeared' in printed
