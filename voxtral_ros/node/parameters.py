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
The parameters of the node in one table: declared, checked and documented from here.

Structural parameters are read when the node is configured and refused while it is; the others take
effect at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from rcl_interfaces.msg import (
    FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult)
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter

from voxtral_ros.audio.messages import PcmInfo
from voxtral_ros.audio.pcm import FORMATS
from voxtral_ros.node.robot_voice import MODES
from voxtral_ros.recognizer.endpoint import EndpointOptions
from voxtral_ros.recognizer.options import StreamOptions
from voxtral_ros.recognizer.vad import VadOptions
from voxtral_ros.recognizer.watchdog import WatchdogOptions


@dataclass(frozen=True)
class Row:
    """One parameter."""

    name: str
    default: Any
    description: str
    limits: tuple[float, float] | None = None
    choices: tuple[str, ...] = ()
    structural: bool = True


_ENDPOINT, _VAD, _WATCHDOG = EndpointOptions(), VadOptions(), WatchdogOptions()

TABLE = (
    Row('autostart', False, 'configure and activate when the process starts; the launch file '
                            'sets it'),
    Row('model', '', 'folder with params.json, tekken.json, consolidated.safetensors; empty: the '
                     'small English demo model of the package'),
    Row('device', 'auto', 'auto (CUDA where there is one), cpu, cuda or cuda:N'),
    Row('dtype', '', 'type of the weights in memory; empty: float32 on the CPU, else as in the '
                     'file', choices=('', 'float32', 'bfloat16', 'float16')),
    Row('threads', 1, 'threads on the CPU; 0: OMP_NUM_THREADS, or one per core', (0, 64)),
    Row('engine.encoder_chunk_ms', 480, 'waiting audio that one pass may take, 80 to 480 ms in '
        'steps of 80: more keeps up on a slower device', (80, 480)),
    Row('engine.window', 0, 'tokens of 80 ms that the decoder looks back; fewer take less memory; '
                            '0: as many as the model was made for', (0, 8192)),
    Row('engine.verify', True, 'compare the weights with their checksums, if they have any, while '
                               'they are loaded'),
    Row('engine.url', '', 'ws://host:8000/v1/realtime of a voxtral or vLLM server that is to be '
                          'used instead of model; empty: none'),
    Row('engine.model', '', 'name to ask the server for; empty: the one it has'),
    Row('engine.token_file', '', 'file whose first line is the bearer token of the server'),
    Row('engine.ca_file', '', 'certificate to trust a wss:// server by; empty: the usual ones'),
    Row('engine.outage_s', 300.0, 'speech that is kept while the server is away, s',
        (10.0, 3600.0)),
    Row('delay_ms', 480, 'how far the text lags behind the audio: 80 to 1200 in steps of 80, or '
                         '2400', (80, 2400)),
    Row('source', 'topic', 'where audio comes from', choices=('topic', 'microphone', 'file')),
    Row('microphone', '', 'device index or part of its name; empty: the default device'),
    Row('file', '', 'audio file to play when source is file'),
    Row('file_realtime', True, 'play the file at its own pace; false: as fast as possible'),
    Row('channel', -1, 'channel of the audio to take, counted from 0; -1: the mean of a stereo '
        'pair, the first one of more; -2: the mean of all', (-2, 63)),
    Row('assumed_format.sample_rate', 16_000, 'rate of AudioData and AudioDataStamped where no '
        'audio_info tells it, Hz', (8_000, 192_000)),
    Row('assumed_format.channels', 1, 'its channels', (1, 64)),
    Row('assumed_format.sample_format', 'S16LE', 'its samples', choices=tuple(FORMATS)),
    Row('frame_id', '', 'frame of transcripts whose audio names none'),
    Row('audio_queue_s', 30.0, 'audio that may wait before the older half is dropped, s',
        (1.0, 600.0)),
    Row('max_gap_s', 2.0, 'gaps in the stamps up to here are bridged with silence, s; longer '
                          'ones end the utterance', (0.0, 30.0)),
    Row('audio_timeout_s', 3.0, 'no audio for so long is an error in the diagnostics, s; 0: never '
                                '(push to talk)', (0.0, 3600.0), structural=False),
    Row('endpoint.silence_s', _ENDPOINT.silence_s, 'pause after which an utterance ends, s',
        (0.1, 10.0)),
    Row('endpoint.max_utterance_s', _ENDPOINT.max_utterance_s,
        'longer utterances are cut at a word, s', (2.0, 600.0)),
    Row('endpoint.min_speech_probability', _ENDPOINT.min_speech_probability,
        'words are discarded where voice activity stayed under this; 0 keeps all', (0.0, 1.0)),
    Row('vad.threshold', _VAD.threshold, 'probability above which audio counts as speech',
        (0.05, 0.95)),
    Row('watchdog.speech_s', _WATCHDOG.speech_s,
        'seconds of speech without a word before the watchdog acts; 0: never', (0.0, 60.0)),
    Row('watchdog.step_s', 10.0, 'a step of the recogniser that takes longer is an error in the '
        'diagnostics, s; after twice that an autostarted node starts its process anew; 0: never',
        (0.0, 600.0), structural=False),
    Row('robot_speaking_mode', 'mute', 'while robot_speaking is true: mute the input, mark '
        'transcripts, or ignore it', choices=MODES, structural=False),
    Row('robot_speaking_tail_s', 0.3, 'how long that goes on when it has become false, s',
        (0.0, 10.0), structural=False),
    Row('partial_rate_hz', 0.0, 'partial transcripts per second at most; 0: on every change',
        (0.0, 50.0), structural=False),
    Row('log_transcripts', True, 'write final transcripts to the log', structural=False),
    Row('hri_voice', 'anonymous_speaker', 'where hri_msgs is installed, transcripts also go to '
                                          '/humans/voices/<this>/speech (REP-155); empty: not'),
)
QOS_OVERRIDES = 'qos_overrides.'
_ROWS = {row.name: row for row in TABLE}


def declare(node: Node) -> dict[str, str]:
    """
    Declare every parameter with description, range and default.

    Returns name -> reason for each value that the node was started with and that cannot be: the
    default is in its place, and configure is to be refused until it is corrected.
    """
    refused = {}
    for row in TABLE:
        descriptor = ParameterDescriptor(description=row.description)
        if row.choices:
            descriptor.additional_constraints = 'one of ' + ', '.join(map(repr, row.choices))
        if row.limits and isinstance(row.default, int):
            low, high = map(int, row.limits)
            descriptor.integer_range = [IntegerRange(from_value=low, to_value=high, step=0)]
        elif row.limits:
            low_f, high_f = map(float, row.limits)
            descriptor.floating_point_range = [
                FloatingPointRange(from_value=low_f, to_value=high_f, step=0.0)]
        try:
            _declare(node, row, descriptor)
        except (InvalidParameterTypeException, InvalidParameterValueException) as error:
            node.declare_parameter(row.name, row.default, descriptor, ignore_override=True)
            refused[row.name] = str(error)
    return refused


def _declare(node: Node, row: Row, descriptor: ParameterDescriptor) -> None:
    given = _given(node).get(row.name)
    if isinstance(row.default, float) and isinstance(given, int) and not isinstance(given, bool):
        # 1 in a YAML file means 1.0.
        node.declare_parameter(row.name, float(given), descriptor, ignore_override=True)
    else:
        node.declare_parameter(row.name, row.default, descriptor)


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
            if prefix else list(_ROWS)
        near = get_close_matches(name, known, n=1, cutoff=0.5)
        complaints.append(f'unknown parameter {name} is ignored'
                          + (f': did you mean {near[0]}?' if near else ''))
    return complaints


def check(parameters: list[Parameter], configured: bool) -> SetParametersResult:
    """Refuse values that are not among the choices, and structural ones while configured."""
    for parameter in parameters:
        row = _ROWS.get(parameter.name)
        if row is None:
            continue  # use_sim_time and the like
        if row.choices and parameter.value not in row.choices:
            return SetParametersResult(successful=False, reason=(
                f'{row.name} is {parameter.value!r}, expected one of '
                + ', '.join(map(repr, row.choices))))
        if row.structural and configured:
            return SetParametersResult(successful=False, reason=(
                f'{row.name} is read when the node is configured: clean up first'))
    return SetParametersResult(successful=True)


def refuse_wrong_values(node: Node, refused: dict[str, str]) -> None:
    """Raise ValueError for values that the node was started with and that cannot be."""
    if refused:
        raise ValueError('; '.join(refused.values()))
    values = [node.get_parameter(row.name) for row in TABLE]
    result = check(values, configured=False)
    if not result.successful:
        raise ValueError(result.reason)


def assumed_format(node: Node) -> PcmInfo:
    """Return what raw audio is where nobody tells it."""
    return PcmInfo(*(node.get_parameter(f'assumed_format.{name}').value
                     for name in ('channels', 'sample_rate', 'sample_format')))


def stream_options(node: Node) -> StreamOptions:
    """Return the tuning of a stream from the parameters of a node."""
    def value(name: str) -> Any:
        return node.get_parameter(name).value

    return StreamOptions(
        EndpointOptions(silence_s=value('endpoint.silence_s'),
                        max_utterance_s=value('endpoint.max_utterance_s'),
                        min_speech_probability=value('endpoint.min_speech_probability')),
        VadOptions(threshold=value('vad.threshold')),
        WatchdogOptions(speech_s=value('watchdog.speech_s')))
