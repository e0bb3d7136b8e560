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
Sentences to phonemes, word by word, with the grapheme-to-phoneme converter of hibari-tts.

    python -m training.phonemes --sources build/training/sources --out build/training

Writes `<name>.phonemes.txt` beside `<name>.txt`, line by line. A line is empty where the converter
does not keep the words apart; the synthesizers skip it.
"""

from __future__ import annotations

import argparse
from functools import cache
from pathlib import Path
import re
import sys
from typing import Any

from tqdm import tqdm
from training.processes import map_in_processes


@cache
def _hibari(sources: Path) -> Any:
    """Return the converter of this process."""
    sys.path.insert(0, str(sources))
    from hibari import Hibari
    return Hibari(threads=1)


def convert(sources_and_text: tuple[Path, str]) -> str:
    """Return the phonemes of a sentence, '' where the converter does not keep the words apart."""
    sources, text = sources_and_text
    phonemes = re.sub(r'\s+', ' ', ' '.join(_hibari(sources).phonemize(text))).strip()
    return phonemes if len(phonemes.split(' ')) == len(text.split()) else ''


def main() -> None:
    """Convert sentences.txt and heldout.txt."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument('--sources', type=Path, required=True)
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument('--processes', type=int, default=1)
    arguments = parser.parse_args()
    for name in ('heldout', 'sentences'):
        texts = (arguments.out / f'{name}.txt').read_text(encoding='utf-8').splitlines()
        distinct = sorted(set(texts))
        found = map_in_processes(
            convert, ((arguments.sources, text) for text in distinct), arguments.processes, 500)
        phonemes = dict(zip(distinct, tqdm(found, name, len(distinct)), strict=True))
        lines = [phonemes[text] for text in texts]
        path = arguments.out / f'{name}.phonemes.txt'
        path.write_text('\n'.join(lines) + '\n', encoding='utf-8')
        print(f'{name}: {sum(map(bool, lines))} of {len(lines)} kept')


if __name__ == '__main__':
    main()
