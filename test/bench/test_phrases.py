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

"""The lists that recordings get, and the counts of the table."""

from pathlib import Path
import sys

from bench.scripts import BENCH, load
import pytest

from voxtral_ros.recognizer.phrases import PhraseList

with pytest.MonkeyPatch.context() as _patch:
    # As for a script, which puts the repository in the place of its own folder.
    _patch.setattr(sys, 'path', [str(BENCH), *sys.path])
    phrases, peers = load('phrases'), load('phrase_peers')


@pytest.fixture
def test_set(tmp_path):
    """Return three recordings and eight phrases, of which two are said in one of them."""
    (tmp_path / 'set.tsv').write_text(
        'file\ttext\na.wav\twhere is Svetlana with the zip ties\nb.wav\tgo to the Atrium\n'
        'c.wav\tnothing\n')
    (tmp_path / 'set.txt').write_text('Svetlana\nzip ties\nAtrium\nladle\ncolander\n\nNemo\n')
    (tmp_path / 'more.txt').write_text('Nothing\nladle\nham\nnet melon\nPam\n')
    return phrases.TestSet.load(f'set={tmp_path / "set.tsv"}:{tmp_path / "set.txt"}',
                                tmp_path / 'more.txt')


def texts(listed):
    return {phrase.text for phrase in listed.phrases}


def test_what_is_said_is_no_distractor_and_neither_is_what_is_listed(test_set):
    assert test_set.distractors == ['ham', 'net melon', 'Pam']


@pytest.mark.parametrize('length', [2, 3, 6, 8, 9, 100])
def test_a_list_has_what_is_said_and_its_length(test_set, length):
    for recording, said in zip(test_set.recordings, ({'Svetlana', 'zip ties'}, {'Atrium'}, set()),
                               strict=True):
        listed = test_set.list_for(recording, phrases.Case(length, 2.5))
        assert len(listed) == min(length, 9)
        assert said <= texts(listed)
        assert {phrase.boost for phrase in listed.phrases} == {2.5}
        if length > 6:
            assert {*test_set.phrases} <= texts(listed)
        assert listed == test_set.list_for(recording, phrases.Case(length, 2.5))


def test_long_lists_are_the_same_for_all_recordings(test_set):
    case = phrases.Case(9, 1.0)
    assert len({test_set.list_for(one, case) for one in test_set.recordings}) == 1


def test_insertions_are_counted_with_the_list_of_the_recording(test_set):
    case = phrases.Case(9, 1.0)
    written = ['where is svetlana and pam', 'atrium atrium', 'ham net melon nemo']
    assert phrases.count_inserted(test_set, case, written) == 1 + 1 + 3
    case = phrases.Case(2, 1.0)
    assert phrases.count_inserted(test_set, case, ['pam ham', '', '']) == 0
    listed = texts(test_set.list_for(test_set.recordings[2], case))
    for phrase in test_set.phrases:
        assert phrases.count_inserted(test_set, case, ['', '', phrase]) == (phrase in listed)


@pytest.mark.parametrize(('count', 'low', 'high'), [
    (0, 0, 3.689), (1, 0.0253, 5.572), (10, 4.795, 18.39), (100, 81.36, 121.6)])
def test_the_interval_of_a_number_of_events_is_exact(count, low, high):
    # Garwood's, from tables of chi squared.
    assert phrases.poisson_interval(count) == pytest.approx((low, high), rel=1e-3, abs=1e-6)


def test_a_table_says_what_phrases_brought(test_set, tmp_path):
    header = 'file\tseconds\ttranscript\n'
    (tmp_path / 'set-without.tsv').write_text(
        f'{header}a.wav\t1800\twhere is spit lama with the zip ties\n'
        'b.wav\t900\tgo to an atrium\nc.wav\t900\tnothing\n')
    (tmp_path / 'set-6-2.tsv').write_text(
        f'{header}a.wav\t1800\twhere is svetlana with the zip ties\n'
        'b.wav\t900\tgo to an atrium\nc.wav\t900\tladle\n')
    before, after = phrases.report(test_set, [phrases.Case(6, 2.0)], None, tmp_path)
    assert '2 of 3: 66.7 %' in before
    assert '3 of 3: 100.0 %' in after
    assert '| 0: 0.0 (0.0 to 3.7) | 1: 1.0 (0.0 to 5.6) |' in after
    # Of the eight other words one was wrong, now two are.
    assert '12.5 %' in before
    assert '25.0 % | +12.5' in after


@pytest.mark.parametrize('case', [phrases.Case(), phrases.Case(1, 5.0)])
def test_transcripts_are_those_of_the_demo_model(tmp_path, capsys, case):
    """By any engine: other scripts of bench/ come with their own."""
    audio = Path(__file__).parents[1] / 'data' / 'go_forward_ten_meters.flac'
    recording = phrases.Recording(audio, 'go forward tan meters', {})
    test_set = phrases.TestSet('set', [recording], ['tan meters'], [])
    engine = phrases.Engine.load(phrases.demo_model(), 'cpu', max_streams=1)
    backend = engine.backend
    for _ in range(2):  # the second time from the file
        (text,), hours = phrases.transcripts(lambda: engine, test_set, case, tmp_path)
        assert text == f'go forward {"tan" if case.length else "ten"} meters'
        assert 1 < hours * 3600 < 10
    assert engine.backend is backend
    printed = capsys.readouterr().err
    assert printed.count('positions') == 1
    n_positions = int(printed.split()[-2])
    assert n_positions > hours * 3600 / 0.08


def test_transcripts_of_other_recordings_are_not_taken(test_set, tmp_path):
    (tmp_path / 'set-without.tsv').write_text('file\tseconds\ttranscript\na.wav\t1\tx\n')
    with pytest.raises(SystemExit, match='other recordings'):
        phrases.transcripts(None, test_set, phrases.Case(), tmp_path)


def test_steps_are_timed_in_turns():
    phrases.WARM_UP, usual = 2, phrases.WARM_UP
    try:
        times = phrases.step_times(phrases.demo_model(), 3, PhraseList.parse(['ten meters']))
    finally:
        phrases.WARM_UP = usual
    assert [len(some) for some in times] == [3, 3]
    assert all(time > 0 for some in times for time in some)


@pytest.mark.parametrize(('entry', 'expected'), [
    ('("kowalski" nil (((k ax) 0) ((w aa l) 1) ((s k iy) 0)))', 'K AH W AA L S K IY'),
    ('("ladle" nil (((l ey) 1) ((d el) 0)))', 'L EY D AH L'),
    ('("a" nil (((ey) 1)))', 'EY')])
def test_pronunciations_of_festival_are_written_as_in_the_dictionary(entry, expected):
    assert peers.phones(entry) == expected.split()
