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
A subscription, or a service, that a thread of its own waits for, beside the executor of its node.

For every message, an executor of rclpy builds a wait set of all that the node has, twice, in
Python: near a millisecond for a lifecycle node, fifty times a second for audio. Here the wait set
has one entry; and where nobody is in a hurry, messages are taken a few at a time. A service with a
thread of its own is answered while a callback of the node takes its time.
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

from voxtral_ros.node.qos import no_subscription_events

_WAIT_NS = 1_000_000_000  # an end of the context wakes nobody
_PAUSE_S = 0.1  # after an error
_IN_VAIN_S = 0.02  # after a wake-up for nothing: they must not follow each other without end


class _Apart(CallbackGroup):
    """Keeps the executor from an entity."""

    def can_execute(self, entity: Any) -> bool:
        return False

    def beginning_execution(self, entity: Any) -> bool:
        return False

    def ending_execution(self, entity: Any) -> None:
        pass


class _Waiting:
    """A thread that waits for something and takes it, until it is closed."""

    def __init__(self, node: Node, name: str) -> None:
        self._node = node
        self._closed = threading.Event()
        self._guard = _rclpy.GuardCondition(node.context.handle)
        self._wait_set = _rclpy.WaitSet(2, 1, 0, 0, 1, 0, node.context.handle)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def close(self) -> None:
        """End the thread; nothing is called back any more."""
        self._closed.set()
        self._wake()
        self._thread.join()

    def _wake(self) -> None:
        with self._guard:
            self._guard.trigger_guard_condition()

    def _run(self) -> None:
        while not self._closed.is_set():
            try:
                self._once()
            except Exception:  # whatever it is, the next message is taken
                self._node.get_logger().error(f'a callback failed:\n{traceback.format_exc()}')
                self._closed.wait(_PAUSE_S)

    def _once(self) -> None:
        raise AssertionError('a subclass defines what is waited for')

    def _wait(self) -> None:
        with self._guard:
            self._wait_set.add_guard_condition(self._guard)
            self._wait_set.wait(_WAIT_NS)


class Listener(_Waiting):
    """Calls back for each message on a topic, until it is closed."""

    def __init__(self, node: Node, message: Any, topic: str, callback: Callable[[Any], None],
                 qos: QoSProfile, pause_s: Callable[[], float] = lambda: 0.0,
                 done: Callable[[], None] = lambda: None, **options: Any) -> None:
        """
        Subscribe and start the thread.

        :param callback: called from the thread; what it raises is logged
        :param pause_s: how long messages may wait now, in the queue of the subscription
        :param done: called after them, when all that were there were taken
        :param options: of `Node.create_subscription`
        """
        super().__init__(node, 'listener')
        self._message, self._topic = message, topic
        self._callback, self._pause_s, self._done = callback, pause_s, done
        self.n_waits = 0
        self._lock = threading.Lock()  # guards the next three
        self._subscription = self._subscribe(qos, **options)
        self._successor: Any = None
        self._retired: list[Any] = []
        self._sent_ns = 0  # when the last message was published
        self._thread.start()

    def _subscribe(self, qos: QoSProfile, **options: Any) -> Any:
        return self._node.create_subscription(
            self._message, self._topic, self._callback, qos, callback_group=_Apart(),
            event_callbacks=no_subscription_events(), **options)

    @property
    def qos(self) -> QoSProfile:
        """Return the profile that was asked for last."""
        with self._lock:
            return (self._successor or self._subscription).qos_profile

    def switch(self, qos: QoSProfile) -> None:
        """
        Go over to another profile, without losing or repeating a message.

        To be called by the executor, as `tidy` is. The present subscription is used until the
        first message comes through the new one.
        """
        subscription = self._subscribe(qos)
        with self._lock:
            if self._successor is not None:
                self._retired.append(self._successor)
            self._successor = subscription
        self._wake()

    def tidy(self) -> None:
        """Free subscriptions that are not used any more."""
        with self._lock:
            retired, self._retired = self._retired, []
        for subscription in retired:
            self._node.destroy_subscription(subscription)

    def close(self) -> None:
        """End the thread and the subscription; nothing is called back any more."""
        super().close()
        self._retired += [self._subscription, *([self._successor] if self._successor else [])]
        self.tidy()

    def _once(self) -> None:
        pause_s = self._pause_s()
        if pause_s > 0:
            self._closed.wait(pause_s)
        else:
            self._wait_for_messages()
        try:
            n = self._take_all()
        finally:
            self._done()
        if not n and pause_s <= 0:
            self._closed.wait(_IN_VAIN_S)

    def _wait_for_messages(self) -> None:
        with self._lock:
            handles = [subscription.handle for subscription in
                       (self._subscription, self._successor) if subscription is not None]
        self._wait_set.clear_entities()
        for handle in handles:
            with handle:
                self._wait_set.add_subscription(handle)
        self._wait()
        self.n_waits += 1

    def _take_all(self) -> int:
        """Call back for all messages that are there, and return how many these were."""
        n = self._drain(self._subscription)
        with self._lock:
            successor = self._successor
            taken = self._take(successor) if successor is not None else None
            if taken is None:
                return n
            before, self._subscription, self._successor = self._subscription, successor, None
        try:
            n += self._drain(before)  # what has come until now
        finally:
            with self._lock:
                self._retired.append(before)
        last_ns = self._sent_ns
        while taken is not None and not self._closed.is_set():
            message, sent_ns = taken
            if not sent_ns or sent_ns > last_ns:  # else it came both ways
                self._call(message, sent_ns)
                n += 1
            taken = self._take(successor)
        return n

    def _drain(self, subscription: Any) -> int:
        n = 0
        while not self._closed.is_set() and (taken := self._take(subscription)) is not None:
            self._call(*taken)
            n += 1
        return n

    def _call(self, message: Any, sent_ns: int) -> None:
        self._sent_ns = sent_ns
        self._callback(message)

    def _take(self, subscription: Any) -> tuple[Any, int] | None:
        """Return the next message and when it was published, None when there is none."""
        with subscription.handle:
            taken = subscription.handle.take_message(subscription.msg_type, False)
        return (taken[0], taken[1]['source_timestamp']) if taken else None


class Responder(_Waiting):
    """Answers a service of a node, which its executor then leaves alone."""

    def __init__(self, node: Node, service: Any) -> None:
        """Start the thread; the callback of the service must not depend on the executor."""
        super().__init__(node, 'responder')
        self._service = service
        service.callback_group = _Apart()
        self._thread.start()

    def _once(self) -> None:
        service = self._service
        with service.handle:
            self._wait_set.clear_entities()
            self._wait_set.add_service(service.handle)
            self._wait()
            request, header = service.handle.service_take_request(service.srv_type.Request)
            if header is None:
                return
            service.send_response(service.callback(request, service.srv_type.Response()), header)
