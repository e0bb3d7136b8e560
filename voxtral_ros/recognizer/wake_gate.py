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
The gate that a wake phrase opens: of what a stream emits, it lets through what is for the robot.

An utterance is for the robot if it begins while the gate is open, and from a wake phrase on if
there is one in it. The phrase itself is left out. The gate closes when nobody has spoken to the
robot for a while; all that counts is the time of the audio, so a recording gives the same at any
pace.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
import math
from typing import TypeVar

from voxtral_ros.recognizer.events import Event, SpeechActivity, Transcript, Turn, TurnKind, Word
from voxtral_ros.recognizer.wake import SIMILARITY, WakePhrases

# Text about a moment may come so much later than the delay of the model after it.
_SETTLED_S = 0.5


@dataclass(frozen=True)
class WakeOptions:
    """Tuning of the gate."""

    phrases: tuple[str, ...] = ()  # none: it is always open
    similarity: float = SIMILARITY
    timeout_s: float = 8.0  # for which nobody has spoken when it closes; 0: never
    pass_all: bool = False  # let everything through, as it is, and say what is for the robot


@dataclass(frozen=True)
class Awake:
    """The gate has been opened or closed."""

    awake: bool
    time_s: float


@dataclass(frozen=True)
class Gated:
    """What has come through the gate."""

    event: Event | Awake
    awake: bool = True  # whether it is for the robot
    command: str = ''  # of a final transcript: its text for the robot, without a wake phrase
    cut: bool = False  # whether what was said before it in the utterance is left out


@dataclass
class _Utterance:
    """What has become of an utterance."""

    id: int  # noqa: A003
    for_robot: bool  # all of it that comes after
    from_s: float = -math.inf  # which is where its words must end to count
    woke: bool = False  # there is a wake phrase in it, and only what follows counts
    cut: int | None = None  # character at which what was let through begins
    last: Transcript | None = None  # that was let through
    started: bool = False  # and its turn
    eager: bool = False  # as was the guess that it is over
    over: bool = False
    closed: bool = False  # somebody has sent the robot to sleep in the middle of it


class WakeGate:
    """The gate of one stream at a time; all times are seconds of its audio."""

    def __init__(self, options: WakeOptions = WakeOptions(), delay_s: float = 0.48) -> None:
        """Begin closed; `delay_s` is how late the text of the model is."""
        self.awake = not options.phrases
        self._settled_s = delay_s + _SETTLED_S
        self._options = self._asked_options = options
        self._phrases = WakePhrases(options.phrases, options.similarity)
        self._asked: bool | None = None  # to open or close
        self._now_s = 0.0
        self._until_s = -math.inf  # utterances that begin by then are for the robot
        self._asleep_s = -math.inf  # what was said before is not, and no wake phrase
        self._text_until_s = -math.inf  # text may come about what was said before
        self._speaking = False
        self._utterance: _Utterance | None = None
        self._robot: Callable[[float, float], bool] = _never
        self._passed: list[Gated] = []

    # ---- for other threads ----

    def tune(self, options: WakeOptions) -> None:
        """Take over other options at the next `take`."""
        self._asked_options = options

    def ask(self, awake: bool) -> None:
        """Open or close the gate at the next `take`."""
        self._asked = awake

    # ---- for the thread of the stream ----

    @property
    def needs_time(self) -> bool:
        """Return whether there may be something to do though nothing was emitted."""
        return bool(self._options.phrases) or self._asked is not None \
            or self._asked_options != self._options

    def take(self, events: list[Event], now_s: float, *, robot_speaks: bool = False,
             robot: Callable[[float, float], bool] | None = None) -> list[Gated]:
        """
        Return what of some events comes through; there may be none, as time passes all the same.

        :param now_s: up to which audio was processed; less than before: the stream is another one
        :param robot_speaks: now, so that nobody can be expected to speak to it
        :param robot: returns whether what was said between two times may have been the robot
        """
        self._robot = robot or _never
        self._passed = []
        self._move_to(now_s)
        self._apply_what_was_asked()
        for event in events:
            if not self._options.phrases:
                self._passed.append(Gated(event, command=_text_of_final(event)))
            elif isinstance(event, SpeechActivity):
                self._speaking = event.active
                self._text_until_s = event.time_s + self._settled_s
                self._passed.append(Gated(event))
            elif isinstance(event, Turn):
                self._take_turn(event)
            else:
                self._take_transcript(event)
        if robot_speaks and self.awake:
            self._stay_until(now_s)
        self._close_in_time()
        return self._passed

    # ---- time ----

    def _move_to(self, now_s: float) -> None:
        if now_s < self._now_s:  # what was left of a time is left of it now
            earlier_s = self._now_s - now_s
            self._until_s -= earlier_s
            self._asleep_s -= earlier_s
            self._text_until_s -= earlier_s
        self._now_s = now_s

    def _stay_until(self, since_s: float) -> None:
        """Stay open for the time that is allowed from some moment on."""
        timeout_s = self._options.timeout_s or math.inf
        self._until_s = max(self._until_s, since_s + timeout_s)

    def _close_in_time(self) -> None:
        """Close when the time is over, and nobody may have begun to speak before it was."""
        utterance, over_s = self._utterance, max(self._until_s, self._text_until_s)
        if self._options.phrases and self.awake and self._now_s > over_s and not self._speaking \
                and (utterance is None or utterance.over):
            self._show(False)

    def _show(self, awake: bool) -> None:
        if awake != self.awake:
            self.awake = awake
            self._passed.append(Gated(Awake(awake, self._now_s)))

    # ---- what was asked for ----

    def _apply_what_was_asked(self) -> None:
        options = self._asked_options
        if options != self._options:
            had_phrases, self._options = bool(self._options.phrases), options
            self._phrases = WakePhrases(options.phrases, options.similarity)
            if bool(options.phrases) != had_phrases:
                self._sleep() if options.phrases else self._show(True)
        asked, self._asked = self._asked, None
        if asked is not None and options.phrases:
            self._wake_for_all() if asked else self._sleep()

    def _wake_for_all(self) -> None:
        """Open the gate for all that is said from now on, also in the present utterance."""
        utterance = self._utterance
        if utterance is not None and not utterance.over and not utterance.for_robot:
            utterance.for_robot, utterance.from_s = True, self._now_s
        if not self.awake:
            self._asleep_s = self._now_s
        self._stay_until(self._now_s)
        self._show(True)

    def _sleep(self) -> None:
        """Close the gate at once, and end what is open."""
        self._until_s, self._asleep_s = -math.inf, self._now_s
        utterance = self._utterance
        if utterance is not None and not utterance.over:
            utterance.closed = True
            if not self._options.pass_all:
                self._end(utterance)
        self._show(False)

    def _end(self, utterance: _Utterance) -> None:
        """End an utterance as it stands."""
        last = utterance.last
        if last is not None:
            last = replace(last, is_final=True, delta='', revision=last.revision + 1)
            self._passed.append(Gated(last, command=last.text, cut=bool(utterance.cut)))
        if utterance.started:
            start_s, end_s = (last.start_s, last.end_s) if last else (self._now_s, self._now_s)
            self._passed.append(Gated(Turn(
                TurnKind.END, utterance.id, last.text if last else '',
                last.words if last else (), start_s, end_s)))

    # ---- what the stream emits ----

    def _take_transcript(self, transcript: Transcript) -> None:
        utterance = self._utterance_of(transcript)
        cut = self._find_cut(utterance, transcript, growing=not transcript.is_final)
        command = _after(transcript, cut) if cut is not None else None
        if command is not None:
            last, utterance.cut = utterance.last, cut
            command = replace(command, delta=command.text[len(last.text) if last else 0:])
            utterance.last = command
        text = command.text if command and command.is_final else ''
        if self._options.pass_all:
            self._passed.append(Gated(transcript, self._is_for_robot(utterance), text))
        elif command is not None:
            self._start(utterance, command.start_s)
            self._passed.append(Gated(command, command=text, cut=bool(cut)))
        if transcript.is_final:
            utterance.over = True
            if self._is_for_robot(utterance):
                self._stay_until(transcript.end_s)

    def _take_turn(self, turn: Turn) -> None:
        utterance = self._utterance_of(turn)
        if turn.kind is TurnKind.EAGER_END:
            utterance.over = False
            cut = self._find_cut(utterance, turn, growing=False)
        else:
            utterance.over |= turn.kind is TurnKind.END
            cut = utterance.cut
        if self._options.pass_all:
            self._passed.append(Gated(turn, self._is_for_robot(utterance)))
        elif utterance.closed:
            pass
        elif turn.kind is TurnKind.EAGER_END and cut is not None:
            command = _after(turn, cut)
            self._start(utterance, command.start_s)
            utterance.eager = True
            self._passed.append(Gated(command))
        elif turn.kind is TurnKind.RESUMED and utterance.eager:
            utterance.eager = False
            self._passed.append(Gated(turn))
        elif turn.kind is TurnKind.END and utterance.started:
            self._passed.append(Gated(
                replace(turn, text='', words=()) if cut is None else _after(turn, cut)))

    def _start(self, utterance: _Utterance, start_s: float) -> None:
        """Say that a turn has begun, with the first words of it that come through."""
        if not utterance.started:
            utterance.started = True
            self._passed.append(Gated(Turn(
                TurnKind.START, utterance.id, '', (), start_s, start_s)))

    def _utterance_of(self, event: Transcript | Turn) -> _Utterance:
        utterance = self._utterance
        if utterance is None or utterance.id != event.utterance_id:
            for_robot = event.start_s <= self._until_s
            self._show(for_robot)  # it may have seemed otherwise, as text is late
            # A turn that has only started is no reason to stay open: nothing may come of it.
            utterance = self._utterance = _Utterance(
                event.utterance_id, for_robot, self._asleep_s, over=isinstance(event, Turn))
        if isinstance(event, Transcript):
            utterance.over = False
        return utterance

    def _is_for_robot(self, utterance: _Utterance) -> bool:
        return utterance.for_robot and not utterance.closed

    def _find_cut(self, utterance: _Utterance, event: Transcript | Turn,
                  growing: bool) -> int | None:
        """
        Return the character at which what is for the robot begins, None where there is nothing.

        :param growing: whether text will be appended
        """
        if utterance.closed:
            return None
        if utterance.cut is not None:  # text that is out cannot be taken back
            return utterance.cut
        text, cut = event.text, None
        if utterance.woke or not utterance.for_robot:
            cut = self._find_wake_phrase(utterance, event, growing)
        if not utterance.for_robot:
            return None
        if cut is None:
            cut = _first_after(event, utterance.from_s)
        while (match := self._phrases.find(text[cut:], growing=growing, begins=True)) is not None:
            cut += match.end
        rest = text[cut:]
        if not any(map(str.isalnum, rest)) or (growing and self._phrases.may_begin(rest)):
            return None
        return cut

    def _find_wake_phrase(self, utterance: _Utterance, event: Transcript | Turn,
                          growing: bool) -> int | None:
        """Return the character after the first wake phrase that opens the gate, and open it."""
        begin = 0
        while (match := self._phrases.find(event.text[begin:], growing=growing)) is not None:
            first_s, last_s = _times(event, begin + match.start, begin + match.end)
            begin += match.end
            if last_s <= self._asleep_s or self._robot(first_s, last_s):
                continue
            if not utterance.woke:
                utterance.woke = utterance.for_robot = True
                utterance.from_s = last_s
                self._stay_until(self._now_s)
                self._show(True)
            return begin
        return None


_Said = TypeVar('_Said', Transcript, Turn)


def _never(_: float, __: float) -> bool:
    return False


def _text_of_final(event: Event) -> str:
    return event.text if isinstance(event, Transcript) and event.is_final else ''


def _placed(event: Transcript | Turn) -> list[tuple[int, Word]]:
    """Return the words of an event, and where each begins in its text."""
    placed, end = [], 0
    for word in event.words:
        start = max(end, event.text.find(word.text, end))
        end = start + len(word.text)
        placed.append((start, word))
    return placed


def _times(event: Transcript | Turn, start: int, end: int) -> tuple[float, float]:
    """Return from when to when a part of the text was said, s."""
    first_s = last_s = event.start_s
    for place, word in _placed(event):
        if place < end:
            last_s = word.end_s
        if place + len(word.text) <= start:
            first_s = word.end_s
    return first_s, last_s


def _first_after(event: Transcript | Turn, time_s: float) -> int:
    """Return the character at which the first word begins that ends after some time."""
    if not event.words or event.words[0].end_s > time_s:
        return 0
    return next((place for place, word in _placed(event) if word.end_s > time_s), len(event.text))


def _after(event: _Said, cut: int) -> _Said:
    """Return what was said from some character on."""
    if not cut:
        return event
    words, start_s = [], event.start_s
    for place, word in _placed(event):
        if place >= cut:
            words.append(word)
        elif place + len(word.text) > cut:  # where words have no spaces between them
            words.append(replace(word, text=word.text[cut - place:]))
        else:
            start_s = word.end_s
    return replace(event, text=event.text[cut:], words=tuple(words), start_s=start_s)
