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

"""What the node keeps of what it recognises, if `capture.folder` says so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TYPE_CHECKING

import numpy as np
from rclpy.parameter import Parameter

from voxtral_ros.msg import Transcript as TranscriptMessage
from voxtral_ros.node import parameters
from voxtral_ros.node.stamps import Origin
from voxtral_ros.recognizer.capture import CaptureStatus, Recorder
from voxtral_ros.recognizer.capture_folder import CaptureFolder, FolderLimits
from voxtral_ros.recognizer.events import Transcript
from voxtral_ros.recognizer.wake_gate import Gated

if TYPE_CHECKING:
    from voxtral_ros.node.asr import AsrNode

_FOLDER = {'capture.folder', 'capture.max_mb', 'capture.max_days'}
_LENGTH = {'endpoint.max_utterance_s', 'engine.outage_s'}
_LATE_S = 10.0  # by which the text of an utterance may be late
_DAY_S = 86_400.0


class Capture:
    """Has a recorder while the node is active and there is a folder."""

    def __init__(self, node: AsrNode) -> None:
        self._node = node
        self._recorder: Recorder | None = None
        self._active = False

    @property
    def status(self) -> CaptureStatus | None:
        recorder = self._recorder
        return recorder.status if recorder is not None else None

    # ---- for the executor ----

    def begin(self) -> None:
        """Keep what is recognised from now on."""
        self._active = True
        self._open(parameters.value_of(self._node))

    def change(self, changes: Sequence[Parameter]) -> None:
        """Take changes of parameters over: another folder counts from the next utterance on."""
        names = {change.name for change in changes}
        value = parameters.value_of(self._node, changes)
        if self._active and names & _FOLDER:
            self._close(0.0)
            self._open(value)
        elif self._recorder is not None and names & _LENGTH:
            self._recorder.longest_s = _longest_s(value)

    def end(self) -> None:
        """Write what waits, and keep nothing more."""
        self._active = False
        self._close(5.0)

    def _open(self, value: Callable[[str], Any]) -> None:
        folder = value('capture.folder').strip()
        if not folder:
            return
        limits = FolderLimits(1e6 * value('capture.max_mb'), _DAY_S * value('capture.max_days'))
        path = Path(folder).expanduser().absolute()
        self._recorder = Recorder(CaptureFolder(path, limits), _longest_s(value))
        self._node.get_logger().info(
            f'what people say is kept in {path}, audio and text (capture.folder)')

    def _close(self, patience_s: float) -> None:
        recorder, self._recorder = self._recorder, None
        if recorder is not None and not recorder.close(patience_s) and patience_s:
            self._node.get_logger().warn(
                f'the last utterances are not in {recorder.status.folder} yet: it is slow')

    # ---- for the thread of the worker ----

    def feed(self, samples: np.ndarray, position: int, *, before: bool = False) -> None:
        """Remember audio, as of Recorder.feed."""
        recorder = self._recorder
        if recorder is not None:
            recorder.feed(samples, position, before=before)

    def keep(self, item: Gated, origin: Origin, message: TranscriptMessage) -> None:
        """Keep a final transcript that was published."""
        recorder, transcript = self._recorder, item.event
        if recorder is not None and isinstance(transcript, Transcript):
            recorder.keep(transcript, origin.stamp_ns, {
                'frame_id': message.header.frame_id, 'robot_speaking': message.robot_speaking,
                'awake': message.awake, 'node': self._node.get_fully_qualified_name(),
                'parameters': self._parameters()}, cut=item.cut)

    def _parameters(self) -> dict[str, Any]:
        """Return what the text depends on, apart from the audio."""
        node = self._node
        value = parameters.value_of(node)
        return {'model': node.model, 'delay_ms': value('delay_ms'), 'source': value('source'),
                'channel': value('channel'),
                'phrases': [phrase.text for phrase in node.phrases.expected.phrases]}


def _longest_s(value: Callable[[str], Any]) -> float:
    """Return how long after the start of an utterance its final transcript may come, s."""
    outage_s = value('engine.outage_s') if value('engine.url').strip() else 0.0
    return float(value('endpoint.max_utterance_s') + outage_s + _LATE_S)
