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

"""What rclpy does not do itself when a lifecycle transition is asked for."""

from __future__ import annotations

from collections.abc import Callable
import functools
import time
import traceback
from typing import Any

from rclpy.lifecycle import LifecycleNode, State, TransitionCallbackReturn

from voxtral_ros.node.listener import Responder

Transition = Callable[[Any, State], TransitionCallbackReturn]


class Broken(RuntimeError):
    """The engine is of no more use."""


def log_and_roll_back(transition: Transition) -> Transition:
    """
    Log what goes wrong in a transition, which rclpy does not, and roll it back.

    Going up fails: the node stays below and may try again. Going down never stays above with half
    of the node gone: it ends unconfigured.
    """
    @functools.wraps(transition)
    def wrapped(self: Any, state: State) -> TransitionCallbackReturn:
        verb = transition.__name__[len('on_'):]
        self.transition_began_s = time.monotonic()
        before = self._failure
        try:
            result = transition(self, state)
            self._failure = ''
            return result
        except Broken as error:
            self._failure = str(error)
            self.get_logger().error(self._failure)
        except (ValueError, OSError) as error:  # what we say ourselves needs no traceback
            self._failure = f'{verb} failed: {error}'
            if self._failure != before or not self.retrying:
                self.get_logger().error(self._failure)
        except Exception as error:
            self._failure = f'{verb} failed: {type(error).__name__}: {error}'
            self.get_logger().error(f'{verb} failed:\n{traceback.format_exc()}')
        self._close()
        if verb == 'configure':
            self._free()
        return TransitionCallbackReturn.FAILURE if verb in ('configure', 'activate') \
            else TransitionCallbackReturn.ERROR
    return wrapped


def survive_wrong_transitions(node: LifecycleNode, asked: Callable[[], None]) -> None:
    """
    Let a node answer a transition that its state does not allow instead of dying of it.

    `asked` is called when somebody asks for a transition.
    Before Kilted, rclpy lets the exception out of the service callback (ros2/rclpy#1209).
    """
    service = getattr(node, '_service_change_state', None)
    if service is None:
        return
    change_state = service.callback

    def guarded(request: Any, response: Any) -> Any:
        asked()
        try:
            return change_state(request, response)
        except RuntimeError as error:  # RCLError
            wanted = request.transition.label or request.transition.id
            node.get_logger().error(f'transition {wanted} refused: {error}')
            response.success = False
            return response

    service.callback = guarded


def answer_get_state(node: LifecycleNode) -> Responder | None:
    """
    Let get_state be answered while a transition is under way, by a thread of its own.

    Loading a model keeps the executor for seconds, and whoever manages the node wants to know.
    """
    service = getattr(node, '_service_get_state', None)
    return Responder(node, service) if service is not None else None


def state_of(node: LifecycleNode) -> str:
    """Return the label of the state in the lifecycle; rclpy has no public way to it."""
    label: str = node._state_machine.current_state[1]
    return label
