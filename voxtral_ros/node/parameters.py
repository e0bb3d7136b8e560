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
The parameters of the table in the node: declared, checked, and turned into what they tune.

A value that the node is started with and that cannot be is no end of the process: configure says
what is wrong with it until it has been corrected.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rcl_interfaces.msg import (
    FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult)
from rclpy.node import Node
from rclpy.parameter import Parameter

from voxtral_ros.audio.messages import PcmInfo
from voxtral_ros.node.parameter_table import (
    AT_ACTIVATE, AT_CONFIGURE, QOS_OVERRIDES, Row, ROWS, suggestion, TABLE, WHEN)
from voxtral_ros.recognizer.endpoint import EndpointOptions
from voxtral_ros.recognizer.idle import IdleOptions
from voxtral_ros.recognizer.options import StreamOptions
from voxtral_ros.recognizer.turns import TurnOptions
from voxtral_ros.recognizer.vad import VadOptions
from voxtral_ros.recognizer.watchdog import WatchdogOptions


def declare(node: Node) -> dict[str, str]:
    """
    Declare every parameter with description, range and default.

    Returns name -> reason for each value that the node was started with and that cannot be: the
    default is in its place, and configure is to be refused until it is corrected.
    """
    refused = {}
    given = _given(node)
    for row in TABLE:
        value = row.default
        if row.name in given:
            try:
                value = row.parse(given[row.name])
            except ValueError as error:
                refused[row.name] = str(error)
            else:
                _note_lost_text(node, row, given[row.name], value)
        _declare(node, row, value)
    return refused


def _declare(node: Node, row: Row, value: Any) -> None:
    if not isinstance(value, list):
        node.declare_parameter(row.name, value, descriptor(row), ignore_override=True)
        return
    # The type of an empty list cannot be told by looking at it.
    node.declare_parameter(row.name, Parameter.Type.STRING_ARRAY, descriptor(row),
                           ignore_override=True)
    Node.set_parameters(node, [_typed(row.name, value)])


def _typed(name: str, value: Any) -> Parameter:
    return Parameter(name, Parameter.Type.STRING_ARRAY, value) if isinstance(value, list) \
        else Parameter(name, value=value)


def descriptor(row: Row) -> ParameterDescriptor:
    """Return what `ros2 param describe` says."""
    described = ParameterDescriptor(description=f'{row.description} ({WHEN[row.read]})')
    if row.limits and isinstance(row.default, int):
        low, high = map(int, row.limits)
        described.integer_range = [IntegerRange(from_value=low, to_value=high, step=row.step)]
    elif row.limits:
        low_f, high_f = map(float, row.limits)
        described.floating_point_range = [
            FloatingPointRange(from_value=low_f, to_value=high_f, step=0.0)]
    elif row.choices or row.like:
        described.additional_constraints = row.values
    return described


def _note_lost_text(node: Node, row: Row, given: Any, text: Any) -> None:
    """Say so where text was read as something that may have been written otherwise."""
    if isinstance(row.default, str) and isinstance(given, (bool, float)):
        node.get_logger().warn(
            f'{row.name} was given as {given!r} and is taken as the text {text!r}: put it in '
            'quotes if it was written otherwise')


def _given(node: Node) -> dict[str, Any]:
    """Return the values that the node was started with; rclpy has no public way to them."""
    overrides = getattr(node, '_parameter_overrides', {})
    return {name: parameter.value for name, parameter in overrides.items()}


def is_given(node: Node, name: str) -> bool:
    """Return whether the node was started with a value for a parameter."""
    return name in _given(node)


def unknown(node: Node, prefix: str = '') -> list[str]:
    """
    Return a complaint for each value that the node was started with and that nobody reads.

    :param prefix: only names that begin so; '' leaves out qos_overrides, which are declared with
        their subscriptions
    """
    complaints = []
    for name in _given(node):
        if node.has_parameter(name) or not name.startswith(prefix) \
                or (not prefix and name.startswith(QOS_OVERRIDES)):
            continue
        known = [prefix + rest for rest in node.get_parameters_by_prefix(prefix.rstrip('.'))] \
            if prefix else list(ROWS)
        complaints.append(f'unknown parameter {name} is ignored{suggestion(name, known)}')
    return complaints


def parsed(parameters: Sequence[Parameter]) -> list[Parameter]:
    """
    Return parameters in the types of the table.

    :raises ValueError: a value cannot be, and why
    """
    return [_typed(parameter.name, ROWS[parameter.name].parse(parameter.value))
            if parameter.name in ROWS and parameter.value is not None else parameter
            for parameter in parameters]


def check(node: Node, parameters: Sequence[Parameter], *, configured: bool,
          active: bool) -> SetParametersResult:
    """Refuse values that cannot be, and those that the state of the node does not allow."""
    for parameter in parameters:
        row = ROWS.get(parameter.name)
        if row is None:
            continue  # use_sim_time and the like
        try:
            if row.parse(parameter.value) == node.get_parameter(row.name).value:
                continue  # as when a whole file is loaded for one of its values
        except ValueError as error:
            return SetParametersResult(successful=False, reason=str(error))
        if row.read == AT_CONFIGURE and configured:
            return SetParametersResult(successful=False, reason=(
                f'{row.name} is read at configure: deactivate and clean up first'))
        if row.read == AT_ACTIVATE and active:
            return SetParametersResult(successful=False, reason=(
                f'{row.name} is read at activate: deactivate first'))
    return SetParametersResult(successful=True)


def refuse_wrong_values(refused: dict[str, str]) -> None:
    """Raise ValueError for values that the node was started with and that cannot be."""
    if refused:
        raise ValueError('; '.join(refused.values()))


def assumed_format(node: Node) -> PcmInfo:
    """Return what raw audio is without audio_info."""
    return PcmInfo(*(node.get_parameter(f'assumed_format.{name}').value
                     for name in ('channels', 'sample_rate', 'sample_format')))


def unused(node: Node) -> list[str]:
    """Return a note for each parameter that was set for another source than the one in use."""
    source = node.get_parameter('source').value
    return [f'{name} is not used: source is {source}' for name in ('microphone', 'file')
            if name != source and node.get_parameter(name).value]


def value_of(node: Node, changes: Sequence[Parameter] = ()) -> Callable[[str], Any]:
    """Return a function that returns the value of a parameter, with changes to come."""
    changed = {parameter.name: parameter.value for parameter in changes}

    def value(name: str) -> Any:
        return changed[name] if name in changed else node.get_parameter(name).value

    return value


def stream_options(node: Node, changes: Sequence[Parameter] = ()) -> StreamOptions:
    """Return the tuning of a stream from the parameters of a node, with changes to come."""
    value = value_of(node, changes)
    return StreamOptions(
        EndpointOptions(silence_s=value('endpoint.silence_s'),
                        max_utterance_s=value('endpoint.max_utterance_s'),
                        min_speech_probability=value('endpoint.min_speech_probability')),
        VadOptions(threshold=value('vad.threshold')),
        WatchdogOptions(speech_s=value('watchdog.speech_s'),
                        repeated_tokens=value('watchdog.repeated_tokens')),
        IdleOptions(after_s=value('idle.after_s'), preroll_s=value('idle.preroll_s'),
                    threshold=value('idle.threshold')),
        TurnOptions(eager_s=value('turn.eager_s'),
                    punctuated_silence_s=value('turn.punctuated_silence_s')))
