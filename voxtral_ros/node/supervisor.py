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
What keeps a node at work that started itself: a robot must not stay deaf.

A source that is late, such as a microphone that appears after boot, is waited for; an engine that
broke is loaded anew; one that hangs ends the process, which begins again (see process.py).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rclpy.lifecycle import TransitionCallbackReturn

from voxtral_ros.node.qos import mismatch

if TYPE_CHECKING:
    from voxtral_ros.node.asr import AsrNode

_SOURCE_S = (0.5, 1.0, 2.0, 5.0, 10.0)  # pauses before a source is opened again
_ENGINE_S = (2.0, 10.0, 30.0, 60.0)  # and before an engine is loaded anew
_HEALTHY_S = 60.0  # of audio without breaking: next time the first pause will do
_ABANDONED_S = 5.0  # for which robot_speaking has no publisher any more


class Supervisor:
    """Starts a node, and again when it has to be; nothing without the parameter `autostart`."""

    def __init__(self, node: AsrNode) -> None:
        self._node = node
        self._n_attempts = 0
        self._again_at_s: float | None = None
        self._abandoned_s: float | None = None
        self.warning = ''  # what is doubtful about the topics beside the audio

    def start(self) -> None:
        """Configure and activate; where the source is not there yet, try again later."""
        node = self._node
        if not node.configured and node.trigger_configure() != TransitionCallbackReturn.SUCCESS:
            return  # the log says why: parameters must be corrected first
        if node.trigger_activate() != TransitionCallbackReturn.SUCCESS:
            self._plan(_SOURCE_S)

    def taken_over(self) -> None:
        """Leave the node to somebody who has changed its state."""
        self._again_at_s = None

    @property
    def again_s(self) -> float | None:
        """Return in how many seconds the node will be started again, None when it will not."""
        return None if self._again_at_s is None \
            else max(0.0, self._again_at_s - time.monotonic())

    def every_second(self) -> None:
        """Look after the node; to be called by its executor."""
        node, worker = self._node, self._node.worker
        self._look_at_robot_speaking()
        if worker is None:
            self._start_again()
        elif node.hangs():
            return
        elif worker.broken:
            node.trigger_deactivate()  # which finds it broken and ends unconfigured
            if node.autostart:
                self._plan(_ENGINE_S)
        elif worker.stats.processed_s > _HEALTHY_S:
            self._n_attempts = 0

    def _start_again(self) -> None:
        if self._again_at_s is None or time.monotonic() < self._again_at_s:
            return
        self._again_at_s = None
        was_configured = self._node.configured
        self._node.retrying = True
        try:
            self.start()
        finally:
            self._node.retrying = False
        if self._node.worker is None and self._again_at_s is None:
            self._plan(_SOURCE_S if was_configured else _ENGINE_S)

    def _plan(self, pauses_s: tuple[float, ...]) -> None:
        pause_s = pauses_s[min(self._n_attempts, len(pauses_s) - 1)]
        self._n_attempts += 1
        self._again_at_s = time.monotonic() + pause_s
        self._node.warn(f'starting again in {pause_s:g} s')

    def _look_at_robot_speaking(self) -> None:
        """Say who cannot be understood, and take back what was said by who is gone."""
        node = self._node
        self.warning = mismatch(node, node.resolve_topic_name('robot_speaking'),
                                'std_msgs/msg/Bool')
        if self.warning:
            node.warn(self.warning)
        if not node.robot.speaks or node.count_publishers('robot_speaking'):
            self._abandoned_s = None
            return
        now_s = time.monotonic()
        if self._abandoned_s is None:
            self._abandoned_s = now_s
        elif now_s - self._abandoned_s >= _ABANDONED_S:
            node.warn('robot_speaking is true, but its publisher is gone: taken as false')
            node.robot.update(False, node.get_clock().now().nanoseconds, 0.0)
