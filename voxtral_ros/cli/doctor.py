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

"""Look at all that a recogniser needs on this machine, and say what to do where it is not well."""

from __future__ import annotations

import argparse
from contextlib import AbstractContextManager, nullcontext
import json
from pathlib import Path
import sys
from typing import Any, TYPE_CHECKING

from voxtral_ros.cli.options import add_kv_cache, add_no_verify

if TYPE_CHECKING:
    from voxtral_ros.doctor.finding import Finding

_COLOURS = {'ok': '\033[32m', 'look': '\033[33m', 'wrong': '\033[1;31m'}
_PLAIN = '\033[0m'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `voxtral doctor`."""
    parser.add_argument('--model', type=Path, metavar='DIR',
                        help='the model that is to run here [the demo model]')
    parser.add_argument('--window', type=int, default=0, metavar='TOKENS',
                        help='of 80 ms that the decoder is to look back, as engine.window of the '
                             'node [0: the window of the model]')
    add_kv_cache(parser)
    add_no_verify(parser, 'here, for which all of them are read')
    parser.add_argument('--json', action='store_true',
                        help='print what was found as JSON: name, state (ok, look, wrong), text '
                             'and advice of each check')


def run(arguments: argparse.Namespace) -> int:
    """Print a line a check; return 1 when something is wrong."""
    # Not at the top: `voxtral --help` needs none of it.
    from voxtral_ros.doctor.checkup import checkup
    from voxtral_ros.doctor.machine import Machine
    from voxtral_ros.resources import demo_model
    folder = arguments.model or demo_model()
    found = []
    with _bar(folder, arguments.verify) as bar:
        progress = bar.update if bar is not None else (lambda n_bytes: None)
        for finding in checkup(Machine(), folder, arguments.window, arguments.kv_cache,
                               progress if arguments.verify else None):
            found.append(finding)
            if not arguments.json:
                _show(finding, bar)
    n_wrong = sum(finding.state == 'wrong' for finding in found)
    if arguments.json:
        print(json.dumps({'model': str(folder), 'wrong': n_wrong,
                          'findings': [vars(finding) for finding in found]}, indent=1))
    elif n_wrong:
        print(f'\n{n_wrong} of {len(found)} checks found something wrong')
    return min(n_wrong, 1)


def _bar(folder: Path, verify: bool) -> AbstractContextManager[Any]:
    """Return a progress bar for the weights, on a terminal."""
    sizes = [path.stat().st_size for path in folder.glob('*.safetensors') if path.is_file()]
    if not verify or not sys.stderr.isatty():
        return nullcontext()
    from tqdm import tqdm
    return tqdm(total=sum(sizes), desc='checksums', unit='B', unit_scale=True, leave=False)


def _show(finding: Finding, bar: Any) -> None:
    state = f'{finding.state:5}'
    if sys.stdout.isatty():
        state = f'{_COLOURS[finding.state]}{state}{_PLAIN}'
    lines = [f'{state}  {finding.name:12}  {finding.text}']
    if finding.advice:
        lines.append(f'{"":7}{"":12}  -> {finding.advice}')
    if bar is not None:
        bar.clear()
    print('\n'.join(lines), flush=True)
