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
The cancellers and what follows them, for frames of 10 ms that are aligned with their reference.

WebRTC's canceller leaves next to nothing of an echo, and of a person who speaks meanwhile not
much. Speex's leaves the person, and more of the echo. So the one says whether somebody speaks:
while its result has a voice in it, the result of the other is taken.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np

from voxtral_ros.audio.block import AudioError, Samples
from voxtral_ros.audio.echo_linear import LinearCanceller
from voxtral_ros.audio.echo_meter import FRAME
from voxtral_ros.audio.resample import TARGET_RATE_HZ

# What WebRTC delays the audio by, samples.
_CANCELLER_DELAY, _SUPPRESSOR_DELAY = 128, 96
# Of the loudest of the microphone in the last second, -25 dB: less of it is left where it is only
# echo. In the second, because an echo dies away more slowly than what WebRTC leaves of it.
_OPEN_RATIO, _LOUDEST = 10 ** -2.5, 100
_FLOOR = 10 ** -6.5  # -65 dBFS: less is noise
_HOLD, _AHEAD = 100, 8  # frames for which it stays open, and before which it opens
_SMOOTH = 10  # frames that are judged together


class EchoProcessor:
    """Cancels the echo, and then suppresses noise and controls the gain; each as is wanted."""

    def __init__(self, echo_cancellation: bool, noise_suppression: bool,
                 gain_control: bool) -> None:
        """Load the libraries; raise AudioError where one is missing."""
        self._strict = self._linear = self._after = None
        self.delay = 0  # samples by which the result is late
        if echo_cancellation:
            self._strict = _webrtc(echo_cancellation=True)
            self._linear = LinearCanceller()
            self._late = _Delay(_CANCELLER_DELAY)
            self._gate = _Gate()
            self.delay += _CANCELLER_DELAY + _AHEAD * FRAME
        if noise_suppression or gain_control:
            self._after = _webrtc(
                noise_suppression=noise_suppression, auto_gain_control=gain_control)
            self.delay += _SUPPRESSOR_DELAY * noise_suppression

    def process(self, near: Samples, far: Samples) -> Samples:
        """Return the result for as many samples, float32 [n * 160], `delay` later."""
        out = near
        if self._strict is not None and self._linear is not None:
            strict = self._strict.process(near, far)
            linear = self._late(self._linear.process(near, far))
            out = self._gate(near, strict, linear)
        return self._after.process(out) if self._after is not None else out


class _Gate:
    """Takes the linear result while somebody speaks, and the strict one otherwise."""

    def __init__(self) -> None:
        self._strict, self._linear = _Delay(_AHEAD * FRAME), _Delay(_AHEAD * FRAME)
        self._powers: deque[tuple[float, float]] = deque(maxlen=_SMOOTH)
        self._loudness: deque[float] = deque(maxlen=_LOUDEST)  # powers of the microphone
        self._open = 0  # frames for which it still is
        self._weight = np.zeros(0, np.float32)

    def __call__(self, near: Samples, strict: Samples, linear: Samples) -> Samples:
        """Return one or the other, frame by frame, with a ramp between them."""
        share = []
        for begin in range(0, len(strict), FRAME):
            here = slice(begin, begin + FRAME)
            self._powers.append((float(np.square(strict[here]).mean()),
                                 float(np.square(near[here]).mean())))
            left, all_of_it = np.sum(self._powers, axis=0) / _SMOOTH
            self._loudness.append(float(all_of_it))
            is_voice = left > max(_FLOOR, _OPEN_RATIO * max(self._loudness))
            self._open = _HOLD + _AHEAD if is_voice else max(0, self._open - 1)
            share.append(float(self._open > 0))
        last = self._weight[-1:] if len(self._weight) else np.zeros(1, np.float32)
        ends = np.concatenate((last, np.array(share, np.float32)))
        # [frames * 160]: from the end of one frame to that of the next
        self._weight = np.interp(np.arange(1, len(strict) + 1) / FRAME, np.arange(len(ends)),
                                 ends).astype(np.float32)
        strict, linear = self._strict(strict), self._linear(linear)
        return np.asarray(strict + self._weight * (linear - strict), np.float32)


class _Delay:
    """Holds samples back."""

    def __init__(self, n: int) -> None:
        self._held = np.zeros(n, np.float32)

    def __call__(self, samples: Samples) -> Samples:
        joined = np.concatenate((self._held, samples))
        self._held = joined[len(samples):]
        return joined[:len(samples)]


def _webrtc(**options: bool) -> Any:
    try:
        from pywebrtc_audio import AudioProcessor
    except ImportError as error:
        raise AudioError(
            'echo cancellation, noise suppression and gain control need the package '
            f'pywebrtc-audio ({error}): pip install pywebrtc-audio') from error
    return AudioProcessor(sample_rate=TARGET_RATE_HZ, **options)
