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
The engine: a backend, a fixed number of stream slots, and the step that advances them together.

    engine = Engine.load('models/voxtral-tiny-en')
    stream = engine.open(delay_ms=480)
    stream.feed(samples)  # float32, 16 kHz, any number
    for event in stream.poll():
        print(event)
    stream.close()

Polling a stream advances that stream alone. Who owns several streams feeds all of them, calls
`process`, which batches them, and then polls each. An engine and its streams belong to one thread.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
import math
from pathlib import Path

import numpy as np

from voxtral_ros.backends.base import Backend, DEFAULT_CHUNK_TOKENS, Tokens
from voxtral_ros.model.config import AudioConfig, ModelConfig
from voxtral_ros.model.protocol import load_protocol, StreamingProtocol
from voxtral_ros.model.tokenizer import Tokenizer
from voxtral_ros.recognizer.admission import Admission
from voxtral_ros.recognizer.ahead import Ahead
from voxtral_ros.recognizer.interface import EngineStats
from voxtral_ros.recognizer.options import offline_options, StreamOptions
from voxtral_ros.recognizer.phrase_search import Choice, PhraseSearch, StreamSteps
from voxtral_ros.recognizer.phrase_trie import compile_phrases
from voxtral_ros.recognizer.phrases import NO_PHRASES, PhraseList
from voxtral_ros.recognizer.slot import Slot, Token
from voxtral_ros.recognizer.slot_pool import SlotPool
from voxtral_ros.recognizer.stream import Stream
from voxtral_ros.recognizer.vad import Detector, new_detector


class EngineFull(RuntimeError):
    """No further stream: all slots are taken."""


class Engine:
    """Runs streams over one network, batched."""

    link = None  # the network is here

    def __init__(self, backend: Backend, tokenizer: Tokenizer, audio: AudioConfig,
                 max_open: int = 0, confidence_exponent: float = 1.0) -> None:
        """
        Take a backend, which has the weights and the state of all streams.

        :param max_open: streams that may be open, with a slot or without; at least the slots
        :param confidence_exponent: of the probability of a word, which makes its confidence
        """
        self.backend = backend
        self.tokenizer = tokenizer
        self.protocol = StreamingProtocol(tokenizer, audio)
        self.confidence_exponent = confidence_exponent
        self.admission = Admission(self.protocol.token_s)
        self.on_update: Callable[[], None] | None = None  # never called: nothing comes by itself
        self.slots = SlotPool(backend.max_streams, self._begin)
        # Now, and not with every stream: later there may be no file descriptor left to load one.
        self._detectors = [new_detector() for _ in range(max(max_open, backend.max_streams))]
        self._n_passes = self._n_tokens = 0  # over live audio
        self.n_done = 0  # passes that have come back
        # Streams often expect the same phrases, and each of them in more than one slot. There is
        # room for a list of each stream, and for one that it is to expect next.
        self._compiled = lru_cache(maxsize=16 + 2 * len(self._detectors))(
            partial(compile_phrases, tokenizer=tokenizer))

    @classmethod
    def load(cls, folder: str | Path, device: str = 'auto', dtype: str | None = None,
             max_streams: int = 1, max_chunk_tokens: int = DEFAULT_CHUNK_TOKENS, threads: int = 0,
             window: int = 0, verify: bool = True, max_open: int = 0,
             kv_cache: str = 'auto') -> Engine:
        """
        Load a checkpoint folder into the best backend that there is for it.

        :param device: 'auto' (CUDA where there is one), 'cpu', 'cuda' or 'cuda:1'
        :param dtype: 'float32', 'bfloat16' or 'float16'; None is float32 on the CPU, and on a GPU
            the type of the file
        :param max_chunk_tokens: tokens of audio that one pass may take when there is a backlog;
            more is faster for files and takes memory
        :param threads: on the CPU; 0 is OMP_NUM_THREADS, or one per core
        :param window: tokens that the decoder looks back, which is what the KV cache of a stream
            holds; 0 is the window of the checkpoint, less saves memory
        :param verify: compare the weights with their checksums, if they have any
        :param max_open: streams that may be open at the same time if they share the slots, see
            `open`; 0: as many as slots
        :param kv_cache: bits of the numbers in it: '16', '8', or 'auto', which is 8 where memory
            is short
        :raises ConfigError, CheckpointError, TokenizerError: the folder is no usable model
        :raises ValueError: no such device, type, window or number of streams
        """
        from voxtral_ros.backends.selection import load_backend
        if max_streams < 1 or max_chunk_tokens < 1:
            raise ValueError('max_streams and max_chunk_tokens must be at least 1')
        # The small files first: a bad one is reported before gigabytes are read.
        config = ModelConfig.load(folder).with_window(window)
        tokenizer = load_protocol(folder, config).tokenizer
        backend = load_backend(folder, tokenizer, device, dtype, max_streams, max_chunk_tokens,
                               threads, window, verify, kv_cache)
        return cls(backend, tokenizer, config.audio, max_open, config.confidence_exponent)

    def open(self, delay_ms: float | None = None,  # noqa: A003
             options: StreamOptions | None = None, *,
             utterance_ids: Iterator[int] | None = None, start_s: float = 0.0,
             idle_slot_s: float = math.inf, phrases: PhraseList | None = None) -> Stream:
        """
        Open a stream in a free slot.

        With `idle_slot_s` it shares the slots: it may begin without one, gives it away when
        another stream needs it, and takes one when somebody speaks, or waits for it
        (`Stream.waiting_s`).

        :param delay_ms: how far the text lags behind the audio; 80 to 1200 in steps of 80, or
            2400; None is the delay of the checkpoint
        :param utterance_ids: ids of the utterances, in order; None counts from 1
        :param start_s: time of the first sample, in the events
        :param idle_slot_s: idle for so long, it may lose its slot; infinite: it is its own
        :param phrases: to expect; None: none
        :raises ValueError: the delay is not supported
        :raises EngineFull: all slots are taken; or of streams that share them, as many are open as
            there may be
        """
        return Stream(self, self.protocol.delay_tokens(delay_ms), options or StreamOptions(),
                      utterance_ids, start_s, idle_slot_s, phrases or NO_PHRASES)

    def warm_up(self) -> None:
        """
        Do now what would make the first seconds slow: run a second of silence.

        :raises NotFinite: the weights are damaged
        """
        self.backend.warm_up()
        stream = self.open(options=offline_options())
        try:
            stream.feed(np.zeros(self.protocol.audio.sampling_rate, np.float32))
            stream.poll()
        finally:
            stream.abandon()

    def close(self) -> None:
        """Give the memory of weights and streams back, a GPU's too; the engine cannot be used."""
        self.slots.close()
        self.backend.close()

    @property
    def description(self) -> str:
        return f'{self.backend.description}, KV cache in {self.backend.cache_bits} bits'

    @property
    def n_open(self) -> int:
        return len(self.slots.open)

    @property
    def max_chunk_tokens(self) -> int:
        return self.backend.max_chunk_tokens

    @property
    def max_tokens_ahead(self) -> int:
        """Return how many tokens a stream may look ahead."""
        return self.backend.max_rollback_tokens

    @property
    def stats(self) -> EngineStats:
        drafted = self.backend.speculative
        return EngineStats(
            self._n_tokens / self._n_passes if self._n_passes else math.nan,
            drafted is not None and drafted.enabled,
            drafted.n_accepted / drafted.n_passes if drafted and drafted.n_passes else math.nan)

    # ---- for streams ----

    def take_detector(self) -> Detector:
        """Return a voice activity detector for one stream."""
        if not self._detectors:
            raise EngineFull('as many streams of this engine are open as may share its slots: '
                             'close one, or make the engine with a larger max_open')
        return self._detectors.pop()

    def give_detector_back(self, detector: Detector) -> None:
        """Take a detector back, for the next stream."""
        self._detectors.append(detector)

    def take_slot(self, delay: int) -> Slot:
        """Open a slot for a stream with a delay in tokens."""
        slot = self.slots.take(delay)
        if slot is None:
            raise EngineFull(f'all {self.backend.max_streams} streams of this engine are open: '
                             'close one, or make the engine with a larger max_streams')
        return slot

    def restart(self, slot: Slot, delay: int) -> Slot:
        """Return a slot in the place of another one, without what that has processed."""
        return self.slots.restart(slot, delay)

    def _begin(self, index: int, delay: int) -> Slot:
        self.backend.reset(index, delay)
        return Slot(index, self.protocol, delay)

    def release(self, slot: Slot) -> None:
        """Give a slot back; doing so again changes nothing."""
        self.slots.release(slot)

    def prepare_phrases(self, phrases: PhraseList) -> None:
        """
        Find the tokens of phrases, so that no stream has to wait for that later.

        From any thread. A thousand phrases take about a second.

        :raises ValueError: the vocabulary of the model cannot be used for that
        """
        self._compiled(phrases)

    def expect_phrases(self, slot: Slot, phrases: PhraseList) -> None:
        """Give phrases a bias, from the next token of a stream on."""
        self.settle(slot)
        trie = self._compiled(phrases)
        self.backend.set_phrases(slot.index, trie)
        slot.search = None if trie is None else PhraseSearch(
            StreamSteps(self.backend, slot), trie)

    def settle(self, slot: Slot) -> bool:
        """Take back what a stream has begun of a phrase; return whether that was anything."""
        if slot.search is None or not slot.search.holds:
            return False
        slot.tokens += slot.search.give_up()
        return True

    def penalise_pad(self, slot: Slot, penalty: float) -> None:
        """Subtract `penalty` from the pad logit of a stream from the next token on."""
        self.backend.set_pad_penalty(slot.index, penalty)

    # ---- the step ----

    def process(self) -> None:
        """Compute all audio that waits, of all streams, in as few passes as it takes."""
        while self.step():
            pass

    def step(self, only: Slot | None = None) -> bool:
        """
        Advance every stream that has a token of audio waiting, or only one; return if any had.

        First, streams that wait for a slot are given those that are free.

        After an exception the state of the streams that had audio waiting is undefined: abandon
        them and open others.
        """
        prefills: dict[int, list[Slot]] = defaultdict(list)  # tokens to pass -> slots
        decoding = []
        if only is None:
            self.slots.serve()
        for slot in list(self.slots.open.values()) if only is None else [only]:
            ready = min(slot.ready, self.max_chunk_tokens)
            if ready and slot.prefill:
                prefills[min(ready, slot.prefill)].append(slot)
            elif ready:
                decoding.append(slot)
        for n_tokens, slots in prefills.items():
            self._prefill(slots, n_tokens)
        if decoding:
            n_tokens = min(min(slot.ready for slot in decoding), self.max_chunk_tokens)
            self._decode(decoding, n_tokens)
        return bool(prefills or decoding)

    @contextmanager
    def looking_ahead(self, slot: Slot) -> Iterator[Callable[[int], list[Token]]]:
        """
        Let the network process silence after the audio of a stream, and then forget it again.

            with engine.looking_ahead(slot) as decode:
                tokens = decode(8)

        Gives a function that decodes n tokens of silence, at most `max_tokens_ahead` in all.
        Afterwards the stream is where it was, bit for bit.
        """
        self.backend.save(slot.index)
        try:
            yield Ahead(self.backend, self.protocol, slot).decode
        finally:
            self.backend.rollback(slot.index)

    def _prefill(self, slots: list[Slot], n_tokens: int) -> None:
        """Pass n positions at once: their tokens are known."""
        tokens = [slot.prompt_tokens[slot.position:slot.position + n_tokens] for slot in slots]
        self._collect(slots, n_tokens, self.backend.prefill(*_batch(slots, n_tokens), tokens))

    def _decode(self, slots: list[Slot], n_tokens: int) -> None:
        """Pass n positions one by one, each with the token that the one before has predicted."""
        for slot in slots:
            if slot.search:
                slot.search.begin_pass(n_tokens)
        begin = self.admission.clock()
        tokens = self.backend.decode(*_batch(slots, n_tokens))
        self.admission.passed(len(slots), n_tokens, self.admission.clock() - begin)
        self._n_passes += 1
        self._n_tokens += n_tokens
        self._collect(slots, n_tokens, tokens)

    def _collect(self, slots: list[Slot], n_tokens: int, tokens: Tokens) -> None:
        """Hand the tokens out, n or the last one of each stream."""
        self.n_done += 1
        for m, slot in enumerate(slots):
            before = slot.n_generated
            slot.advance(n_tokens)
            # The first positions of the prefill predict tokens that are known anyway.
            n_new = slot.n_generated - before
            first = len(tokens.ids[m]) - n_new
            new = [Token(before + k, tokens.ids[m][first + k], tokens.probs[m][first + k])
                   for k in range(n_new)]
            if slot.search and tokens.unbiased and new:
                new = slot.search.take([Choice(*choice) for choice in zip(
                    new, tokens.unbiased[m][first:], strict=True)])
            slot.tokens += new
        for slot in slots:
            n_new = len(slot.tokens)
            if slot.on_tokens and n_new:
                begin = self.admission.clock()
                slot.on_tokens()
                self.admission.host_took(n_new, self.admission.clock() - begin)


def _batch(slots: list[Slot], n_tokens: int) -> tuple[list[int], np.ndarray]:
    """Return indices and windows [M, n * 1280 + 240]."""
    windows = np.stack([slot.window(n_tokens) for slot in slots])
    return [slot.index for slot in slots], windows
