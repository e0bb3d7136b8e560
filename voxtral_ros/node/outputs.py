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

"""What the recogniser emits, as messages; called from the worker's thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
import time
from typing import Any

from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import Bool, String

from voxtral_ros.msg import Transcript as TranscriptMessage
from voxtral_ros.msg import Turn as TurnMessage
from voxtral_ros.node.hri import open_voice
from voxtral_ros.node.qos import no_events
from voxtral_ros.node.robot_voice import RobotVoice
from voxtral_ros.node.stamps import Origin
from voxtral_ros.node.wake import StreamTime
from voxtral_ros.node.words import time_message, word_messages, WordMessages
from voxtral_ros.recognizer.events import Event, SpeechActivity, Transcript, Turn
from voxtral_ros.recognizer.wake_gate import Awake, Gated, WakeGate

_LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
_LATENCIES = 200  # of the last partial and final transcripts
_ARRIVAL_S = 0.5  # a subscriber that has not confirmed by then is gone

OnFinal = Callable[[Gated, Origin, TranscriptMessage], None]


class Outputs:
    """The publishers of a configured node; they publish while it is active."""

    def __init__(self, node: LifecycleNode, robot: RobotVoice,
                 on_final: OnFinal = lambda *_: None) -> None:
        """
        Create the publishers.

        :param on_final: called with each final transcript when it was published
        """
        create = partial(node.create_lifecycle_publisher, event_callbacks=no_events())
        self.latencies_s: deque[float] = deque(maxlen=_LATENCIES)
        self._node, self._robot, self._on_final = node, robot, on_final
        self._partial = create(TranscriptMessage, 'transcript/partial', 50)
        self._final = create(TranscriptMessage, 'transcript/final', 50)
        self._text = create(String, 'transcript/text', 50)
        self._turn = create(TurnMessage, 'turn', 50)
        self._speech_active = create(Bool, '~/speech_active', _LATCHED)
        self._awake = create(Bool, '~/awake', _LATCHED)
        self._voice = open_voice(node, self._value('hri_voice'))
        self._last_partial_ns = 0
        self._published = 0  # characters of the open utterance
        self._words = WordMessages()
        self.use(WakeGate())

    def _value(self, name: str) -> Any:
        return self._node.get_parameter(name).value

    def use(self, gate: WakeGate, max_gap_s: float = 0.0) -> None:
        """
        Publish what comes through a gate, of a stream that begins.

        :param max_gap_s: gaps in the audio up to here are in its time
        """
        self._gate, self._time_s = gate, StreamTime(max_gap_s)

    def begin(self) -> None:
        """Publish that the node listens."""
        self._speech_active.publish(Bool(data=False))
        self._awake.publish(Bool(data=self._gate.awake))
        if self._voice:
            self._voice.track(True)
            self._voice.speaking(False)

    def repeat(self) -> None:
        """Publish again who is there, for those that came later."""
        if self._voice:
            self._voice.track(True)

    def end(self) -> None:
        """Publish that the node does not listen any more."""
        self._awake.publish(Bool(data=False))
        if self._voice:
            self._voice.track(False)

    def destroy(self) -> None:
        """Take the publishers away, when what they published last has arrived."""
        publishers = [self._final, self._text, self._turn,
                      *(self._voice.publishers if self._voice else []), self._partial,
                      self._speech_active, self._awake]
        end = time.monotonic() + _ARRIVAL_S
        for publisher in publishers:
            with suppress(Exception):  # a middleware that does not know
                left_s = max(0.0, end - time.monotonic())
                publisher.wait_for_all_acked(Duration(seconds=left_s))
        for publisher in publishers:
            self._node.destroy_lifecycle_publisher(publisher)

    def publish(self, events: list[Event], origin: Origin) -> None:
        """
        Publish what is new and comes through the gate.

        Partial transcripts that are out of date already are left out. Without events, time has
        passed.
        """
        if not events and not self._gate.needs_time:
            return
        for item in self._gate.take(
                latest(events), self._time_s(origin.processed_s),
                robot_speaks=not self._robot.silent(self._now_ns()),
                robot=lambda start_s, end_s: self._robot.doubtful(
                    origin.stamp_ns(start_s), origin.stamp_ns(end_s))):
            event = item.event
            if isinstance(event, Awake):
                self._awake.publish(Bool(data=event.awake))
                self._node.get_logger().info('awake' if event.awake else 'asleep')
            elif isinstance(event, SpeechActivity):
                self._speech_active.publish(Bool(data=event.active))
                if self._voice:
                    self._voice.speaking(event.active)
            elif isinstance(event, Turn):
                self._turn.publish(self._turn_message(event, origin, item.awake))
            else:
                self._publish_transcript(event, origin, item)

    def _now_ns(self) -> int:
        return int(self._node.get_clock().now().nanoseconds)

    def _publish_transcript(self, transcript: Transcript, origin: Origin, item: Gated) -> None:
        now_ns = self._now_ns()
        if not transcript.is_final:
            rate = self._value('partial_rate_hz')
            if rate and 0 <= now_ns - self._last_partial_ns < 1e9 / rate:
                return
            self._last_partial_ns = now_ns
        # The text only grows: so the deltas add up to it, whatever was left out.
        transcript = replace(transcript, delta=transcript.text[self._published:])
        self._published = 0 if transcript.is_final else len(transcript.text)
        message = self._message(transcript, origin, now_ns, item.awake)
        (self._final if transcript.is_final else self._partial).publish(message)
        if transcript.delta.strip():
            self.latencies_s.append(message.latency)
        if self._voice and item.awake:
            self._voice.publish(message)
        if transcript.is_final:
            # What has no confidence, as of some servers, is not less than the limit.
            unsure = message.confidence < self._value('text.min_confidence')
            if item.command and not unsure and not self._robot.doubtful(
                    origin.stamp_ns(transcript.start_s), origin.stamp_ns(transcript.end_s)):
                self._text.publish(String(data=item.command))
            if self._value('log_transcripts'):
                why = f', not on transcript/text: confidence {message.confidence:.2f}' \
                    if unsure else ''
                self._node.get_logger().info(
                    f'"{transcript.text}" ({message.latency:.2f} s{why})')
            self._on_final(item, origin, message)

    def _message(self, transcript: Transcript, origin: Origin, now_ns: int,
                 awake: bool) -> TranscriptMessage:
        start_ns, end_ns = origin.stamp_ns(transcript.start_s), origin.stamp_ns(transcript.end_s)
        message = TranscriptMessage(
            utterance_id=transcript.utterance_id, revision=transcript.revision,
            is_final=transcript.is_final, text=transcript.text, delta=transcript.delta,
            end=time_message(end_ns), latency=(now_ns - end_ns) / 1e9,
            confidence=float(transcript.confidence),
            words=self._words(transcript.words, origin),
            robot_speaking=self._robot.marked(start_ns, end_ns), awake=awake)
        message.header.stamp = time_message(start_ns)
        message.header.frame_id = origin.frame_id or self._value('frame_id')
        return message

    def _turn_message(self, turn: Turn, origin: Origin, awake: bool) -> TurnMessage:
        now_ns = self._now_ns()
        start_ns, end_ns = origin.stamp_ns(turn.start_s), origin.stamp_ns(turn.end_s)
        message = TurnMessage(
            kind=int(turn.kind), utterance_id=turn.utterance_id, text=turn.text,
            words=word_messages(turn.words, origin), end=time_message(end_ns),
            latency=(now_ns - end_ns) / 1e9, awake=awake,
            robot_speaking=self._robot.marked(start_ns, end_ns))
        message.header.stamp = time_message(start_ns)
        message.header.frame_id = origin.frame_id or self._value('frame_id')
        return message


def latest(events: list[Event]) -> list[Event]:
    """Return the events without partial transcripts that a later one of them overtakes."""
    kept: list[Event] = []
    for event in events:
        last = kept[-1] if kept else None
        if isinstance(event, Transcript) and isinstance(last, Transcript) \
                and last.utterance_id == event.utterance_id:
            kept[-1] = event
        else:
            kept.append(event)
    return kept
