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
import subprocess
import sys

import pytest
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
    (('--max-streams', '-1'), '--max-streams is -1'),
    (('--idle-slot-s', 'inf'), '--idle-slot-s is inf'),
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


@pytest.mark.parametrize(('arguments', 'sizes'), [
    ((), (16, 4)), (('--max-sessions', '12'), (12, 12)), (('--max-streams', '3'), (12, 3)),
    (('--max-sessions', '40', '--max-streams', '8'), (40, 8)),
    (('--max-sessions', '2', '--max-streams', '8'), (2, 2))])
def test_clients_and_streams_follow_from_each_other(arguments, sizes):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    assert _sizes(parser.parse_args(arguments)) == sizes


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
