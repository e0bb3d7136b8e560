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

"""Commands that pages show, and what the programs that they name really take."""

import argparse
import ast
from functools import cache
from importlib import import_module
import re

from docs.pages import ROOT

from voxtral_ros.cli.main import COMMANDS

# A command ends where another one begins, a comment, or what the shell does with it.
_END = re.compile(r'\s(?:&&|;|>|2>|<|\|\s+(?!-)|[Aa]nd )|;\s|\)\s|\)$|\$\(')
_WORD = re.compile(r"""(?:'[^']*'|"[^"]*"|[^\s'"])+""")


def words_after(match):
    """Return the words of a command after what was matched; brackets of a usage do not count."""
    rest = match.string[match.end():]
    rest = re.sub(r'(?<=\s)\[|\](?=\s|$|,)|^\[', ' ', f'{rest} ')
    return _WORD.findall(_END.split(rest, maxsplit=1)[0])


def options(words):
    """Yield the options among some words, with the word after each."""
    for word, following in zip(words, [*words, ''][1:], strict=True):
        for option in re.findall(r'^--[a-z][\w-]*', word.strip('.,:;()')):
            value = word.partition('=')[2] or following
            yield option, value.rstrip('.,:;)')


@cache
def command_options(name):
    """Return the options of `voxtral NAME`: {option: its choices or None}."""
    parser = argparse.ArgumentParser()
    import_module(f'voxtral_ros.cli.{COMMANDS[name][0]}').add_arguments(parser)
    return {option: action.choices for action in parser._actions
            for option in action.option_strings}


@cache
def _own_options(path):
    """Return the options in a file, and the files that it imports, which may have more."""
    found, imported = set(), set()
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Call) and getattr(node.func, 'attr', '') == 'add_argument':
            found |= {argument.value for argument in node.args
                      if isinstance(argument, ast.Constant) and argument.value.startswith('-')}
        elif isinstance(node, ast.ImportFrom) and node.module:
            file = f'{node.module.replace(".", "/")}.py'
            imported |= {ROOT / file, path.parent / file}
    return found, {file for file in imported if file.is_file()}


def script_options(path):
    """Return the options of a script: it is read, not run, as what it needs may be missing."""
    found, seen, waiting = {'--help'}, set(), {path} if path.is_file() else set()
    while waiting:
        file = waiting.pop()
        own, imported = _own_options(file)
        found |= own
        seen.add(file)
        waiting |= imported - seen
    return found


@cache
def all_options():
    """Return every option of all programs of the package."""
    scripts = [path for folder in ('bench', 'training', 'tools')
               for path in (ROOT / folder).rglob('*.py')]
    return set().union(*map(command_options, COMMANDS),
                       *(_own_options(path)[0] for path in scripts))


def launch_arguments():
    """Return the arguments of asr.launch.py, which is read, as launch may be missing."""
    from voxtral_ros.node.parameter_table import ROWS
    tree = ast.parse((ROOT / 'launch' / 'asr.launch.py').read_text(encoding='utf-8'))
    return {*ROWS, *(call.args[0].value for call in ast.walk(tree)
                     if isinstance(call, ast.Call) and getattr(call.func, 'id', '') == 'Row')}


def make_targets():
    """Return the targets and the variables of the Makefile."""
    text = (ROOT / 'Makefile').read_text(encoding='utf-8')
    phony = re.search(r'^\.PHONY: (.*)$', text, re.MULTILINE)[1].split()
    stamps = {'.venv/.test', '.venv/.torch', '.venv/.runtime', 'install/.built'}
    return {*phony, *stamps}, set(re.findall(r'\$\(([A-Z_]+)\)', text))
