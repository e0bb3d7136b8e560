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
Microphone arrays that process what they hear, and the channel in which they send it.

As their makers publish it. Nothing but the standard library is imported: the table of the node's
parameters needs the names.
"""

from __future__ import annotations

from typing import NamedTuple

MEAN = -2
MOST_CHANNELS = 64


class MicrophoneArray(NamedTuple):
    """A device; a single channel is taken as it is."""

    product: str
    channels: dict[int, int]  # number of channels that it sends -> the processed one, from 0


ARRAYS = {
    # 1 to 4 are the microphones, 5 is what is played.
    'respeaker_xvf3000': MicrophoneArray(
        'ReSpeaker Mic Array v2.0 or USB 4 Mic Array', {6: 0}),
    # 0 is for people, with noise suppression and gain control, 2 to 5 are the microphones.
    'respeaker_xvf3800': MicrophoneArray('ReSpeaker XVF3800 4-Mic Array', {2: 1, 6: 1}),
    # 0 and 1 are the same, 2 to 5 are the microphones.
    'reachy_mini': MicrophoneArray('Reachy Mini', {2: 0, 6: 0}),
}
KNOWN = f'a whole number from {MEAN} to {MOST_CHANNELS - 1}, or ' + ' or '.join(ARRAYS)


def parse_channel(text: str) -> int | str:
    """
    Return the number of a channel, or the name of an array.

    :raises ValueError: it is neither
    """
    if text in ARRAYS:
        return text
    try:
        number = int(text)
    except ValueError:
        number = MOST_CHANNELS
    if not MEAN <= number < MOST_CHANNELS:
        raise ValueError(f'channel is {text!r}, expected {KNOWN}')
    return number
