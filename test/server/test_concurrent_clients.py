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

"""Many clients on the demo model: everybody gets the text of his own audio."""

from concurrent.futures import ThreadPoolExecutor
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from support.processes import ends_with_us
from support.realtime import DATA, ServerProcess
from support.slow import slow_but

from voxtral_ros.audio.files import read_file
from voxtral_ros.audio.resample import resampled

N_MANY = 32
CLIP_S = 4


@pytest.fixture(scope='module')
def server():
    with ServerProcess('--max-sessions', N_MANY + 2) as process:
        yield process


@pytest.fixture(scope='module')
def clips():
    """Return the beginnings of all recordings, after the silence that the tiny model wants."""
    quiet = np.zeros(8000, np.float32)
    return [np.concatenate([quiet, *resampled(read_file(path))])[:CLIP_S * 16000]
            for path in sorted(DATA.glob('*.flac'))]


@pytest.fixture(scope='module')
def alone(server, clips):
    """Return what each clip is processed as when nobody else is there."""
    texts = [transcribed(server, clip) for clip in clips]
    assert len(set(texts)) == len(texts) >= 4
    assert all(texts)
    return texts


def transcribed(server, clip):
    with server.client() as client:
        client.update()
        client.append(clip)
        client.commit()
        return client.until('transcription.done')[-1]['text']


@pytest.mark.parametrize('n_clients', slow_but(4, of=[4, N_MANY]))
def test_everybody_gets_his_own_text(server, clips, alone, n_clients):
    jobs = [clips[n % len(clips)] for n in range(n_clients)]
    with ThreadPoolExecutor(n_clients) as pool:
        texts = list(pool.map(lambda clip: transcribed(server, clip), jobs))
    assert texts == [alone[n % len(clips)] for n in range(n_clients)]


VICTIM = """
import sys
from support.realtime import Client, DATA
from voxtral_ros.audio.files import read_file
from voxtral_ros.audio.resample import resampled
with Client(sys.argv[1]) as client:
    client.update()
    blocks = list(resampled(read_file(DATA / 'orders.flac')))
    client.append(blocks[0])
    print('ready', flush=True)
    while True:
        for block in blocks:
            client.append(block)
"""


def test_kill_9_in_the_middle_of_an_append(server, clips, alone):
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, sys.path))}
    victims = [subprocess.Popen([*ends_with_us(), sys.executable, '-c', VICTIM, server.url],
                                env=environment, stdout=subprocess.PIPE, text=True)
               for _ in range(2)]
    for victim in victims:
        assert victim.stdout.readline() == 'ready\n'
    for victim in victims:
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        victim.stdout.close()
    assert transcribed(server, clips[0]) == alone[0]
    assert server.process.poll() is None
