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

"""Phrases to expect, in the commands that transcribe."""

import json
from pathlib import Path

import pytest

from voxtral_ros.cli.main import main
from voxtral_ros.recognizer.engine import Engine
from voxtral_ros.recognizer.phrases import DEFAULT_BOOST, Phrase, PhraseList

DATA = Path(__file__).resolve().parents[1] / 'data'
SPOKEN = DATA / 'go_forward_ten_meters.flac'
LINES = '# rooms\nliving room\n\nten Meters :7.5\n'


@pytest.fixture
def table(tmp_path):
    """Return a manifest of two recordings."""
    path = tmp_path / 'table.tsv'
    path.write_text(f'file\ttext\n{SPOKEN}\tgo forward ten meters\n'
                    f'{DATA / "austen_0880.flac"}\ta living room\n')
    return path


@pytest.fixture
def phrases(tmp_path):
    path = tmp_path / 'phrases.txt'
    path.write_text(LINES)
    return path


@pytest.fixture
def opened(monkeypatch):
    """Return the phrases of all streams that are opened."""
    seen = []
    plain = Engine.open

    def open_(engine, *arguments, phrases=None, **named):
        seen.append(phrases)
        return plain(engine, *arguments, phrases=phrases, **named)

    monkeypatch.setattr(Engine, 'open', open_)
    return seen


def options(command, table):
    return {'transcribe': ['transcribe', '--device', 'cpu', str(SPOKEN), str(SPOKEN)],
            'evaluate': ['evaluate', '--device', 'cpu', '--manifest', str(table)]}[command]


@pytest.mark.parametrize('command', ['transcribe', 'evaluate'])
@pytest.mark.parametrize(('boost', 'expected'), [([], DEFAULT_BOOST),
                                                 (['--phrase-boost', '1.5'], 1.5),
                                                 (['--phrase-boost', '0'], 0.0)])
def test_all_streams_expect_the_phrases(table, phrases, opened, command, boost, expected):
    arguments = [*options(command, table), '--phrases', str(phrases), *boost]
    assert main(arguments) == 0
    assert opened == 2 * [PhraseList((Phrase('living room', expected), Phrase('ten Meters', 7.5)))]


@pytest.mark.parametrize('command', ['transcribe', 'evaluate'])
def test_without_the_option_nothing_is_expected(table, opened, command):
    assert main(options(command, table)) == 0
    assert opened == [None, None]


@pytest.mark.parametrize('command', ['transcribe', 'evaluate'])
@pytest.mark.parametrize(('content', 'arguments', 'message'), [
    (None, ['--phrases', '{file}'], 'cannot be read'),
    (b'caf\xe9\n', ['--phrases', '{file}'], 'cannot be read'),
    (b'sofa\n...\n', ['--phrases', '{file}'], 'phrase 2'),
    (b'sofa\n', ['--phrases', '{file}', '--phrase-boost', '-1'], 'boost -1.0'),
    (b'sofa\n', ['--phrases', '{file}', '--phrase-boost', 'nan'], 'boost nan'),
    (b'', ['--phrase-boost', '2'], 'add --phrases FILE'),
])
def test_what_is_no_list_ends_the_command(table, tmp_path, opened, capsys, command, content,
                                          arguments, message):
    path = tmp_path / 'given.txt'
    if content is not None:
        path.write_bytes(content)
    given = [str(path) if word == '{file}' else word for word in arguments]
    assert main([*options(command, table), *given]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f'voxtral {command}: ')
    assert message in error
    assert not opened


def test_an_evaluation_counts_phrases_and_the_other_words(table, phrases, capsys):
    assert main([*options('evaluate', table), '--phrases', str(phrases), '--json']) == 0
    counted = json.loads(capsys.readouterr().out)['phrases']
    assert counted['listed'] == 2
    assert counted['said'] == 2
    assert counted['found'] == 1  # nobody says 'a living room' there
    assert counted['other_words'] == 3
    assert main([*options('evaluate', table), '--phrases', str(phrases)]) == 0
    assert '2 phrases: 1 of 2 found' in capsys.readouterr().out


def test_an_empty_list_counts_nothing(table, tmp_path, capsys):
    path = tmp_path / 'empty.txt'
    path.write_text('# nothing yet\n')
    assert main([*options('evaluate', table), '--phrases', str(path), '--json']) == 0
    assert 'phrases' not in json.loads(capsys.readouterr().out)
