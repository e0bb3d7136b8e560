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
Audio from a topic, in any of the three messages that carry it and at any quality of service.

The subscription is there from the start, so that the beginning of a bag is not lost, and follows
its publishers: their message, their reliability, and when they end, all that was theirs goes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from copy import copy
import threading
import time
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import (
    HistoryPolicy, qos_check_compatible, QoSCompatibility, QoSProfile, ReliabilityPolicy)
from rclpy.qos_overriding_options import QoSOverridingOptions

from voxtral_ros.audio.block import AudioError
from voxtral_ros.audio.messages import Mgonzs13Decoder, PcmInfo, RosDriversDecoder
from voxtral_ros.node.listener import Listener
from voxtral_ros.node.parameter_table import QOS_OVERRIDES
from voxtral_ros.node.parameters import is_given, unknown
from voxtral_ros.node.qos import mismatch, offered_reliability, subscribe_to_any
from voxtral_ros.node.sources import Put, Received, Warn

_DISCOVERY_S = 0.5
# Deep: Python may come late to a burst of 20 ms blocks. Until publishers are known, best effort
# receives from any.
_AUDIO_QOS = {'depth': 200, 'history': HistoryPolicy.KEEP_LAST}
_TOGETHER_NS = 240_000_000  # of audio that are handed out at once, whatever else waits
# Audio may wait for so long while nobody speaks, and for so much of the model's delay: speech is
# then noticed before its first word is due.
_LEAST_LULL_S, _MOST_LULL_S, _LULL_SHARE = 0.08, 0.2, 0.4
_LEAST_BLOCK_S = 0.001
_INFO_S = 6.0  # ros-drivers' audio_capture sends audio_info every 5 s
_PACKAGE = 'audio_common_msgs/msg/'


class TopicSource:
    """
    Audio on a topic, whichever package and message its publishers use.

    `AudioDataStamped` and `AudioData` of ros-drivers' audio_common_msgs (with `audio_info`), or
    `AudioStamped` of mgonzs13's. While nobody speaks, messages are taken a few at a time, which
    spares the CPU most of the work that each of them makes.
    """

    live = True
    overflows = 0

    def __init__(self, node: LifecycleNode, put: Put, warn: Warn, channel: int | str,
                 assumed: PcmInfo, quiet: Callable[[], bool], delay_ms: float,
                 topic: str = 'audio') -> None:
        """
        Subscribe; raise AudioError when no audio_common_msgs is installed.

        :param channel: see Downmix
        :param assumed: format of ros-drivers' messages where there is no audio_info
        :param quiet: whether nobody speaks, so that audio may wait a little
        :param delay_ms: by how much words lag behind the audio anyway
        :param topic: its name; the format is on `<topic>_info`
        """
        self._node, self._put, self._warn, self._quiet = node, put, warn, quiet
        self._channel, self._assumed = channel, assumed
        self._lull_s = min(max(_LEAST_LULL_S, _LULL_SHARE * delay_ms / 1000), _MOST_LULL_S)
        self._name = topic
        self._topic = node.resolve_topic_name(topic)
        self._info_topic = node.resolve_topic_name(f'{topic}_info')
        self._reliability = f'{QOS_OVERRIDES}{self._topic}.subscription.reliability'
        self.hint = f'is it published? ros2 topic hz {self._topic}'
        self._messages = _known_messages()
        if not self._messages:
            raise AudioError(
                f'audio is to come from the topic {topic}, but no audio_common_msgs is sourced: '
                'install ros-$ROS_DISTRO-audio-common-msgs, or '
                + ('set source to microphone' if topic == 'audio' else 'set echo.reference'))
        self._lock = threading.Lock()  # guards what a message is decoded with, down to _held
        self._stamped = False
        self._info: Any = None
        self._origins: frozenset[bytes] = frozenset()  # publishers when the info came
        self._n_orphaned = 0  # looks in a row at which none of them was there
        self._format: PcmInfo | None = None
        self._wrong_block = ''
        self._held: deque[tuple[Any, int]] = deque(maxlen=1000)  # until their format is known
        self._decoded: list[Received] = []  # not handed out yet
        self._decoded_ns = 0  # their duration
        self._patience_s: float | None = None  # until when
        self._publishers: frozenset[bytes] = frozenset()
        self._wrong_type = self._wrong_qos = self._several = self._wrong_info = ''
        self._listener: Listener | None = None
        self._info_subscriptions: list[Any] = []
        self._subscribe(next(iter(self._messages)))
        for complaint in unknown(node, QOS_OVERRIDES):
            warn(complaint)
        self._timer: Any = None
        self.look()
        # Not on the node's clock: a simulated one may stand still.
        self._timer = node.create_timer(
            _DISCOVERY_S, self.look, clock=Clock(clock_type=ClockType.STEADY_TIME))

    @property
    def description(self) -> str:
        return f'topic {self._topic} ({self._kind})'

    @property
    def audio_format(self) -> str:
        return str(self._format or '')

    @property
    def assumed(self) -> bool:
        return isinstance(self._decoder, RosDriversDecoder) and self._info is None

    @property
    def trouble(self) -> str:
        return self._wrong_type or self._wrong_qos or self._wrong_block

    @property
    def warning(self) -> str:
        return self._several or self._wrong_info or self._decoder.downmix.trouble

    # ---- who publishes ----

    def look(self) -> None:
        """Follow the publishers."""
        publishers = self._node.get_publishers_info_by_topic(self._topic)
        kinds = [publisher.topic_type for publisher in publishers]
        known = [kind for kind in self._messages if kind in kinds]
        if known and self._kind not in known:
            self._subscribe(known[0])
            if self._timer is not None:  # else the node says so
                self._node.get_logger().info(f'listening to {self.description}')
        ours = [publisher for publisher in publishers if publisher.topic_type == self._kind]
        self._part(_identities(ours))
        self._match(ours)
        self._wrong_type = '' if known or not kinds else (
            f'the topic {self._topic} carries {kinds[0]}, which is no audio that is known, or its '
            f'package is not sourced; expected {" or ".join(self._messages)}')
        names = sorted(f'{publisher.node_namespace.rstrip("/")}/{publisher.node_name}'
                       for publisher in publishers)
        self._several = '' if len(names) < 2 else (
            f'{len(names)} publishers send to {self._topic}, and their audio is mixed up: '
            f'{", ".join(names)}; end all but one, or remap {self._name}')
        self._wrong_info = mismatch(self._node, self._info_topic, f'{_PACKAGE}AudioInfo') \
            if self._info_subscriptions else ''
        complaint = self._wrong_type or self._wrong_qos or self._several or self._wrong_info
        if complaint:
            self._warn(complaint)
        with self._lock:
            if self._patience_s is not None and time.monotonic() > self._patience_s:
                self._release()
                self._hand_out()
        self._hurry(not ours or bool(complaint))

    def _hurry(self, needed: bool) -> None:
        """Look more often than once a second, while something is missing."""
        if self._timer is not None and self._timer.is_canceled() == needed:
            self._timer.reset() if needed else self._timer.cancel()

    def _part(self, publishers: frozenset[bytes]) -> None:
        """Forget what was of publishers that are gone."""
        with self._lock:
            if self._publishers and not self._publishers & publishers:
                self._decoder = self._new_decoder()
                self._patience_s = None
            self._publishers = publishers or self._publishers
            if self._info is None:
                return
            there = publishers | self._info_publishers()
            # Who was gone before anybody looked has left it behind, too; but messages may come
            # before it is known who sends them.
            self._origins = self._origins or there
            self._n_orphaned = 0 if self._origins & there else self._n_orphaned + 1
            if self._n_orphaned >= 2:
                self._node.get_logger().debug(f'{self._name}_info has gone with its publisher')
                self._info = self._patience_s = None

    def _info_publishers(self) -> frozenset[bytes]:
        return _identities(self._node.get_publishers_info_by_topic(self._info_topic))

    def _match(self, publishers: list[Any]) -> None:
        """Ask for what the publishers offer, and say so when qos_overrides forbid it."""
        listener = self._listener
        self._wrong_qos = ''
        if listener is None or not publishers:
            return
        listener.tidy()
        reliability = offered_reliability(publishers)
        if reliability != listener.qos.reliability and not is_given(self._node, self._reliability):
            self._node.get_logger().debug(f'subscribing to {self._topic} {reliability.name}')
            listener.switch(_with(listener.qos, reliability))
        checks = [qos_check_compatible(publisher.qos_profile, listener.qos)
                  for publisher in publishers]
        if all(compatibility == QoSCompatibility.ERROR for compatibility, _ in checks):
            self._wrong_qos = (f'qos_overrides of {self._topic} do not suit its publisher: '
                               f'{checks[0][1]} correct or remove them')

    # ---- subscriptions ----

    def _subscribe(self, kind: str) -> None:
        self._unsubscribe()
        self._kind = kind
        self._decoder = self._new_decoder()
        self._held.clear()
        self._listener = Listener(
            self._node, self._messages[kind], self._name, self._on_audio,
            QoSProfile(**_AUDIO_QOS, reliability=ReliabilityPolicy.BEST_EFFORT), self._pause_s,
            self._all_taken, qos_overriding_options=QoSOverridingOptions.with_default_policies())
        if isinstance(self._decoder, RosDriversDecoder):
            from audio_common_msgs.msg import AudioInfo
            self._info_subscriptions = subscribe_to_any(
                self._node, AudioInfo, f'{self._name}_info', self._on_info, depth=1)

    def _new_decoder(self) -> RosDriversDecoder | Mgonzs13Decoder:
        if self._kind == f'{_PACKAGE}AudioStamped':
            return Mgonzs13Decoder(self._channel)
        return RosDriversDecoder(self._channel, self._assumed)

    def _pause_s(self) -> float:
        # Without stamps, the time of arrival counts. A queue that was made shallow must not spill.
        if self._listener is None or not self._stamped or not self._quiet():
            return 0.0
        return min(self._lull_s, self._listener.qos.depth * _LEAST_BLOCK_S)

    def _unsubscribe(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()
        for subscription in self._info_subscriptions:
            self._node.destroy_subscription(subscription)
        self._info_subscriptions = []

    def close(self) -> None:
        """End the subscriptions."""
        self._node.destroy_timer(self._timer)
        self._unsubscribe()

    # ---- messages ----

    def _on_info(self, info: Any) -> None:
        origins = self._publishers | self._info_publishers()
        with self._lock:
            self._info, self._origins = info, origins
            self._release()
            self._hand_out()

    def _on_audio(self, message: Any) -> None:
        received_ns = self._node.get_clock().now().nanoseconds
        with self._lock:
            if self._waits_for_info():
                self._held.append((message, received_ns))
            else:
                self._release()
                self._decode(message, received_ns)

    def _all_taken(self) -> None:
        with self._lock:
            self._hand_out()

    def _hand_out(self) -> None:
        """Give away what was decoded, together: each time wakes the recogniser."""
        if self._decoded:
            blocks, self._decoded, self._decoded_ns = self._decoded, [], 0
            self._put(blocks)

    def _waits_for_info(self) -> bool:
        """
        Return whether somebody will tell the format, but has not yet.

        Where audio_info is not latched, it comes again after seconds: until then audio is kept,
        instead of being misread.
        """
        if self._info is not None or not isinstance(self._decoder, RosDriversDecoder):
            return False
        now_s = time.monotonic()
        if self._patience_s is None:
            self._patience_s = now_s + _INFO_S
        return now_s < self._patience_s and self._node.count_publishers(self._info_topic) > 0

    def _release(self) -> None:
        """Decode what was kept."""
        while self._held:
            self._decode(*self._held.popleft())

    def _decode(self, message: Any, received_ns: int) -> None:
        try:
            block = self._decoder(message, self._info)
        except AudioError as error:
            self._wrong_block = str(error)
            self._warn(self._wrong_block)
            return
        self._wrong_block = ''
        if self._format != self._decoder.format:
            self._format = self._decoder.format
            self._node.get_logger().info(
                f'{self._name} is {self._format}'
                + (f' (assumed: no {self._name}_info)' if self.assumed else ''))
        if len(block.samples):
            self._stamped = block.stamp_ns is not None
            self._decoded.append((block, received_ns))
            self._decoded_ns += block.duration_ns
            if self._decoded_ns >= _TOGETHER_NS:
                self._hand_out()


def _known_messages() -> dict[str, Any]:
    """Return message type -> class of what is installed, likeliest first."""
    try:
        from audio_common_msgs import msg
    except ImportError:
        return {}
    # The two packages of that name cannot be distinguished by AudioData, which both have.
    names = ['AudioStamped'] if hasattr(msg, 'AudioStamped') else ['AudioDataStamped', 'AudioData']
    return {f'{_PACKAGE}{name}': getattr(msg, name) for name in names}


def _identities(publishers: list[Any]) -> frozenset[bytes]:
    return frozenset(bytes(publisher.endpoint_gid) for publisher in publishers)


def _with(profile: QoSProfile, reliability: ReliabilityPolicy) -> QoSProfile:
    """Return a profile with another reliability."""
    changed = copy(profile)
    changed.reliability = reliability
    return changed
