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

"""Transcripts for REP-155 (ROS4HRI), where its package hri_msgs is installed."""

from __future__ import annotations

from functools import partial
from typing import Any

from builtin_interfaces.msg import Time
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import Bool

from voxtral_ros.msg import Transcript
from voxtral_ros.node.qos import no_events

_LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class Voice:
    """
    One voice under /humans/voices: what it says, whether it speaks, and that it is there.

    Source: REP-155, section Voices (https://www.ros.org/reps/rep-0155.html).
    """

    def __init__(self, node: LifecycleNode, voice_id: str) -> None:
        """Create the publishers; raise ImportError where there is no hri_msgs."""
        from hri_msgs.msg import IdsList, LiveSpeech
        self._node, self._id = node, voice_id
        self._ids_list, self._live_speech = IdsList, LiveSpeech
        create = partial(node.create_lifecycle_publisher, event_callbacks=no_events())
        root = f'/humans/voices/{voice_id}'
        self._tracked = create(IdsList, '/humans/voices/tracked', _LATCHED)
        self._speech = create(LiveSpeech, f'{root}/speech', 50)
        self._is_speaking = create(Bool, f'{root}/is_speaking', _LATCHED)
        self.publishers: list[Any] = [self._tracked, self._speech, self._is_speaking]

    def track(self, there: bool) -> None:
        """Publish that the voice is there, or that it is not any more."""
        message = self._ids_list(ids=[self._id] if there else [])
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._tracked.publish(message)

    def speaking(self, active: bool) -> None:
        """Publish that somebody has started or stopped speaking."""
        self._is_speaking.publish(Bool(data=active))

    def publish(self, transcript: Transcript) -> None:
        """Publish a partial or final transcript; its language is not known and stays empty."""
        message = self._live_speech(incremental=transcript.text)
        if transcript.is_final:
            message.final = transcript.text
        message.confidence = transcript.confidence
        message.header.stamp = Time(
            sec=transcript.header.stamp.sec, nanosec=transcript.header.stamp.nanosec)
        message.header.frame_id = transcript.header.frame_id
        self._speech.publish(message)


def open_voice(node: LifecycleNode, voice_id: str) -> Voice | None:
    """Return the voice, or None when none is wanted or hri_msgs is not installed."""
    if not voice_id:
        return None
    try:
        return Voice(node, voice_id)
    except ImportError:
        return None
