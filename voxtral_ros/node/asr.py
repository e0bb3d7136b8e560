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
The node `asr`: a lifecycle around a sound source, the recogniser's worker and the topics.

configure loads and warms up the model, activate opens the source and starts the worker,
deactivate stops the intake and finishes the open utterance, cleanup frees the memory. One executor
thread runs the callbacks, which only copy; one worker thread runs the engine and publishes.
"""

from __future__ import annotations

from collections.abc import Callable
import functools
import signal
import threading
import traceback
from typing import Any

from builtin_interfaces.msg import Time
from lifecycle_msgs.msg import State as PrimaryState
import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, State, TransitionCallbackReturn
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.signals import SignalHandlerOptions
from std_msgs.msg import Bool, String
from std_srvs.srv import SetBool, Trigger

from voxtral_ros.audio.block import AudioBlock
from voxtral_ros.msg import Transcript as TranscriptMessage
from voxtral_ros.msg import Word as WordMessage
from voxtral_ros.node import parameters
from voxtral_ros.node.sources import FileSource, MicrophoneSource, Source, TopicSource
from voxtral_ros.node.worker import latest, Origin, Worker
from voxtral_ros.recognizer.events import Event, SpeechActivity, Transcript
from voxtral_ros.resources import demo_model

_LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
_Transition = Callable[['AsrNode', State], TransitionCallbackReturn]


def _told(transition: _Transition) -> _Transition:
    """Log what goes wrong in a transition, of which rclpy says nothing, and undo it."""
    @functools.wraps(transition)
    def wrapped(self: AsrNode, state: State) -> TransitionCallbackReturn:
        try:
            return transition(self, state)
        except (ValueError, OSError) as error:  # what we say ourselves needs no traceback
            self.get_logger().error(f'{transition.__name__} failed: {error}')
        except Exception:
            self.get_logger().error(
                f'{transition.__name__} failed:\n{traceback.format_exc()}')
        self._close()
        if state.state_id == PrimaryState.PRIMARY_STATE_UNCONFIGURED:
            self._free()
        return TransitionCallbackReturn.FAILURE
    return wrapped


def _time(stamp_ns: int) -> Time:
    seconds, nanoseconds = divmod(max(0, stamp_ns), 1_000_000_000)
    return Time(sec=int(seconds), nanosec=int(nanoseconds))


class AsrNode(LifecycleNode):
    """Speech recognition: see the module."""

    def __init__(self, **options: Any) -> None:
        """Declare parameters and services; nothing is loaded yet."""
        super().__init__('asr', **options)
        parameters.declare(self)
        self.add_on_set_parameters_callback(
            lambda changes: parameters.check(changes, self._engine is not None))
        self._engine: Any = None
        self._worker: Worker | None = None
        self._source: Source | None = None
        self._publishers_: dict[str, Any] = {}
        self._n_utterances = 0  # of this process: ids are never used again
        self._listening = True
        self._muted_until_ns = 0
        self._robot_speaks = False
        self._last_partial_ns = 0
        self.create_service(SetBool, '~/set_listening', self._set_listening)
        self.create_service(Trigger, '~/flush', self._on_flush)
        self.create_service(Trigger, '~/reset', self._on_reset)
        self.create_subscription(Bool, 'robot_speaking', self._on_robot_speaking, 10)
        self._survive_wrong_transitions()

    def _survive_wrong_transitions(self) -> None:
        """
        Answer a transition that the state does not allow instead of dying of it.

        Before Kilted, rclpy lets the exception out of the service callback (ros2/rclpy#1209).
        """
        service = getattr(self, '_service_change_state', None)
        if service is None:
            return
        change_state = service.callback

        def guarded(request: Any, response: Any) -> Any:
            try:
                return change_state(request, response)
            except RuntimeError as error:  # RCLError
                wanted = request.transition.label or request.transition.id
                self.get_logger().error(f'transition {wanted} refused: {error}')
                response.success = False
                return response

        service.callback = guarded

    def start(self) -> None:
        """Configure and activate; where that fails, the log says why and the node waits."""
        if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    def _value(self, name: str) -> Any:
        return self.get_parameter(name).value

    # ---- transitions ----

    @_told
    def on_configure(self, state: State) -> TransitionCallbackReturn:
        """
        Load and warm up the model.

        SUCCESS: inactive. FAILURE: unconfigured, the reason is in the log; it may be tried again.
        """
        from voxtral_ros.recognizer.engine import Engine
        parameters.refuse_wrong_choices(self)
        model = self._value('model') or str(demo_model())
        engine = Engine.load(model, self._value('device'), self._value('dtype') or None,
                             threads=self._value('threads'))
        stream = engine.open(self._value('delay_ms'))
        stream.feed(np.zeros(16000, np.float32))
        stream.poll()
        stream.abandon()
        self._engine = engine
        create = self.create_lifecycle_publisher
        self._publishers_ = {
            'partial': create(TranscriptMessage, 'transcript/partial', 50),
            'final': create(TranscriptMessage, 'transcript/final', 50),
            'text': create(String, 'transcript/text', 50),
            'speech_active': create(Bool, '~/speech_active', _LATCHED),
        }
        self.get_logger().info(f'loaded {model} on {engine.device}')
        return TransitionCallbackReturn.SUCCESS

    @_told
    def on_activate(self, state: State) -> TransitionCallbackReturn:
        """
        Open the source and start the worker.

        SUCCESS: active. FAILURE: the source cannot be opened; back to inactive.
        """
        self._worker = Worker(
            self._engine, self._value('delay_ms'), parameters.stream_options(self), self._tell,
            queue_s=self._value('audio_queue_s'), max_gap_s=self._value('max_gap_s'),
            n_utterances=self._n_utterances)
        self._source = self._open_source(self._worker)
        super().on_activate(state)
        self._publishers_['speech_active'].publish(Bool(data=False))
        self.get_logger().info(f'listening to {self._source.description}')
        return TransitionCallbackReturn.SUCCESS

    @_told
    def on_deactivate(self, state: State) -> TransitionCallbackReturn:
        """Stop the intake and finish the open utterance; SUCCESS: inactive."""
        self._close()
        return super().on_deactivate(state)

    @_told
    def on_cleanup(self, state: State) -> TransitionCallbackReturn:
        """Free the model; SUCCESS: unconfigured."""
        self._free()
        return TransitionCallbackReturn.SUCCESS

    @_told
    def on_shutdown(self, state: State) -> TransitionCallbackReturn:
        """Finish and free from any state; SUCCESS: finalized."""
        self._close()
        self._free()
        return TransitionCallbackReturn.SUCCESS

    def on_error(self, state: State) -> TransitionCallbackReturn:
        """Free everything; SUCCESS: unconfigured, so that configure may be tried again."""
        self._close()
        self._free()
        return TransitionCallbackReturn.SUCCESS

    def _open_source(self, worker: Worker) -> Source:
        kind, channel = self._value('source'), self._value('channel')
        frame_id = self._value('frame_id')
        if kind == 'microphone':
            return MicrophoneSource(self, self._put, self._warn, self._value('microphone'),
                                    channel, frame_id)
        if kind == 'file':
            return FileSource(self, self._put, self._warn, self._value('file'), channel, frame_id,
                              self._value('file_realtime'), lambda: worker.waiting_s,
                              worker.flush)
        return TopicSource(self, self._put, self._warn, channel)

    def finish(self) -> None:
        """Publish the open utterance and end all threads; for the end of the process."""
        self._close()

    def _close(self) -> None:
        """Stop the intake, finish the open utterance and end the threads."""
        if self._source is not None:
            self._source.close()
            self._source = None
        if self._worker is not None:
            self._worker.stop()
            self._n_utterances = self._worker.n_utterances
            self._worker = None

    def _free(self) -> None:
        """Let go of the model and the publishers."""
        for publisher in self._publishers_.values():
            self.destroy_lifecycle_publisher(publisher)
        self._publishers_ = {}
        self._engine = None

    # ---- sound in ----

    def _put(self, block: AudioBlock, received_ns: int) -> None:
        worker = self._worker
        if worker is None or not self._listening:
            return
        if self._value('robot_speaking_mode') == 'mute' and (
                self._robot_speaks or received_ns < self._muted_until_ns):
            # Silence instead of a hole: the stamps go on, and an open utterance ends by itself.
            block = AudioBlock(np.zeros_like(block.samples), block.rate_hz, block.stamp_ns,
                               block.frame_id)
        worker.put(block, received_ns)

    def _warn(self, message: str) -> None:
        self.get_logger().warn(message, throttle_duration_sec=5.0)

    def _on_robot_speaking(self, message: Bool) -> None:
        if self._robot_speaks and not message.data:
            tail_ns = round(self._value('robot_speaking_tail_s') * 1e9)
            self._muted_until_ns = self.get_clock().now().nanoseconds + tail_ns
        self._robot_speaks = message.data

    # ---- services ----

    def _set_listening(self, request: Any, response: Any) -> Any:
        self._listening = request.data
        if not request.data and self._worker is not None:
            self._worker.flush()
        response.success = True
        response.message = 'listening' if request.data else 'deaf'
        return response

    def _on_flush(self, request: Any, response: Any) -> Any:
        return self._with_worker(response, lambda worker: worker.flush())

    def _on_reset(self, request: Any, response: Any) -> Any:
        return self._with_worker(response, lambda worker: worker.reset())

    def _with_worker(self, response: Any, action: Callable[[Worker], None]) -> Any:
        response.success = self._worker is not None
        response.message = '' if self._worker else 'the node is not active'
        if self._worker is not None:
            action(self._worker)
        return response

    # ---- transcripts out, from the worker's thread ----

    def _tell(self, events: list[Event], origin: Origin) -> None:
        for event in latest(events):
            if isinstance(event, SpeechActivity):
                self._publishers_['speech_active'].publish(Bool(data=event.active))
            else:
                self._publish(event, origin)

    def _publish(self, transcript: Transcript, origin: Origin) -> None:
        now_ns = self.get_clock().now().nanoseconds
        if not transcript.is_final:
            rate = self._value('partial_rate_hz')
            if rate and now_ns - self._last_partial_ns < 1e9 / rate:
                return
            self._last_partial_ns = now_ns
        message = self._message(transcript, origin, now_ns)
        self._publishers_['final' if transcript.is_final else 'partial'].publish(message)
        if transcript.is_final:
            self._publishers_['text'].publish(String(data=transcript.text))
            if self._value('log_transcripts'):
                self.get_logger().info(f'"{transcript.text}" ({message.latency:.2f} s)')

    def _message(self, transcript: Transcript, origin: Origin, now_ns: int) -> TranscriptMessage:
        end_ns = origin.stamp_ns(transcript.end_s)
        message = TranscriptMessage(
            utterance_id=transcript.utterance_id, revision=transcript.revision,
            is_final=transcript.is_final, text=transcript.text, delta=transcript.delta,
            end=_time(end_ns), latency=(now_ns - end_ns) / 1e9,
            confidence=float(transcript.confidence),
            words=[WordMessage(text=word.text, end=_time(origin.stamp_ns(word.end_s)),
                               confidence=float(word.confidence)) for word in transcript.words])
        message.header.stamp = _time(origin.stamp_ns(transcript.start_s))
        message.header.frame_id = origin.frame_id or self._value('frame_id')
        return message


def main(args: list[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM; the open utterance is published first."""
    rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    node = AsrNode()
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        if node.get_parameter('autostart').value:
            node.start()
        while not stop.is_set():
            executor.spin_once(timeout_sec=0.2)
        node.finish()
    finally:
        # Launch repeats the SIGINT of a terminal; one that comes while Python ends would kill it.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        executor.shutdown()
        node.destroy_node()
        rclpy.shutdown()
    return 0
