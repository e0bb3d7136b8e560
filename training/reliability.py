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
How far `confidence` can be believed: the share of right words among those of a confidence.

A word of a transcript is right if it stands opposite an equal one in the alignment with the
reference that has the fewest errors. Of a well calibrated model, nine of ten words with a
confidence of 0.9 are right.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jiwer
import numpy as np
from training.baselines import spoken_form, Word

_SPLIT = jiwer.ReduceToListOfListOfWords()


class Bin(NamedTuple):
    """The words whose confidence is in one range."""

    low: float
    high: float
    n_words: int
    confidence: float  # their mean; not a number without words
    right: float  # share of them


def right_words(reference: str, words: Sequence[Word]) -> list[bool]:
    """Return which words of a transcript are right; one of several spoken words must be wholly."""
    forms = [spoken_form(word.text) for word in words]
    written = [form for word in forms for form in word]
    said = spoken_form(reference)
    matched = [False] * len(written)
    if said and written:
        alignment, = jiwer.process_words(' '.join(said), ' '.join(written), _SPLIT,
                                         _SPLIT).alignments
        for chunk in alignment:
            if chunk.type == 'equal':
                matched[chunk.hyp_start_idx:chunk.hyp_end_idx] = \
                    [True] * (chunk.hyp_end_idx - chunk.hyp_start_idx)
    flags, at = [], 0
    for form in forms:
        flags.append(bool(form) and all(matched[at:at + len(form)]))
        at += len(form)
    return flags


def bins(confidence: Sequence[float], right: Sequence[bool], count: int = 10) -> list[Bin]:
    """Return the words by ranges of confidence of equal width, from 0 to 1."""
    values, flags = np.asarray(confidence, float), np.asarray(right, bool)
    place = np.minimum((values * count).astype(int), count - 1)
    found = []
    for at in range(count):
        here = place == at
        n = int(here.sum())
        found.append(Bin(at / count, (at + 1) / count, n,
                         float(values[here].mean()) if n else float('nan'),
                         float(flags[here].mean()) if n else float('nan')))
    return found


def calibration_error(by_confidence: Sequence[Bin]) -> float:
    """Return by how much confidence and share of right words differ, averaged over the words."""
    total = sum(one.n_words for one in by_confidence)
    return sum(one.n_words * abs(one.confidence - one.right)
               for one in by_confidence if one.n_words) / max(1, total)


def plot(path: Path, curves: dict[str, list[Bin]]) -> None:
    """Plot a reliability diagram: share of right words over confidence, and how many words."""
    import matplotlib
    matplotlib.use('Agg')
    from matplotlib import pyplot
    figure, (axes, counts) = pyplot.subplots(
        2, 1, figsize=(5, 5.4), layout='constrained', sharex=True, height_ratios=(3, 1))
    axes.plot((0, 1), (0, 1), color='grey', linewidth=1, linestyle='--', label='as it should be')
    for number, (name, curve) in enumerate(curves.items()):
        filled = [one for one in curve if one.n_words]
        line, = axes.plot([one.confidence for one in filled], [one.right for one in filled],
                          marker='o', markersize=4,
                          label=f'{name}, error {calibration_error(curve):.3f}')
        width = 0.8 / len(curve) / len(curves)
        counts.bar([one.low + 0.1 / len(curve) + number * width for one in curve],
                   [one.n_words for one in curve], width, align='edge', color=line.get_color())
    axes.set_ylabel('share of right words')
    axes.set_ylim(0, 1)
    axes.legend(fontsize=8)
    counts.set_ylabel('words')
    counts.set_xlabel('confidence')
    counts.set_xlim(0, 1)
    figure.savefig(path, dpi=90)
    pyplot.close(figure)
