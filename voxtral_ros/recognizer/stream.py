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

The audio goes to voice activity and to the model (StreamAudio), the model's tokens become words
and utterances (Transcriber). Here they meet: token by token it is decided whether an utterance is
over, a turn has ended, the model is stuck, or nobody speaks any more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import count
import logging
import math
from typing import TYPE_CHECKING

from numpy.typing import ArrayLike

from voxtral_ros.audio.pcm import checked
from voxtral_ros.recognizer.endpoint import Endpointer
from voxtral_ros.recognizer.events import Event, SpeechActivity
from voxtral_ros.recognizer.idle import IdleGate
from voxtral_ros.recognizer.interface import NotFinite
from voxtral_ros.recognizer.look_ahead import LookAhead
from voxtral_ros.recognizer.options import StreamOptions, StreamStats
from voxtral_ros.recognizer.phrases import NO_PHRASES, PhraseList
from voxtral_ros.recognizer.recovery import Recovery
from voxtral_ros.recognizer.slot import Token
from voxtral_ros.recognizer.stream_audio import StreamAudio
from voxtral_ros.recognizer.stream_clock import StreamClock, TokenTimes
from voxtral_ros.recognizer.text import Utterance
from voxtral_ros.recognizer.transcriber import Transcriber, UtteranceIds
from voxtral_ros.recognizer.turns import Turns
from voxtral_ros.recognizer.vad import VoiceActivity
from voxtral_ros.recognizer.watchdog import Action, Watchdog

if TYPE_CHECKING:
    from voxtral_ros.recognizer.engine import Engine


_LOGGER = logging.getLogger(__name__)


class Stream:
    """One speaker's endless audio; made by Engine.open and used from the engine's thread."""

    def __init__(self, engine: Engine, delay: int, options: StreamOptions,
                 utterance_ids: Iterator[int] | None = None, start_s: float = 0.0,
                 idle_slot_s: float = math.inf, phrases: PhraseList = NO_PHRASES) -> None:
        """Take a slot of the engine, with a delay in tokens; see Engine.open."""
        self.options = options
        self.stats = StreamStats()
        self._engine = engine
        self._protocol = engine.protocol
        self._delay = delay
        self._clock = StreamClock(engine.protocol.audio.sampling_rate, start_s)
        self._detector = engine.take_detector()
        try:
            slot = engine.take_slot(delay) if math.isinf(idle_slot_s) \
                else engine.slots.take_spare(delay)
        except Exception:
            engine.give_detector_back(self._detector)
            raise
        self._voice = VoiceActivity(options.vad, self._detector)
        self._gate = IdleGate(options.idle, self._voice, options.endpoint.min_speech_probability)
        self._endpointer = Endpointer(options.endpoint, self._voice)
        self._watchdog = Watchdog(options.watchdog, self._voice)
        self._turns = Turns(options.turns, self._voice, self._endpointer, self._clock)
        self._times = TokenTimes(self._clock, engine.protocol)
        self._ids = UtteranceIds(utterance_ids or count(1))
        self._transcriber = Transcriber(
            engine.tokenizer, self._endpointer, self._voice, self._ids.take,
            engine.confidence_exponent)
        self._audio = StreamAudio(engine, slot, delay, idle_slot_s, self._voice, self._gate,
                                  self._clock, self._begin_anew, self._take_activity,
                                  self._take_tokens)
        self._audio.recent_s = options.watchdog.preroll_s
        self._recovery = Recovery(engine, self._audio, self._voice, self._watchdog, self.stats)
        self._look_ahead = LookAhead(
            engine, self._audio, self._voice, self._endpointer, self._transcriber, self._turns,
            self._clock, self._times, self._ids, self.stats)
        self._paused = False  # since the last pass, for long enough to end an utterance
        # Generated tokens after which an utterance must end, and where the audio before that does.
        self._flushes: deque[tuple[int, float]] = deque()
        self._events: list[Event] = []
        self._transcribed_s = 0.0  # with the last token
        self._new_phrases: PhraseList | None = None  # from the end of this utterance on
        if phrases.phrases:
            self.set_phrases(phrases)
        self._closed = False
        self._finite = True  # what the network computes of this stream

    @property
    def n_events(self) -> int:
        """Return how many events wait for a poll."""
        return len(self._events)

    @property
    def idle(self) -> bool:
        """Return whether nobody speaks, and the model is given nothing."""
        return self._audio.idle and not self._audio.waiting

    @property
    def waiting_s(self) -> float:
        """Return how many seconds of audio wait for a slot, because all of them are used."""
        return self._audio.waiting_s

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
        self._audio.feed(samples)
        self.stats.fed_s += len(samples) / self._protocol.audio.sampling_rate
        self._count()

    def poll(self) -> list[Event]:
        """
        Compute until the audio of this stream is used up; return what is new.

        :raises NotFinite: the network gives no numbers; the stream is to be abandoned
        """
        self._check_open()
        self._advance()
        self._audio.process_ahead()
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
        protocol, audio = self._protocol, self._audio
        audio.complete_chunk()
        if self.idle:  # all that was said has been written
            return
        audio_end_s = audio.end_s
        audio.insert(protocol.right_pad(audio.n_given, self._delay)
                     if padding is None else padding)
        self._flushes.append((protocol.n_generated(audio.n_given, self._delay), audio_end_s))

    def tune(self, options: StreamOptions) -> None:
        """Take over other options, for what is computed from now on; nothing starts anew."""
        self.options = options
        self._voice.options = options.vad
        self._endpointer.options = options.endpoint
        self._watchdog.tune(options.watchdog)
        self._gate.tune(options.idle, options.endpoint.min_speech_probability)
        self._turns.options = options.turns
        self._audio.recent_s = options.watchdog.preroll_s

    def set_phrases(self, phrases: PhraseList) -> None:
        """Expect other phrases from the next utterance on, or at once where none has begun."""
        self._new_phrases = phrases
        self._take_new_phrases()

    def close(self) -> list[Event]:
        """
        Flush, return the last events and give the slot back; closing again does nothing.

        After silence the passes of a flush are spared. What still waits for a slot is lost, and
        logged.
        """
        if self._closed:
            return []
        try:
            self._advance()
            if self._may_have_more_text():
                self.flush()
            events = self.poll()
            if self.waiting_s:
                _LOGGER.warning('a stream was closed while %.1f s of its audio waited: all slots '
                                'of the engine are used', self.waiting_s)
            return events
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
        self._events += self._look_ahead.give_up()
        # After a `close` that failed there are events that nobody has got.
        self._finish(self._voice.processed_s)
        events, self._events = self._events, []
        return events

    # ---- inside ----

    def _give_back(self) -> None:
        self._closed = True
        self._audio.close()
        self._engine.give_detector_back(self._detector)

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError('this stream is closed: open another one')

    def _may_have_more_text(self) -> bool:
        """Return whether a flush could bring out anything, when no whole token waits."""
        voice, protocol, slot = self._voice, self._protocol, self._audio.slot
        if self._audio.waiting:
            return True
        if slot is None or self.idle:
            return False
        if slot.search and slot.search.holds:
            return True
        # Before the first token the audio has not been through voice activity.
        started = self._audio.n_pending < 2 * protocol.samples_per_token
        return not started or voice.speaking or self._transcriber.utterance is not None \
            or self._endpointer.expects_speech(
                self._times.word_end_s(slot.n_generated - 1), voice.processed_s)

    def _advance(self) -> None:
        self._take_tokens()  # an exception in another stream may have left some
        if self._audio.waiting:
            self._engine.slots.serve()
        # When no more audio comes, what is left undecided is decided without.
        while self._finite and (self._audio.ready or (
                self._flushes and self._audio.slot and self._engine.settle(self._audio.slot))):
            self._take_tokens()
            self._engine.step(self._audio.slot)
        if not self._finite:
            raise NotFinite

    def _take_tokens(self) -> None:
        slot = self._audio.slot
        while slot and slot.tokens:
            token = slot.tokens.popleft()
            # Said by `poll`: an exception here would take all streams of a pass along.
            self._finite = self._finite and math.isfinite(token.probability)
            if self._finite and self._take_token(token):
                if not slot.tokens:  # what the model has done is what is decided on
                    self._end_pass(token.index)
            elif self._finite:  # started afresh: the rest is not of this stream
                break

    def _take_token(self, token: Token) -> bool:
        """
        Take one generated token; everything is decided from the audio before it.

        :return: whether the stream goes on; it may have to start afresh
        """
        tokenizer = self._engine.tokenizer
        self._audio.process((token.index + self._delay + 1) * self._protocol.samples_per_token)
        transcribed_s = self._times.transcribed_s(token.index)
        self._transcribed_s = transcribed_s
        self._count_audio()
        self.stats.tokens += 1
        self.stats.pads += token.id == tokenizer.pad
        if self.options.on_token:
            self.options.on_token(token)
        action = Action.NOTHING
        if tokenizer.is_text(token.id):
            action = self._watchdog.text_written(transcribed_s, token.id)
        elif token.id != tokenizer.word:
            action = self._watchdog.blank_written(transcribed_s)
        if action is not Action.RESET:
            self._transcriber.take(token, transcribed_s, self._times.word_end_s(token.index))
            self._publish_finished()
        self._recovery.apply(action)
        if action is Action.RESET:
            self._restart()
            return False
        self._end_utterance(token.index, transcribed_s)
        utterance = self._transcriber.utterance
        if utterance and utterance.changed:
            self._publish(utterance)
        self._count()
        return True

    def _end_utterance(self, index: int, transcribed_s: float) -> None:
        """End the utterance if it is over, or must be after a flush."""
        transcriber = self._transcriber
        utterance = transcriber.utterance
        if utterance and self._endpointer.is_over(
                transcribed_s, transcriber.in_group, utterance.start_s):
            transcriber.finish(transcribed_s, goes_on=transcriber.in_group)
        elif not utterance:
            self._endpointer.skip(transcribed_s)
            if self._endpointer.boundary_s is None and not self._endpointer.expects_pause:
                self._end_turn_without_text()
        while self._flushes and index + 1 >= self._flushes[0][0]:
            self._flushes.popleft()
            self._finish(transcribed_s)
        self._publish_finished()

    def _finish(self, until_s: float) -> None:
        """End the utterance and the turn, whatever is still to be written."""
        self._transcriber.finish(until_s)
        self._publish_finished()
        self._end_turn_without_text()

    def _end_turn_without_text(self) -> None:
        """End a turn that a look ahead has begun, if nothing was written of it after all."""
        if events := self._turns.ended_without_text():
            self._events += events
            self._ids.take()  # was given to it

    def _take_activity(self) -> None:
        """Take what voice activity has found in the audio that it has just processed."""
        while self._voice.changes:
            change = self._voice.changes.popleft()
            self._events.append(SpeechActivity(change.active, self._clock.fed_s(change.time_s)))
        if self._is_in_fed_audio:
            self._events += self._turns.resumed()
        if self._endpointer.update(self._turns.silence_s(self.options.endpoint.silence_s)):
            # That needs nothing of the model, and so does not wait for its next token.
            ended = self._look_ahead.end_known() if self._is_in_fed_audio else []
            self._events += ended
            self._paused |= not ended
        self._clock.passed(self._voice.processed_s)

    def _publish_finished(self) -> None:
        """Publish the utterances that are over; of one that was published ahead, what is more."""
        while self._transcriber.finished:
            utterance, until_s = self._transcriber.finished.popleft()
            if not self._endpointer.is_too_long(until_s, utterance.start_s):
                self._watchdog.forget_words()
            if utterance.is_final:
                self.stats.corrected_ends += utterance.is_corrected
                rest = utterance.rest(self._ids.take) if utterance.is_corrected else None
                if rest is None:
                    continue
                utterance = rest
            self._publish(utterance, is_final=True)
        self._take_new_phrases()

    def _take_new_phrases(self) -> None:
        if self._new_phrases is not None and self._transcriber.utterance is None:
            self._audio.expect_phrases(self._new_phrases)
            self._new_phrases = None

    def _publish(self, utterance: Utterance, is_final: bool = False) -> None:
        self._events += self._turns.around(utterance.publish(self._clock.fed_s, is_final))

    def _count(self) -> None:
        stats, audio = self.stats, self._audio
        stats.discarded_words = self._transcriber.n_discarded
        stats.idle_s = audio.idle_s
        stats.is_alert = self.options.idle.after_s > 0 and not self.idle
        stats.skipped_s = audio.n_skipped / self._protocol.audio.sampling_rate
        self._count_audio()

    def _count_audio(self) -> None:
        n_tokens = round(self._clock.audio_s(self._transcribed_s) / self._protocol.token_s)
        self.stats.audio_tokens = max(
            self.stats.audio_tokens, n_tokens + self._audio.n_skipped_tokens)

    # ---- between two passes ----

    def _end_pass(self, index: int) -> None:
        """Look ahead, end a turn, or become idle: decided where the model is."""
        paused, self._paused = self._paused, False
        if self._is_in_fed_audio:
            self._events += self._look_ahead.update(index, paused)
        if not self._flushes and self._is_idle(index):
            self._audio.begin_idle()
            self._count()
            return
        self._audio.used_slot.max_pass_tokens = self._max_pass_tokens(index)

    @property
    def _is_in_fed_audio(self) -> bool:
        """Return whether the model is not yet in the silence of a flush."""
        return not self._flushes or self._voice.pushed_s <= self._flushes[0][1]

    def _max_pass_tokens(self, index: int) -> int:
        """Return how many tokens the next pass may take, so that nothing is decided too late."""
        token_s = self._protocol.token_s
        now_s = self._voice.pushed_s
        decision_s = min(self._turns.earliest_s(self.options.endpoint.silence_s),
                         self._gate.earliest_s(), now_s + 3600.0)
        return min(max(1, math.ceil((decision_s - now_s) / token_s - 1e-6)),
                   self._watchdog.max_pass_tokens(
                       self._times.transcribed_s(index), token_s, self._engine.max_chunk_tokens))

    def _is_idle(self, index: int) -> bool:
        """Return whether nobody speaks, and all that was said has been written."""
        return self._gate.is_quiet(self._times.transcribed_s(index)) \
            and self._transcriber.is_settled and not self._watchdog.penalty

    # ---- the watchdog ----

    def _restart(self) -> None:
        """Start afresh in another state of the network and process the last seconds again."""
        protocol, processed_s = self._protocol, self._voice.pushed_s
        rate_hz = protocol.audio.sampling_rate
        # Whole tokens: what waits keeps its place in the grid of tokens if processed again.
        n_preroll = int(self.options.watchdog.preroll_s / protocol.token_s) \
            * protocol.samples_per_token
        # Nothing that was written is processed again: it would be written again.
        n_stuck = max(0, round((processed_s - self._watchdog.stuck_s) * rate_hz))
        self._finish(processed_s)
        n_before = self._audio.n_processed
        self._audio.restart(min(n_preroll, n_stuck))
        n_again = self._audio.n_processed
        self._recovery.warn('that did not help: starting the stream afresh, with %.1f s processed '
                            'again', n_again / rate_hz)
        self._begin_anew()
        n_dropped = (n_before - n_again) // protocol.samples_per_token
        self._flushes = deque((n - n_dropped, end_s) for n, end_s in self._flushes)

    def _begin_anew(self) -> None:
        """Let another state of the network write from here on."""
        self._transcriber.restart()
        self._watchdog.restarted(self._voice.pushed_s)
