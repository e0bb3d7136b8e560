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
A server that speaks vLLM's dialect and nothing else, for clients that must work with both.

Written from the description of vLLM 0.33, not from our server: one queue of audio and end marks,
one delta per token, no times, errors as vLLM has them. It says what the marks in the audio say.
Like vLLM it can be short of --max-model-len, know its model by another name, and be full.
"""

import base64
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
import json
import math
import threading

import numpy as np
from support.realtime import ServedScript
from support.scripted import DELAY
from voxtral_ros.model.tokenizer import TextDecoder
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import serve


@dataclass
class Generation:
    """A text of one connection: an old connection may still be read beside the next one."""

    decoder: TextDecoder | None = None
    left: float = math.inf  # tokens
    n_tokens: int = 0


class VllmServer:
    """Serves a script to one client after the other."""

    def __init__(self, script, port=0):
        self.engine = ServedScript(script)
        self.updates = []  # all session.update events
        self.broken = []  # what clients did that vLLM does not allow
        self.at_work = threading.Event()  # clear it, and the end of a text does not come
        self.at_work.set()
        self.refuse = []  # codes to answer the next commits with; '' takes one
        self.max_tokens = []  # of the next generations; no number: as many as there are
        self.models = []  # names that are known; none: any
        self.full = False  # answer 503
        self.silent = False  # take audio and write nothing
        self._server = serve(self._talk, '127.0.0.1', port, compression=None,
                             process_request=self._answer)
        self.port = self._server.socket.getsockname()[1]
        self.url = f'ws://127.0.0.1:{self.port}/v1/realtime'
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self):
        self._server.shutdown()
        self._thread.join()

    def _answer(self, connection, request):
        """Answer a request that is not for the WebSocket."""
        if request.path == '/v1/models':
            return connection.respond(HTTPStatus.OK, json.dumps(
                {'object': 'list', 'data': [{'id': name} for name in self.models]}))
        return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, 'full') if self.full else None

    def _talk(self, socket):
        def send(kind, **fields):
            socket.send(json.dumps({'type': kind, **fields}))
        send('session.created', id='sess-1', created=1)
        validated, slot, text = False, None, ''
        generation = Generation()
        try:
            for message in socket:
                event = json.loads(message)
                kind = event['type']
                if kind == 'session.update':
                    self.updates.append(event)
                    if 'model' not in event:
                        send('error', error='Missing model', code='invalid_event')
                    elif self.models and event['model'] not in ('', *self.models):
                        send('error', error='The model does not exist', code='model_not_found')
                        continue
                    validated = True
                elif kind == 'input_audio_buffer.append':
                    samples = np.frombuffer(base64.b64decode(event['audio']), '<i2') / 32768
                    if self.silent or generation.left <= 0:
                        continue  # stays in a queue that nobody reads
                    if slot is None:
                        self.broken.append('audio outside of a generation')
                        continue
                    slot.feed(samples.astype(np.float32))
                    text = self._write(slot, text, send, generation)
                    if generation.left <= 0:
                        slot = self._done(slot, text, send, generation)
                elif kind == 'input_audio_buffer.commit' and not validated:
                    send('error', error='Not validated', code='model_not_validated')
                elif kind == 'input_audio_buffer.commit' and not event.get('final') \
                        and self.refuse and (code := self.refuse.pop(0)):
                    send('error', error='Refused', code=code)
                elif kind == 'input_audio_buffer.commit' and not event.get('final'):
                    if slot is not None:
                        self.broken.append('a commit within a generation')
                    slot, text = self.engine.take_slot(DELAY), ''
                    generation = Generation(
                        TextDecoder(self.engine.tokenizer),
                        self.max_tokens.pop(0) if self.max_tokens else math.inf)
                elif kind == 'input_audio_buffer.commit' \
                        and (self.silent or generation.left <= 0):
                    pass
                elif kind == 'input_audio_buffer.commit' and slot is None:
                    self.broken.append('an end mark without a generation')
                elif kind == 'input_audio_buffer.commit':
                    self.at_work.wait()
                    pad = self.engine.protocol.right_pad(slot.n_samples, DELAY)
                    slot.feed(np.zeros(pad, np.float32))
                    text = self._write(slot, text, send, generation)
                    slot = self._done(slot, text, send, generation)
                else:
                    send('error', error=f'Unknown event {kind}', code='unknown_event')
        except ConnectionClosed:
            pass
        finally:
            if slot is not None:
                self.engine.release(slot)

    def _done(self, slot, text, send, generation):
        self.engine.release(slot)
        send('transcription.done', text=text,
             usage={'prompt_tokens': 39, 'completion_tokens': generation.n_tokens})

    def _write(self, slot, text, send, generation):
        while self.engine.step():
            pass
        while slot.tokens and generation.left > 0:
            token = slot.tokens.popleft().id
            generation.n_tokens += 1
            generation.left -= 1
            is_text = self.engine.tokenizer.is_text(token)
            delta = generation.decoder.push(token) if is_text else ''
            text += delta
            send('transcription.delta', delta=delta)
        return text


@contextmanager
def vllm(script, port=0):
    server = VllmServer(script, port)
    try:
        yield server
    finally:
        server.close()
