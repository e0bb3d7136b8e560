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
Everyday language: requests to assistants and robots, conversations, sentences about anything.

The sources are folders in `S/everyday`; training/data.md says what they hold and where they are
from. Numbers, times and amounts become words as people say them (`spoken_numbers.py`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
import csv
from functools import partial
import json
from pathlib import Path
import re
from typing import Any, NamedTuple
from xml.etree import ElementTree

from training.intent_templates import Grammar
from training.spoken_numbers import spoken

_ROBOT_COMMANDS = 15_000
_SENTENCE = re.compile(r'[^.!?;:\n\u2026]+')
_DOTTED = re.compile(r'\b([ap])\.\s?m\b\.?|\b(mr|mrs|ms|dr|st|jr|vs)\.', re.IGNORECASE)
_SPLIT_WORD = re.compile(r" (?=n't\b|'(?:s|m|d|t|re|ve|ll)\b)")  # "is n't", "it 's"
_SHORTHAND = {
    'ok': 'okay', 'im': "i'm", 'ive': "i've", 'dont': "don't", 'cant': "can't", 'didnt': "didn't",
    'doesnt': "doesn't", 'isnt': "isn't", 'wasnt': "wasn't", 'wont': "won't", 'havent': "haven't",
    'hasnt': "hasn't", 'arent': "aren't", 'couldnt': "couldn't", 'wouldnt': "wouldn't",
    'shouldnt': "shouldn't", 'thats': "that's", 'whats': "what's", 'theres': "there's",
    'youre': "you're", 'theyre': "they're", 'youve': "you've", 'alot': 'a lot'}
_WORD = re.compile(r"[a-z']+")
_DIGIT = re.compile(r'\d')


class Source(NamedTuple):
    """A folder of `S/everyday`."""

    folder: str
    texts: Callable[[Path], Iterator[str]]
    limit: int  # of its sentences, so that none of the kinds outweighs the others


def _lines(folder: Path) -> Iterator[str]:
    """Yield what stands before the first tab of each line."""
    for path in sorted(folder.glob('*.txt')):
        for line in path.read_text(encoding='utf-8', errors='ignore').splitlines():
            yield line.split('\t')[0]


def _columns(folder: Path, name: str, delimiter: str = ',') -> Iterator[str]:
    """Yield the cells of the columns whose names match."""
    for path in sorted(folder.rglob('*.csv')):
        with path.open(encoding='utf-8', errors='ignore', newline='') as file:
            for row in csv.DictReader(file, delimiter=delimiter):
                yield from (cell for column, cell in row.items()
                            if column and cell and re.fullmatch(name, column))


def _contents(folder: Path) -> Iterator[Any]:
    for path in sorted(folder.glob('*.json')):
        yield json.loads(path.read_text(encoding='utf-8', errors='ignore'))


def _taskmaster(folder: Path) -> Iterator[str]:
    for dialogues in _contents(folder):
        for dialogue in dialogues:
            yield from (utterance['text'] for utterance in dialogue['utterances'])


def _star(folder: Path) -> Iterator[str]:
    for dialogue in _contents(folder):
        yield from (event['Text'] for event in dialogue['Events']
                    if event['Agent'] in ('User', 'Wizard') and 'Text' in event)


def _clinc(folder: Path) -> Iterator[str]:
    for content in _contents(folder):
        yield from (text for part in content.values() for text, _ in part)


def _snips(folder: Path) -> Iterator[str]:
    for content in _contents(folder):
        for requests in content.values():
            yield from (''.join(part['text'] for part in request['data']) for request in requests)


def _robocup(folder: Path) -> Iterator[str]:
    """Yield random sentences of the command grammar of RoboCup@Home."""
    grammar = robot_grammar(folder)
    for _ in range(_ROBOT_COMMANDS):
        yield grammar.expand('<Main>')


def robot_grammar(folder: Path) -> Grammar:
    """Return the grammar of a folder of GPSRCmdGen: rules `$name = a | b`, slots in XML files."""
    rules: dict[str, list[str]] = defaultdict(list)
    for name in ('common_rules.txt', 'gpsr.txt', 'egpsr.txt'):
        for line in (folder / name).read_text(encoding='utf-8-sig').splitlines():
            if rule := re.fullmatch(r'\$(\w+)\s*=\s*(.*)', line.strip()):
                rules[rule[1]].append(_template(rule[2]))
    rules['whattosay'] = (folder / 'whattosay.txt').read_text(encoding='utf-8').splitlines()
    slots = {
        name: [element.get('name') or element.text or '' for element in
               ElementTree.parse(folder / f'{file}.xml').iterfind(f'.//{path}')]
        for name, file, path in (
            ('name', 'names', 'name'), ('gesture', 'gestures', 'gesture'),
            ('room', 'locations', 'room'), ('beacon', 'locations', 'location[@isBeacon]'),
            ('placement', 'locations', 'location[@isPlacement]'),
            ('category', 'objects', 'category'), ('object', 'objects', 'object'))}
    slots |= {'pron': ['him', 'her', 'them'], 'pos': ['his', 'her', 'their'],
              'sub': ['he', 'she', 'they'], 'question': ['question']}
    return Grammar(rules, {name: {'values': values} for name, values in slots.items()})


def _template(text: str) -> str:
    """Return the right side of a rule in the notation of Home Assistant's templates."""
    text = re.sub(r'\{pron (pos|sub)\}', r'{\1}', text)
    # {aobject? meta: a remark, perhaps with a {name}}, and {void ...}, which is never said
    text = re.sub(r'\{void[^{}]*(\{[^{}]*\}[^{}]*)*\}', '', text)
    text = re.sub(r'\{[aks]?(\w+)\b[^{}]*(\{[^{}]*\}[^{}]*)*\}',
                  lambda slot: f'{{{"sub" if slot[1] == "ub" else slot[1]}}}', text)
    return re.sub(r'\$(\w+)', r'<\1>', text)


SOURCES = (
    Source('clinc', _clinc, 30_000),
    Source('nlu-evaluation', partial(_columns, name='answer_from_anno', delimiter=';'), 30_000),
    Source('snips', _snips, 20_000),
    Source('banking', partial(_columns, name='text'), 10_000),
    Source('robocup', _robocup, _ROBOT_COMMANDS),
    Source('star', _star, 50_000),
    Source('taskmaster', _taskmaster, 50_000),
    Source('self-dialogues', partial(_columns, name=r'Answer\.sentence\d+'), 90_000),
    Source('tatoeba', _lines, 120_000),
    Source('common-voice', _lines, 40_000),
)


def split(text: str) -> Iterator[str]:
    """Yield the sentences of a text, its numbers and shorthand in words."""
    text = text.replace('\u2019', "'").replace('`', "'").replace('&', ' and ')
    if '.' in text:
        text = _DOTTED.sub(lambda dotted: f'{dotted[1]}m' if dotted[1] else dotted[2], text)
    if " n't" in text or " '" in text:
        text = _SPLIT_WORD.sub('', text)
    if _DIGIT.search(text):
        text = spoken(text)
    for sentence in _SENTENCE.findall(text):
        words = sentence.split()
        yield ' '.join(_SHORTHAND.get(word.lower(), word) for word in words)


class WordFilter:
    """Says whether a text is fit for training: no word of a list is in it, no lone letter."""

    def __init__(self, path: Path) -> None:
        """Read a JSON list of words and phrases."""
        entries = json.loads(path.read_text(encoding='utf-8'))
        self._words = {f'{entry}{end}' for entry in entries
                       for end in ('', 's', 'es', 'ed', 'er', 'ers', 'ing')}
        self._words |= set('bcdefghjklmnpqrstuvwxyz')  # such as "u" for "you"
        self._phrases = [entry for entry in entries if ' ' in entry]

    def __call__(self, text: str) -> bool:
        """Return whether the text has none of them."""
        text = text.lower()
        return self._words.isdisjoint(_WORD.findall(text)) \
            and not any(phrase in text for phrase in self._phrases)


def everyday(folder: Path) -> Iterator[tuple[Source, Iterator[str]]]:
    """Yield each source and its sentences, not yet normalised."""
    fit = WordFilter(folder / 'naughty-words.json')
    for source in SOURCES:
        texts = source.texts(folder / source.folder)
        yield source, filter(fit, (sentence for text in texts for sentence in split(text)))
