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
A recogniser on another machine, used like a local one: `RemoteEngine`.

    engine = RemoteEngine('ws://server:8000/v1/realtime')
    stream = engine.open()
    stream.feed(samples)
    for event in stream.poll():
        print(event)

The server may be vLLM's or ours; all it has to do is to transcribe segments of audio. Where they
begin and end is found here, by voice activity: silence is not sent. Nothing of torch is imported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
import ssl

from voxtral_ros.client.servers import addresses, Remote
from voxtral_ros.client.stream import RemoteStream
from voxtral_ros.recognizer.interface import LinkStatus
from voxtral_ros.recognizer.options import StreamOptions
from voxtral_ros.recognizer.phrases import NO_PHRASES, PhraseList


class RemoteEngine:
    """Opens streams on a server; every one has a connection of its own."""

    stats = None  # passes are made elsewhere

    def __init__(self, url: str | Sequence[str], model: str = '', token: str = '',
                 ca_file: str | Path | None = None, outage_s: float = 300.0) -> None:
        """
        Note where the server is; nothing is connected before a stream is opened.

        :param url: ws:// or wss://, with the path, usually /v1/realtime. Several, in a list or
            apart by space, commas or line ends: the first is used while it is well, else the next
        :param model: name to ask for; the empty one is right for vLLM and for voxtral. The last
            part of the name is enough, and where the server has a single model, any
        :param token: bearer token of the server
        :param ca_file: certificate to trust a wss:// server by; None: those of the system
        :param outage_s: speech that is kept while the server is away; then the oldest is dropped
        :raises ValueError: the URL is not one of a WebSocket, or the certificate is none
        """
        self.urls = addresses(url)
        tls = None
        if ca_file:
            try:
                tls = ssl.create_default_context(cafile=ca_file)
            except (OSError, ssl.SSLError) as error:
                raise ValueError(f'{ca_file} is no certificate: {error}') from None
        self._model, self._token, self._tls = model, token, tls
        self._outage_s = outage_s
        self._streams: list[RemoteStream] = []  # the open ones and the latest
        # Called from another thread when a stream has something to poll. A local stream has
        # something new only when it is fed; here it also comes when no audio does.
        self.on_update: Callable[[], None] | None = None

    def open(self, delay_ms: float | None = None,  # noqa: A003
             options: StreamOptions | None = None, *,
             utterance_ids: Iterator[int] | None = None, start_s: float = 0.0,
             phrases: PhraseList | None = None) -> RemoteStream:
        """
        Open a stream and begin to connect; audio may be fed at once.

        :param delay_ms: asked of a voxtral server; vLLM has one delay for all
        :param utterance_ids: ids of the utterances, in order; None counts from 1
        :param start_s: time of the first sample, in the events
        :param phrases: to expect; None or an empty list: those of the server, if it has any. A
            server that knows of no phrases goes without them, which is logged
        """
        remote = Remote(self.urls, self._model, self._token, self._tls, delay_ms)
        stream = RemoteStream(remote, options or StreamOptions(), self._outage_s, self._notify,
                              utterance_ids, start_s, phrases or NO_PHRASES)
        self._streams = [*(other for other in self._streams if not other.closed), stream]
        return stream

    @property
    def url(self) -> str:
        """Return the address in use."""
        return self.link.url

    @property
    def description(self) -> str:
        return self.url

    def prepare_phrases(self, phrases: PhraseList) -> None:
        """Do nothing: the server finds their tokens when it gets them."""

    def warm_up(self) -> None:
        """Do nothing: a server is warm before it listens."""

    def close(self) -> None:
        """End the connections of all streams that are still open."""
        for stream in self._streams:
            stream.abandon()

    def _notify(self) -> None:
        if self.on_update:
            self.on_update()

    @property
    def link(self) -> LinkStatus:
        """Return how the connection of the latest stream is doing."""
        return self._streams[-1].link if self._streams \
            else LinkStatus('closed', url=self.urls[0])
