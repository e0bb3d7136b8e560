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

"""The first of four spoken orders, for what is played at its own pace."""

from pathlib import Path

import soundfile

ORDERS = Path(__file__).resolve().parents[1] / 'data' / 'orders.flac'
ENDS_S = (4.4, 8.0, 12.0, 17.7)  # in the pauses


def first_orders(folder: Path, n: int) -> Path:
    """Write a file with the first n orders and return its path."""
    samples, rate_hz = soundfile.read(ORDERS)
    path = folder / 'orders.wav'
    soundfile.write(path, samples[:round(ENDS_S[n - 1] * rate_hz)], rate_hz)
    return path
