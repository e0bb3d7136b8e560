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
"""A microphone through PortAudio (sounddevice): stamped blocks, honest about what is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
import contextlib
from dataclasses import dataclass
import queue
import threading
import time
from types import TracebackType
from typing import Any

from voxtral_ros.audio.block import AudioBlock, AudioError, check_rate
from voxtral_ros.audio.channels import AUTOMATIC, Downmix
from voxtral_ros.audio.pcm import decode, NATIVE

_COMMON_RATES_HZ = (48_000, 44_100, 32_000, 96_000, 192_000, 8_000)
# ALSA's virtual devices claim 32 or 128 channels; opening those would mix silence.
_MOST_REAL_CHANNELS = 8
# PulseAudio overstates the age of samples by up to 0.6 s until its timing has settled (measured:
# 1.4 s), while the samples follow each other without a gap. In that time we believe no age that
# is above what PortAudio's own buffer can hold twice over.
_SETTLING_S = 3.0
# A stamp may be earlier than the one before it only if the clock was set back by more.
_CLOCK_SET_BACK_NS = 1_000_000_000

_lock = threading.RLock()  # guards these two, and the device list while one is being opened
_n_open = 0
_fresh = True  # PortAudio's list of devices is as of its start


@dataclass(frozen=True)
class DeviceInfo:
    """An input device as PortAudio lists it."""

    index: int
    name: str
    channels: int  # inputs
    default_rate_hz: int

    def __str__(self) -> str:
        """Return one line for a list of devices."""
        return f'[{self.index}] {self.name} ({self.channels} ch, {self.default_rate_hz} Hz)'


def list_devices() -> list[DeviceInfo]:
    """
    Return the input devices that are plugged in now.

    While a Microphone is open, it is the list as of when the first was opened: PortAudio sees
    what was plugged in or out only when it is restarted. Raise AudioError without PortAudio.
    """
    sd = _portaudio()
    return [_info(entry) for entry in sd.query_devices() if entry['max_input_channels'] > 0]


def find_device(name_or_index: str = '') -> DeviceInfo:
    """
    Choose an input device: '' is the system's default, digits an index, else part of a name.

    Case is ignored. A name that is equal as a whole wins over names that contain it. Raise
    AudioError, listing what there is, when none or several fit.
    """
    devices = list_devices()
    wanted = name_or_index.strip().casefold()
    if not wanted:
        index = _default_index()
        found = [device for device in devices if device.index == index]
        problem = 'the system has no default microphone'
    elif wanted.isdecimal():
        found = [device for device in devices if device.index == int(wanted)]
        problem = f'there is no input device with index {wanted}'
    else:
        found = [device for device in devices if wanted in device.name.casefold()]
        exact = [device for device in found if wanted == device.name.casefold()]
        found = exact if len(exact) == 1 else found
        problem = (f'{name_or_index!r} fits {len(found)} input devices' if found
                   else f'no input device has {name_or_index!r} in its name')
    if len(found) == 1:
        return found[0]
    listing = '\n'.join(f'  {device}' for device in devices) or '  (none)'
    raise AudioError(
        f'{problem}; choose by index or by part of a name from these input devices:\n{listing}')


@contextlib.contextmanager
def opening_microphone(name: str = '') -> Iterator[DeviceInfo]:
    """Give a device to streams that are opened meanwhile, see find_device."""
    yield find_device(name)


class Microphone:
    """
    An open microphone, recording from construction to `close`; also a context manager.

    `overflows` counts what PortAudio lost before it reached us, `dropped_blocks` what nobody
    read in time (the oldest goes first). Both show up as gaps in the stamps.
    One thread may `read` while another one calls `close`.
    """

    def __init__(
            self, device: str = '', *, now_ns: Callable[[], int], channel: int | str = AUTOMATIC,
            preferred_rate_hz: int = 16_000, block_s: float = 0.02, queue_s: float = 10.0,
            lost_after_s: float = 5.0, frame_id: str = '',
            opening: Callable[[str], contextlib.AbstractContextManager[DeviceInfo]]
            = opening_microphone) -> None:
        """
        Open `device` (see find_device) and start recording.

        The rate is `preferred_rate_hz` or else whatever the device offers: see `rate_hz`.
        `channel` is as in Downmix. `now_ns` is the clock of the stamps.
        `lost_after_s` must be longer than the device takes to deliver its first block: an idle
        PulseAudio was seen to need 1.9 s.
        `opening` finds the device while it is opened.
        Raise AudioError when there is no such device or channel, or it cannot be opened.
        """
        self.overflows = 0
        self.dropped_blocks = 0
        self._now_ns = now_ns
        self._opening = opening
        self._channel, self._downmix = channel, Downmix(channel)
        self._frame_id = frame_id
        self._lost_after_s = lost_after_s
        self._queue: queue.SimpleQueue[tuple[bytes, float] | None] = queue.SimpleQueue()
        self._queue_blocks = max(1, round(queue_s / block_s))
        self._closing = threading.Lock()
        self._closed = False
        self._ended = False
        self._last_stamp_ns: int | None = None
        self._first_s: float | None = None  # PortAudio's time of the first block
        self.device, self.channels, self._stream = self._open(device, preferred_rate_hz, block_s)
        self.rate_hz = round(self._stream.samplerate)
        self._last_data_s = time.monotonic()
        try:
            self._stream.start()
        except Exception as error:
            self.close()
            raise AudioError(f'cannot start recording from {self.device}: {error}') from error

    @property
    def audio_format(self) -> str:
        """Return what is recorded, in words."""
        return f'S16{NATIVE}, {self.channels} ch, {self.rate_hz} Hz'

    @property
    def warning(self) -> str:
        """Return what is doubtful about the audio and what to do, or ''."""
        return self._downmix.trouble

    def read(self, timeout_s: float = 0.5) -> AudioBlock | None:
        """
        Return the next block, or None when none came within `timeout_s` or on `close`.

        The stamp is the ADC time of the first sample as PortAudio reports it, on the clock
        `now_ns`: now minus the age of the sample. It is good to 1 ms straight from the hardware
        and 10 ms through PulseAudio (0.1 s in the first 3 s), and increases from block to block
        unless the clock is set back by more than 1 s.

        Raise AudioError ('microphone gone ...') when the stream has ended by itself or has
        delivered nothing for `lost_after_s`, and when the microphone was closed before.
        """
        if self._closed:
            raise AudioError(f'the microphone {self.device} is closed')
        quiet_s = time.monotonic() - self._last_data_s
        patience_s = max(0.0, self._lost_after_s - quiet_s)
        try:
            captured = self._queue.get(timeout=min(timeout_s, patience_s))
        except queue.Empty:
            captured = None
            quiet_s = time.monotonic() - self._last_data_s
            if not self._ended and quiet_s < self._lost_after_s:
                return None
        if captured is None:
            if self._closed:
                return None
            why = 'the stream has ended' if self._ended else f'no data for {quiet_s:.1f} s'
            raise AudioError(
                f'microphone gone: {self.device}, {why}; is it still plugged in? '
                'Close it and open it again')
        data, adc_s = captured
        stamp_ns = self._stamp(adc_s)
        if stamp_ns is None:
            return None
        self._last_data_s = time.monotonic()
        frames, _ = decode(data, 'S16' + NATIVE, self.channels)
        samples = self._downmix(frames, self.rate_hz)
        return AudioBlock(samples, self.rate_hz, stamp_ns, self._frame_id)

    def close(self) -> None:
        """Stop recording and release the device; unread blocks are lost. May be repeated."""
        global _n_open
        with self._closing:
            if self._closed:
                return
            self._closed = True
            self._queue.put(None)  # wakes a reader
            self._stream.abort(ignore_errors=True)
            self._stream.close(ignore_errors=True)
        with _lock:
            _n_open -= 1

    def __enter__(self) -> Microphone:
        """Return the microphone, which records already."""
        return self

    def __exit__(
            self, exc_type: type[BaseException] | None, exc: BaseException | None,
            traceback: TracebackType | None) -> None:
        """Close the microphone."""
        self.close()

    def _open(
            self, name: str, preferred_rate_hz: int,
            block_s: float) -> tuple[DeviceInfo, int, Any]:
        """Return the device, its number of channels and the first stream it agrees to."""
        global _n_open
        with _lock, self._opening(name) as device:
            try:
                self._downmix.check(device.channels)
            except AudioError as error:
                raise AudioError(f'{device}: {error}') from None
            sd = _sounddevice()
            refusals: dict[str, None] = {}  # an ordered set
            for channels, rate_hz in _layouts(
                    device, self._downmix.find(device.channels), check_rate(preferred_rate_hz),
                    whole=isinstance(self._channel, str)):
                try:
                    stream = sd.RawInputStream(
                        samplerate=rate_hz, channels=channels, device=device.index,
                        dtype='int16', blocksize=round(block_s * rate_hz),
                        callback=self._on_audio, finished_callback=self._on_end)
                except (sd.PortAudioError, ValueError) as error:
                    refusals[str(error)] = None
                else:
                    _n_open += 1
                    return device, channels, stream
        raise AudioError(
            f'cannot open the microphone {device}: {"; ".join(refusals)}. '
            'Is another program using it?')

    def _on_audio(self, data: Any, frames: int, times: Any, status: Any) -> None:
        """Copy one block into the queue; PortAudio's thread is waiting for us."""
        if status.input_overflow:
            self.overflows += 1
        if self._queue.qsize() >= self._queue_blocks:
            with contextlib.suppress(queue.Empty):  # the reader was faster
                self._queue.get_nowait()
                self.dropped_blocks += 1
        self._queue.put((bytes(data), self._adc_time(frames / self.rate_hz, times)))

    def _adc_time(self, block_s: float, times: Any) -> float:
        """Return the ADC time of a block's first sample, in s on PortAudio's clock."""
        now_s: float = times.currentTime or self._stream.time
        self._first_s = now_s if self._first_s is None else self._first_s
        adc_s: float = times.inputBufferAdcTime or now_s  # some host APIs do not know it: 0
        if now_s - self._first_s < _SETTLING_S:
            adc_s = max(adc_s, now_s - block_s - 2 * self._stream.latency)
        return min(adc_s, now_s - block_s)  # the last sample is not from the future

    def _on_end(self) -> None:
        self._ended = True
        self._queue.put(None)

    def _stamp(self, adc_s: float) -> int | None:
        """Return an ADC time on the caller's clock; None when closed in the meantime."""
        with self._closing:  # a closed stream has no time
            if self._closed:
                return None
            age_s = self._stream.time - adc_s
            stamp_ns: int = self._now_ns() - round(age_s * 1e9)
        last_ns = self._last_stamp_ns
        if last_ns is not None and 0 <= last_ns - stamp_ns < _CLOCK_SET_BACK_NS:
            stamp_ns = last_ns + 1
        self._last_stamp_ns = stamp_ns
        return stamp_ns


def _layouts(
        device: DeviceInfo, channel: int, preferred_rate_hz: int, *,
        whole: bool = False) -> Iterator[tuple[int, int]]:
    """
    Yield (channels, rate in Hz) in the order in which to try them on a device.

    :param whole: fewer channels than it has may not be its first ones
    """
    every = device.channels
    needed = every if whole else max(1, channel + 1)
    counts = (every, needed) if every <= _MOST_REAL_CHANNELS else (needed, every)
    rates = (preferred_rate_hz, device.default_rate_hz, *_COMMON_RATES_HZ)
    for channels in dict.fromkeys(counts):
        for rate_hz in dict.fromkeys(rates):
            yield channels, rate_hz


def _sounddevice() -> Any:
    """Import sounddevice, which starts PortAudio, only when a microphone is wanted."""
    try:
        import sounddevice
    except (ImportError, OSError) as error:
        raise AudioError(
            f'no microphone support: {error}; install PortAudio and its Python package: '
            'apt install libportaudio2, pip install sounddevice') from error
    return sounddevice


def _portaudio() -> Any:
    """Return sounddevice with a device list as fresh as possible."""
    global _fresh
    sd = _sounddevice()
    with _lock:
        if not _fresh and _n_open == 0:
            # The only way, recommended by its author:
            # https://github.com/spatialaudio/python-sounddevice/issues/125
            try:
                sd._terminate()
                sd._initialize()
            except sd.PortAudioError as error:
                raise AudioError(f'PortAudio does not start: {error}') from error
        _fresh = False
    return sd


def _default_index() -> int:
    return int(_sounddevice().default.device[0])


def _info(entry: Any) -> DeviceInfo:
    return DeviceInfo(
        int(entry['index']), str(entry['name']), int(entry['max_input_channels']),
        round(entry['default_samplerate']))
