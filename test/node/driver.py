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

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
import os
from pathlib import Path
import signal
import subprocess
import sys
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import Bool, String
from support.processes import ends_with_us

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
        self._clients: dict[str, Any] = {}
        self.transcripts: list[Transcript] = []
        self.texts: list[str] = []
        self.speech: list[bool] = []
        self.diagnostics: list[DiagnosticStatus] = []
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        for topic in ('transcript/partial', 'transcript/final'):
            client.create_subscription(Transcript, topic, self.transcripts.append, 50)
        client.create_subscription(
            String, 'transcript/text', lambda message: self.texts.append(message.data), 50)
        client.create_subscription(
            Bool, 'asr/speech_active', lambda message: self.speech.append(message.data), latched)
        client.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 10)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        # The topic is shared by all nodes of the domain.
        self.diagnostics += [status for status in message.status
                             if status.name == 'asr: speech recognition']

    def close(self) -> None:
        """Take the client away, and before it what may still wait for it."""
        self.executor.shutdown()
        self.client.destroy_node()

    @property
    def log(self) -> str:
        return self._log.read_text(encoding='utf-8')

    @property
    def finals(self) -> list[Transcript]:
        return [message for message in self.transcripts if message.is_final]

    def call(self, kind: Any, name: str, request: Any) -> Any:
        """Return the answer of a service."""
        if name not in self._clients:
            self._clients[name] = self._connected(kind, name)
            self._acquaint(name)
        answer = self._ask(self._clients[name], request, _TIMEOUT_S)
        assert answer is not None, f'no answer from {name}:\n{self.log}'
        return answer

    def _connected(self, kind: Any, name: str) -> Any:
        client = self.client.create_client(kind, name)
        assert client.wait_for_service(_TIMEOUT_S), f'no service {name}:\n{self.log}'
        return client

    def _ask(self, client: Any, request: Any, timeout_s: float) -> Any:
        future = client.call_async(request)
        self.executor.spin_until_future_complete(future, timeout_s)
        return future.result()

    def _acquaint(self, name: str) -> None:
        """
        Wait until the node knows where to send the answers of a service.

        It drops an answer to a client that it has not yet discovered, and most requests must not
        be repeated. It discovers in order: whoever has an answer through a later client is known.
        """
        client = self._connected(GetState, name.rpartition('/')[0] + '/get_state')
        assert any(self._ask(client, GetState.Request(), timeout_s=2) is not None
                   for _ in range(round(_TIMEOUT_S / 2))), f'no answer to {name}:\n{self.log}'
        self.client.destroy_client(client)

    def change(self, transition: int) -> bool:
        """Return whether a transition succeeded."""
        request = ChangeState.Request(transition=Transition(id=transition))
        return bool(self.call(ChangeState, 'asr/change_state', request).success)

    @property
    def state(self) -> str:
        answer = self.call(GetState, 'asr/get_state', GetState.Request())
        return str(answer.current_state.label)

    def wait(self, condition: Callable[[], Any], timeout_s: float = _TIMEOUT_S) -> None:
        """Spin until a condition holds."""
        end = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < end, f'waited in vain; the log:\n{self.log}'
            self.executor.spin_once(timeout_sec=0.05)

    def diagnosed(self, level: bytes, words: str) -> bool:
        """Return whether the latest status has a level and contains words."""
        latest = self.diagnostics[-1] if self.diagnostics else None
        return latest is not None and latest.level == level and words in latest.message

    def shown(self, key: str) -> str:
        """Return a value of the latest status; empty where there was none yet."""
        return (self.every(key) or [''])[-1]

    def every(self, key: str) -> list[str]:
        """Return a value of all statuses so far; empty where it was not known."""
        return [pair.value for status in self.diagnostics for pair in status.values
                if pair.key == key]

    @property
    def usage(self) -> tuple[int, int]:
        """Return anonymous memory in kB and the number of threads of the node."""
        lines = Path(f'/proc/{self.process.pid}/status').read_text(encoding='ascii').splitlines()
        fields = dict(line.split(':', 1) for line in lines)
        return int(fields['RssAnon'].split()[0]), int(fields['Threads'])

    def end(self, number: int = signal.SIGINT) -> tuple[int, float]:
        """Send a signal; return exit code and seconds until the end."""
        begin = time.monotonic()
        self.process.send_signal(number)
        return self.process.wait(30), time.monotonic() - begin


@contextmanager
def driven(tmp_path: Path, overlay: str | None = None, *, prelude: str = '',
           environment: dict[str, str] | None = None, arguments: Sequence[str] = (),
           **parameters: Any) -> Iterator[Driver]:
    """
    Run the node with parameters and yield its driver.

    :param overlay: name of the audio_common_msgs to run with, for the node alone
    :param prelude: Python that runs in the process of the node before it
    :param arguments: further ROS arguments
    """
    arguments = ['--ros-args', *arguments]
    for name, value in parameters.items():
        arguments += ['-p', f'{name.replace("__", ".")}:={value}']
    code = prelude + '\nimport sys; from voxtral_ros.node.process import main; sys.exit(main())'
    setup = f'source {os.environ["VOXTRAL_OVERLAYS"]}/{overlay}/install/local_setup.bash; ' \
        if overlay else ''
    log = tmp_path / 'node.log'
    with log.open('w') as file:
        process = subprocess.Popen(
            [*ends_with_us(), 'bash', '-c', f'{setup}exec "$@"', 'node', sys.executable, '-c',
             code, *arguments],
            stdout=file, stderr=subprocess.STDOUT, cwd=tmp_path, env=environment)
    context = rclpy.Context()
    rclpy.init(context=context)
    driver = Driver(Node('driver', context=context), process, log)
    try:
        yield driver
    finally:
        process.kill()
        process.wait()
        driver.close()
        rclpy.shutdown(context=context)


@contextmanager
def running(folder: Path, overlay: str, code: str, *arguments: Any,
            output: Path | None = None) -> Iterator[None]:
    """Run Python code in an overlay, beside the node, until the context ends."""
    script = folder / 'beside.py'
    script.write_text(code, encoding='utf-8')
    setup = f'source {os.environ["VOXTRAL_OVERLAYS"]}/{overlay}/install/local_setup.bash'
    with (output or Path(os.devnull)).open('w') as file:
        process = subprocess.Popen(
            [*ends_with_us(), 'bash', '-c', f'{setup}; exec "$@"', 'beside', sys.executable,
             str(script), *map(str, arguments)], stdout=file)
    try:
        yield
    finally:
        process.kill()
        process.wait()
