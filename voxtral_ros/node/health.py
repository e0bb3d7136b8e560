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
How the node is, and what is to be said of it.

`judge` turns a `Health` and what has changed lately, the `Recent`, into a level and one sentence:
what is wrong, and what to do about it. The causes come in the order in which they explain each
other: what is said first would make all that follows untrue.
"""

from __future__ import annotations

from dataclasses import dataclass, field
import math
from typing import TYPE_CHECKING

from diagnostic_msgs.msg import DiagnosticStatus

from voxtral_ros.node.stats import WorkerStats

if TYPE_CHECKING:
    from voxtral_ros.node.echo import EchoHealth
    from voxtral_ros.recognizer.capture import CaptureStatus
    from voxtral_ros.recognizer.interface import EngineStats, LinkStatus

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR
MUTE_S = 10.0  # of digital silence that are worth a word

_Judgement = tuple[bytes, str]
_LEAST_RATE, _MOST_RATE = 0.8, 1.25
_STOPPED_S = 1.5
_LONG_SPEECH_S = 60.0  # of the robot; then its publisher has probably died
_SILENT_PLAYBACK_S = 2.0  # while the robot speaks, that are worth a word


@dataclass(frozen=True)
class Health:
    """The node at one moment; counters are since activation, NaN is unknown."""

    time_s: float  # that passed on the clock that the audio follows
    state: str = 'unconfigured'  # of the lifecycle
    loading_s: float = 0.0  # for which the model has been loaded until now
    failure: str = ''  # why it is not in a better state
    model: str = ''
    source: str = ''
    hint: str = ''
    trouble: str = ''
    warning: str = ''
    audio_format: str = ''
    assumed: bool = False  # whether no publisher has given it
    suspicion: str = ''  # why it cannot be
    no_clock: str = ''  # why there is no time
    clock: str = ''  # what is doubtful about it
    live: bool = False
    timeout_s: float = 3.0
    phrases: int = 0  # that are expected
    wake_phrases: tuple[str, ...] = ()
    awake: bool = True
    listening: bool = True
    robot_speaking_s: float = 0.0
    level_dbfs: float = math.nan
    peak_dbfs: float = math.nan
    received_s: float = 0.0
    overflows: int = 0
    waiting_s: float = 0.0
    queue_s: float = 30.0
    stats: WorkerStats = field(default_factory=WorkerStats)
    utterances: int = 0
    latencies_s: tuple[float, ...] = ()
    stuck_s: float = 0.0  # for which the present step has not returned
    stuck_after_s: float = 10.0  # longer is an error; 0: never
    restarts: bool = False  # whether the process is then started anew
    backend: str = ''
    link: LinkStatus | None = None  # to a server, if the model is there
    engine: EngineStats | None = None  # if it is here
    echo: EchoHealth | None = None  # where it is cancelled
    capture: CaptureStatus | None = None  # if utterances are kept


@dataclass(frozen=True)
class Recent:
    """What has changed within the window."""

    audio_rate: float  # seconds of audio per second, NaN when unknown
    real_time_factor: float  # seconds of work per second of audio, NaN when unknown
    idle_s: float  # since audio came at all
    mute_s: float  # for which all that came was digital silence
    dropped_s: float
    failures: int
    gaps: int
    jumps: int
    bad_samples: int
    undelivered_s: float  # speech that should have gone to a server
    repeated: float = 0.0  # of the stamps, those that were the same as the one before
    stamp_rate: float = math.nan  # seconds of audio per second of its stamps
    repetition_loops: int = 0
    echo_late_s: float = 0.0  # of what the robot plays, that came too late


def judge(now: Health, recent: Recent) -> tuple[bytes, str]:
    """Return the level and the most important thing to know."""
    if now.failure:
        return ERROR, now.failure
    if now.state == 'configuring':
        return OK, f'loading {now.model} for {now.loading_s:.0f} s until now'
    if now.state == 'finalized':
        return WARN, 'finalized: only a new process will recognise speech again'
    if now.state != 'active':
        return OK, now.state
    return _of_engine(now, recent) or _of_input(now, recent) or _of_pace(now, recent) \
        or _of_stamps(now, recent) or _of_echo(now, recent) or _of_surroundings(now, recent)


def _of_engine(now: Health, recent: Recent) -> _Judgement | None:
    """Return what keeps the recogniser from working at all."""
    if now.stuck_after_s and now.stuck_s >= now.stuck_after_s:
        return ERROR, (f'a step of the recogniser has not returned for {now.stuck_s:.0f} s '
                       f'({now.backend}): ' + (
                           f'the process starts anew after {2 * now.stuck_after_s:.0f} s'
                           if now.restarts else 'end the process and start it again'))
    if recent.failures:
        return ERROR, (f'the recogniser failed {recent.failures} times in the last seconds and '
                       'was started anew: see the log')
    return None


def _of_input(now: Health, recent: Recent) -> _Judgement | None:
    """Return what keeps audio, or its text, from coming at all."""
    if now.trouble:
        return ERROR, now.trouble
    if now.no_clock:
        return (WARN if now.received_s else ERROR), now.no_clock
    if now.live and now.timeout_s > 0 and recent.idle_s >= now.timeout_s:
        return ERROR, f'no audio for {recent.idle_s:.0f} s from the {now.source}: {now.hint}'
    if now.link is not None and now.link.state == 'down':
        return ERROR, (f'no connection to {now.link.url or now.model}: {now.link.error}; '
                       f'{now.link.waiting_s:.0f} s of speech wait for it')
    if recent.undelivered_s:
        return WARN, (f'{recent.undelivered_s:.1f} s of speech were given up, because the server '
                      'was away for too long or did not answer: see its log, or engine.outage_s')
    if now.warning:
        return WARN, now.warning
    return None


def _of_pace(now: Health, recent: Recent) -> _Judgement | None:
    """Return what is wrong about how much audio comes, or goes."""
    # What has just stopped is no slow stream: soon it is an error, or goes on.
    rate = recent.audio_rate if now.live and now.timeout_s > 0 and recent.idle_s < _STOPPED_S \
        else math.nan
    if rate < _LEAST_RATE or rate > _MOST_RATE:
        if now.assumed:
            return WARN, (f'{rate:.2g} s of audio come in a second, if it is {now.audio_format}, '
                          'as is assumed without audio_info: set assumed_format.sample_rate and '
                          'assumed_format.channels, or publish audio_info')
        replayed = _LEAST_RATE <= recent.stamp_rate <= _MOST_RATE  # a bag at a higher pace
        if rate > _MOST_RATE and not replayed:
            return WARN, (f'{rate:.2g} s of audio come in a second, if it is {now.audio_format}, '
                          'as its publisher says: correct the rate or the channels there')
    if now.suspicion:
        return WARN, now.suspicion + (f' (read as {now.audio_format})' if now.audio_format else '')
    slow = 'choose a faster device, a smaller model, or give the node more of the CPU'
    if recent.dropped_s:
        return WARN, (f'{recent.dropped_s:.1f} s of audio were dropped, because recognition is '
                      f'slower than the audio: {slow}')
    if now.waiting_s > now.queue_s / 2:
        return WARN, f'recognition is {now.waiting_s:.0f} s behind the audio: {slow}'
    if rate < _LEAST_RATE:
        return WARN, (f'only {100 * rate:.0f} % of the audio arrives: look for lost '
                      'messages (network, CPU load, queue depth of the publisher)')
    if recent.bad_samples:
        return WARN, (f'{recent.bad_samples} samples were NaN or absurdly large and count as '
                      'silence: check the sample format of the source')
    return None


def _of_stamps(now: Health, recent: Recent) -> _Judgement | None:
    """Return what is wrong about the clock and the stamps."""
    if now.clock:
        return WARN, now.clock
    if recent.repeated > 0.5:
        return WARN, (f'{100 * recent.repeated:.0f} % of the audio has the stamp of the message '
                      'before it: let its publisher stamp each with the time of its first sample')
    if recent.gaps or recent.jumps:
        return WARN, (f'{recent.gaps} gaps and {recent.jumps} jumps in the stamps of the audio: '
                      'look for lost messages, or a clock that is being set')
    if recent.stamp_rate < _LEAST_RATE or recent.stamp_rate > _MOST_RATE:  # false for NaN
        return WARN, (f'{recent.stamp_rate:.2g} s of audio come in a second of its stamps, if it '
                      f'is {now.audio_format}: correct the stamps or the rate')
    return None


def _of_echo(now: Health, recent: Recent) -> _Judgement | None:
    """Return what keeps the robot's own voice from being cancelled."""
    echo = now.echo
    if echo is None:
        return None
    if echo.trouble:
        return WARN, f'the echo is not cancelled: {echo.trouble}'
    if recent.echo_late_s:
        return WARN, (f'{recent.echo_late_s:.1f} s of what the robot plays came too late to be '
                      f'cancelled, by {echo.stats.lateness_s:.2f} s: publish it sooner, correct '
                      f'its stamps, or raise echo.wait_s (it is {echo.most_wait_s:g})')
    if now.robot_speaking_s > _SILENT_PLAYBACK_S \
            and not echo.stats.missing_s <= _SILENT_PLAYBACK_S:  # NaN: nothing has ever come
        return WARN, (f'robot_speaking is true, and nothing comes from the {echo.reference}: its '
                      'echo is not cancelled')
    return None


def _of_surroundings(now: Health, recent: Recent) -> _Judgement:
    if now.capture is not None and now.capture.trouble:
        return WARN, (f'utterances are not kept ({now.capture.n_lost} by now): '
                      f'{now.capture.trouble}; see capture.folder')
    if recent.repetition_loops:
        return WARN, ('repetition loop: the model writes the same words again and again; what it '
                      'wrote is wrong (a noise, or a language that it does not know?)')
    if recent.mute_s >= MUTE_S:
        return WARN, ('the audio is digital silence: is the microphone muted, or the parameter '
                      'channel a channel without a microphone?')
    if now.robot_speaking_s >= _LONG_SPEECH_S:
        return WARN, (f'robot_speaking has been true for {now.robot_speaking_s:.0f} s: did its '
                      'publisher forget to say false?')
    if not now.listening:
        return OK, 'muted by ~/set_listening'
    if not now.awake and now.wake_phrases:
        return OK, f'asleep: say {" or ".join(map(repr, now.wake_phrases))}, or call ~/set_awake'
    return OK, f'listening to the {now.source}'
