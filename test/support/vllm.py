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
"""

import base64
from contextlib import contextmanager
import json
import threading

import numpy as np
from support.realtime import ServedScript
from support.scripted import DELAY
from voxtral_ros.model.tokenizer import TextDecoder
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import serve


class VllmServer:
    """Serves a script to one client after the other."""

    def __init__(self, script):
        self.engine = ServedScript(script)
        self.updates = []  # all session.update events
        self.broken = []  # what clients did that vLLM does not allow
        self.at_work = threading.Event()  # clear it, and the end of a text does not come
        self.at_work.set()
        self.refuse = []  # codes to answer the next commits with
        self._server = serve(self._talk, '127.0.0.1', 0, compression=None)
        self.url = f'ws://127.0.0.1:{self._server.socket.getsockname()[1]}/v1/realtime'
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self):
        self._server.shutdown()
        self._thread.join()

    def _talk(self, socket):
        def send(kind, **fields):
            socket.send(json.dumps({'type': kind, **fields}))
        send('session.created', id='sess-1', created=1)
        validated, slot, text = False, None, ''
        try:
            for message in socket:
                event = json.loads(message)
                kind = event['type']
                if kind == 'session.update':
                    self.updates.append(event)
                    if 'model' not in event:
                        send('error', error='Missing model', code='invalid_event')
                    validated = True
                elif kind == 'input_audio_buffer.append':
                    samples = np.frombuffer(base64.b64decode(event['audio']), '<i2') / 32768
                    if slot is None:
                        self.broken.append('audio outside of a generation')
                        continue
                    slot.feed(samples.astype(np.float32))
                    text = self._write(slot, text, send)
                elif kind == 'input_audio_buffer.commit' and not validated:
                    send('error', error='Not validated', code='model_not_validated')
                elif kind == 'input_audio_buffer.commit' and self.refuse \
                        and not event.get('final'):
                    send('error', error='Refused', code=self.refuse.pop(0))
                elif kind == 'input_audio_buffer.commit' and not event.get('final'):
                    if slot is not None:
                        self.broken.append('a commit within a generation')
                    slot, text = self.engine.take_slot(DELAY), ''
                    self._decoder = TextDecoder(self.engine.tokenizer)
                elif kind == 'input_audio_buffer.commit' and slot is None:
                    self.broken.append('an end mark without a generation')
                elif kind == 'input_audio_buffer.commit':
                    self.at_work.wait()
                    pad = self.engine.protocol.right_pad(slot.n_samples, DELAY)
                    slot.feed(np.zeros(pad, np.float32))
                    text = self._write(slot, text, send)
                    self.engine.release(slot)
                    slot = None
                    send('transcription.done', text=text, usage={'prompt_tokens': 39})
                else:
                    send('error', error=f'Unknown event {kind}', code='unknown_event')
        except ConnectionClosed:
            pass
        finally:
            if slot is not None:
                self.engine.release(slot)

    def _write(self, slot, text, send):
        while self.engine.step():
            pass
        while slot.tokens:
            token = slot.tokens.popleft().id
            is_text = self.engine.tokenizer.is_text(token)
            delta = self._decoder.push(token) if is_text else ''
            text += delta
            send('transcription.delta', delta=delta)
        return text


@contextmanager
def vllm(script):
    server = VllmServer(script)
    try:
        yield server
    finally:
        server.close()
