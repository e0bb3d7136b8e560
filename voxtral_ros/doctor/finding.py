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

"""What a check has found: a state, a sentence, and what to do next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal['ok', 'look', 'wrong']


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    name: str  # of the check
    state: State  # 'look': it works, but not as well as it could, or that is not known
    text: str  # what was found
    advice: str = ''  # what to do next, where the state is not ok


def ok(name: str, text: str) -> Finding:
    """Return what is as it should be."""
    return Finding(name, 'ok', text)


def look(name: str, text: str, advice: str) -> Finding:
    """Return what somebody should have a look at."""
    return Finding(name, 'look', text, advice)


def wrong(name: str, text: str, advice: str) -> Finding:
    """Return what keeps something from working."""
    return Finding(name, 'wrong', text, advice)
