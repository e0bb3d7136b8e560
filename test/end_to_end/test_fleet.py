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

"""Two servers behind HAProxy or nginx, with the shipped files: what robots notice of a loss."""

from contextlib import contextmanager, ExitStack
import json
import os
import signal
from urllib.error import HTTPError
from urllib.request import urlopen

from bench.scripts import load
import pytest
from support.processes import ends_with_us
from support.realtime import ScriptProcess, wait_for, WAIT_S, wait_until
from support.scripted import (
    feed, join, PAUSE, Script, scripted_voice, silence, texts, transcripts, voice)
from support.slow import slow_but

from voxtral_ros.client.engine import RemoteEngine
from voxtral_ros.server.limits import Limits

balancers = load('balancers')
N_ROBOTS = 4


def sessions(server):
    """Return how many clients a server has."""
    with urlopen(f'http://{server.address}/healthz') as answer:
        return json.load(answer)['sessions']


@pytest.fixture(params=slow_but('haproxy', of=sorted(balancers.BALANCERS)))
def balancer(request):
    if not balancers.program(request.param):
        pytest.skip(f'no {request.param}: `sudo apt-get install {request.param}` brings it')
    return balancers.BALANCERS[request.param]


@contextmanager
def fleet(balancer, script, *limits):
    """Run servers with these limits behind a balancer; yield its address and them."""
    with ExitStack() as stack:
        servers = []
        for some in limits:
            servers.append(ScriptProcess(script, some))
            stack.callback(servers[-1].kill)
        bind = stack.enter_context(
            balancer([server.address for server in servers], ends_with_us()))
        yield bind, servers


def texts_of(events):
    return ''.join(event.delta for event in transcripts(events))


def begin_to_speak(bind, audio):
    """Return streams and their events, each in the middle of an utterance that reads 'go'."""
    robots = []
    for _ in range(N_ROBOTS):
        stream = RemoteEngine(f'ws://{bind}/v1/realtime').open()
        wait_until(lambda stream=stream: stream.link.state == 'connected')
        robots.append((stream, feed(stream, audio)))
    for stream, events in robots:
        events += wait_for(stream, lambda new, events=events: texts_of(events + new) == 'go')
    return robots


@pytest.mark.parametrize('how', [signal.SIGKILL, signal.SIGTERM], ids=['killed', 'stopped'])
def test_a_server_ends_in_mid_utterance(balancer, how):
    script = Script()
    first = join(silence(1.0), script.say(' go'), voice(1.2))
    second = join(script.say(' left'), silence(PAUSE))
    with scripted_voice(), fleet(balancer, script, Limits(), Limits()) as (bind, servers):
        robots = begin_to_speak(bind, first)
        assert [sessions(server) for server in servers] == [N_ROBOTS // 2] * 2
        os.kill(servers[0].process.pid, how)
        servers[0].process.join(WAIT_S)
        wait_until(lambda: sessions(servers[1]) == N_ROBOTS)
        for stream, events in robots:
            events += feed(stream, second)
        for stream, events in robots:
            events += wait_for(stream, lambda _, stream=stream: not stream.link.waiting_s)
            events += stream.close(WAIT_S)
    assert [texts(events) for _, events in robots] == [['go left']] * N_ROBOTS
    assert [texts_of(events) for _, events in robots] == ['go left'] * N_ROBOTS  # nothing twice
    assert sorted(stream.link.connects for stream, _ in robots) == [1, 1, 2, 2]
    assert all(stream.link.dropped_s == 0 for stream, _ in robots)
    if how == signal.SIGTERM:
        assert servers[0].process.exitcode == 0


def test_a_full_server_is_passed_by(balancer):
    limits = Limits(sessions=1), Limits(sessions=N_ROBOTS - 1)
    with scripted_voice(), fleet(balancer, Script(), *limits) as (bind, servers):
        streams = [RemoteEngine(f'ws://{bind}/v1/realtime').open() for _ in range(N_ROBOTS)]
        wait_until(lambda: all(stream.link.state == 'connected' for stream in streams))
        assert [sessions(server) for server in servers] == [1, N_ROBOTS - 1]
        assert [stream.link.error for stream in streams] == [''] * N_ROBOTS  # at the first try
        for stream in streams:
            stream.abandon()


def test_the_health_of_the_fleet_is_that_of_its_best_server(balancer):
    with fleet(balancer, Script(), Limits(), Limits()) as (bind, servers):
        servers[0].kill()
        assert status(bind, '/healthz') == 200
        servers[1].kill()
        wait_until(lambda: status(bind, '/healthz') >= 500)
        assert status(bind, '/metrics') == 404


def status(bind, path):
    try:
        with urlopen(f'http://{bind}{path}') as answer:
            return answer.status
    except HTTPError as error:
        return error.code


def test_every_server_line_of_haproxy_finds_a_machine_that_is_gone():
    lines = (balancers.CONFIG / 'haproxy.cfg').read_text(encoding='utf-8').splitlines()
    servers = [line.split() for line in lines if line.split()[:1] == ['server']]
    assert len(servers) == 2
    assert all('tcp-ut' in words for words in servers)  # default-server has no effect on it
