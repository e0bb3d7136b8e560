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
What the robot itself says, taken out of what is recognised, word by word.

A word is the robot's if the robot can have said it at the time: it is like one in its text, a
few letters aside, and the place of that in the text fits. All else was said by somebody, who
interrupts. Text that is out cannot be taken back: so a word that may still become one of the
robot's is kept back until it is complete.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, TypeVar

from rapidfuzz.distance import Levenshtein

from voxtral_ros.recognizer.events import Event, SpeechActivity, Transcript, Turn, TurnKind, Word
from voxtral_ros.recognizer.phrase_match import MIN_SIMILARITY, pieces_of
from voxtral_ros.recognizer.words import is_unspaced, normalised

# Words in a second, of the fastest voice and of one that pauses; and how much earlier and later
# than its text a voice begins, s.
_FAST, _SLOW = 6.0, 1.2
_EARLY_S, _LATE_S = 1.0, 2.0
_WORD_S = 0.5  # before its end, within which a word was begun
_EXPECTED_SIMILARITY = 0.6  # of the word that follows in the text: it is misheard more likely
_SHORT = 4  # letters: such a word has to be right, as another one is too near
_SMALL = 3  # letters: such a word says nothing by itself
_MOST_PIECES = 4000  # an hour of speech

Spoke = Callable[[float, float], bool]
_Said = TypeVar('_Said', Transcript, Turn)


class _Piece(NamedTuple):
    """A word of the robot, and from when to when it may be heard, s."""

    letters: str
    from_s: float
    until_s: float


class RobotText:
    """What the robot says, from its topic; any thread may write while another one reads."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._pieces: tuple[_Piece, ...] = ()

    def say(self, text: str, time_s: float) -> None:
        """Take what the robot says from now on, or after what came before."""
        pieces = list(self._pieces)
        for letters, _ in pieces_of([text]):
            last = pieces[-1] if pieces else _Piece('', 0.0, 0.0)
            pieces.append(_Piece(
                letters, max(time_s - _EARLY_S, last.from_s + 1 / _FAST),
                max(time_s + _LATE_S, last.until_s) + 1 / _SLOW))
        pieces = [piece for piece in pieces if piece.until_s > time_s - 60.0
                  and piece.from_s < time_s + 3600.0]
        self._pieces = tuple(pieces[-_MOST_PIECES:])

    def stop(self, time_s: float) -> None:
        """Note that the robot is silent: what it has not said by now, it does not."""
        self._pieces = tuple(
            piece._replace(until_s=min(piece.until_s, time_s + _WORD_S))
            for piece in self._pieces if piece.from_s <= time_s)

    def places(self, word: str, start_s: float, end_s: float,
               after: int | None = None) -> list[int]:
        """
        Return where a word is in the text; nowhere, if the robot cannot have said it then.

        :param after: where the word before it is
        """
        spoken = [letters for letters, _ in pieces_of([word])]
        letters, pieces = ''.join(spoken), self._pieces
        found = [index for index, text in self._candidates(pieces, len(spoken), start_s, end_s)
                 if _similar(letters, text, MIN_SIMILARITY)]
        following = after + 1 if after is not None else len(pieces)
        if not found and following < len(pieces) and _similar(
                letters, pieces[following].letters, _EXPECTED_SIMILARITY):
            return [following]
        return found

    def may_begin(self, word: str, start_s: float, end_s: float) -> bool:
        """Return whether a word that goes on may become one that the robot says."""
        spoken = [letters for letters, _ in pieces_of([word])]
        letters = ''.join(spoken)
        return any(len(text) > len(letters) and Levenshtein.distance(
                       letters, text[:len(letters)], score_cutoff=1) <= (len(letters) >= _SHORT)
                   for _, text in self._candidates(
                       self._pieces, len(spoken), start_s, end_s))

    @staticmethod
    def _candidates(pieces: tuple[_Piece, ...], n: int, start_s: float,
                    end_s: float) -> list[tuple[int, str]]:
        """Return what may be written as one word of n pieces: index of its last piece, letters."""
        found = []
        for index, piece in enumerate(pieces):
            if not piece.from_s <= end_s or not start_s <= piece.until_s:
                continue
            for m in range(max(1, n - 1), n + 2):  # written as one word, or one as two
                if index + m <= len(pieces):
                    found.append((index + m - 1, ''.join(
                        each.letters for each in pieces[index:index + m])))
        return found


def _similar(letters: str, text: str, least: float) -> bool:
    """Return whether two words are the same, a few letters aside."""
    if not letters or not text:
        return False
    if max(len(letters), len(text)) <= _SHORT:
        return letters == text
    return Levenshtein.normalized_similarity(letters, text) >= least


@dataclass
class _Utterance:
    """What has become of the words of an utterance."""

    id: int  # noqa: A003
    kept: list[bool] = field(default_factory=list)  # by word
    place: int | None = None  # in the robot's text, of the last word that was its
    start: Turn | None = None  # that has not been emitted
    started: bool = False  # the turn, as emitted
    eager: bool = False  # that it seems to be over
    out: str = ''  # text that was let through


class RobotWords:
    """Takes the robot's words out of what one stream after another emits."""

    def __init__(self, text: RobotText) -> None:
        """Compare with a text, which may grow."""
        self._text = text
        self._utterance: _Utterance | None = None

    def take(self, events: list[Event], spoke: Spoke,
             stamp_s: Callable[[float], float]) -> list[Event]:
        """
        Return events without the robot's words; an utterance that has no others is left out.

        :param spoke: whether the robot spoke between two times of the stream, s
        :param stamp_s: from the time of the stream to that of the text
        """
        passed: list[Event] = []
        for event in events:
            if isinstance(event, SpeechActivity):
                passed.append(event)
                continue
            utterance = self._utterance_of(event.utterance_id)
            if isinstance(event, Turn):
                passed += self._turn(utterance, event, spoke, stamp_s)
            else:
                passed += self._transcript(utterance, event, spoke, stamp_s)
        return passed

    def _utterance_of(self, number: int) -> _Utterance:
        if self._utterance is None or self._utterance.id != number:
            self._utterance = _Utterance(number)
        return self._utterance

    def _transcript(self, utterance: _Utterance, transcript: Transcript, spoke: Spoke,
                    stamp_s: Callable[[float], float]) -> list[Event]:
        kept = self._judge(utterance, transcript, transcript.is_final, spoke, stamp_s)
        utterance.kept = kept
        rest = _without(transcript, kept)
        if not rest.text.strip() or (rest.text == utterance.out and not transcript.is_final):
            return []
        rest = replace(rest, delta=rest.text[len(utterance.out):])
        utterance.out = rest.text
        return [*self._start(utterance, rest), rest]

    def _turn(self, utterance: _Utterance, turn: Turn, spoke: Spoke,
              stamp_s: Callable[[float], float]) -> list[Event]:
        if turn.kind is TurnKind.START:
            utterance.start = turn
            return []
        if turn.kind is TurnKind.RESUMED:
            was_eager, utterance.eager = utterance.eager, False
            return [turn] if was_eager else []
        rest = _without(turn, self._judge(utterance, turn, True, spoke, stamp_s))
        if turn.kind is TurnKind.END:
            return [rest] if utterance.started else []
        if not rest.text.strip():
            return []
        utterance.eager = True
        return [*self._start(utterance, rest), rest]

    @staticmethod
    def _start(utterance: _Utterance, said: Transcript | Turn) -> list[Event]:
        """Return that the turn has started, with the first word of somebody else."""
        start, utterance.start = utterance.start, None
        if start is None:
            return []
        utterance.started = True
        return [replace(start, start_s=said.start_s, end_s=said.start_s)]

    def _judge(self, utterance: _Utterance, event: Transcript | Turn, complete: bool,
               spoke: Spoke, stamp_s: Callable[[float], float]) -> list[bool]:
        """
        Return for each word whether it is kept; what was let through before, is.

        :param complete: whether no more will be written; else words at the end that may still
            become the robot's are left out
        """
        kept = list(utterance.kept[:len(event.words)])
        candidates = [self._candidate(event, index, complete, spoke, stamp_s)
                      for index in range(len(kept), len(event.words))]
        place = utterance.place
        for index, word in enumerate(candidates):
            keep = word.verdict(
                place, candidates[index + 1:], complete, kept[-1] if kept else None)
            if keep is None:
                break
            kept.append(keep)
            place = place if keep else word.place(place)
        if isinstance(event, Transcript):
            utterance.place = place
        return kept

    def _candidate(self, event: Transcript | Turn, index: int, complete: bool, spoke: Spoke,
                   stamp_s: Callable[[float], float]) -> _Candidate:
        """Return what is known of a word by itself."""
        word = event.words[index]
        before_s = event.words[index - 1].end_s if index else event.start_s
        start_s = max(before_s, word.end_s - _WORD_S)
        if not spoke(start_s, word.end_s):
            return _Candidate(word, self._text, (0.0, 0.0), False, False)
        times = stamp_s(start_s), stamp_s(word.end_s)
        grows = not complete and index == len(event.words) - 1
        return _Candidate(word, self._text, times, True, grows)


@dataclass(frozen=True)
class _Candidate:
    """A word that was recognised."""

    word: Word
    text: RobotText
    times: tuple[float, float]  # from when to when it was said
    doubtful: bool  # while the robot spoke
    grows: bool  # and may become another one

    def places(self, before: int | None) -> list[int]:
        """Return where it may be in the text of the robot, given where the word before is."""
        return self.text.places(self.word.text, *self.times, before) if self.doubtful else []

    def place(self, before: int | None) -> int | None:
        """Return where it is: the first place after the word before."""
        places = self.places(before)
        later = [place for place in places if before is not None and place > before]
        return min(later or places, default=before)

    @property
    def is_small(self) -> bool:
        """Return whether it is a word such as *to* and *the*, which says nothing by itself."""
        letters = normalised(self.word.text)
        return len(letters) <= (1 if any(map(is_unspaced, letters)) else _SMALL)

    def verdict(self, before: int | None, following: Sequence[_Candidate], complete: bool,
                after_kept: bool | None) -> bool | None:
        """
        Return whether somebody else has said it, None if that cannot be told yet.

        Small words are in every text: they are the robot's in a row with a larger word of it.

        :param before: where the last word of the robot was
        :param following: the words after it
        :param after_kept: whether the word before is somebody else's, None if there is none
        """
        if not self.doubtful:
            return True
        if self._is_open:
            return None
        places = self.places(before)
        if not places:
            return True
        if self.grows:
            return None
        if not self.is_small or after_kept is False:
            return False
        for word in following:
            if word._is_open:
                return None
            later = word.places(min(places))
            row = [there for there in later
                   if any(0 < there - here <= word.n_pieces + 1 for here in places)]
            if not row:
                return after_kept is True or not later
            if not word.is_small:
                return False
            places = row
        return after_kept is True if complete else None

    @property
    def n_pieces(self) -> int:
        return len(pieces_of([self.word.text]))

    @property
    def _is_open(self) -> bool:
        """Return whether it may still become one of the robot's."""
        return self.grows and self.doubtful \
            and self.text.may_begin(self.word.text, *self.times)


def _without(event: _Said, kept: list[bool]) -> _Said:
    """Return an event with those words of it that are kept."""
    if len(kept) == len(event.words) and all(kept):
        return event
    text, end = '', 0
    words: list[Word] = []
    start_s = before_s = event.start_s
    for index, word in enumerate(event.words):
        begin = max(end, event.text.find(word.text, end))
        space, end = event.text[end:begin], begin + len(word.text)
        if index < len(kept) and kept[index]:
            if not words:
                start_s = before_s
            text += (space if words else '') + word.text
            words.append(word)
        before_s = word.end_s
    end_s = event.end_s if isinstance(event, Turn) else words[-1].end_s if words else event.end_s
    return replace(event, text=text, words=tuple(words), start_s=start_s, end_s=end_s)
