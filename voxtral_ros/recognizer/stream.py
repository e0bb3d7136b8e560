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
A stream: one speaker's endless audio, from samples to events.

There are two times. Processed time counts the samples that the model was given, which is the audio
that was fed and the silence that flushes have put between. Events carry the time of the fed audio.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import count
import logging
import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from voxtral_ros.audio.pcm import checked
from voxtral_ros.recognizer.endpoint import Endpointer
from voxtral_ros.recognizer.events import Event, SpeechActivity
from voxtral_ros.recognizer.interface import NotFinite
from voxtral_ros.recognizer.options import StreamOptions, StreamStats
from voxtral_ros.recognizer.slot import SampleBuffer, Token
from voxtral_ros.recognizer.stream_clock import StreamClock
from voxtral_ros.recognizer.text import Utterance
from voxtral_ros.recognizer.vad import VoiceActivity
from voxtral_ros.recognizer.watchdog import Action, Watchdog
from voxtral_ros.recognizer.words import WordReader, Written

if TYPE_CHECKING:
    from voxtral_ros.recognizer.engine import Engine


_LOGGER = logging.getLogger(__name__)

# The first text token of a group is written two tokens after the one that is about the end of its
# word (measured on the published model: end at (k - 1) * 80 ms, within about 0.1 s).
_WORD_END_TOKENS = 2
_WARN_EVERY_S = 10.0
_MAX_ONSET_S = 2.0  # speech that sets in longer before the first word is something else


class Stream:
    """One speaker's endless audio; made by Engine.open and used from the engine's thread."""

    def __init__(self, engine: Engine, delay: int, options: StreamOptions,
                 utterance_ids: Iterator[int] | None = None, start_s: float = 0.0) -> None:
        """Take a slot of the engine, with a delay in tokens; see Engine.open."""
        self.options = options
        self.stats = StreamStats()
        self._engine = engine
        self._protocol = engine.protocol
        self._delay = delay
        self._slot = engine.take_slot(delay)
        self._slot.on_tokens = self._take_tokens
        self._voice = VoiceActivity(options.vad, self._slot.detector)
        self._endpointer = Endpointer(options.endpoint, self._voice)
        self._watchdog = Watchdog(options.watchdog, self._voice)
        self._clock = StreamClock(engine.protocol.audio.sampling_rate, start_s)
        self._pending = SampleBuffer()  # fed, but not yet processed by voice activity
        self._recent = np.zeros(0, np.float32)  # the last preroll_s of processed audio
        self._slot_start_s = 0.0  # processed time at which the slot began
        self._slot_processed = 0  # samples of the slot that voice activity has processed
        self._reader = WordReader(engine.tokenizer)
        self._utterance: Utterance | None = None
        self._utterance_ids = utterance_ids or count(1)
        self._last_end_s = 0.0
        self._quiet_until_s = 0.0  # no warning before
        self._in_group = False
        self._group_s = self._word_s = 0.0  # end of the first word of the group, of the last word
        self._discarding = False  # the last word
        self._flushes: deque[int] = deque()  # generated tokens after which an utterance must end
        self._events: list[Event] = []
        self._closed = False
        self._finite = True  # what the network computes of this stream

    @property
    def n_events(self) -> int:
        """Return how many events wait for a poll."""
        return len(self._events)

    # ---- the verbs ----

    def feed(self, samples: ArrayLike, *, finite: bool = False) -> None:
        """
        Queue audio: float32, 16 kHz, mono, -1..1, any number of samples.

        NaN, infinite and absurd samples are replaced by silence and counted: one of them in the
        KV cache would keep the stream from writing anything for minutes.

        :param finite: there are none of them for sure, as in what audio.files, audio.messages
            and audio.resample return
        :raises ValueError: not one-dimensional or integers, or the stream is closed
        """
        samples, n_bad = checked(samples, finite)
        self._check_open()
        self.stats.bad_samples += n_bad
        self._slot.feed(samples)
        self._pending.append(samples)
        self._clock.feed(len(samples))

    def poll(self) -> list[Event]:
        """
        Compute until the audio of this stream is used up; return what is new.

        :raises NotFinite: the network gives no numbers; the stream is to be abandoned
        """
        self._check_open()
        self._advance()
        events, self._events = self._events, []
        return events

    def flush(self, padding: int | None = None) -> None:
        """
        Bring out the text of everything fed so far and end the utterance at the next poll.

        Puts silence after the audio (1.4 s at the usual delay). The stream goes on afterwards, and
        the silence does not count in the times of later events.

        :param padding: samples of silence; None: as many as the protocol says
        """
        self._check_open()
        if padding is None:
            padding = self._protocol.right_pad(self._slot.n_samples, self._delay)
        silence = np.zeros(padding, np.float32)
        self._slot.feed(silence)
        self._pending.append(silence)
        self._clock.insert(padding)
        self._flushes.append(
            max(0, self._slot.position + self._slot.waiting - len(self._slot.prompt_tokens) + 1))

    def tune(self, options: StreamOptions) -> None:
        """Take over other options, for what is computed from now on; nothing starts anew."""
        self.options = options
        self._voice.options = options.vad
        self._endpointer.options = options.endpoint
        self._watchdog.tune(options.watchdog)

    def close(self) -> list[Event]:
        """
        Flush, return the last events and give the slot back; closing again does nothing.

        After silence there is nothing to bring out, and the passes of a flush are spared.
        """
        if self._closed:
            return []
        try:
            self._advance()
            if self._may_have_more_text():
                self.flush()
            return self.poll()
        finally:
            self._give_back()

    def abandon(self) -> list[Event]:
        """
        Give the slot back without processing what is still waiting.

        Returns what has not been polled yet, with the open utterance ended as it stands: nothing
        that was recognised is lost, even after an exception. Doing so again does nothing.
        """
        if not self._closed:
            self._give_back()
        # After a `close` that failed there are events that nobody has got.
        self._finish(self._voice.processed_s)
        events, self._events = self._events, []
        return events

    # ---- inside ----

    def _give_back(self) -> None:
        self._closed = True
        self._slot.on_tokens = None  # a cycle would keep all of this in memory for some time
        self._engine.release(self._slot)

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError('this stream is closed: open another one')

    def _may_have_more_text(self) -> bool:
        """Return whether a flush could bring out anything, when no whole token waits."""
        voice, protocol = self._voice, self._protocol
        transcribed_s = self._slot_start_s + protocol.transcribed_s(self._slot.n_generated - 1)
        # Before the first token the audio has not been through voice activity.
        started = len(self._pending) < 2 * protocol.samples_per_token
        return not started or voice.speaking or self._utterance is not None \
            or self._endpointer.expects_speech(self._word_end_s(transcribed_s), voice.processed_s)

    def _advance(self) -> None:
        self._take_tokens()  # an exception in another stream may have left some
        while self._slot.ready and self._finite:
            self._engine.step(self._slot)
        if not self._finite:
            raise NotFinite

    def _take_tokens(self) -> None:
        while self._slot.tokens:
            token = self._slot.tokens.popleft()
            # Told by `poll`: an exception here would take all streams of a pass along.
            self._finite = self._finite and math.isfinite(token.probability)
            if self._finite:
                self._take_token(token)

    def _take_token(self, token: Token) -> None:
        """Take one generated token; everything is decided from the audio before it."""
        tokenizer, protocol = self._engine.tokenizer, self._protocol
        self._detect_speech((token.index + self._delay + 1) * protocol.samples_per_token)
        transcribed_s = self._slot_start_s + protocol.transcribed_s(token.index)
        self.stats.tokens += 1
        if self.options.on_token:
            self.options.on_token(token)
        action = Action.NOTHING
        if tokenizer.is_text(token.id):
            action = self._watchdog.text_written(transcribed_s, token.id)
            if action is not Action.RESET:
                self._write(token, transcribed_s)
        elif token.id == tokenizer.word:
            self._in_group = True
            self._reader.start_group()
        else:
            self._in_group = False
            self._reader.start_group()
            self.stats.pads += token.id == tokenizer.pad
            action = self._watchdog.blank_written(transcribed_s)
        self._apply(action)
        if action is Action.RESET:
            return
        self._slot.max_pass_tokens = self._watchdog.max_pass_tokens(
            transcribed_s, protocol.token_s, self._engine.max_chunk_tokens)
        utterance = self._utterance
        if utterance and self._endpointer.is_over(
                transcribed_s, self._in_group, utterance.start_s):
            self._finish(transcribed_s, goes_on=self._in_group)
        elif not utterance:
            self._endpointer.skip(transcribed_s)
        while self._flushes and token.index + 1 >= self._flushes[0]:
            self._flushes.popleft()
            self._finish(transcribed_s)
        if self._utterance and self._utterance.changed:
            self._events.append(self._publish(self._utterance))

    def _detect_speech(self, n_samples: int) -> None:
        """Let voice activity process what the model has processed: n samples of the slot."""
        while self._slot_processed < n_samples:  # before the first token there is more than one
            self._process(min(n_samples - self._slot_processed, self._protocol.samples_per_token))

    def _process(self, n_new: int) -> None:
        new = self._pending.peek(n_new).copy()
        self._pending.drop(n_new)
        self._slot_processed += n_new
        self._voice.push(new)
        # Whole tokens: what waits keeps its place in the grid of tokens if processed again.
        keep = int(self.options.watchdog.preroll_s / self._protocol.token_s) \
            * self._protocol.samples_per_token
        self._recent = np.concatenate((self._recent, new))[-keep:] if keep else self._recent
        while self._voice.changes:
            change = self._voice.changes.popleft()
            self._events.append(SpeechActivity(change.active, self._clock.fed_s(change.time_s)))
        self._endpointer.update()
        self._clock.passed(self._voice.processed_s)

    def _word_end_s(self, transcribed_s: float) -> float:
        return max(0.0, transcribed_s - _WORD_END_TOKENS * self._protocol.token_s)

    def _write(self, token: Token, transcribed_s: float) -> None:
        """Take a token of text."""
        self._in_group = True
        self._endpointer.text_written(transcribed_s)
        for written in self._reader.push(token, self._word_end_s(transcribed_s)):
            end_s = written.end_s
            begins = written.begins or not (self._utterance or self._discarding)
            if begins:
                self._discarding = not self._endpointer.expects_speech(end_s)
                self.stats.discarded_words += self._discarding
            if not self._discarding:
                if self._utterance and self._is_cut_before(written, self._utterance):
                    self._finish(end_s, goes_on=True)
                if self._utterance is None:
                    self._utterance = Utterance(next(self._utterance_ids), self._start_s(end_s))
                self._utterance.append(written)
            self._group_s = end_s if written.in_new_group else self._group_s
            self._word_s = end_s if begins else self._word_s

    def _is_cut_before(self, written: Written, utterance: Utterance) -> bool:
        """Return whether an utterance ends here although the model has not paused."""
        end_s, start_s = written.end_s, utterance.start_s
        if not written.begins:
            return self._endpointer.must_cut(end_s, start_s, self._word_s)
        if not written.in_new_group:
            return self._endpointer.must_cut(end_s, start_s, self._group_s)
        return self._endpointer.starts_new(end_s, start_s)

    def _start_s(self, first_word_end_s: float) -> float:
        """Return where the audio of an utterance starts: where speech set in, if that fits."""
        onset_s = self._voice.onset_s
        if not max(self._last_end_s, first_word_end_s - _MAX_ONSET_S) <= onset_s \
                <= first_word_end_s:
            onset_s = max(self._last_end_s, first_word_end_s - 0.5)
        return min(onset_s, first_word_end_s)

    def _finish(self, until_s: float, goes_on: bool = False) -> None:
        """
        End the open utterance, if there is one.

        :param goes_on: the model has not come to the end of what it is writing
        """
        self._endpointer.close(until_s)
        rest = '' if goes_on else self._reader.flush()
        discarding, self._discarding = self._discarding, False
        utterance, self._utterance = self._utterance, None
        if utterance is None:
            return
        if not self._endpointer.is_too_long(until_s, utterance.start_s):
            self._watchdog.forget_words()
        if rest and not discarding:
            utterance.append(Written(rest, False, False, utterance.end_s, 1.0))
        self._events.append(self._publish(utterance, is_final=True))
        self._last_end_s = utterance.end_s

    def _publish(self, utterance: Utterance, is_final: bool = False) -> Event:
        return utterance.publish(self._clock.fed_s, is_final)

    def _apply(self, action: Action) -> None:
        """Do what the watchdog wants."""
        watchdog, options = self._watchdog, self.options.watchdog
        if action is Action.NOTHING:
            return
        if action is Action.PENALISE and abs(watchdog.penalty) == options.penalty_per_token:
            self._warn('%s the pad logit', 'the model repeats itself: raising'
                       if watchdog.penalty < 0 else
                       f'speech without words for {options.speech_s:.0f} s: lowering')
        if action is Action.RESET:
            self._restart()
        else:
            self._engine.penalise_pad(self._slot, watchdog.penalty)
        self.stats.watchdog_penalties = watchdog.n_penalties
        self.stats.watchdog_resets = watchdog.n_resets
        self.stats.repetition_loops = watchdog.n_repetitions

    def _warn(self, message: str, *details: object) -> None:
        """Log what the watchdog does; a model beyond help would fill the log."""
        if self._voice.processed_s >= self._quiet_until_s:
            _LOGGER.warning(message, *details)
            self._quiet_until_s = self._voice.processed_s + _WARN_EVERY_S

    def _restart(self) -> None:
        """Start afresh in another state of the network and process the last seconds again."""
        rate = self._protocol.audio.sampling_rate
        n_processed = self._slot_processed
        processed_s = self._slot_start_s + n_processed / rate
        # Nothing that was written is processed again: it would be written again.
        n_stuck = max(0, round((processed_s - self._watchdog.stuck_s) * rate))
        self._recent = self._recent[max(0, len(self._recent) - n_stuck):]
        self._warn('that did not help: starting the stream afresh, with %.1f s processed again',
                   len(self._recent) / rate)
        self._finish(processed_s)
        waiting = self._pending.peek(len(self._pending)).copy()
        self._slot.on_tokens = None
        self._slot = self._engine.restart(self._slot, self._delay)
        self._slot.on_tokens = self._take_tokens
        self._slot.feed(self._recent)
        self._slot.feed(waiting)
        self._slot_start_s = processed_s - len(self._recent) / rate
        self._slot_processed = len(self._recent)
        self._reader = WordReader(self._engine.tokenizer)
        self._in_group = False
        self._watchdog.restarted(processed_s)
        dropped = (n_processed - len(self._recent)) // self._protocol.samples_per_token
        self._flushes = deque(n - dropped for n in self._flushes)
