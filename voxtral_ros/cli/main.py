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

"""The command `voxtral`: one thin module per subcommand, imported only when it is called."""

from __future__ import annotations

import argparse
import codecs
from collections.abc import Sequence
from importlib import import_module
from io import TextIOWrapper
import sys
from xml.etree import ElementTree

from voxtral_ros.resources import share_folder

# Subcommand -> (module in voxtral_ros.cli, one line of help). A module offers
# add_arguments(parser) and run(arguments) -> exit code; importing it must stay cheap.
COMMANDS = {
    'bench': ('bench', 'measure how fast a model runs on this machine'),
    'build-kernels': ('build_kernels', 'compile the kernels for this machine'),
    'doctor': ('doctor', 'look at what a recogniser needs here, and say what to do'),
    'evaluate': ('evaluate', 'measure the word error rate on recordings with known texts'),
    'export': ('export', 'make a dense checkpoint, for other programs, from any model'),
    'serve': ('serve', 'recognise speech for many clients over a WebSocket'),
    'transcribe': ('transcribe', 'print what is said in audio files or on standard input'),
    'quantize': ('quantize', 'make a checkpoint smaller: INT4 decoder and more'),
    'verify': ('verify', 'look for damage in the files of a model'),
}

# Module that not every command needs -> its name, and the extra of setup.cfg that brings it.
EXTRAS = {'jiwer': ('jiwer', 'evaluate'), 'torch': ('PyTorch', 'torch')}


def version() -> str:
    """Return the version in package.xml, which is in the source tree and in an installation."""
    text = ElementTree.parse(share_folder() / 'package.xml').findtext('version')
    return text or 'unknown'


def escape(error: UnicodeError) -> tuple[str, int]:
    r"""Handle what a stream cannot write: bytes of a name that is not UTF-8 become \xe9."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = ''.join(f'\\x{ord(letter) - 0xdc00:02x}' if '\udc80' <= letter <= '\udcff' else
                   letter.encode('ascii', 'backslashreplace').decode()
                   for letter in error.object[error.start:error.end])
    return text, error.end


def main(argv: Sequence[str] | None = None) -> int:
    """Run `voxtral ARGUMENTS` and return its exit code: 0 done, 1 failed, 2 wrong use or input."""
    codecs.register_error('escape', escape)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors='escape')
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        arguments = _parser(words).parse_args(words)
        return arguments.run(arguments)
    except KeyboardInterrupt:
        return 130
    except ModuleNotFoundError as error:
        if error.name not in EXTRAS:
            raise
        name, extra = EXTRAS[error.name]
        print(f'voxtral {words[0]}: this needs {name}, which is not installed: '
              f'pip install voxtral_ros[{extra}]', file=sys.stderr)
        return 2


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
    """Return the parser of the command line; only the command among the words is imported."""
    parser = argparse.ArgumentParser(
        prog='voxtral', description='Streaming speech recognition with Voxtral Mini 4B Realtime.')
    parser.add_argument('--version', action='version', version=f'voxtral_ros {version()}')
    subparsers = parser.add_subparsers(metavar='COMMAND', required=True)
    for name, (module, summary) in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=summary)
        if name in words[:1]:  # options of `voxtral` itself, as --version, take no command
            command = import_module(f'voxtral_ros.cli.{module}')
            subparser.description = command.__doc__
            command.add_arguments(subparser)
            subparser.set_defaults(run=command.run)
    return parser
