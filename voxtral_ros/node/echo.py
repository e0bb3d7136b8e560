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

"""The echo canceller of the node: its options, and where it has from what the robot plays."""

from __future__ import annotations

from dataclasses import dataclass
import time
import traceback
from typing import TYPE_CHECKING

from voxtral_ros.audio.channels import AUTOMATIC
from voxtral_ros.audio.echo import EchoCanceller, EchoOptions, EchoStats
from voxtral_ros.node.parameters import assumed_format
from voxtral_ros.node.sources import MicrophoneSource, Received, Source
from voxtral_ros.node.topic_source import TopicSource

if TYPE_CHECKING:
    from voxtral_ros.node.asr import AsrNode
    from voxtral_ros.node.worker import Worker


@dataclass(frozen=True)
class EchoHealth:
    """How the canceller and its reference are."""

    stats: EchoStats
    reference: str = ''  # where it comes from
    trouble: str = ''  # why it cannot be used, and what to do
    most_wait_s: float = 0.0


class Echo:
    """Cancels the echo while the node is active; all belongs to the executor of the node."""

    def __init__(self, node: AsrNode) -> None:
        self._node = node
        self._canceller: EchoCanceller | None = None
        self._source: Source | None = None

    def begin(self) -> EchoCanceller | None:
        """
        Return what the audio of the node is to go through, None if nothing is asked for.

        :raises AudioError: the library is missing
        """
        def value(name: str) -> bool:
            return bool(self._node.get_parameter(f'echo.{name}').value)

        options = EchoOptions(
            value('cancellation'), value('noise_suppression'), value('gain_control'),
            self._node.get_parameter('echo.wait_s').value)
        self._canceller = EchoCanceller(options, time.monotonic) if options.enabled else None
        return self._canceller

    def listen_to_robot(self, worker: Worker) -> None:
        """
        Have what the robot plays come.

        :raises AudioError: it cannot
        """
        canceller, node = self._canceller, self._node
        if canceller is None or not canceller.options.echo_cancellation:
            return

        def put(blocks: list[Received]) -> None:
            for block, received_ns in blocks:
                canceller.add_reference(
                    block.samples, block.rate_hz,
                    None if block.stamp_ns is None else block.stamp_ns / 1e9, received_ns / 1e9)
            if canceller.waits:
                worker.wake()

        if node.get_parameter('echo.reference').value == 'monitor':
            self._source = MicrophoneSource(
                node, put, node.warn, node.get_parameter('echo.monitor').value, AUTOMATIC, '',
                monitor=True)
        else:
            self._source = TopicSource(node, put, node.warn, AUTOMATIC, assumed_format(node),
                                       lambda: False, 0.0, topic='playback')
        node.get_logger().info(f'what the robot plays comes from the {self._source.description}')

    def close(self) -> None:
        """Let go of the reference."""
        source, self._source = self._source, None
        if source is not None:
            try:
                source.close()
            except Exception:
                self._node.get_logger().error(
                    f'closing the reference:\n{traceback.format_exc()}')

    def look(self) -> None:
        """Follow who publishes; once a second."""
        if self._source is not None:
            self._source.look()

    @property
    def health(self) -> EchoHealth | None:
        """Return how it is, None where it is off."""
        canceller, source = self._canceller, self._source
        if canceller is None or source is None:
            return None
        return EchoHealth(canceller.stats, source.description, source.trouble or source.warning,
                          canceller.options.wait_s)
