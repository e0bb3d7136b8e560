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
A subscription that a thread of its own waits for, beside the executor of its node.

For every message, an executor of rclpy builds a wait set of all that the node has, twice, in
Python: near a millisecond for a lifecycle node, fifty times a second for audio. Here the wait set
has one entry; and where nobody is in a hurry, messages are taken a few at a time.
"""

from __future__ import annotations

from collections.abc import Callable
import threading
import traceback
from typing import Any

from rclpy.callback_groups import CallbackGroup

# As rclpy.wait_for_message has it; the same from Humble to Rolling.
from rclpy.impl.implementation_singleton import rclpy_implementation as _rclpy
from rclpy.node import Node
from rclpy.qos import QoSProfile

_CLOSED_NS = 100_000_000  # so often the thread looks whether it is to end
_PAUSE_S = 0.1  # after an error


class _Apart(CallbackGroup):
    """Keeps the executor from a subscription, and from its events: messages wake these, too."""

    def can_execute(self, entity: Any) -> bool:
        return False

    def beginning_execution(self, entity: Any) -> bool:
        return False

    def ending_execution(self, entity: Any) -> None:
        pass


class Listener:
    """Calls back for each message on a topic, until it is closed."""

    def __init__(self, node: Node, message: Any, topic: str, callback: Callable[[Any], None],
                 qos: QoSProfile, pause_s: Callable[[], float] = lambda: 0.0,
                 **options: Any) -> None:
        """
        Subscribe and start the thread.

        :param callback: called from the thread; what it raises is logged
        :param pause_s: how long messages may wait now, in the queue of the subscription
        :param options: of `Node.create_subscription`
        """
        self._node, self._callback, self._pause_s = node, callback, pause_s
        self._subscription = node.create_subscription(
            message, topic, callback, qos, callback_group=_Apart(), **options)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name='listener', daemon=True)
        self._thread.start()

    @property
    def qos(self) -> QoSProfile:
        return self._subscription.qos_profile

    def close(self) -> None:
        """End the thread and the subscription; nothing is called back any more."""
        self._closed.set()
        self._thread.join()
        self._node.destroy_subscription(self._subscription)

    def _run(self) -> None:
        wait_set = _rclpy.WaitSet(1, 0, 0, 0, 0, 0, self._node.context.handle)
        while not self._closed.is_set():
            try:
                pause_s = self._pause_s()
                if pause_s > 0:
                    self._closed.wait(pause_s)
                else:
                    self._wait(wait_set)
                while not self._closed.is_set() and (message := self._take()) is not None:
                    self._callback(message)
            except Exception:  # whatever it is, the next message is taken
                self._node.get_logger().error(f'a callback failed:\n{traceback.format_exc()}')
                self._closed.wait(_PAUSE_S)

    def _wait(self, wait_set: Any) -> None:
        handle = self._subscription.handle
        with handle:
            wait_set.clear_entities()
            wait_set.add_subscription(handle)
            wait_set.wait(_CLOSED_NS)

    def _take(self) -> Any:
        """Return the next message, None when there is none."""
        handle = self._subscription.handle
        with handle:
            taken = handle.take_message(self._subscription.msg_type, False)
        return taken and taken[0]
