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
Where the node's audio comes from: a topic, a microphone or a file.

A source starts when it is made and hands out blocks with the time at which they were received,
until it is closed. Trouble is reported through `warn` and does not end it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
import threading
import time
from typing import Protocol

from rclpy.lifecycle import LifecycleNode

from voxtral_ros.audio.block import AudioBlock, AudioError
from voxtral_ros.audio.files import read_file
from voxtral_ros.audio.microphone import Microphone, opening_microphone
from voxtral_ros.audio.monitor import opening_monitor

Received = tuple[AudioBlock, int]  # and when, ns on the node's clock
Put = Callable[[list[Received]], None]
Warn = Callable[[str], None]

_RETRY_S = (0.5, 1.0, 2.0, 5.0, 10.0)


class Source(Protocol):
    """What the node needs of a source."""

    hint: str  # what to do when no audio comes from it
    live: bool  # audio ought to come as fast as time passes

    @property
    def description(self) -> str:
        """Return what it is, in words."""

    @property
    def trouble(self) -> str:
        """Return why no audio can come now and what to do, '' when it can."""

    @property
    def warning(self) -> str:
        """Return what is doubtful about the audio that comes and what to do, or ''."""

    @property
    def audio_format(self) -> str:
        """Return the format in which the audio comes, '' when it is not known."""

    @property
    def assumed(self) -> bool:
        """Return whether that format is only assumed."""

    @property
    def overflows(self) -> int:
        """Return how often audio was lost before it reached us, as far as that is known."""

    def look(self) -> None:
        """Follow what changes around it; called once a second, by the executor."""

    def close(self) -> None:
        """Stop handing out blocks and free what was taken."""


class _ThreadSource:
    """A source with a thread of its own."""

    description = hint = trouble = warning = audio_format = ''
    live = True
    assumed = False
    overflows = 0

    def __init__(self) -> None:
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name='audio source', daemon=True)

    def _run(self) -> None:
        raise AssertionError('a subclass defines what runs')

    def look(self) -> None:
        """Do nothing: the thread sees for itself."""

    def close(self) -> None:
        """End the thread."""
        self._closed.set()
        self._thread.join(5.0)


class MicrophoneSource(_ThreadSource):
    """A microphone; when it goes away, it is tried again with growing pauses."""

    hint = 'is the microphone connected and not taken by another program?'

    def __init__(self, node: LifecycleNode, put: Put, warn: Warn, name: str, channel: int | str,
                 frame_id: str, monitor: bool = False) -> None:
        """
        Open the device, or the monitor of an output.

        :raises AudioError: there is none such; the message lists those there are
        """
        super().__init__()
        self._put, self._warn = put, warn
        self._now_ns = lambda: node.get_clock().now().nanoseconds
        self._open = partial(Microphone, name, now_ns=self._now_ns, channel=channel,
                             frame_id=frame_id,
                             opening=opening_monitor if monitor else opening_microphone)
        self._microphone: Microphone | None = self._open()
        self.description = f'{"monitor" if monitor else "microphone"} {self._microphone.device}'
        self._thread.start()

    def _run(self) -> None:
        attempt = lost_before = 0
        while not self._closed.is_set():
            try:
                if self._microphone is None:
                    self._microphone = self._open()
                    lost_before = self.overflows
                block = self._microphone.read(0.2)
                self.overflows = lost_before + self._microphone.overflows \
                    + self._microphone.dropped_blocks
                self.audio_format = self._microphone.audio_format
                self.warning = self._microphone.warning
                if block is not None:
                    attempt = 0
                    self.trouble = ''
                    self._put([(block, self._now_ns())])
            except Exception as error:  # whatever PortAudio may think of
                pause_s = _RETRY_S[min(attempt, len(_RETRY_S) - 1)]
                self.trouble = f'{error}; trying again in {pause_s:g} s'
                self._warn(self.trouble)
                attempt += 1
                self._drop()
                self._closed.wait(pause_s)
        self._drop()

    def _drop(self) -> None:
        if self._microphone is not None:
            self._microphone.close()
            self._microphone = None


class FileSource(_ThreadSource):
    """A file, at its own pace or as fast as it is taken."""

    hint = 'is the disk slow?'

    def __init__(self, node: LifecycleNode, put: Put, warn: Warn, path: str, channel: int | str,
                 frame_id: str, realtime: bool, waiting_s: Callable[[], float],
                 ended: Callable[[], None]) -> None:
        """
        Open the file; raise AudioError when it cannot be read.

        :param waiting_s: how much audio is queued: the file waits for it to become little
        :param ended: called when all of the file was handed out
        """
        super().__init__()
        self._put, self._warn, self._frame_id = put, warn, frame_id
        self._realtime, self._waiting_s, self._ended = realtime, waiting_s, ended
        self._logger = node.get_logger()
        self._now_ns = lambda: node.get_clock().now().nanoseconds
        if not path:
            raise AudioError('source is file, but the parameter file is empty')
        self._blocks = read_file(path, block_s=0.08, channel=channel)
        self.description = f'file {path}'
        self.live = realtime
        self._thread.start()

    def _run(self) -> None:
        start_ns, start = self._now_ns(), time.monotonic()
        try:
            for block in self._blocks:
                stamp_ns = start_ns + (block.stamp_ns or 0)
                stamped = AudioBlock(block.samples, block.rate_hz, stamp_ns, self._frame_id,
                                     block.n_bad)
                end_s = ((block.stamp_ns or 0) + block.duration_ns) / 1e9
                while not self._closed.is_set() and (
                        time.monotonic() - start < end_s if self._realtime
                        else self._waiting_s() > 2.0):
                    self._closed.wait(0.005 if self._realtime else 0.05)
                if self._closed.is_set():
                    return
                self._put([(stamped, self._now_ns())])
        except Exception as error:
            self.trouble = str(error)
            self._warn(self.trouble)
        self.live = False
        self._logger.info(f'the {self.description} has ended')
        self.description += ', which has ended'
        self._ended()
