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

"""The node in a process of its own, driven as robots drive it: by its services and topics."""

from array import array
import os
import subprocess
import sys
import threading
import time

from audio_common_msgs.msg import AudioDataStamped
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor

from voxtral_ros.msg import Transcript

RATE, BLOCK = 16000, 320  # Hz; samples in 20 ms
TRANSITIONS = {'configure': Transition.TRANSITION_CONFIGURE,
               'activate': Transition.TRANSITION_ACTIVATE,
               'deactivate': Transition.TRANSITION_DEACTIVATE,
               'cleanup': Transition.TRANSITION_CLEANUP}


class AsrProcess:
    """A node `asr` and who talks to it; a context manager."""

    def __init__(self, command=(), **parameters):
        """
        Start the process and wait until its services are there.

        :param command: what the node is started with, such as a program that limits its memory
        :param parameters: of the node, with _ for the point in their names
        """
        options = [part for name, value in parameters.items()
                   for part in ('-p', f'{name.replace("__", ".")}:={value}')]
        self.process = subprocess.Popen(
            [*command, sys.executable, '-c',
             'import sys; from voxtral_ros.node.process import main; sys.exit(main())',
             '--ros-args', '-p', 'log_transcripts:=false', *options])
        self.words, self.finals = [], []  # when a partial transcript came; the texts
        self.node = rclpy.create_node('robot')
        self._change = self.node.create_client(ChangeState, 'asr/change_state')
        self._audio = self.node.create_publisher(AudioDataStamped, 'audio', 1000)
        for topic, call in (('partial', self._on_partial), ('final', self._on_final)):
            self.node.create_subscription(Transcript, f'transcript/{topic}', call, 100)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._executor.spin, daemon=True)
        self._thread.start()
        self._stamp_ns = time.time_ns()

    def __enter__(self):
        deadline_s = time.monotonic() + 60
        while not self._change.service_is_ready():
            self._check()
            if time.monotonic() > deadline_s:
                raise TimeoutError('the services of the node did not come')
            time.sleep(0.02)
        return self

    def __exit__(self, *exc):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._executor.shutdown()
        self._thread.join()
        self.node.destroy_node()

    def change(self, transition, timeout_s=120):
        """Ask for a transition by its name; return how long it took, s."""
        begin_s, done = time.monotonic(), threading.Event()
        request = ChangeState.Request()
        request.transition.id = TRANSITIONS[transition]
        future = self._change.call_async(request)
        future.add_done_callback(lambda _: done.set())
        while not done.wait(0.2):
            self._check()
            if time.monotonic() - begin_s > timeout_s:
                raise TimeoutError(f'{transition} took more than {timeout_s} s')
        if not future.result().success:
            raise RuntimeError(f'{transition} failed: the log of the node says why')
        return time.monotonic() - begin_s

    def play(self, samples, speed=1.0):
        """
        Publish audio in messages of 20 ms, so many times as fast as it lasts.

        Returns when the first message was published, as of time.monotonic().
        """
        while not self._audio.get_subscription_count():
            time.sleep(0.01)
        pcm = np.clip(samples * 32768, -32768, 32767).astype('<i2')
        begin_s = time.monotonic()
        for start in range(0, len(pcm), BLOCK):
            time.sleep(max(0.0, begin_s + start / RATE / speed - time.monotonic()))
            message = AudioDataStamped()
            message.audio.data = array('B', pcm[start:start + BLOCK].tobytes())
            message.header.stamp.sec, message.header.stamp.nanosec = divmod(
                self._stamp_ns, 1_000_000_000)
            self._audio.publish(message)
            self._stamp_ns += len(pcm[start:start + BLOCK]) * 1_000_000_000 // RATE
        return begin_s

    def first_word_s(self, since_s, timeout_s):
        """Wait for the first word after a moment; return how long after it that came, s."""
        return self._wait_for('word', timeout_s, lambda: next(
            (when_s for when_s in self.words if when_s > since_s), None)) - since_s

    def wait_for_final(self, timeout_s):
        """Wait for the first text that is final."""
        self._wait_for('final text', timeout_s, lambda: self.finals)

    def _wait_for(self, what, timeout_s, find):
        """Wait until something is found and return it."""
        deadline_s = time.monotonic() + timeout_s
        while not (found := find()):
            self._check()
            if time.monotonic() > deadline_s:
                raise TimeoutError(f'no {what} in {timeout_s} s')
            time.sleep(0.01)
        return found

    def _check(self):
        if self.process.poll() is not None:
            raise RuntimeError(f'the node ended with {self.process.returncode}')

    def _on_partial(self, message):
        if message.text.strip():
            self.words.append(time.monotonic())

    def _on_final(self, message):
        if message.text.strip():
            self.finals.append(message.text)


def local_ros():
    """Begin with ROS, for this machine alone and beside other robots on it."""
    os.environ.setdefault('ROS_DOMAIN_ID', str(20 + os.getpid() % 80))
    os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
    rclpy.init()
