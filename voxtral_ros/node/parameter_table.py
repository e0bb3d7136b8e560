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
Every parameter of the node, in one table: declared, checked, documented and launched from here.

Nothing is imported that needs more than the standard library: the launch file reads the table in
the Python of `ros2`, which need not have what the recogniser needs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
import math
import re
from typing import Any

from voxtral_ros.audio.arrays import ARRAYS
from voxtral_ros.audio.arrays import KNOWN as KNOWN_CHANNELS

# When a parameter is read, and until when it may be changed.
_ADDRESS = r'wss?://[^/\s,][^\s,]*'
AT_CONFIGURE = 'configure'
AT_ACTIVATE = 'activate'
ALWAYS = 'always'
WHEN = {
    AT_CONFIGURE: 'read at configure: may be changed while unconfigured',
    AT_ACTIVATE: 'read at activate: may be changed while inactive',
    ALWAYS: 'may be changed at any time, and takes effect at once',
}
_KINDS = {bool: 'true or false', str: 'text', int: 'a whole number', float: 'a number',
          list: 'a list of texts'}
_TRUTH = {'true': True, 'yes': True, 'on': True, '1': True,
          'false': False, 'no': False, 'off': False, '0': False}


@dataclass(frozen=True)
class Row:
    """One parameter."""

    name: str
    default: Any
    description: str
    limits: tuple[float, float] | None = None
    step: int = 0  # of whole numbers, from the lower limit
    choices: tuple[Any, ...] = ()
    pattern: str = ''  # that text has to match as a whole
    like: str = ''  # the pattern in words
    read: str = AT_CONFIGURE

    @property
    def values(self) -> str:
        """Return what the parameter may be, in words."""
        if self.choices:
            return 'one of ' + ', '.join(map(repr, self.choices))
        if self.limits:
            steps = f' in steps of {self.step}' if self.step else ''
            return f'{_KINDS[type(self.default)]} from {self.limits[0]:g} to ' \
                f'{self.limits[1]:g}{steps}'
        return self.like or _KINDS[type(self.default)]

    def parse(self, value: Any) -> Any:
        """
        Return a value in the type of the parameter, where it is plain what is meant.

        A device that is called 2 is a number in YAML and on a command line, and 1 is no float:
        nobody need put quotes around the one or a point behind the other. One text alone is a
        list, and so is nothing, which is what ROS makes of an empty list in YAML.

        :raises ValueError: it cannot be; the message has the name, the value and what is expected
        """
        kind = type(self.default)
        parsed = value if isinstance(value, kind) and kind is not list \
            else _converted(value, kind)
        # True is an int, too.
        if parsed is None or (kind is not bool and isinstance(parsed, bool)) \
                or not self._allows(parsed):
            raise ValueError(f'{self.name} is {value!r}, expected {self.values}')
        return parsed

    def _allows(self, value: Any) -> bool:
        if self.choices:
            return value in self.choices
        if self.limits:
            low, high = self.limits
            return low <= value <= high and not (self.step and (value - low) % self.step)
        return not self.pattern or re.fullmatch(self.pattern, value) is not None


def _converted(value: Any, kind: type) -> Any:
    """Return what a value of another type means; None where that is not plain."""
    if kind is list:
        return _texts(value)
    if kind is bool:
        return _TRUTH.get(str(value).strip().lower()) if isinstance(value, (str, int)) else None
    if kind is str:
        text = str(value) if isinstance(value, (bool, int, float)) else None
        return text.lower() if text and isinstance(value, bool) else text
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return None
    try:
        number = float(value)
        if kind is float:
            return number if math.isfinite(number) else None
        return int(number) if number.is_integer() else None
    except (OverflowError, ValueError):
        return None


def _texts(value: Any) -> list[str] | None:
    """Return what is meant by a list of texts; None where that is not plain."""
    if isinstance(value, str):  # with a bracket: a list that YAML could not read as one
        return None if value.lstrip().startswith('[') else [value]
    if not isinstance(value, Iterable):
        return [] if value is None else None
    texts = [text if isinstance(text, str) else _converted(text, str) for text in value]
    return None if None in texts else texts


TABLE = (
    Row('autostart', False, 'configure and activate when the process starts, and again after a '
        'failure; the launch file sets it, unless it is given here', read=ALWAYS),
    Row('model', '', 'folder with params.json, tekken.json, consolidated.safetensors; empty: the '
        'small English demo model of the package'),
    Row('device', 'auto', 'where the model runs; auto: CUDA where there is one',
        pattern=r'auto|cpu|cuda(:\d+)?', like='auto, cpu, cuda or cuda:N'),
    Row('dtype', '', 'type of the weights in memory; empty: float32 on the CPU, else as in the '
        'file', choices=('', 'float32', 'bfloat16', 'float16')),
    Row('threads', 1, 'threads on the CPU; 0: OMP_NUM_THREADS, or one per core', (0, 64)),
    Row('engine.encoder_chunk_ms', 480, 'waiting audio that one pass may take: more keeps up on a '
        'slower device', (80, 480), step=80),
    Row('engine.window', 0, 'tokens of 80 ms that the decoder looks back; fewer take less memory; '
        '0: as many as the model was made for', (0, 8192)),
    Row('engine.kv_cache', 'auto', 'bits of the numbers in the KV cache: 8 takes half the memory '
        'of 16, and less time on a small board; auto: 8 if the model would take more than half '
        'of the memory', choices=('auto', '16', '8')),
    Row('engine.verify', True, 'compare the weights with their checksums, if they have any, while '
        'they are loaded'),
    Row('engine.url', '', 'address of a voxtral or vLLM server to use instead of model, such as '
        'ws://host:8000/v1/realtime; several, separated by spaces, commas or line ends: the first '
        'that works; empty: none',
        pattern=rf'\s*({_ADDRESS}([\s,]+{_ADDRESS})*)?\s*',
        like='an address that begins with ws:// or wss://, or several'),
    Row('engine.model', '', 'name to ask the server for, or the last part of it; empty: the one '
        'it has'),
    Row('engine.token_file', '', 'file whose first line is the bearer token of the server'),
    Row('engine.ca_file', '', 'certificate by which to trust a wss:// server; empty: the '
        'usual ones'),
    Row('engine.outage_s', 300.0, 'speech that is kept while the server is away, s',
        (10.0, 3600.0)),
    Row('delay_ms', 480, 'how far the text lags behind the audio, ms: more makes fewer mistakes',
        choices=(*range(80, 1201, 80), 2400), read=AT_ACTIVATE),
    Row('source', 'topic', 'where audio comes from', choices=('topic', 'microphone', 'file'),
        read=AT_ACTIVATE),
    Row('microphone', '', 'index of a device or part of its name, when source is microphone; '
        'empty: the default device', read=AT_ACTIVATE),
    Row('file', '', 'audio file to play when source is file', read=AT_ACTIVATE),
    Row('file_realtime', True, 'play the file at its own pace; false: as fast as possible',
        read=AT_ACTIVATE),
    Row('channel', '-1', 'channel of the audio to take, counted from 0; -1: the mean of a stereo '
        'pair, the first one of more; -2: the mean of all; or an array, for its processed channel',
        pattern=r'-[12]|\d|[1-5]\d|6[0-3]|' + '|'.join(ARRAYS), like=KNOWN_CHANNELS,
        read=AT_ACTIVATE),
    Row('assumed_format.sample_rate', 16_000, 'rate of AudioData and AudioDataStamped without '
        'audio_info, Hz', (8_000, 192_000), read=AT_ACTIVATE),
    Row('assumed_format.channels', 1, 'its channels', (1, 64), read=AT_ACTIVATE),
    Row('assumed_format.sample_format', 'S16LE', 'its samples', choices=(
        'S8', 'U8', 'S16LE', 'S16BE', 'S24LE', 'S24_32LE', 'S32LE', 'S32BE', 'F32LE', 'F32BE',
        'F64LE'), read=AT_ACTIVATE),
    Row('frame_id', '', 'frame of transcripts whose audio names none', read=AT_ACTIVATE),
    Row('audio_queue_s', 30.0, 'audio that may wait before the older half is dropped, s',
        (1.0, 600.0), read=AT_ACTIVATE),
    Row('max_gap_s', 2.0, 'gaps in the stamps up to this long are filled with silence, s; '
        'longer ones end the utterance', (0.0, 30.0), read=AT_ACTIVATE),
    Row('audio_timeout_s', 3.0, 'this long without audio is an error in the diagnostics, s; 0: '
        'never (push to talk)', (0.0, 3600.0), read=ALWAYS),
    Row('endpoint.silence_s', 0.8, 'pause after which an utterance ends, s', (0.1, 10.0),
        read=ALWAYS),
    Row('endpoint.max_utterance_s', 30.0, 'longer utterances are cut at a word, s', (2.0, 600.0),
        read=ALWAYS),
    Row('endpoint.min_speech_probability', 0.1, 'words are discarded where voice activity stayed '
        'under this; 0 keeps all', (0.0, 1.0), read=ALWAYS),
    Row('turn.eager_s', 0.25, 'pause after which the stream looks ahead and publishes EAGER_END, '
        'the whole text if the turn is over, s; 0: never, and finals come later',
        (0.0, 10.0), read=ALWAYS),
    Row('turn.punctuated_silence_s', 0.0, 'pause that ends an utterance whose text ends a '
        'sentence, s; 0: as any other', (0.0, 10.0), read=ALWAYS),
    Row('idle.after_s', 2.0, 'after this long without anything like speech, the model gets no '
        'audio and costs nothing, s; 0: never', (0.0, 3600.0), read=ALWAYS),
    Row('idle.preroll_s', 1.0, 'audio that the model gets first when speech begins, s',
        (0.3, 5.0), read=ALWAYS),
    Row('idle.threshold', 0.1, 'probability of speech above which it wakes, if '
        'endpoint.min_speech_probability is not lower', (0.01, 0.95), read=ALWAYS),
    Row('vad.threshold', 0.5, 'probability above which audio counts as speech', (0.05, 0.95),
        read=ALWAYS),
    Row('watchdog.speech_s', 8.0, 'seconds of speech without a word before the watchdog acts; 0: '
        'never', (0.0, 60.0), read=ALWAYS),
    Row('watchdog.repeated_tokens', 24, 'tokens that only repeat the ones before (a word has one '
        'or two) are a repetition loop, which the watchdog breaks; 0: never', (0, 1000),
        read=ALWAYS),
    Row('watchdog.step_s', 10.0, 'a step of the recogniser that takes longer is an error in the '
        'diagnostics, s; after twice that an autostarted node starts its process anew; 0: never',
        (0.0, 600.0), read=ALWAYS),
    Row('phrases.list', [], 'names, objects and orders to expect: they are recognised more often; '
        'one may have a boost of its own, as in Kowalski :2.5', read=ALWAYS),
    Row('phrases.file', '', 'file with more of them, one in a line, UTF-8', read=ALWAYS),
    Row('phrases.boost', 2.0, 'boost of phrases that have none of their own: more finds more of '
        'them, also where others were said; 0: none', (0.0, 10.0), read=ALWAYS),
    Row('listen.begin_timeout_s', 10.0, 'a goal of ~/listen without a limit of its own ends if '
        'nobody has begun to speak by then, s; 0: never', (0.0, 3600.0), read=ALWAYS),
    Row('listen.max_duration_s', 60.0, 'longest time that a goal of ~/listen without a limit of '
        'its own takes, s; 0: any', (0.0, 3600.0), read=ALWAYS),
    Row('wake.phrases', [], 'nothing is published until somebody says one of them, such as hey '
        'robot; small errors are forgiven; empty: everything is', read=ALWAYS),
    Row('wake.boost', 1.0, 'boost of wake phrases that have none of their own: more misses fewer, '
        'and wakes more often for words that sound alike; 0: none', (0.0, 10.0), read=ALWAYS),
    Row('wake.timeout_s', 8.0, 'the node sleeps again after this long without an utterance, s; '
        '0: never', (0.0, 3600.0), read=ALWAYS),
    Row('wake.similarity', 0.8, 'share of the letters of a wake phrase that have to be right: '
        'less misses fewer and wakes for other words more often', (0.5, 1.0), read=ALWAYS),
    Row('wake.publish_all', False, 'publish everything, and mark what is for the robot (awake)',
        read=ALWAYS),
    Row('robot_speaking_mode', 'mute', 'while robot_speaking is true: mute the input, mark '
        'transcripts, duck (publish what is said, without the words of robot_text; with '
        'echo.cancellation), or ignore it', choices=('mute', 'mark', 'duck', 'ignore'),
        read=ALWAYS),
    Row('robot_speaking_tail_s', 0.3, 'how long that goes on after it has become false, s',
        (0.0, 10.0), read=ALWAYS),
    Row('echo.cancellation', False, 'take what the robot plays out of the audio; needs '
        'pywebrtc-audio', read=AT_ACTIVATE),
    Row('echo.noise_suppression', False, 'take steady noise out of the audio; needs '
        'pywebrtc-audio', read=AT_ACTIVATE),
    Row('echo.gain_control', False, 'make quiet speech louder; needs pywebrtc-audio',
        read=AT_ACTIVATE),
    Row('echo.reference', 'playback', 'source of what the robot plays: the topic playback, or the '
        'monitor of an output device (PulseAudio, PipeWire)',
        choices=('playback', 'monitor'), read=AT_ACTIVATE),
    Row('echo.monitor', '', 'name of that monitor, or part of it, as pactl list short sources '
        'shows it; empty: that of the default output', read=AT_ACTIVATE),
    Row('echo.wait_s', 0.6, 'how long the audio waits for what the robot plays, at most, s',
        (0.0, 3.0), read=AT_ACTIVATE),
    Row('text.min_confidence', 0.25, 'utterances of less confidence, as of speech in a language '
        'that the model does not know, are left out of transcript/text; 0: none', (0.0, 1.0),
        read=ALWAYS),
    Row('partial_rate_hz', 0.0, 'partial transcripts per second at most; 0: on every change',
        (0.0, 50.0), read=ALWAYS),
    Row('capture.folder', '', 'folder in which every published utterance is kept, audio and text: '
        'tell people before you do; empty: none is kept', read=ALWAYS),
    Row('capture.max_mb', 1000, 'size of that folder at which the oldest utterances are removed, '
        'MB', (10, 10_000_000), read=ALWAYS),
    Row('capture.max_days', 30.0, 'age at which they are removed, days; 0: any', (0.0, 3650.0),
        read=ALWAYS),
    Row('log_transcripts', True, 'write final transcripts to the log', read=ALWAYS),
    Row('hri_voice', 'anonymous_speaker', 'if hri_msgs is installed, transcripts also go to '
        '/humans/voices/<this>/speech (REP-155); empty: not',
        pattern=r'([A-Za-z_][A-Za-z0-9_]*)?', like='letters, digits and _, no digit first'),
)
ROWS = {row.name: row for row in TABLE}
QOS_OVERRIDES = 'qos_overrides.'  # of the audio topic: declared with its subscription


def suggestion(name: str, names: Iterable[str]) -> str:
    """Return `: did you mean ...?` for a wrong name, '' when none is near."""
    near = get_close_matches(name, names, n=1, cutoff=0.5)
    return f': did you mean {near[0]}?' if near else ''
