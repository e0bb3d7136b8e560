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

"""The wake phrases of the node: parameters, ~/set_awake, and time when no audio comes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
import time
from typing import Any, TYPE_CHECKING

from rclpy.parameter import Parameter
from std_srvs.srv import SetBool

from voxtral_ros.node import parameters
from voxtral_ros.recognizer.phrases import PhraseError, PhraseList
from voxtral_ros.recognizer.wake import WakePhrases
from voxtral_ros.recognizer.wake_gate import WakeGate, WakeOptions

if TYPE_CHECKING:
    from voxtral_ros.node.asr import AsrNode

_PREFIX = 'wake.'  # of what is read here
_NO_PHRASES = 'there are no wake phrases, so it is always awake'


class Wake:
    """Makes the gate of the node, tunes it, and has its phrases expected."""

    def __init__(self, node: AsrNode) -> None:
        """Create the service."""
        self.gate = WakeGate()
        self._node = node
        self._options = WakeOptions()
        node.create_service(SetBool, '~/set_awake', self._on_set_awake)

    @property
    def phrases(self) -> tuple[str, ...]:
        return self._options.phrases

    def read(self, changes: Sequence[Parameter] = ()) -> None:
        """
        Read the parameters, with changes to come.

        :raises PhraseError: the wake phrases are none; nothing has changed
        """
        options, phrases = _read(parameters.value_of(self._node, changes))
        self._node.phrases.add('wake.phrases', phrases)
        self._options = options
        self.gate.tune(options)
        if self._node.worker is not None:
            self._node.worker.wake()  # where no audio comes

    def change(self, changes: Sequence[Parameter], configured: bool) -> None:
        """
        Take changes of parameters over, and before configure only check them.

        :raises PhraseError: the wake phrases are none; nothing has changed
        """
        if any(change.name.startswith(_PREFIX) for change in changes):
            if configured:
                self.read(changes)
            else:
                _read(parameters.value_of(self._node, changes))

    def begin(self, delay_ms: float) -> WakeGate:
        """Return the gate of a stream that begins: nobody has woken it yet."""
        self.gate = WakeGate(self._options, delay_ms / 1000)
        return self.gate

    def every_second(self) -> None:
        """Let the time pass although no audio comes."""
        worker = self._node.worker
        if worker is not None and self._options.phrases and self.gate.awake:
            worker.wake()

    def _on_set_awake(self, request: Any, response: Any) -> Any:
        worker = self._node.worker
        response.message = 'awake' if request.data else 'asleep'
        if worker is None:
            response.message = 'the node is not active'
        elif not self._options.phrases:
            response.success = bool(request.data)
            response.message = _NO_PHRASES if request.data else \
                f'{_NO_PHRASES}: set wake.phrases, or mute it with ~/set_listening'
        else:
            response.success = True
            self.gate.ask(request.data)
            worker.wake()
            self._node.get_logger().info(f'{response.message}, as ~/set_awake asks')
        return response


class StreamTime:
    """The time of a stream, which goes on when its audio stops coming."""

    def __init__(self, patience_s: float, steady_s: Callable[[], float] = time.monotonic) -> None:
        """Begin; `patience_s` is how late audio may be and still has the time between in it."""
        self._patience_s, self._steady_s = patience_s, steady_s
        self._last_s, self._since_s = 0.0, steady_s()

    def __call__(self, processed_s: float) -> float:
        """Return the time when so much of the audio was processed, and no more of it waits."""
        steady_s = self._steady_s()
        if processed_s != self._last_s:
            self._last_s, self._since_s = processed_s, steady_s
        return processed_s + max(0.0, steady_s - self._since_s - self._patience_s)


def _read(value: Callable[[str], Any]) -> tuple[WakeOptions, PhraseList]:
    """Return what the parameters say, and what is to be expected for it."""
    try:
        phrases = PhraseList.parse(value('wake.phrases'), value('wake.boost'))
        texts = tuple(phrase.text for phrase in phrases.phrases)
        WakePhrases(texts)
    except ValueError as error:
        raise PhraseError(f'wake.phrases: {error}') from None
    return WakeOptions(texts, value('wake.similarity'), value('wake.timeout_s'),
                       value('wake.publish_all')), phrases
