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
Difference of the word error rates of two sets of transcripts of the same recordings.

    python -m training.compare_transcripts before/ after/

Takes two folders of tables as `voxtral evaluate --texts` writes them. The 95 % interval is by
paired bootstrap over recordings: recordings that are hard for both do not widen it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from training.baselines import spoken_form

from voxtral_ros.evaluation.confidence import bootstrap
from voxtral_ros.evaluation.manifest import read_table
from voxtral_ros.evaluation.word_error_rate import word_errors


def count_errors(before: Path, after: Path) -> np.ndarray:
    """
    Return errors before, errors after and words of every recording, int64 [n, 3].

    :raises ValueError: the tables are not of the same recordings
    """
    first, second = read_texts(before), read_texts(after)
    if first.keys() != second.keys():
        raise ValueError(f'{before} and {after} are not of the same recordings')
    counts = []
    for file, (text, transcript) in first.items():
        words = spoken_form(text)
        counts.append([word_errors(words, spoken_form(said))
                       for said in (transcript, second[file][1])] + [len(words)])
    return np.array(counts, np.int64)


def difference(counts: np.ndarray) -> tuple[float, float, float]:
    """
    Return the difference of the word error rates and its 95 % interval.

    :param counts: see count_errors
    """
    more = counts[:, 1] - counts[:, 0]
    return float(more.sum() / counts[:, 2].sum()), *bootstrap(more, counts[:, 2])


def read_texts(path: Path) -> dict[str, tuple[str, str]]:
    """Return text and transcript of every recording of a table of `voxtral evaluate --texts`."""
    return {row['file']: (row['text'], row['transcript'])
            for row in read_table(path, ('file', 'text', 'transcript'))}


def main() -> None:
    """Print a line of a table for every set that is in both folders, and one for all words."""
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument('before', type=Path, help='folder of tables, one for each set')
    parser.add_argument('after', type=Path)
    arguments = parser.parse_args()
    found = {}
    for path in sorted(arguments.before.glob('*.tsv')):
        if (arguments.after / path.name).is_file():
            found[f'`{path.stem}`'] = count_errors(path, arguments.after / path.name)
    if not found:
        parser.error('no table is in both folders')
    found['all words'] = np.concatenate(list(found.values()))
    print('| set | before | after | difference |\n|---|---|---|---|')
    for name, counts in found.items():
        before, after, words = counts.sum(0)
        points = [f'{100 * value:+.1f}' for value in difference(counts)]
        print(f'| {name} | {100 * before / words:.1f} | {100 * after / words:.1f} '
              f'| {points[0]} ({points[1]} to {points[2]}) |')


if __name__ == '__main__':
    main()
