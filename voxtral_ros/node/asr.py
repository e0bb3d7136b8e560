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
The node `asr`: a lifecycle around an audio source, the recogniser's worker and the topics.

configure loads and warms up the model, activate opens the source and starts the worker,
deactivate stops the intake and finishes the open utterance, cleanup frees the memory. One thread
takes the audio and only copies it; one worker thread runs the engine and publishes; the executor
does the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
import time
import traceback
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, State, TransitionCallbackReturn
from rclpy.parameter import Parameter
from std_msgs.msg import Bool
from std_srvs.srv import SetBool, Trigger

from voxtral_ros.audio.arrays import parse_channel
from voxtral_ros.audio.level import LevelMeter
from voxtral_ros.node import parameters
from voxtral_ros.node.capture import Capture
from voxtral_ros.node.clock import ClockWatch
from voxtral_ros.node.diagnostics import Diagnostics, Heartbeat, PERIOD_S
from voxtral_ros.node.ducking import Ducking
from voxtral_ros.node.echo import Echo
from voxtral_ros.node.health import Health
from voxtral_ros.node.listen import ListenServer
from voxtral_ros.node.loading import load_engine
from voxtral_ros.node.logs import RosHandler, Throttle
from voxtral_ros.node.outputs import Outputs
from voxtral_ros.node.phrases import Phrases
from voxtral_ros.node.qos import subscribe_to_any
from voxtral_ros.node.robot_voice import RobotVoice
from voxtral_ros.node.sources import FileSource, MicrophoneSource, Received, Source
from voxtral_ros.node.stamps import Origin
from voxtral_ros.node.supervisor import Supervisor
from voxtral_ros.node.topic_source import TopicSource
from voxtral_ros.node.transitions import (
    answer_get_state, Broken, log_and_roll_back, state_of, survive_wrong_transitions)
from voxtral_ros.node.wake import Wake
from voxtral_ros.node.worker import Worker
from voxtral_ros.recognizer.events import Event
from voxtral_ros.recognizer.interface import SpeechEngine
from voxtral_ros.recognizer.phrases import PhraseError, PhraseList
from voxtral_ros.resources import demo_model

_HANGS = 'the recogniser hangs'
_HUNG: list[SpeechEngine] = []  # engines that their threads never left


class AsrNode(LifecycleNode):
    """Speech recognition: see the module."""

    def __init__(self, **options: Any) -> None:
        """Declare parameters and services; nothing is loaded yet."""
        super().__init__('asr', **options)
        self.loading = False  # nothing is lost when the process ends now
        self.retrying = False  # what failed before and fails again is not worth another error
        self._log_handler = RosHandler(self)
        self._throttle = Throttle()
        self._refused = parameters.declare(self)
        for complaint in parameters.unknown(self):
            self.get_logger().warn(complaint)
        self.add_on_set_parameters_callback(self._on_set_parameters)
        self._engine: SpeechEngine | None = None
        self._engine_in_use = False  # by a thread that hangs: it must not be freed
        self.hung = ''  # why only a new process helps
        self._model = ''
        self.worker: Worker | None = None
        self._source: Source | None = None
        self._outputs: Outputs | None = None
        self._n_utterances = 0  # of this process: ids are never used again
        self.listening = True
        self._failure = ''
        self.transition_began_s = 0.0
        self._meter = LevelMeter()
        self._clock_watch = ClockWatch()
        self.robot = RobotVoice()
        self._ducking = Ducking(self)
        self._echo = Echo(self)
        self.phrases = Phrases(self, self._expect)
        self.wake = Wake(self)
        self.capture = Capture(self)
        self._supervisor = Supervisor(self)
        self._diagnostics = Diagnostics(self)
        self.listen = ListenServer(self)
        self.create_service(SetBool, '~/set_listening', self._set_listening)
        self.create_service(Trigger, '~/flush', self._on_flush)
        self.create_service(Trigger, '~/reset', self._on_reset)
        subscribe_to_any(self, Bool, 'robot_speaking', self._on_robot_speaking, depth=10)
        # Not on the node's clock: a simulated one may stand still.
        self.create_timer(PERIOD_S, self._every_second,
                          clock=Clock(clock_type=ClockType.STEADY_TIME))
        survive_wrong_transitions(self, self._supervisor.taken_over)
        self._responder = answer_get_state(self)
        self._heartbeat = Heartbeat(
            self, lambda: self._diagnostics.publish(self._health()))

    def start(self) -> None:
        """Configure and activate, now or when the source is there."""
        self._supervisor.start()

    @property
    def model(self) -> str:
        return self._model

    @property
    def autostart(self) -> bool:
        return bool(self._value('autostart'))

    @property
    def configured(self) -> bool:
        return self._engine is not None

    def _value(self, name: str) -> Any:
        return self.get_parameter(name).value

    def set_parameters_atomically(self, parameter_list: list[Parameter]) -> SetParametersResult:
        """Set parameters as every node does, in the types that are meant."""
        try:
            parameter_list = parameters.parsed(parameter_list)
        except ValueError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return super().set_parameters_atomically(parameter_list)

    def _on_set_parameters(self, changes: list[Parameter]) -> SetParametersResult:
        result = parameters.check(self, changes, configured=self._engine is not None,
                                  active=self.worker is not None)
        if result.successful:
            try:
                self.phrases.change(changes, configured=self.configured)
                self.wake.change(changes, configured=self.configured)
            except PhraseError as error:
                return SetParametersResult(successful=False, reason=str(error))
            for parameter in changes:
                self._refused.pop(parameter.name, None)
            self.retune(changes)
            self.capture.change(changes)
        return result

    def _expect(self, phrases: PhraseList) -> None:
        if self.worker is not None:
            self.worker.set_phrases(phrases)

    def retune(self, changes: Sequence[Parameter] = ()) -> None:
        """Have the stream do as the parameters, with changes to come, and a goal want it."""
        if self.worker is not None:
            self.worker.tune(self.listen.tuned(parameters.stream_options(self, changes)))

    # ---- transitions ----

    @log_and_roll_back
    def on_configure(self, state: State) -> TransitionCallbackReturn:
        """
        Load and warm up the model.

        SUCCESS: inactive. FAILURE: unconfigured, the reason is in the log; it may be tried again.
        """
        self.loading = True
        try:
            parameters.refuse_wrong_values(self._refused)
            self.phrases.read()
            self.wake.read()
            self._model = self._value('engine.url').strip() or self._value('model') \
                or str(demo_model())
            self._engine, self._model = load_engine(self._value)
            self._outputs = Outputs(self, self.robot, self.capture.keep)
        finally:
            self.loading = False
        self.get_logger().info(f'loaded {self._model}')
        return TransitionCallbackReturn.SUCCESS

    @log_and_roll_back
    def on_activate(self, state: State) -> TransitionCallbackReturn:
        """
        Open the source and start the worker.

        SUCCESS: active. FAILURE: the source cannot be opened; back to inactive.
        """
        assert self._engine is not None and self._outputs is not None
        self._meter = LevelMeter()
        self._outputs.use(self.wake.begin(self._value('delay_ms')), self._value('max_gap_s'))
        self.worker = Worker(
            self._engine, self._value('delay_ms'), parameters.stream_options(self),
            self._publish, queue_s=self._value('audio_queue_s'),
            max_gap_s=self._value('max_gap_s'), n_utterances=self._n_utterances,
            phrases=self.phrases.expected, canceller=self._echo.begin(),
            on_audio=self.capture.feed)
        self._engine.on_update = self.worker.wake  # what a server writes comes without audio
        self.capture.begin()
        self._echo.listen_to_robot(self.worker)
        self._source = self._open_source(self.worker)
        for note in parameters.unused(self):
            self.get_logger().info(note)
        super().on_activate(state)
        self._outputs.begin()
        self.get_logger().info(f'listening to {self._source.description}')
        return TransitionCallbackReturn.SUCCESS

    @log_and_roll_back
    def on_deactivate(self, state: State) -> TransitionCallbackReturn:
        """
        Stop the intake and finish the open utterance.

        SUCCESS: inactive. ERROR: the engine is broken and was freed; unconfigured.
        """
        broken = self._close()
        if broken:
            raise Broken(broken)
        if self._outputs is not None:
            self._outputs.end()
        self.get_logger().info('not listening any more')
        return super().on_deactivate(state)

    @log_and_roll_back
    def on_cleanup(self, state: State) -> TransitionCallbackReturn:
        """Free the model; SUCCESS: unconfigured."""
        model = self._model
        self._free()
        self.get_logger().info(f'freed {model}')
        return TransitionCallbackReturn.SUCCESS

    @log_and_roll_back
    def on_shutdown(self, state: State) -> TransitionCallbackReturn:
        """Finish and free from any state; SUCCESS: finalized."""
        self._close()
        self._free()
        self.get_logger().info('shut down')
        return TransitionCallbackReturn.SUCCESS

    def on_error(self, state: State) -> TransitionCallbackReturn:
        """Free everything; SUCCESS: unconfigured, so that configure may be tried again."""
        self._close()
        self._free()
        return TransitionCallbackReturn.SUCCESS

    def _open_source(self, worker: Worker) -> Source:
        kind, channel = self._value('source'), parse_channel(self._value('channel'))
        frame_id = self._value('frame_id')
        if kind == 'microphone':
            return MicrophoneSource(self, self._put, self.warn, self._value('microphone'),
                                    channel, frame_id)
        if kind == 'file':
            return FileSource(self, self._put, self.warn, self._value('file'), channel, frame_id,
                              self._value('file_realtime'), lambda: worker.waiting_s,
                              worker.flush)
        self._clock_watch.forget_stamps()
        return TopicSource(
            self, self._put_from_topic, self.warn, channel, parameters.assumed_format(self),
            lambda: worker.quiet and self.robot.silent(self.get_clock().now().nanoseconds),
            self._value('delay_ms'))

    def finish(self) -> None:
        """Publish the open utterance and end all threads; for the end of the process."""
        self._close(patience_s=0.5)

    def destroy_node(self) -> None:
        """End the threads that look after the node, and the node."""
        self._heartbeat.close()
        if self._responder is not None:
            self._responder.close()
        self.listen.destroy()
        super().destroy_node()
        self._log_handler.close()

    def let_go(self) -> None:
        """Close the source and the publishers, but wait for no thread that hangs."""
        self.listen.abort(self.hung)
        source, self._source = self._source, None
        self._echo.close()
        if source is not None:
            source.close()
        self.capture.end()
        if self._outputs is not None:
            self._outputs.destroy()
            self._outputs = None

    def _close(self, patience_s: float = 10.0) -> str:
        """
        Stop the intake, finish the open utterance and end the threads.

        Returns why the engine is of no more use, '' when it is.
        """
        source, self._source = self._source, None
        worker, self.worker = self.worker, None
        self.listen.abort((worker and worker.broken) or 'the node is not active any more')
        self._echo.close()
        if source is not None:
            try:
                source.close()
            except Exception:
                self.get_logger().error(f'closing the source:\n{traceback.format_exc()}')
        if worker is None:
            return ''
        ended = worker.stop(patience_s)
        self.capture.end()
        self._n_utterances = worker.n_utterances
        if not ended:
            self._engine_in_use = True
            return f'{_HANGS}: end the process and start it again'
        return worker.broken and \
            f'{worker.broken}; the model was freed: configure and activate again'

    def _free(self) -> None:
        """Let go of the model and the publishers."""
        if self._outputs is not None:
            self._outputs.destroy()
            self._outputs = None
        engine, self._engine = self._engine, None
        self._model = ''
        if engine is None:
            return
        if self._engine_in_use:
            self._engine_in_use = False
            _HUNG.append(engine)  # freeing it would crash its thread, or wait for the GPU
        else:
            engine.close()  # gigabytes: now, not some day

    # ---- audio in ----

    def _put(self, blocks: list[Received]) -> None:
        for block, _ in blocks:
            self._meter.add(block)
        worker = self.worker
        if worker is not None and self.listening:
            mode = self._value('robot_speaking_mode')
            worker.put_all([(self.robot.treat(block, received_ns, mode), received_ns)
                            for block, received_ns in blocks])

    def _put_from_topic(self, blocks: list[Received]) -> None:
        for block, received_ns in blocks:
            if block.stamp_ns is not None:
                self._clock_watch.compare(block.stamp_ns + block.duration_ns, received_ns)
        self._put(blocks)

    def warn(self, message: str) -> None:
        """Log a warning, but not over and over again."""
        if self._throttle(message):
            self.get_logger().warn(message)

    def _on_robot_speaking(self, message: Bool) -> None:
        if message.data != self.robot.speaks:
            self.get_logger().debug(f'robot_speaking is {message.data}')
        now_ns = self.get_clock().now().nanoseconds
        if self.robot.speaks and not message.data:
            self._ducking.robot_stopped(now_ns)
        self.robot.update(message.data, now_ns, self._value('robot_speaking_tail_s'))

    def _publish(self, events: list[Event], origin: Origin) -> None:
        events = self._ducking.take(events, origin)
        try:
            if self._outputs is not None:
                self._outputs.publish(events, origin)
        finally:
            self.listen.publish(events, origin)

    # ---- services ----

    def _set_listening(self, request: Any, response: Any) -> Any:
        self.listening = request.data
        if not request.data and self.worker is not None:
            self.worker.flush()
        response.success = True
        response.message = 'listening' if request.data else 'muted'
        self.get_logger().info(f'{response.message}, as ~/set_listening asks')
        return response

    def _on_flush(self, request: Any, response: Any) -> Any:
        self.get_logger().debug('flush')
        return self._with_worker(response, lambda worker: worker.flush())

    def _on_reset(self, request: Any, response: Any) -> Any:
        self.get_logger().debug('reset')
        return self._with_worker(response, lambda worker: worker.reset())

    def _with_worker(self, response: Any, action: Callable[[Worker], None]) -> Any:
        response.success = self.worker is not None
        response.message = '' if self.worker else 'the node is not active'
        if self.worker is not None:
            action(self.worker)
        return response

    # ---- once a second ----

    def _every_second(self) -> None:
        if self._outputs is not None and self.worker is not None:
            self._outputs.repeat()
        self._supervisor.every_second()
        self.wake.every_second()
        if self._source is not None:
            self._source.look()
        self._echo.look()

    def hangs(self) -> bool:
        """
        Return whether a step has not returned for too long; then end what can be ended.

        A thread that hangs in a kernel or a driver cannot be ended, and a GPU cannot be used
        beside it. So a node that started itself asks for a new process (see process.py).
        """
        limit_s, worker = 2 * self._value('watchdog.step_s'), self.worker
        if worker is None or not limit_s or worker.stuck_s() < limit_s or not self.autostart:
            return False
        if not self.hung:
            self.hung = f'{_HANGS}: a step has not returned for {limit_s:g} s'
            self.get_logger().error(f'{self.hung}; what was recognised is published')
            worker.give_up()
        return True

    def _health(self) -> Health:
        worker, source, outputs = self.worker, self._source, self._outputs
        now_s, watch, again_s = time.monotonic(), self._clock_watch, self._supervisor.again_s
        watch.tick(now_s, self.get_clock().now().nanoseconds, self._value('use_sim_time'))
        failure = self._failure
        if failure and again_s is not None:
            failure += f'; starting again in {again_s:.0f} s'
        common = Health(
            time_s=watch.elapsed_s, state=state_of(self),
            loading_s=now_s - self.transition_began_s, failure=failure, model=self._model,
            phrases=len(self.phrases.expected), wake_phrases=self.wake.phrases,
            awake=self.wake.gate.awake, listening=self.listening,
            robot_speaking_s=self.robot.speaking_s())
        engine = self._engine
        if engine is None or worker is None or source is None or outputs is None \
                or common.state != 'active':
            return common
        level_dbfs, peak_dbfs = self._meter.take()
        return replace(
            common, source=source.description, hint=source.hint, trouble=source.trouble,
            warning=source.warning or self._supervisor.warning,
            audio_format=source.audio_format, assumed=source.assumed,
            suspicion=self._meter.suspicion, no_clock=watch.failure, clock=watch.warning,
            live=source.live, timeout_s=self._value('audio_timeout_s'),
            level_dbfs=level_dbfs, peak_dbfs=peak_dbfs, received_s=self._meter.received_s,
            overflows=source.overflows, waiting_s=worker.waiting_s,
            queue_s=self._value('audio_queue_s'), stats=worker.stats,
            utterances=worker.n_utterances, latencies_s=tuple(outputs.latencies_s),
            stuck_s=worker.stuck_s(), stuck_after_s=self._value('watchdog.step_s'),
            restarts=self.autostart, backend=engine.description, capture=self.capture.status,
            link=engine.link, engine=engine.stats, echo=self._echo.health)
