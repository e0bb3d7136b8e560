#!/usr/bin/env python3
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
Write config/asr.yaml and docs/parameters.md from the table in voxtral_ros/node/parameter_table.py.

    python tools/write_parameters.py            write both files
    python tools/write_parameters.py --check    fail when one of them is not up to date
"""

import argparse
import json
from pathlib import Path
import sys
import textwrap

from voxtral_ros.node.parameter_table import ALWAYS, AT_ACTIVATE, AT_CONFIGURE, TABLE

ROOT = Path(__file__).resolve().parents[1]
CHANGED = {AT_CONFIGURE: 'unconfigured', AT_ACTIVATE: 'inactive', ALWAYS: 'always'}
YAML_HEAD = """\
# Every parameter of the node with its default. Copy it, change it, and start the node with
#   ros2 launch voxtral_ros asr.launch.py params_file:=FILE
# With `ros2 param set`, what is read at configure can be changed while the node is unconfigured,
# what is read at activate while it is not active, and the rest at any time.
# Made by tools/write_parameters.py.
/**:
  ros__parameters:
"""
DOCS_HEAD = """\
# Parameters of the node

Every parameter with its default, its values and when it can change.

```
ros2 launch voxtral_ros asr.launch.py microphone:=2 endpoint.silence_s:=1.2   # as launch arguments
ros2 launch voxtral_ros asr.launch.py params_file:=mine.yaml                  # as a file
ros2 param set /asr endpoint.silence_s 1.2                                    # of a running node
ros2 param describe /asr endpoint.silence_s                                   # its description
```

[config/asr.yaml](../config/asr.yaml) lists the same as a file to copy. Both are written by
`tools/write_parameters.py` from the table in `voxtral_ros/node/parameter_table.py`.

| changed while | `ros2 param set` |
|---|---|
| always | takes effect at once, also in the middle of an utterance |
| inactive | is read at activate: an active node refuses it |
| unconfigured | is read at configure: an inactive or active node refuses it |

Values are checked when they are set. A number may stand for a text (`microphone: 2`), a whole
number for another (`endpoint.silence_s: 1`), and a number or true in quotes for its content. An
invalid value makes configure fail, with the reason, until it is corrected. An unknown name is
ignored with a warning that names the nearest one.
"""
TABLE_HEAD = """\
| name | default | values | changed while | |
|---|---|---|---|---|
"""
# A parameter is in the first group that has the beginning of its name.
GROUPS = {
    'Recogniser on another machine': (
        'engine.url', 'engine.model', 'engine.token', 'engine.ca', 'engine.outage'),
    'Model and device': (
        'autostart', 'model', 'device', 'dtype', 'threads', 'engine.', 'delay_ms'),
    "Echo and the robot's own voice": ('robot_', 'echo.'),
    'Utterances and turns': ('endpoint.', 'turn.', 'vad.'),
    'Silence, and what hangs': ('idle.', 'watchdog.'),
    'Phrases, wake phrases, ~/listen': ('phrases.', 'listen.', 'wake.'),
    'Output': ('text.', 'partial_', 'capture.', 'log_', 'hri_'),
    'Audio': ('',),
}
ORDER = ('Model and device', 'Recogniser on another machine', 'Audio', 'Utterances and turns',
         'Silence, and what hangs', 'Phrases, wake phrases, ~/listen',
         "Echo and the robot's own voice", 'Output')


def yaml(value: object) -> str:
    """Return a value as YAML has it."""
    return f"'{value}'" if isinstance(value, str) else json.dumps(value)


def config() -> str:
    """Return config/asr.yaml."""
    lines = []
    for row in TABLE:
        limits = f' ({row.values})' if row.choices or row.limits or row.like else ''
        when = '' if row.read == ALWAYS else f'; read at {row.read}'
        comment = row.description + limits + when
        lines += textwrap.wrap(comment, 98, initial_indent='    # ', subsequent_indent='    # ')
        # The launch file and the node differ in this one: a copy must not decide it by chance.
        hidden = '# ' if row.name == 'autostart' else ''
        lines.append(f'    {hidden}{row.name}: {yaml(row.default)}')
    return YAML_HEAD + '\n'.join(lines) + '\n'


def group_of(name: str) -> str:
    """Return the heading under which a parameter stands."""
    return next(group for group, beginnings in GROUPS.items() if name.startswith(beginnings))


def docs() -> str:
    """Return docs/parameters.md."""
    parts = [DOCS_HEAD]
    for group in ORDER:
        lines = [f'| `{row.name}` | `{yaml(row.default)}` | {row.values} | {CHANGED[row.read]} '
                 f'| {row.description} |' for row in TABLE if group_of(row.name) == group]
        parts.append(f'\n## {group}\n\n{TABLE_HEAD}' + '\n'.join(lines) + '\n')
    return ''.join(parts)


def main() -> int:
    """Write or check the files."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[1])
    parser.add_argument('--check', action='store_true', help='write nothing')
    check = parser.parse_args().check
    stale = []
    for name, text in (('config/asr.yaml', config()), ('docs/parameters.md', docs())):
        path = ROOT / name
        if check and (not path.exists() or path.read_text(encoding='utf-8') != text):
            stale.append(name)
        elif not check:
            path.write_text(text, encoding='utf-8')
    if stale:
        print(f'not up to date: {", ".join(stale)}; run python tools/write_parameters.py')
    return len(stale)


if __name__ == '__main__':
    sys.exit(main())
