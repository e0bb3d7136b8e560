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

"""The topic `robot_text`, and what becomes of the robot's words in the mode `duck`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from std_msgs.msg import String

from voxtral_ros.node.qos import subscribe_to_any
from voxtral_ros.node.stamps import Origin
from voxtral_ros.recognizer.events import Event
from voxtral_ros.recognizer.robot_words import RobotText, RobotWords

if TYPE_CHECKING:
    from voxtral_ros.node.asr import AsrNode

_AGAIN_NS = 200_000_000  # a message comes several times: through each subscription


class Ducking:
    """Takes the words of the robot out of what is recognised while it speaks."""

    def __init__(self, node: AsrNode) -> None:
        """Subscribe."""
        self._node = node
        self._text = RobotText()
        self._words = RobotWords(self._text)
        self._last, self._last_ns = '', 0
        subscribe_to_any(node, String, 'robot_text', self._on_text, depth=50)

    def _on_text(self, message: String) -> None:
        now_ns = self._node.get_clock().now().nanoseconds
        if message.data == self._last and 0 <= now_ns - self._last_ns < _AGAIN_NS:
            return
        self._last, self._last_ns = message.data, now_ns
        self._text.say(message.data, self._node.robot.captured_ns(now_ns) / 1e9)

    def robot_stopped(self, now_ns: int) -> None:
        """Note that the robot does not go on with its text."""
        self._text.stop(self._node.robot.captured_ns(now_ns) / 1e9)

    def take(self, events: list[Event], origin: Origin) -> list[Event]:
        """Return events without the words of the robot; from the thread of the worker."""
        robot = self._node.robot

        def ducked(start_s: float, end_s: float) -> bool:
            times = origin.stamp_ns(start_s), origin.stamp_ns(end_s)
            return robot.marked(*times) and not robot.doubtful(*times)

        return self._words.take(events, ducked, lambda time_s: origin.stamp_ns(time_s) / 1e9)
