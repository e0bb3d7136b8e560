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

"""A stream whose network is on a server: segments go out, transcripts come back."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from itertools import count
import threading
import time

import numpy as np
from numpy.typing import ArrayLike

from voxtral_ros.audio.pcm import checked
from voxtral_ros.audio.resample import TARGET_RATE_HZ
from voxtral_ros.client.link import Link
from voxtral_ros.client.segment import Segment, SegmentTranscripts
from voxtral_ros.client.servers import Remote
from voxtral_ros.recognizer.events import Event, SpeechActivity
from voxtral_ros.recognizer.interface import LinkStatus
from voxtral_ros.recognizer.options import StreamOptions, StreamStats
from voxtral_ros.recognizer.phrases import NO_PHRASES, PhraseList
from voxtral_ros.recognizer.slot import SampleBuffer
from voxtral_ros.recognizer.stream_clock import StreamClock
from voxtral_ros.recognizer.vad import VoiceActivity

_BLOCK = 1280  # samples that are processed together, 80 ms
_PREROLL_S = 1.0  # of audio before the first that could be speech
_BREATH_S = 0.1  # where an utterance that is too long may be cut
_MAX_OVERTIME_S = 5.0  # for finding one


class RemoteStream:
    """One speaker's endless audio, as recognizer.stream.Stream; used from one thread."""

    def __init__(self, remote: Remote, options: StreamOptions, outage_s: float,
                 on_update: Callable[[], None], utterance_ids: Iterator[int] | None = None,
                 start_s: float = 0.0, phrases: PhraseList = NO_PHRASES) -> None:
        """Begin to connect; see RemoteEngine.open."""
        self.options = options
        self.stats = StreamStats()
        self._updated = threading.Event()
        self._on_update = on_update
        self._voice = VoiceActivity(options.vad)
        self._pending = SampleBuffer()
        self._preroll: deque[np.ndarray] = deque(
            maxlen=round(_PREROLL_S * TARGET_RATE_HZ / _BLOCK))
        self._clock = StreamClock(TARGET_RATE_HZ, start_s)
        self._n_processed = 0  # samples
        self._segment: Segment | None = None  # that grows
        self._segment_start_s = 0.0  # processed time
        self._loud_s = 0.0  # when there was last something like speech
        self._transcripts: deque[SegmentTranscripts] = deque()  # of segments that are not done
        self._utterance_ids = utterance_ids or count(1)
        self._last_end_s = 0.0
        self._events: list[Event] = []
        self._closed = False
        self._link = Link(remote, outage_s, self._notify, phrases)

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def link(self) -> LinkStatus:
        return self._link.status

    # ---- the verbs ----

    def feed(self, samples: ArrayLike, *, finite: bool = False) -> None:
        """
        Queue audio: float32, 16 kHz, mono, -1..1, any number of samples.

        :param finite: there is no NaN, infinite or absurd sample among them for sure
        :raises ValueError: not one-dimensional or integers, or the stream is closed
        """
        samples, n_bad = checked(samples, finite)
        self._check_open()
        self.stats.bad_samples += n_bad
        self._pending.append(samples)

    def poll(self) -> list[Event]:
        """Send what was fed, return what is new; does not wait for the server."""
        self._check_open()
        self._process()
        return self._take_events()

    def flush(self) -> None:
        """End the utterance here; its last text comes when the server has written it."""
        self._check_open()
        self._process(rest=True)
        self._end_segment()

    def tune(self, options: StreamOptions) -> None:
        """Take over other options, for what is processed from now on."""
        self.options = options
        self._voice.options = options.vad

    def set_phrases(self, phrases: PhraseList) -> None:
        """
        Expect other phrases from the next utterance on, or at once where none has begun.

        An empty list stands for those of the server, if it has any. Utterances that wait for the
        server to come back are transcribed with the latest list.
        """
        self._link.set_phrases(phrases)

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
                and not all(transcripts.segment.done for transcripts in self._transcripts):
            self._updated.wait(0.1)
            self._updated.clear()
        return self.abandon()

    def abandon(self) -> list[Event]:
        """Disconnect at once; what was recognised by now is final. Doing so again does nothing."""
        if self._closed:
            return []
        self._closed = True
        self._link.stop()
        for transcripts in self._transcripts:
            transcripts.segment.settle()
            transcripts.segment.complete()
        return self._take_events()

    # ---- inside ----

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError('this stream is closed: open another one')

    def _notify(self) -> None:
        self._updated.set()
        self._on_update()

    @property
    def _processed_s(self) -> float:
        return self._n_processed / TARGET_RATE_HZ

    def _process(self, rest: bool = False) -> None:
        """Process the audio that was fed, block by block."""
        grown = False
        while len(self._pending) >= (1 if rest else _BLOCK):
            block = self._pending.peek(min(_BLOCK, len(self._pending))).copy()
            self._pending.drop(len(block))
            self._process_block(block)
            grown = grown or self._segment is not None
        if grown:
            self._link.nudge()

    def _process_block(self, block: np.ndarray) -> None:
        voice = self._voice
        voice.push(block)
        self._n_processed += len(block)
        self.stats.tokens += 1  # as many as the server generates, or would in silence
        now_s = self._processed_s
        least = self.options.endpoint.min_speech_probability
        if voice.max_probability(voice.processed_s - 0.1, voice.processed_s) >= least:
            self._loud_s = now_s
        if self._segment:
            self._segment.append(block)
        else:
            self._preroll.append(block)
            if self._loud_s == now_s:
                self._begin_segment()
        while voice.changes:
            change = voice.changes.popleft()
            time_s = self._clock.fed_s(change.time_s)
            self._events.append(SpeechActivity(change.active, time_s))
            if change.active and self._segment and self._segment.onset_s is None:
                self._segment.onset_s = time_s
        if self._segment and self._is_over(self._segment):
            self._end_segment()

    def _begin_segment(self) -> None:
        preroll = np.concatenate(self._preroll)
        self._preroll.clear()
        self._segment_start_s = self._processed_s - len(preroll) / TARGET_RATE_HZ
        self._segment = Segment(self._clock.fed_s(self._segment_start_s))
        self._segment.append(preroll)
        self._transcripts.append(SegmentTranscripts(self._segment, self._utterance_ids))
        self._link.add(self._segment)

    def _is_over(self, segment: Segment) -> bool:
        """Return whether an utterance ends here; compare recognizer.endpoint."""
        options, voice, now_s = self.options.endpoint, self._voice, self._processed_s
        voiced = voice.last_voiced_s > self._segment_start_s
        if now_s - (voice.last_voiced_s if voiced else self._loud_s) >= options.silence_s:
            return True
        if segment.written and segment.blank_tokens * _BLOCK / TARGET_RATE_HZ >= \
                max(options.pad_silence_s, options.silence_s):
            return True
        over_s = now_s - self._segment_start_s - options.max_utterance_s
        return over_s >= _MAX_OVERTIME_S \
            or (over_s >= 0 and now_s - voice.last_voiced_s >= _BREATH_S)

    def _end_segment(self) -> None:
        if self._segment:
            self._segment.ended = True
            self._segment = None
            self._link.nudge()

    def _take_events(self) -> list[Event]:
        """Return speech that set in or stopped, and what the server has written."""
        while self._transcripts:
            transcripts = self._transcripts[0]
            done = transcripts.segment.done  # before looking for text: none comes after it
            transcript = transcripts.next(self._last_end_s, is_final=done)
            if transcript:
                self._events.append(transcript)
            if not done:
                break
            if transcript:
                self._last_end_s = transcript.end_s
            self._transcripts.popleft()
        events, self._events = self._events, []
        return events
