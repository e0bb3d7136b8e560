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
The node with a scripted engine and a simulated clock, and clients of its action beside it.

Nothing is waited for by time: a test plays audio, moves the clock, and waits for what follows.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
import os
import threading
import time
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import rclpy
from rclpy.action import ActionClient
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock
from support.realtime import ServedScript
from support.scripted import RATE, Script, scripted_voice

from voxtral_ros.action import Listen
from voxtral_ros.audio.block import AudioBlock
from voxtral_ros.msg import Transcript
from voxtral_ros.node import asr
from voxtral_ros.node.asr import AsrNode

S = 1_000_000_000
WAIT_S = 60  # before a test gives up
_BLOCK = RATE // 50


class Asking:
    """A goal that a client has sent."""

    def __init__(self, conversation: 'Conversation', client: ActionClient, **fields: Any) -> None:
        self.feedback: list[Listen.Feedback] = []
        self._conversation = conversation
        self.sent = client.send_goal_async(
            Listen.Goal(**fields), lambda message: self.feedback.append(message.feedback))
        self.sent.add_done_callback(self._ask)
        self.result: Listen.Result | None = None
        self.status = 0

    def _ask(self, sent: Any) -> None:
        if sent.result().accepted:
            sent.result().get_result_async().add_done_callback(self._take)

    def _take(self, future: Any) -> None:
        self.status, self.result = future.result().status, future.result().result

    @property
    def accepted(self) -> bool:
        """Wait for the answer and return it."""
        self._conversation.wait(self.sent.done)
        return bool(self.sent.result().accepted)

    def cancel(self) -> Any:
        """Ask to cancel; return the future answer."""
        assert self.accepted
        return self.sent.result().cancel_goal_async()

    def finish(self) -> Listen.Result:
        """Wait for the result and return it."""
        self._conversation.wait(lambda: self.result is not None)
        assert self.result is not None
        return self.result


class Conversation:
    """A node, what it is played, and who asks it."""

    def __init__(self, script: Script, **parameters: Any) -> None:
        self.engine = ServedScript(script)
        self.warnings: list[str] = []
        self.finals: list[Transcript] = []
        self._position, self._now_s = 0, 1000.0  # audio and clock
        self._contexts = [rclpy.Context(), rclpy.Context()]  # processes, for the middleware
        for context in self._contexts:
            rclpy.init(context=context)
        with mock.patch.object(asr, 'load_engine', lambda value: (self.engine, 'a script')):
            self.node = AsrNode(context=self._contexts[0], parameter_overrides=[
                Parameter(name.replace('__', '.'), value=value)
                for name, value in {'use_sim_time': True, **parameters}.items()])
            assert self.node.trigger_configure().name == 'SUCCESS'
        self.node.warn = self.warnings.append
        self._source = SimpleNamespace(description='a test', look=lambda: None,
                                       close=lambda: None)
        self.node._open_source = lambda worker: self._source
        self.executor = SingleThreadedExecutor(context=self._contexts[0])
        self.executor.add_node(self.node)
        self._thread = threading.Thread(target=self.executor.spin, daemon=True)
        self._asking = Node('asking', context=self._contexts[1])
        self._ears = SingleThreadedExecutor(context=self._contexts[1])
        self._ears.add_node(self._asking)
        self._clock = self._asking.create_publisher(Clock, '/clock', 10)
        self._asking.create_subscription(
            Transcript, 'transcript/final', self.finals.append, 50)
        self._clients: list[ActionClient] = []
        self._thread.start()
        self.pass_time(0)
        self.wait(lambda: self.node.count_subscribers('transcript/final'))

    def close(self) -> None:
        """End as the process of the node does."""
        self.do(self.node.finish)
        self.wait(lambda: not self.node.listen.unfinished)
        self.executor.shutdown()
        self._thread.join()
        self._ears.shutdown()
        for client in self._clients:
            client.destroy()
        self._asking.destroy_node()
        self.node.destroy_node()
        for context in self._contexts:
            rclpy.shutdown(context=context)

    def wait(self, condition: Callable[[], Any]) -> None:
        """Let clients have their answers until a condition holds."""
        end = time.monotonic() + WAIT_S
        while not condition():
            assert time.monotonic() < end, f'waited in vain; warnings: {self.warnings}'
            self._ears.spin_once(timeout_sec=0.02)

    def do(self, action: Callable[[], Any]) -> Any:
        """Let the executor of the node do something, and return what it does."""
        task = self.executor.create_task(action)
        self.wait(task.done)
        return task.result()

    def activate(self) -> None:
        assert self.do(self.node.trigger_activate).name == 'SUCCESS'

    def pass_time(self, seconds: float) -> None:
        """Move the clock."""
        self._now_s += seconds
        now_ns = round(self._now_s * S)

        def has_come() -> bool:
            message = Clock()
            message.clock.sec, message.clock.nanosec = divmod(now_ns, S)
            self._clock.publish(message)
            return bool(self.node.get_clock().now().nanoseconds == now_ns)
        self.wait(has_come)
        # Timers that are due now have been called before whatever is asked of the executor.
        for _ in range(3):
            self.do(lambda: None)

    def play(self, audio: np.ndarray, *, wait: bool = True) -> None:
        """Play audio to the node, whose clock goes with it."""
        for at in range(0, len(audio), _BLOCK):
            stamp_ns = 1000 * S + self._position * S // RATE
            block = AudioBlock(audio[at:at + _BLOCK], RATE, stamp_ns, 'ear')
            self._position += len(block.samples)
            self.node._put([(block, stamp_ns)])
        if wait:
            self.settle()

    def settle(self) -> None:
        """Wait until the audio so far is recognised, and what follows is done."""
        done = threading.Event()
        worker = self.node.worker
        assert worker is not None
        worker.after_queued(lambda progress: done.set())
        self.wait(done.is_set)
        self.do(lambda: None)

    def client(self) -> ActionClient:
        """Return a client that the node knows."""
        client = ActionClient(self._asking, Listen, 'asr/listen')
        self._clients.append(client)
        assert client.wait_for_server(WAIT_S)
        topic = '/asr/listen/_action/feedback'
        self.wait(lambda: self.node.count_subscribers(topic) == len(self._clients))
        return client

    def leave(self, client: ActionClient) -> None:
        """Let a client end without a word."""
        self._clients.remove(client)
        client.destroy()

    def ask(self, client: ActionClient | None = None, **fields: Any) -> Asking:
        """Send a goal that is accepted; its time begins where the audio is now."""
        asking = Asking(self, client or self.client(), **fields)
        assert asking.accepted, self.warnings
        self.settle()
        return asking


@contextmanager
def conversation(script: Script | None = None, *, active: bool = True,
                 **parameters: Any) -> Iterator[Conversation]:
    """Yield a node that listens."""
    assert 'ROS_DOMAIN_ID' in os.environ
    with scripted_voice():
        talk = Conversation(script or Script(), **parameters)
        try:
            if active:
                talk.activate()
            yield talk
        finally:
            talk.close()
