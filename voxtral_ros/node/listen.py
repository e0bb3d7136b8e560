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
The action `~/listen`: one utterance for whoever asks, such as a behaviour tree.

The topics go on beside it. The newest goal counts: a client that was started anew, or that cancels
and asks again at once, is not turned away for what is left of an older goal.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
import math
from typing import Any, TYPE_CHECKING

from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.timer import Timer

from voxtral_ros.action import Listen
from voxtral_ros.msg import Word as WordMessage
from voxtral_ros.node.audio_queue import Progress
from voxtral_ros.node.outputs import latest
from voxtral_ros.node.stamps import Origin
from voxtral_ros.node.words import WordMessages
from voxtral_ros.recognizer.events import Event, Transcript
from voxtral_ros.recognizer.listen_goal import ListenGoal, Reason
from voxtral_ros.recognizer.options import StreamOptions
from voxtral_ros.recognizer.phrase_match import MIN_SIMILARITY, PhraseMatcher
from voxtral_ros.recognizer.phrases import NO_PHRASES, PhraseList

if TYPE_CHECKING:
    from voxtral_ros.node.asr import AsrNode

_RESULT_S = 60  # for which a result is kept; clients ask for it when their goal is accepted
_SETTLE_S = 0.5  # beyond the delay of the text
_LOOK_S = 0.2  # how often it is asked whether somebody has spoken after all
_PAUSES_S = (0.1, 10.0)  # as endpoint.silence_s
# Where one of the phrases was said, most likely: less finds the wrong one, more finds none.
_SIMILARITY_OF_THESE = 0.55


class _DeferringServer(ActionServer):
    """
    Executes a goal when its result is known.

    A coroutine that waited for that would be resumed without pause meanwhile (ros2/rclpy#1405),
    and a function would keep the executor from everything else.
    """

    def notify_execute(self, goal_handle: Any, execute_callback: Any) -> None:
        """Have the executor call back; do nothing yet if there is nothing to call."""
        if execute_callback is not None:
            super().notify_execute(goal_handle, execute_callback)


@dataclass
class _Running:
    """A goal that was accepted, until its result is sent."""

    handle: Any
    phrases: PhraseList
    goal: ListenGoal
    timers: list[Timer] = field(default_factory=list)
    messages: WordMessages = field(default_factory=WordMessages)
    # The utterance, as far as it is written.
    utterance: tuple[Transcript, list[WordMessage]] | None = None

    @property
    def request(self) -> Any:
        return self.handle.request


class ListenServer:
    """Serves the action; all but `publish` belongs to the executor of the node."""

    def __init__(self, node: AsrNode) -> None:
        self._node = node
        self._current: _Running | None = None
        self._n_unfinished = 0
        self._server = _DeferringServer(
            node, Listen, '~/listen', lambda handle: None, goal_callback=self._on_goal,
            handle_accepted_callback=self._on_accepted, cancel_callback=self._on_cancel,
            result_timeout=_RESULT_S)

    @property
    def active(self) -> bool:
        """Return whether somebody waits for an utterance now."""
        current = self._current
        return current is not None and current.goal.outcome is None

    @property
    def unfinished(self) -> bool:
        """Return whether there are results that have not been sent."""
        return self._n_unfinished > 0

    def tuned(self, options: StreamOptions) -> StreamOptions:
        """Return the options of a stream as the present goal wants them."""
        silence_s = self._current.request.end_silence_s if self._current else 0.0
        return replace(options, endpoint=replace(options.endpoint, silence_s=silence_s)) \
            if silence_s else options

    def publish(self, events: list[Event], origin: Origin) -> None:
        """Take what is recognised, from the thread of the worker."""
        current = self._current
        if current is None:
            return
        for event in latest(events):
            if not (isinstance(event, Transcript) and self._is_of_robot(event, origin)) \
                    and (transcript := current.goal.take(event, origin.stamp_ns)):
                self._take(current, transcript, origin)

    def abort(self, message: str) -> None:
        """End the present goal, because the node does not listen any more."""
        if self._current is not None:
            self._current.goal.end(Reason.ABORTED, message)

    def destroy(self) -> None:
        """Take the action away."""
        self._server.destroy()

    # ---- requests ----

    def _on_goal(self, request: Any) -> GoalResponse:
        try:
            self._expect(self._checked(request))
        except ValueError as error:
            self._node.warn(f'a goal of ~/listen is rejected: {error}')
            return GoalResponse.REJECT
        return GoalResponse.ACCEPT

    def _checked(self, request: Any) -> PhraseList:
        """
        Check the state of the node and the fields of a goal; return its phrases.

        :raises ValueError: the goal cannot be, and why
        """
        if self._node.worker is None:
            raise ValueError('the node is not active')
        for name in ('begin_timeout_s', 'end_silence_s', 'max_duration_s'):
            value = getattr(request, name)
            if not 0 <= value < math.inf:
                raise ValueError(f'{name} is {value:g}, expected seconds, or 0 for the default')
        low, high = _PAUSES_S
        if request.end_silence_s and not low <= request.end_silence_s <= high:
            raise ValueError(f'end_silence_s is {request.end_silence_s:g}, expected 0 or '
                             f'{low:g} to {high:g}')
        phrases = self._parsed(request)
        if request.only_these and not phrases:
            raise ValueError('only_these is true, and there are no phrases')
        return phrases

    def _parsed(self, request: Any) -> PhraseList:
        return PhraseList.parse(request.phrases, self._node.get_parameter('phrases.boost').value)

    def _expect(self, phrases: PhraseList) -> None:
        """
        Expect phrases on top of those of the node.

        :raises PhraseError: together these are too many
        """
        self._node.phrases.add('~/listen', phrases)

    def _on_accepted(self, handle: Any) -> None:
        node, before = self._node, self._current
        current = _Running(handle, self._parsed(handle.request), ListenGoal(
            node.get_parameter('delay_ms').value / 1000 + _SETTLE_S, lambda: self._end(current)))
        self._current = current
        self._n_unfinished += 1
        if before and before.goal.end(Reason.PREEMPTED, 'a newer goal has taken its place'):
            node.get_logger().info('a newer goal of ~/listen takes the place of another')
        handle.execute()
        node.retune()
        assert node.worker is not None
        node.worker.after_queued(lambda progress: current.goal.begin(
            progress.origin.stamp_ns, progress.position_s))
        self._set_limits(current)

    def _on_cancel(self, handle: Any) -> CancelResponse:
        """Refuse what comes too late: the result is on its way."""
        current = self._current
        return CancelResponse.ACCEPT if current and current.handle == handle \
            and current.goal.end(Reason.CANCELED, 'canceled by the client') \
            else CancelResponse.REJECT

    # ---- limits ----

    def _set_limits(self, current: _Running) -> None:
        node = self._node
        begin_s, max_s = (
            getattr(current.request, name) or node.get_parameter(f'listen.{name}').value
            for name in ('begin_timeout_s', 'max_duration_s'))
        if begin_s:
            current.timers.append(node.create_timer(
                begin_s, partial(self._on_begin_limit, current, begin_s)))
        if max_s:
            current.timers.append(node.create_timer(max_s, lambda: current.goal.end(
                Reason.TIMEOUT, f'{max_s:g} s are over')))

    def _on_begin_limit(self, current: _Running, begin_s: float) -> None:
        """Look now whether somebody has begun to speak; where it is not known, soon again."""
        def look() -> None:
            if self._node.worker is not None:  # what was received by now is judged
                self._node.worker.after_queued(partial(self._judge, current, begin_s))

        if current.goal.outcome is not None:  # its timers are gone
            return
        look()
        self._node.destroy_timer(current.timers[0])
        current.timers[0] = self._node.create_timer(_LOOK_S, look)

    def _judge(self, current: _Running, begin_s: float, progress: Progress) -> None:
        """End the goal if nobody has spoken; called from the thread of the worker."""
        if not progress.is_pending \
                and current.goal.spoken(progress.position_s, progress.is_speaking) is False:
            muted = '' if self._node.listening else ': muted by ~/set_listening'
            current.goal.end(Reason.NO_SPEECH, f'nobody has spoken for {begin_s:g} s{muted}')

    # ---- what is said ----

    def _is_of_robot(self, transcript: Transcript, origin: Origin) -> bool:
        """Return whether the robot itself may have said it, as on the topic transcript/text."""
        return self._node.robot.doubtful(origin.stamp_ns(transcript.start_s),
                                         origin.stamp_ns(transcript.end_s))

    def _take(self, current: _Running, transcript: Transcript, origin: Origin) -> None:
        before = current.utterance
        current.utterance = transcript, current.messages(transcript.words, origin)
        if transcript.is_final:
            current.goal.end(Reason.SUCCEEDED)
        else:
            known = len(before[0].text) if before else 0
            current.handle.publish_feedback(Listen.Feedback(
                text=transcript.text, delta=transcript.text[known:]))

    # ---- results ----

    def _end(self, current: _Running) -> None:
        """Have the executor send the result of a goal that has ended; from any thread."""
        with suppress(Exception):  # of an executor that was shut down: nobody gets anything
            self._server.notify_execute(current.handle, partial(self._finish, current))

    def _finish(self, current: _Running, handle: Any) -> Any:
        for timer in current.timers:
            self._node.destroy_timer(timer)
        self._n_unfinished -= 1
        if self._current is current:
            self._current = None
            self._expect(NO_PHRASES)
            self._node.retune()
        outcome = current.goal.outcome
        assert outcome is not None
        result = self._result(current)
        result.reason, result.message = int(outcome.reason), outcome.message
        if outcome.reason is Reason.SUCCEEDED:
            result.phrase = self._phrase(current, result.text)
            handle.succeed()
        elif outcome.reason is Reason.CANCELED and handle.is_cancel_requested:
            handle.canceled()
        else:
            handle.abort()
        return result

    def _result(self, current: _Running) -> Any:
        if current.utterance is None:
            return Listen.Result(confidence=math.nan)
        transcript, words = current.utterance
        return Listen.Result(text=transcript.text, utterance_id=transcript.utterance_id,
                             words=words, confidence=float(transcript.confidence))

    def _phrase(self, current: _Running, text: str) -> str:
        """Return the phrase that was said, '' if none was."""
        phrases = [phrase.text for phrase in current.phrases.phrases]
        similarity = _SIMILARITY_OF_THESE if current.request.only_these else MIN_SIMILARITY
        match = PhraseMatcher(phrases, similarity).best(text.split())
        return match.phrase if match else ''
