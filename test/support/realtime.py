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

"""
Servers to talk to, in this process or in one of their own, and a client that talks to them.

The client is another library than the one the server is made with.
"""

import asyncio
import base64
from contextlib import contextmanager, suppress
from functools import cached_property
import json
import math
from multiprocessing import get_context
from pathlib import Path
import re
import signal
import subprocess
import sys
import threading
import time

import numpy as np
from support.processes import ends_with_us
from support.scripted import scripted_voice, ScriptedEngine
from voxtral_ros.recognizer.options import StreamOptions
from voxtral_ros.recognizer.phrases import NO_PHRASES
from voxtral_ros.recognizer.stream import Stream
from voxtral_ros.server.app import Access, Server
from voxtral_ros.server.limits import Limits
from voxtral_ros.server.run import serve
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

MODEL = 'tiny'
WAIT_S = 120  # before a test gives up; nothing takes that long unless it is broken


class ServedScript(ScriptedEngine):
    """A scripted engine that opens streams itself, as the real one does, and can be held."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self._free = threading.Event()
        self._free.set()

    def step(self, only=None):
        """Advance all streams, when nobody holds the engine."""
        self._free.wait()
        return super().step(only)

    @contextmanager
    def held(self):
        """Let nothing be recognised meanwhile."""
        self._free.clear()
        try:
            yield
        finally:
            self._free.set()

    def open(self, delay_ms=None, options=None, *, utterance_ids=None,  # noqa: A003
             start_s=0.0, idle_slot_s=math.inf, phrases=None):
        """Open a stream."""
        return Stream(self, self.protocol.delay_tokens(delay_ms), options or StreamOptions(),
                      utterance_ids, start_s, idle_slot_s, phrases or NO_PHRASES)


class Client:
    """One connection."""

    def __init__(self, url, **options):
        self.socket = connect(url, max_size=None, compression=None, proxy=None, **options)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, kind, **fields):
        """Send one event."""
        self.socket.send(json.dumps({'type': kind, **fields}))

    def update(self, **fields):
        self.send('session.update', **fields)

    def append(self, samples, block=8000):
        """Append float32 samples in blocks of 500 ms."""
        for start in range(0, len(samples), block):
            self.send('input_audio_buffer.append', audio=encoded(samples[start:start + block]))

    def commit(self, **fields):
        self.send('input_audio_buffer.commit', **fields)

    def receive(self):
        """Return the next event."""
        return json.loads(self.socket.recv(timeout=WAIT_S))

    def until(self, kind):
        """Return all events up to the first of a kind."""
        events = [self.receive()]
        while events[-1]['type'] != kind:
            events.append(self.receive())
        return events

    def expect(self, kind):
        """Return the next event, which must be of a kind."""
        event = self.receive()
        assert event['type'] == kind, event
        return event

    def rest(self):
        """Return all events until the server closes, and the code it closes with."""
        events = []
        with suppress(ConnectionClosed):
            while True:
                events.append(self.receive())
        return events, self.socket.protocol.close_code


def encoded(samples):
    """Return float32 samples as base64 of PCM16."""
    pcm = np.clip(np.round(np.asarray(samples) * 32768), -32768, 32767).astype('<i2')
    return base64.b64encode(pcm.tobytes()).decode()


def said(events):
    """Return the text of the deltas among events."""
    return ''.join(event['delta'] for event in events if event['type'] == 'transcription.delta')


class Running:
    """A server in a thread of this process."""

    def __init__(self, engine, limits=None, access=None, port=0, phrases=NO_PHRASES):
        """Serve an engine, or several by name."""
        engines = engine if isinstance(engine, dict) else {'script': engine}
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self.server = Server(engines, (MODEL,), limits or Limits(), access or Access(),
                             phrases=phrases)
        self.port = self.run(self.server.start('127.0.0.1', port))
        self.scheme = 'wss' if access and access.tls else 'ws'

    @property
    def engine(self):
        """Return the only engine."""
        [engine] = self.server.engines.values()
        return engine

    @property
    def worker(self):
        """Return its worker."""
        [worker] = self.server.pool.workers
        return worker

    @property
    def url(self):
        return f'{self.scheme}://127.0.0.1:{self.port}/v1/realtime'

    @property
    def http(self):
        return f'http://127.0.0.1:{self.port}'

    def run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(WAIT_S)

    def client(self, **options):
        """Connect and take the greeting."""
        client = Client(self.url, **options)
        client.expect('session.created')
        return client

    def stop(self):
        self.run(self.server.stop())

    def close(self):
        self.stop()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


@contextmanager
def running(engine, limits=None, access=None, port=0, phrases=NO_PHRASES):
    server = Running(engine, limits, access, port, phrases)
    try:
        yield server
    finally:
        server.close()


class ServerProcess:
    """`voxtral serve` with the demo model, in a process of its own."""

    program = ('-m', 'voxtral_ros')

    def __init__(self, *arguments, port=0, stderr=None):
        self.process = subprocess.Popen(
            [*ends_with_us(), sys.executable, *self.program, 'serve', '--port', str(port),
             '--threads', '1', '--overload', *map(str, arguments)],
            stdout=subprocess.PIPE, stderr=stderr, text=True)
        line = self.process.stdout.readline()
        found = re.search(r'ws://\S+:(\d+)/v1/realtime', line)
        assert found, f'the server did not start: {line!r}'
        self.port, self.url = int(found[1]), found[0]
        self.http = self.url.replace('ws:', 'http:').removesuffix('/v1/realtime')

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()

    def client(self, **options):
        client = Client(self.url, **options)
        client.expect('session.created')
        return client

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)

    def kill(self):
        """End it at once, as a power cut does."""
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        if self.process.stderr:
            self.process.stderr.close()


class HangingProcess(ServerProcess):
    """`voxtral serve` whose passes over live audio never come back."""

    program = ('-c', """
import sys
import threading
from voxtral_ros.cli.main import main
from voxtral_ros.recognizer.engine import Engine
Engine.warm_up = lambda engine: setattr(engine, 'step', lambda *_: threading.Event().wait())
sys.exit(main(sys.argv[1:]))
""")


class ScriptProcess:
    """A server of a scripted engine in a process of its own, which can be killed."""

    def __init__(self, script, limits):
        context = get_context('spawn')  # this process has threads
        here, there = context.Pipe()
        self.process = context.Process(target=_serve_script, args=(script, limits, there),
                                       daemon=True)
        self.process.start()
        there.close()
        self._port = here

    @cached_property
    def address(self):
        """Wait until it listens."""
        with self._port:
            return f'127.0.0.1:{self._port.recv()}'

    def kill(self):
        self.process.kill()
        self.process.join()


def _serve_script(script, limits, port):
    with scripted_voice():
        server = Server({'script': ServedScript(script)}, (MODEL,), limits)
        serve(server, '127.0.0.1', 0, port.send)


def wait_until(condition):
    for _ in range(100 * WAIT_S):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError('it did not happen')


def wait_for(stream, condition):
    """Poll until the events are as expected, return them."""
    events = []

    def enough():
        events.extend(stream.poll())
        return condition(events)
    wait_until(enough)
    return events


DATA = Path(__file__).resolve().parents[1] / 'data'
