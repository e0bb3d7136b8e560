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
Transcribe a recording with a server, as any language with WebSocket and JSON can.

    voxtral serve                                               # in another shell; or vLLM
    python3 examples/socket_client.py ws://127.0.0.1:8000/v1/realtime test/data/orders.flac

Nothing of this package is needed. For vLLM, the name of its model comes third, and the recording
has to have 16 kHz. docs/server.md has all events and options.
"""

import asyncio
import base64
import sys

import aiohttp
import soundfile


async def send(socket, samples, rate_hz):
    """Send the recording in pieces of half a second; a microphone would send what it has."""
    for start in range(0, len(samples), rate_hz // 2):
        piece = samples[start:start + rate_hz // 2]  # 16 bits, little-endian, one channel
        await socket.send_json({'type': 'input_audio_buffer.append',
                                'audio': base64.b64encode(piece.tobytes()).decode()})
    await socket.send_json({'type': 'input_audio_buffer.commit', 'final': True})


async def transcribe(url, file, model=''):
    """Print the text as it comes, which begins before all audio is sent."""
    samples, rate_hz = soundfile.read(file, dtype='int16', always_2d=True)
    async with aiohttp.ClientSession() as http, http.ws_connect(url) as socket:
        await socket.send_json({'type': 'session.update', 'model': model, 'sample_rate': rate_hz})
        await socket.send_json({'type': 'input_audio_buffer.commit'})  # audio follows
        sending = asyncio.create_task(send(socket, samples[:, 0], rate_hz))
        async for message in socket:
            event = message.json()
            if event['type'] == 'transcription.delta':
                print(event['delta'], end='', flush=True)
            elif event['type'] == 'transcription.done':
                print()
                break
            elif event['type'] == 'error':
                sys.exit(f'the server says: {event["error"]}')
        else:
            sys.exit('the server has closed the connection')
        await sending


asyncio.run(transcribe(*sys.argv[1:]))
