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

"""The phrases that the node expects: those of its parameters, or what ~/set_phrases has sent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from rclpy.lifecycle import LifecycleNode
from rclpy.parameter import Parameter

from voxtral_ros.node import parameters
from voxtral_ros.node.parameter_table import ROWS
from voxtral_ros.recognizer.phrases import NO_PHRASES, PhraseError, PhraseList
from voxtral_ros.srv import SetPhrases

_LISTS = {'phrases.list', 'phrases.file'}
_PARAMETERS = {*_LISTS, 'phrases.boost'}


class _Lines(NamedTuple):
    """What ~/set_phrases was sent."""

    lines: tuple[str, ...]
    boost: float  # 0: that of the parameter


class Phrases:
    """
    Puts together what is expected, and passes it on when that has changed.

    The last word counts: the service replaces what the parameters say, and these are back when
    the list or the file is set again. What others add, such as a wake phrase, comes on top.
    """

    def __init__(self, node: LifecycleNode, expect: Callable[[PhraseList], None]) -> None:
        """
        Create the service.

        :param expect: called with all phrases when they have changed
        """
        self.expected = NO_PHRASES
        self._node, self._expect = node, expect
        self._sent: _Lines | None = None
        self._added: dict[str, PhraseList] = {}
        node.create_service(SetPhrases, '~/set_phrases', self._on_set_phrases)

    def read(self) -> None:
        """
        Read the parameters.

        :raises PhraseError: they are no phrases; nothing has changed
        """
        self._take(self._sent, self._added, parameters.value_of(self._node))

    def change(self, changes: Sequence[Parameter], configured: bool) -> None:
        """
        Take changes of parameters over, and before configure only check them.

        :raises PhraseError: they are no phrases; nothing has changed
        """
        changed = {parameter.name: parameter.value for parameter in changes}
        if not changed.keys() & _PARAMETERS:
            return
        sent = None if changed.keys() & _LISTS else self._sent
        if configured:
            self._take(sent, self._added, parameters.value_of(self._node, changes))
        else:  # what is wrong with the others is no reason to refuse these
            _of_parameters(lambda name: changed.get(name, ROWS[name].default))
            self._sent = sent

    def add(self, what: str, phrases: PhraseList) -> None:
        """
        Expect other phrases on top, in the place of those that were added by the same name.

        :raises PhraseError: there are too many; nothing has changed
        """
        self._take(self._sent, {**self._added, what: phrases}, parameters.value_of(self._node))

    def _take(self, sent: _Lines | None, added: dict[str, PhraseList],
              value: Callable[[str], Any]) -> PhraseList:
        """
        Expect what was sent, or else what the parameters say, and what was added.

        :return: without what was added
        """
        own = phrases = _of_parameters(value) if sent is None else PhraseList.parse(
            sent.lines, sent.boost or value('phrases.boost'))
        for more in added.values():
            phrases += more
        self._sent, self._added = sent, added
        if phrases != self.expected:
            self.expected = phrases
            self._expect(phrases)
        return own

    def _on_set_phrases(self, request: Any, response: Any) -> Any:
        sent = _Lines(tuple(request.phrases), request.boost)
        try:
            own = self._take(sent, self._added, parameters.value_of(self._node))
        except PhraseError as error:
            response.success, response.message = False, str(error)
            self._node.get_logger().warn(f'~/set_phrases refused: {error}')
            return response
        response.accepted = len(own)
        response.success = True
        response.message = f'expecting {response.accepted} phrases' if response.accepted \
            else 'expecting no phrases'
        self._node.get_logger().info(f'{response.message}, as ~/set_phrases asks')
        return response


def _of_parameters(value: Callable[[str], Any]) -> PhraseList:
    boost, file = value('phrases.boost'), value('phrases.file')
    try:
        phrases = PhraseList.parse(value('phrases.list'), boost)
    except PhraseError as error:
        raise PhraseError(f'phrases.list: {error}') from None
    return phrases + PhraseList.load(file, boost) if file else phrases
