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

"""Recognise speech for many clients over a WebSocket, as vLLM does at /v1/realtime; and a page."""

from __future__ import annotations

import argparse
from ipaddress import ip_address
import logging
import math
import os
from pathlib import Path
import socket
import ssl
import sys
from typing import TYPE_CHECKING

from voxtral_ros.audio.files import file_duration_s, read_file
from voxtral_ros.audio.resample import resampled
from voxtral_ros.cli.options import add_kv_cache, add_no_verify, add_phrases, read_phrases
from voxtral_ros.recognizer.interface import NotFinite
from voxtral_ros.recognizer.phrases import NO_PHRASES
from voxtral_ros.resources import demo_model

if TYPE_CHECKING:
    from voxtral_ros.server.app import Access, Server


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `voxtral serve`."""
    parser.add_argument('--model', type=Path, metavar='DIR',
                        help='folder with params.json, tekken.json, consolidated.safetensors '
                             '[the small demo model of the package]')
    parser.add_argument('--served-model-name', action='append', default=[], metavar='NAME',
                        help='name that clients may ask for besides that of the folder; repeat')
    parser.add_argument('--host', default='127.0.0.1',
                        help='address to listen on; 0.0.0.0 is every one [127.0.0.1]')
    parser.add_argument('--port', type=int, default=8000, help='0 takes a free one [8000]')
    parser.add_argument('--device', default='auto', metavar='NAME,...',
                        help='auto, cpu, cuda or cuda:N; several, like cuda:0,cuda:1, have an '
                             'engine each, and all is every GPU [auto]')
    parser.add_argument('--dtype', choices=('float32', 'bfloat16', 'float16'),
                        help='type of the weights in memory [float32 on the CPU, else as in file]')
    add_no_verify(parser)
    add_phrases(parser)
    parser.add_argument('--threads', type=int, default=0,
                        help='threads on the CPU, of all engines; 0: OMP_NUM_THREADS, or one per '
                             'core [0]')
    parser.add_argument('--test', metavar='AUDIO',
                        help='transcribe this file through the server, print the text and exit')
    access = parser.add_argument_group('access')
    access.add_argument('--token-file', type=Path, metavar='FILE',
                        help='clients must give the first line of it: Authorization: Bearer ...')
    access.add_argument('--allow-origin', action='append', default=[], metavar='URL',
                        help='page of another site that may connect, like https://robot.example; '
                             'repeat; * allows every page')
    access.add_argument('--tls-cert', type=Path, metavar='PEM', help='certificate chain: wss://')
    access.add_argument('--tls-key', type=Path, metavar='PEM', help='its key')
    limits = parser.add_argument_group('limits')
    limits.add_argument('--max-sessions', type=int, metavar='N',
                        help='clients that may be connected at the same time, over all engines '
                             '[four times the streams of all]')
    limits.add_argument('--max-streams', type=int, metavar='N',
                        help='clients that each engine transcribes at the same time, because '
                             'somebody speaks; memory for all of them is taken at the start [4, '
                             'or with --max-sessions the share of an engine of those]')
    limits.add_argument('--idle-slot-s', type=float, default=10, metavar='S',
                        help='a client in whose audio nobody has spoken for so long makes room '
                             'for one who does [10]')
    limits.add_argument('--idle-after-s', type=float, default=2, metavar='S',
                        help='without speech for so long, the model is given nothing; 0: it '
                             'always is [2]')
    limits.add_argument('--window', type=int, default=0, metavar='TOKENS',
                        help='tokens of 80 ms that the decoder looks back: fewer take less memory '
                             'per client [0, as the model says]')
    add_kv_cache(limits)
    limits.add_argument('--overload', action='store_true',
                        help='take clients although the engine would then be slower than the '
                             'audio: for recordings, which may wait')
    limits.add_argument('--max-message-mb', type=float, default=8, metavar='MB', help='[8]')
    limits.add_argument('--max-buffered-s', type=float, default=300, metavar='S',
                        help='audio of a client that may wait for the engine [300]')
    limits.add_argument('--max-backlog-mb', type=float, default=64, metavar='MB',
                        help='messages of a client that may wait besides, 26 minutes of audio '
                             '[64]')
    limits.add_argument('--max-messages-per-s', type=float, default=500, metavar='N',
                        help='a client that sends more, pings included, is read more slowly [500]')
    limits.add_argument('--max-connections', type=int, metavar='N',
                        help='of any kind; for every other one the oldest that is no session is '
                             'closed [512, or half of the files that the process may open]')
    limits.add_argument('--idle-timeout-s', type=float, default=600, metavar='S',
                        help='a client that sends no event for so long is disconnected [600]')
    limits.add_argument('--step-timeout-s', type=float, metavar='S',
                        help='an engine whose step takes longer is given no clients; after twice '
                             'that the server ends with status 1, to be started again; 0: never '
                             '[10 with a GPU, which can hang; 0 without]')
    limits.add_argument('--stop-timeout-s', type=float, default=10, metavar='S',
                        help='after SIGTERM, for everything that still waits [10]')


def run(arguments: argparse.Namespace) -> int:
    """Serve until a signal; return 2 when the model, an option or the address is unusable."""
    # Not at the top: `voxtral --help` needs none of it.
    from voxtral_ros.server.run import EngineHangs, serve, ServerError
    logging.basicConfig(format='%(asctime)s %(levelname)s %(message)s', level=logging.INFO)
    # It warns of every client that offers other subprotocols, with what that has sent.
    logging.getLogger('aiohttp.websocket').setLevel(logging.ERROR)
    try:
        if arguments.test:
            file_duration_s(arguments.test)  # before gigabytes are read
        server = _server(arguments)
        if arguments.test:
            return _test(server, arguments.test)
        if not serve(server, arguments.host, arguments.port,
                     lambda port: _announce(arguments, port)):
            os._exit(0)  # as below
    except EngineHangs as error:
        _complain(f'{error}: this process ends, to be started again')
        os._exit(1)  # Python would wait for the thread that hangs, and CUDA for the GPU
    except (ValueError, FileNotFoundError, ServerError, NotFinite) as error:
        return _complain(str(error))
    except OSError as error:
        return _complain(f'cannot listen on {arguments.host} port {arguments.port}: {error}')
    return 0


def _server(arguments: argparse.Namespace) -> Server:
    from voxtral_ros.server.app import Server
    from voxtral_ros.server.limits import Limits
    from voxtral_ros.backends.selection import find_devices
    devices = find_devices(arguments.device)
    n_sessions, n_streams = _sizes(arguments, len(devices))
    sizes = {name: getattr(arguments, name) for name in (
        'max_message_mb', 'max_buffered_s', 'max_backlog_mb',
        'max_messages_per_s', 'idle_timeout_s')}
    for name, value in sizes.items():
        if not value > 0:
            raise ValueError(f'--{name.replace("_", "-")} is {value:g}: it must be above 0')
    for name in ('idle_slot_s', 'idle_after_s'):
        value = getattr(arguments, name)
        if not 0 <= value < math.inf:
            raise ValueError(f'--{name.replace("_", "-")} is {value:g}: it must be 0 or more '
                             'seconds')
    limits = Limits(n_sessions, round(arguments.max_message_mb * 2 ** 20),
                    arguments.max_buffered_s, round(arguments.max_backlog_mb * 2 ** 20),
                    arguments.max_messages_per_s, connections=_connections(arguments, n_sessions),
                    idle_slot_s=arguments.idle_slot_s, idle_s=arguments.idle_timeout_s,
                    step_s=_step_s(arguments.step_timeout_s, devices),
                    stop_s=arguments.stop_timeout_s, overload=arguments.overload)
    phrases = read_phrases(arguments)  # before gigabytes are read
    access = _access(arguments)
    if not arguments.test:
        _check_address(arguments.host, arguments.port)
    from voxtral_ros.recognizer.engines import load_engines
    from voxtral_ros.recognizer.idle import IdleOptions
    model = (arguments.model or demo_model()).resolve()
    engines = load_engines(model, devices, arguments.threads, dtype=arguments.dtype,
                           max_streams=n_streams, window=arguments.window,
                           kv_cache=arguments.kv_cache, verify=arguments.verify,
                           max_open=n_sessions)
    names = (model.name, str(arguments.model or model.name), *arguments.served_model_name)
    return Server(engines, tuple(dict.fromkeys(names)), limits, access,
                  IdleOptions(after_s=arguments.idle_after_s), phrases or NO_PHRASES)


def _step_s(asked: float | None, devices: list[str]) -> float:
    if asked is None:
        return 0.0 if set(devices) == {'cpu'} else 10.0
    if not 0 <= asked < math.inf:
        raise ValueError(f'--step-timeout-s is {asked:g}: give seconds, or 0 for never')
    return asked


def _sizes(arguments: argparse.Namespace, n_engines: int) -> tuple[int, int]:
    """Return how many clients may be connected, and how many of them an engine transcribes."""
    for name in ('max_sessions', 'max_streams'):
        given = getattr(arguments, name)
        if given is not None and given < 1:
            raise ValueError(f'--{name.replace("_", "-")} is {given}: it must be above 0')
    share = -(-arguments.max_sessions // n_engines) if arguments.max_sessions else 4
    n_streams = arguments.max_streams or share
    n_sessions = arguments.max_sessions or 4 * n_streams * n_engines
    return n_sessions, min(n_sessions, n_streams)


def _connections(arguments: argparse.Namespace, n_sessions: int) -> int:
    from voxtral_ros.server.listener import connection_limit
    limit = connection_limit(arguments.max_connections)
    if limit <= n_sessions:
        raise ValueError(f'{limit} connections are too few for --max-sessions '
                         f'{n_sessions}: give a larger --max-connections, or allow '
                         'more files with "ulimit -n"')
    return limit


def _check_address(host: str, port: int) -> None:
    """Raise OSError if the address cannot be listened on."""
    family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)


def _access(arguments: argparse.Namespace) -> Access:
    from voxtral_ros.server.access import read_token
    from voxtral_ros.server.app import Access
    token = read_token(arguments.token_file) if arguments.token_file else ''
    tls = None
    if bool(arguments.tls_cert) != bool(arguments.tls_key):
        raise ValueError('--tls-cert and --tls-key belong together: give both')
    if arguments.tls_cert:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            tls.load_cert_chain(arguments.tls_cert, arguments.tls_key)
        except (OSError, ssl.SSLError) as error:
            raise ValueError(f'{arguments.tls_cert} and {arguments.tls_key} are no certificate '
                             f'with its key: {error}') from None
    return Access(token, tuple(arguments.allow_origin), tls)


def _test(server: Server, name: str) -> int:
    from voxtral_ros.server.run import serve_recording
    serve_recording(server, resampled(read_file(name)),
                    lambda text: print(text, end='', flush=True))
    print()
    return 0


def _announce(arguments: argparse.Namespace, port: int) -> None:
    """Say where the server is, and who can reach it."""
    host = f'[{arguments.host}]' if ':' in arguments.host else arguments.host
    secure = 's' if arguments.tls_cert else ''
    print(f'ws{secure}://{host}:{port}/v1/realtime, page http{secure}://{host}:{port}/',
          flush=True)
    if not arguments.token_file and not _is_loopback(arguments.host):
        print(f'voxtral serve: {arguments.host} can be reached from other machines, and no '
              '--token-file says who may', file=sys.stderr, flush=True)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == 'localhost'


def _complain(message: str) -> int:
    print(f'voxtral serve: {message}', file=sys.stderr)
    return 2
