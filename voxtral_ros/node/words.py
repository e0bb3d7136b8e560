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


"""Words as messages, with the stamps of their audio."""

from __future__ import annotations

from collections.abc import Iterable

from builtin_interfaces.msg import Time

from voxtral_ros.msg import Word as WordMessage
from voxtral_ros.node.stamps import Origin
from voxtral_ros.recognizer.events import Word


class WordMessages:
    """The words of an utterance that grows; a revision costs what is new in it."""

    def __init__(self) -> None:
        self._words: list[tuple[Word, WordMessage]] = []  # of the last revision

    def __call__(self, words: tuple[Word, ...], origin: Origin) -> list[WordMessage]:
        """Return messages of words, made anew only for those that are not as they were."""
        known = self._words
        n_known = min(len(known), len(words))
        # A complete word stays the same object in all revisions of an utterance.
        while n_known and words[n_known - 1] is not known[n_known - 1][0]:
            n_known -= 1
        known[n_known:] = zip(words[n_known:], word_messages(words[n_known:], origin), strict=True)
        return [message for _, message in known]


def word_messages(words: Iterable[Word], origin: Origin) -> list[WordMessage]:
    """Return messages of words."""
    return [WordMessage(text=word.text, end=time_message(origin.stamp_ns(word.end_s)),
                        confidence=float(word.confidence)) for word in words]


def time_message(stamp_ns: int) -> Time:
    """Return a stamp as a message; what lies before 1970 is 0."""
    seconds, nanoseconds = divmod(max(0, stamp_ns), 1_000_000_000)
    return Time(sec=int(seconds), nanosec=int(nanoseconds))
