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
Where the node's audio comes from: a topic, a microphone or a file.

A source starts when it is made and hands out blocks with the time at which they were received,
until it is closed. Trouble is reported through `warn` and does not end it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
import threading
import time
from typing import Any, Protocol

from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import (
    DurabilityPolicy, HistoryPolicy, qos_check_compatible, QoSCompatibility, QoSProfile,
    ReliabilityPolicy)
from rclpy.qos_overriding_options import QoSOverridingOptions

from voxtral_ros.audio.block import AudioBlock, AudioError
from voxtral_ros.audio.files import read_file
from voxtral_ros.audio.messages import from_mgonzs13, from_ros_drivers
from voxtral_ros.audio.microphone import Microphone
from voxtral_ros.node.listener import Listener
from voxtral_ros.node.parameters import QOS_OVERRIDES, unknown

Put = Callable[[AudioBlock, int], None]
Warn = Callable[[str], None]

_DISCOVERY_S = 0.5
_RETRY_S = (0.5, 1.0, 2.0, 5.0, 10.0)
# Best effort matches every publisher. Deep: Python may come late to a burst of 20 ms blocks.
_AUDIO_QOS = QoSProfile(depth=200, history=HistoryPolicy.KEEP_LAST,
                        reliability=ReliabilityPolicy.BEST_EFFORT)
_LULL_S = 0.08  # audio may wait for so long while nobody speaks: one token of the model
_LEAST_BLOCK_S = 0.001
_INFO_QOS = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class Source(Protocol):
    """What the node needs of a source."""

    hint: str  # what to do when no audio comes from it
    live: bool  # audio ought to come as fast as time passes

    @property
    def description(self) -> str:
        """Return what it is, in words."""

    @property
    def trouble(self) -> str:
        """Return what is wrong now and what to do, '' when nothing is."""

    @property
    def overflows(self) -> int:
        """Return how often audio was lost before it reached us, as far as that is known."""

    def close(self) -> None:
        """Stop handing out blocks and free what was taken."""


class TopicSource:
    """
    Audio on the topic `audio`, in any of the three messages that carry it.

    `AudioDataStamped` and `AudioData` of ros-drivers' audio_common_msgs (the latter with
    `audio_info`), or `AudioStamped` of mgonzs13's, whichever package is sourced. The subscription
    is there from the start, so that the beginning of a bag is not lost, and follows the publishers
    when they send the other message. While nobody speaks, messages are taken a few at a time,
    which spares the CPU most of the work that each of them makes.
    """

    live = True
    overflows = 0

    def __init__(self, node: LifecycleNode, put: Put, warn: Warn, channel: int,
                 quiet: Callable[[], bool]) -> None:
        """
        Subscribe; raise AudioError when no audio_common_msgs is installed.

        :param quiet: whether nobody speaks, so that audio may wait a little
        """
        self._node, self._put, self._warn, self._channel = node, put, warn, channel
        self._quiet, self._stamped = quiet, False
        self._listener: Listener | None = None
        self._info_subscription: Any = None
        self._info: Any = None
        self._kind = ''
        self._wrong_type = self._wrong_qos = self._wrong_block = ''
        self._topic = node.resolve_topic_name('audio')
        self.hint = f'is it published? ros2 topic hz {self._topic}'
        self._handlers = self._known_messages()
        if not self._handlers:
            raise AudioError(
                'source is topic, but no audio_common_msgs is sourced: install '
                'ros-$ROS_DISTRO-audio-common-msgs, or set source to microphone')
        self._subscribe(next(iter(self._handlers)))
        for complaint in unknown(node, QOS_OVERRIDES):
            warn(complaint)
        self._look()
        # Not on the node's clock: a simulated one may stand still.
        self._timer = node.create_timer(
            _DISCOVERY_S, self._look, clock=Clock(clock_type=ClockType.STEADY_TIME))

    @property
    def description(self) -> str:
        return f'topic {self._topic} ({self._kind})'

    @property
    def trouble(self) -> str:
        return self._wrong_type or self._wrong_qos or self._wrong_block

    def _look(self) -> None:
        """Subscribe to what is published, if that is known."""
        publishers = self._node.get_publishers_info_by_topic(self._topic)
        kinds = [publisher.topic_type for publisher in publishers]
        known = [kind for kind in self._handlers if kind in kinds]
        if known and self._kind not in known:
            self._subscribe(known[0])
            self._node.get_logger().info(f'listening to {self.description}')
        self._wrong_type = '' if known or not kinds else (
            f'the topic {self._topic} carries {kinds[0]}, which is no audio that is known, or its '
            f'package is not sourced; expected {" or ".join(self._handlers)}')
        self._wrong_qos = self._clash(publishers)
        if self._wrong_type or self._wrong_qos:
            self._warn(self._wrong_type or self._wrong_qos)

    def _clash(self, publishers: list[Any]) -> str:
        """Return why none of the publishers can be received, '' when one can."""
        if self._listener is None or not publishers:
            return ''
        checks = [qos_check_compatible(publisher.qos_profile, self._listener.qos)
                  for publisher in publishers]
        if any(compatibility != QoSCompatibility.ERROR for compatibility, _ in checks):
            return ''
        return (f'qos_overrides of {self._topic} do not suit its publisher: {checks[0][1]} '
                'correct or remove them')

    def _known_messages(self) -> dict[str, tuple[Any, Callable[[Any], None]]]:
        """Return message type -> class and callback, of what is installed; likeliest first."""
        try:
            from audio_common_msgs import msg
        except ImportError:
            return {}
        # The two packages of that name cannot be distinguished by AudioData, which both have.
        if hasattr(msg, 'AudioStamped'):
            known: dict[str, Callable[..., AudioBlock]] = {'AudioStamped': from_mgonzs13}
        else:
            known = {'AudioDataStamped': self._from_ros_drivers,
                     'AudioData': self._from_ros_drivers}
        return {f'audio_common_msgs/msg/{name}': (
                    getattr(msg, name), partial(self._on_audio, convert))
                for name, convert in known.items()}

    def _subscribe(self, kind: str) -> None:
        self._unsubscribe()
        message, callback = self._handlers[kind]
        self._listener = Listener(
            self._node, message, 'audio', callback, _AUDIO_QOS, self._pause_s,
            qos_overriding_options=QoSOverridingOptions.with_default_policies())
        if kind.endswith(('AudioData', 'AudioDataStamped')):
            from audio_common_msgs.msg import AudioInfo
            self._info_subscription = self._node.create_subscription(
                AudioInfo, 'audio_info', self._on_info, _INFO_QOS)
        self._kind = kind

    def _pause_s(self) -> float:
        # Without stamps, the time of arrival counts. A queue that was made shallow must not spill.
        if self._listener is None or not self._stamped or not self._quiet():
            return 0.0
        return min(_LULL_S, self._listener.qos.depth * _LEAST_BLOCK_S)

    def _unsubscribe(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()
        info, self._info_subscription = self._info_subscription, None
        if info is not None:
            self._node.destroy_subscription(info)

    def _on_info(self, info: Any) -> None:
        self._info = info

    def _from_ros_drivers(self, message: Any, channel: int = -1) -> AudioBlock:
        return from_ros_drivers(message, self._info, channel)

    def _on_audio(self, convert: Callable[..., AudioBlock], message: Any) -> None:
        try:
            block = convert(message, channel=self._channel)
        except AudioError as error:
            self._wrong_block = str(error)
            self._warn(self._wrong_block)
            return
        if len(block.samples):
            self._wrong_block = ''
            self._stamped = block.stamp_ns is not None
            self._put(block, self._node.get_clock().now().nanoseconds)

    def close(self) -> None:
        """End the subscriptions."""
        self._node.destroy_timer(self._timer)
        self._unsubscribe()


class _ThreadSource:
    """A source with a thread of its own."""

    description = hint = trouble = ''
    live = True
    overflows = 0

    def __init__(self) -> None:
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name='audio source', daemon=True)

    def _run(self) -> None:
        raise AssertionError('a subclass defines what runs')

    def close(self) -> None:
        """End the thread."""
        self._closed.set()
        self._thread.join(5.0)


class MicrophoneSource(_ThreadSource):
    """A microphone; when it goes away, it is tried again with growing pauses."""

    hint = 'is the microphone connected and not taken by another program?'

    def __init__(self, node: LifecycleNode, put: Put, warn: Warn, name: str, channel: int,
                 frame_id: str) -> None:
        """Open the device; raise AudioError, with a list of devices, when there is none such."""
        super().__init__()
        self._put, self._warn = put, warn
        self._now_ns = lambda: node.get_clock().now().nanoseconds
        self._open = partial(Microphone, name, now_ns=self._now_ns, channel=channel,
                             frame_id=frame_id)
        self._microphone: Microphone | None = self._open()
        self.description = f'microphone {self._microphone.device}'
        self._thread.start()

    def _run(self) -> None:
        attempt = lost_before = 0
        while not self._closed.is_set():
            try:
                if self._microphone is None:
                    self._microphone = self._open()
                    lost_before = self.overflows
                block = self._microphone.read(0.2)
                self.overflows = lost_before + self._microphone.overflows \
                    + self._microphone.dropped_blocks
                if block is not None:
                    attempt = 0
                    self.trouble = ''
                    self._put(block, self._now_ns())
            except Exception as error:  # whatever PortAudio may think of
                pause_s = _RETRY_S[min(attempt, len(_RETRY_S) - 1)]
                self.trouble = f'{error}; trying again in {pause_s:g} s'
                self._warn(self.trouble)
                attempt += 1
                self._drop()
                self._closed.wait(pause_s)
        self._drop()

    def _drop(self) -> None:
        if self._microphone is not None:
            self._microphone.close()
            self._microphone = None


class FileSource(_ThreadSource):
    """A file, at its own pace or as fast as it is taken."""

    hint = 'is the disk slow?'

    def __init__(self, node: LifecycleNode, put: Put, warn: Warn, path: str, channel: int,
                 frame_id: str, realtime: bool, waiting_s: Callable[[], float],
                 ended: Callable[[], None]) -> None:
        """
        Open the file; raise AudioError when it cannot be read.

        :param waiting_s: how much audio is queued: the file waits for it to become little
        :param ended: called when all of the file was handed out
        """
        super().__init__()
        self._put, self._warn, self._frame_id = put, warn, frame_id
        self._realtime, self._waiting_s, self._ended = realtime, waiting_s, ended
        self._now_ns = lambda: node.get_clock().now().nanoseconds
        if not path:
            raise AudioError('source is file, but the parameter file is empty')
        self._blocks = read_file(path, block_s=0.08, channel=channel)
        self.description = f'file {path}'
        self.live = realtime
        self._thread.start()

    def _run(self) -> None:
        start_ns, start = self._now_ns(), time.monotonic()
        try:
            for block in self._blocks:
                stamp_ns = start_ns + (block.stamp_ns or 0)
                stamped = AudioBlock(block.samples, block.rate_hz, stamp_ns, self._frame_id,
                                     block.n_bad)
                end_s = ((block.stamp_ns or 0) + block.duration_ns) / 1e9
                while not self._closed.is_set() and (
                        time.monotonic() - start < end_s if self._realtime
                        else self._waiting_s() > 2.0):
                    self._closed.wait(0.005 if self._realtime else 0.05)
                if self._closed.is_set():
                    return
                self._put(stamped, self._now_ns())
        except Exception as error:
            self.trouble = str(error)
            self._warn(self.trouble)
        self.live = False
        self.description += ', which has ended'
        self._ended()
