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

"""The table has the numbers of given texts, and what was transcribed once is not again."""

import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
from training import judge
from training.baselines import Word
from training.compare_baselines import Result
from training.judge import Table
from training.kept_transcripts import Kept, model_identity

RATE = 16000
ROOT = Path(__file__).resolve().parents[2]
TEXTS = {'people': ('go to the kitchen', 'one two three four five six'),
         'orders': ('turn left', 'come back', 'stop'),
         'foreign': ('', ''), 'noise': ('',)}
WRITTEN = {'people': ('Go too the kitchen', 'one two three four five'),
           'orders': ('turn left', 'come bag', 'stop'),
           'foreign': ('hello there', 'you'), 'noise': ('the',)}


@pytest.fixture
def sets(tmp_path):
    """Write sets of a second, or of a minute without English."""
    for name, texts in TEXTS.items():
        seconds = 60 if name in ('foreign', 'noise') else 1
        rows = ['file\ttext\tspeaker']
        for number, text in enumerate(texts):
            soundfile.write(tmp_path / f'{name}{number}.flac', np.zeros(seconds * RATE), RATE)
            rows.append(f'{name}{number}.flac\t{text}\t{"fr" if number else "de"}')
        (tmp_path / f'{name}.tsv').write_text('\n'.join(rows) + '\n')
    return tmp_path


class Fake:
    """Writes the texts of WRITTEN, each word with a confidence, and counts its calls."""

    def __init__(self, confidence=math.nan):
        self.calls = []
        self._confidence = confidence

    def __call__(self, recordings, name):
        self.calls.append(name)
        return Result({recording.file: [Word(word, 0.0, self._confidence)
                                        for word in WRITTEN[name][number].split()]
                       for number, recording in enumerate(recordings)}, 0.1)


def table(folder, only=None, **columns):
    return Table(folder, {name: Kept(folder / 'results' / name, lambda fake=fake: fake)
                          for name, fake in columns.items()}, only)


def test_error_rates_are_those_of_the_texts(sets):
    lines = list(judge.error_rates(table(sets, us=Fake())))
    people, = (line for line in lines if line.startswith('| `people`'))
    # 2 of 10 words: one wrong, one missing.
    assert people.startswith('| `people` | 2 | 10 | 20.0 (16.7 to 25.0)')
    orders, right = (line for line in lines if line.startswith('| `orders`'))
    assert orders.startswith('| `orders` | 3 | 5 | 20.0 (')
    assert right == '| `orders`, wholly right | 3 |  | 2 |'
    assert not [line for line in lines if 'reading' in line]


def test_people_it_has_never_met_come_first(sets):
    lines = [line for line in judge.error_rates(table(sets, us=Fake())) if '###' in line]
    assert lines[0].strip() == '### People it has never met'


def test_words_are_counted_where_no_english_is_spoken(sets):
    lines = list(judge.nothing_to_write(table(sets, us=Fake())))
    assert [line for line in lines if '`' in line] == [
        '| `foreign` de, words a minute | 60 | 2 |', '| `foreign` fr, words a minute | 60 | 1 |',
        '| `foreign`, words a minute | 120 | 2 |',
        '| `foreign`, without what is unsure, words a minute | 120 | - |',
        '| `noise`, words an hour | 60 | 60 |']


@pytest.mark.parametrize(('confidence', 'rate', 'right'), [(0.3, '2', '0.0'), (0.2, '0', '100.0')])
def test_what_is_unsure_is_left_out(sets, confidence, rate, right):
    judged = table(sets, us=Fake(confidence))
    assert f'| `foreign`, without what is unsure, words a minute | 120 | {rate} |' \
        in list(judge.nothing_to_write(judged))
    judged.read('people')
    assert [line for line in judge.confidence(judged, None) if line.endswith(f' | {right} |')]


def test_a_set_is_transcribed_once(sets):
    fake = Fake()
    first = list(judge.error_rates(table(sets, us=fake)))
    assert list(judge.error_rates(table(sets, us=fake))) == first
    assert fake.calls == ['people', 'orders']


def test_another_manifest_or_model_is_transcribed_again(sets):
    fake = Fake()
    for change in ('', 'manifest', 'audio', 'model'):
        if change == 'manifest':
            manifest = sets / 'people.tsv'
            manifest.write_text(manifest.read_text().replace('kitchen', 'garden'))
        if change == 'audio':
            soundfile.write(sets / 'people1.flac', np.full(RATE, 0.1), RATE)
        columns = {'us': Kept(sets / 'results' / 'us', lambda: fake,
                              'another' if change == 'model' else '')}
        Table(sets, columns, None).read('people')
    assert fake.calls == ['people'] * 4


def test_kept_transcripts_need_no_recognizer(sets):
    list(judge.error_rates(table(sets, us=Fake(0.75))))
    kept = Table(sets, {'us': Kept(sets / 'results' / 'us'), 'other': Kept(sets / 'none')}, None)
    people, = (line for line in judge.error_rates(kept) if line.startswith('| `people`'))
    assert people.startswith('| `people` | 2 | 10 | 20.0 (16.7 to 25.0) | - |')
    assert kept.words['us', 'people']['people0.flac'][1].text == 'too'
    assert kept.words['us', 'people']['people0.flac'][1].confidence == 0.75


def test_only_the_asked_sets_are_judged(sets):
    fake = Fake()
    list(judge.error_rates(table(sets, ['orders'], us=fake)))
    assert fake.calls == ['orders']


def test_confidence_is_compared_with_right_words(sets, tmp_path):
    judged = table(sets, sure=Fake(0.9), mute=Fake())
    list(judge.error_rates(judged))
    list(judge.nothing_to_write(judged))
    lines = list(judge.confidence(judged, tmp_path / 'a.png'))
    # 12 of 14 words are right where English is spoken.
    assert '| sure | 14 | 0.043 | 0.90 | 0.90 | 0.90 | 0.0 |' in lines
    assert '| 0.9 to 1.0 | 14 | 0.86 |' in lines
    assert '| 0.0 to 0.1 | 0 | - |' in lines
    assert not [line for line in lines if 'mute' in line]
    assert (tmp_path / 'a.png').stat().st_size > 1000


def test_the_four_orders_that_ship_are_counted_whole(sets):
    orders = ' '.join(judge._ROBOT_ORDERS)
    soundfile.write(sets / 'four.flac', np.zeros(RATE), RATE)
    (sets / 'shipped-orders.tsv').write_text(f'file\ttext\tspeaker\nfour.flac\t{orders}\t\n')
    WRITTEN['shipped-orders'] = (orders.replace('three', '3').replace('red cup', 'bread cup'),)
    assert list(judge.shipped_orders(table(sets, us=Fake())))[-1] == '| wholly right, of 4 | 3 |'


def test_tables_replace_what_is_between_the_marks(tmp_path):
    page = tmp_path / 'page.md'
    page.write_text(f'# Page\n\n{judge._BEGIN}\nold\n{judge._END}\n\nrest\n')
    for lines in (['| a |', '|---|'], ['| b |']):
        judge.write(page, lines)
    assert page.read_text() == f'# Page\n\n{judge._BEGIN}\n\n| b |\n\n{judge._END}\n\nrest\n'
    judge.write(tmp_path / 'new.md', ['| a |'])
    assert (tmp_path / 'new.md').read_text() == '| a |\n'


def test_several_processes_transcribe_with_the_model(sets):
    model = ROOT / 'models' / 'voxtral-tiny-en'
    judge.transcribe_side_by_side(model, sets / 'results' / 'us',
                                  [sets / 'people.tsv', sets / 'orders.tsv'], 2)
    kept = Table(sets, {'us': Kept(sets / 'results' / 'us')}, None)
    orders = next(line for line in judge.error_rates(kept) if line.startswith('| `orders`'))
    assert orders == '| `orders` | 3 | 5 | 100.0 (100.0 to 100.0) |'  # silence
    identity = model_identity(model)
    again = Kept(sets / 'results' / 'us', lambda: pytest.fail('transcribed again'), identity)
    Table(sets, {'us': again}, None).read('people')


def test_the_page_of_the_demo_model_has_the_marks():
    page = (ROOT / 'docs' / 'demo-model.md').read_text()
    assert page.index(judge._BEGIN) < page.index(judge._END)
