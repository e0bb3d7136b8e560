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

"""The command `voxtral serve`."""

import argparse
import json
import subprocess
import sys
from urllib.request import urlopen

import pytest
import soundfile
from support.realtime import DATA, ServerProcess
from support.slow import slow_but

from voxtral_ros.cli.serve import _sizes, add_arguments
from voxtral_ros.evaluation.word_error_rate import normalize, word_errors

ORDERS = ('robot go to the kitchen and bring me the red cup turn left and go forward three meters '
          'please put the book next to the lamp and come back stop following me and return to the '
          'charging station')
WRONG = [
    (('--test', 'nowhere.wav'), 'nowhere.wav'),
    (('--max-sessions', '0'), '--max-sessions is 0'),
    (('--host', '203.0.113.1'), 'cannot listen on 203.0.113.1'),
    (('--model', 'nowhere'), 'nowhere'),
    (('--token-file', 'nowhere'), 'no token in nowhere'),
    (('--tls-cert', 'cert.pem'), '--tls-key'),
    (('--tls-cert', __file__, '--tls-key', __file__), 'no certificate'),
    (('--max-backlog-mb', '-1'), '--max-backlog-mb is -1'),
    (('--max-connections', '3'), '3 connections are too few for --max-sessions 16'),
    (('--max-connections', '9999999999'), 'ulimit -n'),
    (('--device', 'tpu'), 'tpu'),
    (('--device', 'cpu,tpu'), "device 'tpu' is not"),
    (('--max-streams', '-1'), '--max-streams is -1'),
    (('--idle-slot-s', 'inf'), '--idle-slot-s is inf'),
    (('--step-timeout-s', '-1'), '--step-timeout-s is -1'),
    (('--step-timeout-s', 'nan'), '--step-timeout-s is nan'),
    (('--idle-after-s', 'nan'), '--idle-after-s is nan'),
    (('--phrases', 'nowhere'), 'the phrases in nowhere cannot be read'),
    (('--phrase-boost', '2'), 'add --phrases FILE'),
    (('--phrases', __file__, '--phrase-boost', '99'), 'the boost 99.0'),
]


def serve(*arguments):
    return subprocess.run([sys.executable, '-m', 'voxtral_ros', 'serve', *map(str, arguments)],
                          capture_output=True, text=True, timeout=120)


def test_a_file_is_transcribed_through_the_server():
    result = serve('--test', DATA / 'orders.flac')
    assert result.returncode == 0, result.stderr
    assert word_errors(ORDERS.split(), normalize(result.stdout)) <= 4


@pytest.mark.parametrize(('arguments', 'n_engines', 'sizes'), [
    ((), 1, (16, 4)), (('--max-sessions', '12'), 1, (12, 12)),
    (('--max-streams', '3'), 1, (12, 3)),
    (('--max-sessions', '40', '--max-streams', '8'), 1, (40, 8)),
    (('--max-sessions', '2', '--max-streams', '8'), 1, (2, 2)),
    # Streams of each engine, clients of all.
    ((), 2, (32, 4)), (('--max-streams', '3'), 4, (48, 3)), (('--max-sessions', '12'), 3, (12, 4)),
    (('--max-sessions', '13'), 3, (13, 5)), (('--max-sessions', '1'), 2, (1, 1)),
    (('--max-sessions', '40', '--max-streams', '8'), 2, (40, 8))])
def test_clients_and_streams_follow_from_each_other(arguments, n_engines, sizes):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    assert _sizes(parser.parse_args(arguments), n_engines) == sizes


def test_two_engines_of_one_command_serve_two_clients():
    """Each writes what one alone does, and the file that is tried goes through either."""
    audio, _ = soundfile.read(DATA / 'orders.flac', dtype='float32')
    with ServerProcess('--device', 'cpu,cpu', '--max-streams', '2') as server:
        clients = [server.client() for _ in range(2)]
        with urlopen(f'{server.http}/healthz') as reply:
            health = json.load(reply)
        assert (health['max_sessions'], health['max_streams']) == (16, 4)
        assert {name: engine['sessions'] for name, engine in health['engines'].items()} \
            == {'cpu/0': 1, 'cpu/1': 1}
        for client in clients:
            client.update()
            client.append(audio[:8 * 16000])
            client.commit()
        first, second = (client.until('transcription.done')[-1]['text'] for client in clients)
    assert first == second
    assert normalize(first)[:4] == ORDERS.split()[:4]


def test_a_file_is_tried_with_several_engines():
    result = serve('--device', 'cpu,cpu', '--test', DATA / 'orders.flac')
    assert result.returncode == 0, result.stderr
    assert word_errors(ORDERS.split(), normalize(result.stdout)) <= 4


@pytest.mark.parametrize(('arguments', 'complaint'), slow_but(*WRONG[:3], of=WRONG))
def test_what_is_wrong_is_said_in_one_line(arguments, complaint):
    result = serve(*arguments)
    assert result.returncode == 2
    assert complaint in result.stderr
    assert 'Traceback' not in result.stderr
    assert result.stdout == ''


def test_only_this_machine_is_let_in_by_default():
    arguments = argparse.ArgumentParser()
    add_arguments(arguments)
    assert arguments.parse_args([]).host == '127.0.0.1'


def test_what_clients_offer_is_not_logged():
    with ServerProcess(stderr=subprocess.PIPE) as process:
        for _ in range(3):
            process.client(subprotocols=['something-else']).socket.close()
        process.terminate()
        assert 'something-else' not in process.process.stderr.read()


def test_an_open_door_is_warned_about():
    with ServerProcess('--host', '0.0.0.0', stderr=subprocess.PIPE) as process:
        process.terminate()
        assert 'no --token-file' in process.process.stderr.read()
