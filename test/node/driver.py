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

"""The node as a process of its own, driven through its public interface."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
import os
from pathlib import Path
import signal
import subprocess
import sys
import time
from typing import Any

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import Bool, String
from voxtral_ros.msg import Transcript

CONFIGURE = Transition.TRANSITION_CONFIGURE
ACTIVATE = Transition.TRANSITION_ACTIVATE
DEACTIVATE = Transition.TRANSITION_DEACTIVATE
CLEANUP = Transition.TRANSITION_CLEANUP
_TIMEOUT_S = 60.0


class Driver:
    """A process with the node, and a client node that talks to it."""

    def __init__(self, client: Node, process: Any, log: Path) -> None:
        self.client, self.process, self._log = client, process, log
        self.executor = SingleThreadedExecutor(context=client.context)
        self.executor.add_node(client)
        self.transcripts: list[Transcript] = []
        self.texts: list[str] = []
        self.speech: list[bool] = []
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        for topic in ('transcript/partial', 'transcript/final'):
            client.create_subscription(Transcript, topic, self.transcripts.append, 50)
        client.create_subscription(
            String, 'transcript/text', lambda message: self.texts.append(message.data), 50)
        client.create_subscription(
            Bool, 'asr/speech_active', lambda message: self.speech.append(message.data), latched)

    @property
    def log(self) -> str:
        return self._log.read_text(encoding='utf-8')

    @property
    def finals(self) -> list[Transcript]:
        return [message for message in self.transcripts if message.is_final]

    def call(self, kind: Any, name: str, request: Any) -> Any:
        """Return the answer of a service."""
        client = self.client.create_client(kind, name)
        assert client.wait_for_service(_TIMEOUT_S), f'no service {name}:\n{self.log}'
        future = client.call_async(request)
        self.executor.spin_until_future_complete(future, _TIMEOUT_S)
        self.client.destroy_client(client)
        return future.result()

    def change(self, transition: int) -> bool:
        """Return whether a transition succeeded."""
        request = ChangeState.Request(transition=Transition(id=transition))
        return bool(self.call(ChangeState, 'asr/change_state', request).success)

    @property
    def state(self) -> str:
        return str(self.call(GetState, 'asr/get_state', GetState.Request()).current_state.label)

    def wait(self, condition: Callable[[], Any], timeout_s: float = _TIMEOUT_S) -> None:
        """Spin until a condition holds."""
        end = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < end, f'waited in vain; the log:\n{self.log}'
            self.executor.spin_once(timeout_sec=0.05)

    def end(self, number: int = signal.SIGINT) -> tuple[int, float]:
        """Send a signal; return exit code and seconds until the end."""
        begin = time.monotonic()
        self.process.send_signal(number)
        return self.process.wait(30), time.monotonic() - begin


@contextmanager
def driven(tmp_path: Path, overlay: str | None = None, **parameters: Any) -> Iterator[Driver]:
    """
    Run the node with parameters and yield its driver.

    :param overlay: name of the audio_common_msgs to run with, for the node alone
    """
    arguments = ['--ros-args']
    for name, value in parameters.items():
        arguments += ['-p', f'{name.replace("__", ".")}:={value}']
    code = 'import sys; from voxtral_ros.node.asr import main; sys.exit(main())'
    setup = f'source {os.environ["VOXTRAL_OVERLAYS"]}/{overlay}/install/local_setup.bash; ' \
        if overlay else ''
    log = tmp_path / 'node.log'
    with log.open('w') as file:
        process = subprocess.Popen(
            ['bash', '-c', f'{setup}exec "$@"', 'node', sys.executable, '-c', code, *arguments],
            stdout=file, stderr=subprocess.STDOUT, cwd=tmp_path)
    context = rclpy.Context()
    rclpy.init(context=context)
    client = Node('driver', context=context)
    try:
        yield Driver(client, process, log)
    finally:
        process.kill()
        process.wait()
        client.destroy_node()
        rclpy.shutdown(context=context)
