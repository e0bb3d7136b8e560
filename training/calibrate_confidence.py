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
Calibrate the confidence of a model: find the exponent for its params.json.

    python -m training.calibrate_confidence --model DIR --manifest dev.tsv other.tsv

Prints the power of the probabilities of words that is most likely, given which words are right.
Take recordings of people who are neither in the training nor in the test sets.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from training.compare_baselines import read_set, stream
from training.reliability import bins, calibration_error, right_words

from voxtral_ros.recognizer.engine import Engine

_EXPONENTS = np.geomspace(0.2, 10, 400)
_DELAY_MS = 480
_SURE = 1e-6  # no word is more certain, or more doubtful


def best_exponent(confidence: Sequence[float], right: Sequence[bool]) -> float:
    """Return the power of confidences under which what is right is most likely."""
    values = np.clip(np.asarray(confidence, float), _SURE, 1 - _SURE)[:, None] ** _EXPONENTS
    likely = np.where(np.asarray(right, bool)[:, None], values, 1 - values)
    return float(_EXPONENTS[np.log(np.clip(likely, _SURE, 1)).sum(0).argmax()])


def main(command_line: list[str] | None = None) -> None:
    """Print the exponent, and how far confidences are from the share of right words."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument('--model', type=Path, required=True)
    parser.add_argument('--manifest', type=Path, required=True, nargs='+')
    arguments = parser.parse_args(command_line)
    engine = Engine.load(arguments.model, 'cpu', 'float32', max_streams=8)
    confidence: list[float] = []
    right: list[bool] = []
    for manifest in arguments.manifest:
        recordings = read_set(manifest)
        result = stream(engine, recordings, _DELAY_MS)
        for recording in recordings:
            words = result.words[recording.file]
            confidence += [word.confidence ** (1 / engine.confidence_exponent) for word in words]
            right += right_words(recording.text, words)
    exponent = best_exponent(confidence, right)
    before, after = (calibration_error(bins(np.array(confidence) ** power, right))
                     for power in (engine.confidence_exponent, exponent))
    print(f'{len(right)} words, {100 * np.mean(right):.1f} % right\n'
          f'"confidence_exponent": {exponent:.2f}\n'
          f'calibration error {after:.3f}, with that of params.json '
          f'({engine.confidence_exponent:g}) {before:.3f}')


if __name__ == '__main__':
    main()
