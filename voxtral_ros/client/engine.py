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
A recogniser on another machine, used as one of this: `RemoteEngine` and `RemoteStream`.

    engine = RemoteEngine('ws://server:8000/v1/realtime')
    stream = engine.open()
    stream.feed(samples)
    for event in stream.poll():
        print(event)

The server may be vLLM's or ours; all it has to do is to write down segments of sound. Where they
begin and end is found here, by voice activity: silence is not sent. Nothing of torch is imported.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path
import ssl
import threading
import time
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import ArrayLike
from voxtral_ros.audio.pcm import usable
from voxtral_ros.audio.resample import TARGET_RATE_HZ
from voxtral_ros.client.link import Link, LinkStatus, Remote
from voxtral_ros.client.segment import Segment, SegmentTeller
from voxtral_ros.recognizer.events import Event, SpeechActivity
from voxtral_ros.recognizer.slot import SampleBuffer
from voxtral_ros.recognizer.stream import StreamOptions, StreamStats
from voxtral_ros.recognizer.vad import VoiceActivity

_BLOCK = 1280  # samples that are looked at together, 80 ms
_LEAD_S = 1.0  # of sound before the first that could be speech
_BREATH_S = 0.1  # where an utterance that is too long may be cut
_MAX_OVERTIME_S = 5.0  # for finding one


class RemoteEngine:
    """Opens streams on a server; every one has a connection of its own."""

    def __init__(self, url: str, model: str = '', token: str = '',
                 ca_file: str | Path | None = None, outage_s: float = 300.0) -> None:
        """
        Note where the server is; nothing is connected before a stream is opened.

        :param url: ws:// or wss://, with the path, usually /v1/realtime
        :param model: name to ask for; the empty one is right for vLLM and for voxtral
        :param token: bearer token of the server
        :param ca_file: certificate that a wss:// server is to be trusted by, if not by the usual
        :param outage_s: speech that is kept while the server is away; then the oldest is dropped
        :raises ValueError: the URL is not one of a WebSocket, or the certificate is none
        """
        parts = urlsplit(url)
        if parts.scheme not in ('ws', 'wss') or not parts.hostname:
            raise ValueError(f'{url!r} is no address of a server: expected something like '
                             'ws://host:8000/v1/realtime')
        tls = None
        if ca_file:
            try:
                tls = ssl.create_default_context(cafile=ca_file)
            except (OSError, ssl.SSLError) as error:
                raise ValueError(f'{ca_file} is no certificate: {error}') from None
        self.url, self._model, self._token, self._tls = url, model, token, tls
        self._outage_s = outage_s
        self._stream: RemoteStream | None = None
        # Called from another thread when a stream has something to poll. A local stream has news
        # only when it is fed; here they also come when no sound does.
        self.on_news: Callable[[], None] | None = None

    def open(self, delay_ms: float | None = None,  # noqa: A003
             options: StreamOptions | None = None) -> RemoteStream:
        """
        Open a stream and begin to connect; sound may be fed at once.

        :param delay_ms: asked of a voxtral server; vLLM has one delay for all
        """
        remote = Remote(self.url, self._model, self._token, self._tls, delay_ms)
        self._stream = RemoteStream(remote, options or StreamOptions(), self._outage_s,
                                    self._tell_news)
        return self._stream

    def close(self) -> None:
        """End the connection of the latest stream, if it is still open."""
        if self._stream is not None:
            self._stream.abandon()

    def _tell_news(self) -> None:
        if self.on_news:
            self.on_news()

    @property
    def link(self) -> LinkStatus:
        """Return how the connection of the latest stream is doing."""
        return self._stream.link if self._stream else LinkStatus('closed')


class RemoteStream:
    """One speaker's endless sound, as recognizer.stream.Stream; used from one thread."""

    def __init__(self, remote: Remote, options: StreamOptions, outage_s: float,
                 on_news: Callable[[], None]) -> None:
        self.options = options
        self.stats = StreamStats()
        self._news = threading.Event()
        self._on_news = on_news
        self._voice = VoiceActivity(options.vad)
        self._unheard = SampleBuffer()
        self._lead: deque[np.ndarray] = deque(maxlen=round(_LEAD_S * TARGET_RATE_HZ / _BLOCK))
        self._n_heard = 0  # samples
        self._segment: Segment | None = None  # that grows
        self._loud_s = 0.0  # when there was last something like speech
        self._tellers: deque[SegmentTeller] = deque()
        self._n_utterances = 0
        self._last_end_s = 0.0
        self._events: list[Event] = []
        self._closed = False
        self._link = Link(remote, outage_s, self._tell_news)

    @property
    def link(self) -> LinkStatus:
        return self._link.status

    # ---- the verbs ----

    def feed(self, samples: ArrayLike) -> None:
        """
        Add sound: float32, 16 kHz, mono, -1..1, any number of samples.

        :raises ValueError: not one-dimensional or integers, or the stream is closed
        """
        samples, n_bad = usable(samples)
        self._check_open()
        self.stats.bad_samples += n_bad
        self._unheard.append(samples)

    def poll(self) -> list[Event]:
        """Send what was fed, return what is new; does not wait for the server."""
        self._check_open()
        self._listen()
        return self._take_events()

    def flush(self) -> None:
        """End the utterance here; its last text comes when the server has written it."""
        self._check_open()
        self._listen(rest=True)
        self._end_segment()

    def close(self, timeout_s: float = 5.0) -> list[Event]:
        """
        Flush, wait for the last text, and disconnect; closing again does nothing.

        Without a connection there is nothing to wait for: then, and after the timeout, what was
        recognised by now is final.
        """
        if self._closed:
            return []
        self.flush()
        end = time.monotonic() + timeout_s
        while self._link.status.state != 'down' and time.monotonic() < end \
                and not all(teller.segment.done for teller in self._tellers):
            self._news.wait(0.1)
            self._news.clear()
        return self.abandon()

    def abandon(self) -> list[Event]:
        """Disconnect at once; what was recognised by now is final. Doing so again does nothing."""
        if self._closed:
            return []
        self._closed = True
        self._link.stop()
        for teller in self._tellers:
            teller.segment.complete()
        return self._take_events()

    # ---- inside ----

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError('this stream is closed: open another one')

    def _tell_news(self) -> None:
        self._news.set()
        self._on_news()

    @property
    def _heard_s(self) -> float:
        return self._n_heard / TARGET_RATE_HZ

    def _listen(self, rest: bool = False) -> None:
        """Look at the sound that was fed, block by block."""
        grown = False
        while len(self._unheard) >= (1 if rest else _BLOCK):
            block = self._unheard.peek(min(_BLOCK, len(self._unheard))).copy()
            self._unheard.drop(len(block))
            self._listen_to(block)
            grown = grown or self._segment is not None
        if grown:
            self._link.nudge()

    def _listen_to(self, block: np.ndarray) -> None:
        voice = self._voice
        voice.push(block)
        self._n_heard += len(block)
        self.stats.tokens += 1  # as many as the server generates, or would in silence
        now_s = self._heard_s
        least = self.options.endpoint.min_speech_probability
        if voice.max_probability(voice.heard_s - 0.1, voice.heard_s) >= least:
            self._loud_s = now_s
        if self._segment:
            self._segment.append(block)
        else:
            self._lead.append(block)
            if self._loud_s == now_s:
                self._begin_segment()
        while voice.changes:
            change = voice.changes.popleft()
            self._events.append(SpeechActivity(change.active, change.time_s))
            if change.active and self._segment and self._segment.onset_s is None:
                self._segment.onset_s = change.time_s
        if self._segment and self._is_over(self._segment):
            self._end_segment()

    def _begin_segment(self) -> None:
        lead = np.concatenate(self._lead)
        self._lead.clear()
        self._segment = Segment(self._heard_s - len(lead) / TARGET_RATE_HZ)
        self._segment.append(lead)
        self._tellers.append(SegmentTeller(self._segment))
        self._link.add(self._segment)

    def _is_over(self, segment: Segment) -> bool:
        """Return whether an utterance ends here; compare recognizer.endpoint."""
        options, voice, now_s = self.options.endpoint, self._voice, self._heard_s
        voiced = voice.last_voiced_s > segment.start_s
        if now_s - (voice.last_voiced_s if voiced else self._loud_s) >= options.silence_s:
            return True
        if segment.words and segment.quiet_tokens * _BLOCK / TARGET_RATE_HZ >= \
                max(options.pad_silence_s, options.silence_s):
            return True
        over_s = now_s - segment.start_s - options.max_utterance_s
        return over_s >= _MAX_OVERTIME_S \
            or (over_s >= 0 and now_s - voice.last_voiced_s >= _BREATH_S)

    def _end_segment(self) -> None:
        if self._segment:
            self._segment.ended = True
            self._segment = None
            self._link.nudge()

    def _take_events(self) -> list[Event]:
        """Return speech that set in or stopped, and what the server has written."""
        while self._tellers:
            teller = self._tellers[0]
            done = teller.segment.done  # before looking for text: none comes after it
            transcript = teller.tell(self._n_utterances + 1, self._last_end_s, is_final=done)
            if transcript:
                self._n_utterances = transcript.utterance_id
                self._events.append(transcript)
            if not done:
                break
            if transcript:
                self._last_end_s = transcript.end_s
            self._tellers.popleft()
        events, self._events = self._events, []
        return events
