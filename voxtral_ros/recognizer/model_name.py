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

"""What a model is called: the same one has several names, by the folder that it was put in."""

from __future__ import annotations

from collections.abc import Sequence


def matching_model(asked: str, names: Sequence[str]) -> str:
    """
    Return the one of several names that means the model asked for, '' if there is none.

    That is the same name, or the only one with the same last part:
    mistralai/Voxtral-Mini-4B-Realtime-2602 is Voxtral-Mini-4B-Realtime-2602 and also
    models/Voxtral-Mini-4B-Realtime-2602.
    """
    if asked in names:
        return asked
    last = _last_part(asked)
    same = [name for name in names if last and _last_part(name) == last]
    return same[0] if len(same) == 1 else ''


def _last_part(name: str) -> str:
    return name.replace('\\', '/').rstrip('/').rpartition('/')[2].lower()
