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

"""Options that several commands have."""

from __future__ import annotations

import argparse
from pathlib import Path

from voxtral_ros.backends.kv_cache import KV_CACHES
from voxtral_ros.recognizer.phrases import DEFAULT_BOOST, PhraseError, PhraseList


def add_no_verify(parser: argparse.ArgumentParser, when: str = 'while they are loaded') -> None:
    """Declare `--no-verify`: in `arguments.verify`."""
    parser.add_argument('--no-verify', dest='verify', action='store_false',
                        help=f'do not compare the weights with their checksums {when}')


def add_kv_cache(parser: argparse._ActionsContainer) -> None:
    """Declare `--kv-cache`."""
    parser.add_argument('--kv-cache', choices=KV_CACHES, default='auto',
                        help='bits of the numbers in the KV cache: 8 takes half the memory of 16 '
                             '[auto: 8 where the model would take more than half of the memory]')


def add_phrases(parser: argparse.ArgumentParser) -> None:
    """Declare `--phrases` and `--phrase-boost`, for read_phrases."""
    parser.add_argument('--phrases', type=Path, metavar='FILE',
                        help='names, rooms and objects to expect, one per line; a line may end in '
                             'its own boost, as in: Kowalski :4')
    parser.add_argument('--phrase-boost', type=float, metavar='LOGITS',
                        help='how much more likely the phrases are that have no boost of their '
                             f'own [{DEFAULT_BOOST:g}]')


def read_phrases(arguments: argparse.Namespace) -> PhraseList | None:
    """
    Return the phrases to expect; None without `--phrases`.

    :raises PhraseError: the file cannot be used, or there is a boost and nothing to boost
    """
    boost = arguments.phrase_boost
    if arguments.phrases is None:
        if boost is not None:
            raise PhraseError('--phrase-boost is for the phrases of a file: add --phrases FILE')
        return None
    return PhraseList.load(arguments.phrases, DEFAULT_BOOST if boost is None else boost)
