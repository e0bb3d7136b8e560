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

"""Tables of recordings: what is read, and what is said about those that are none."""

import os
from pathlib import Path

import numpy as np
import pytest

from voxtral_ros.audio.block import AudioError
from voxtral_ros.evaluation.manifest import (
    checked, ManifestError, read_manifest, read_table, sample)

DATA = Path(__file__).resolve().parents[1] / 'data'


@pytest.fixture
def write(tmp_path):
    def to_file(text, encoding='utf-8'):
        path = tmp_path / 'table.tsv'
        path.write_bytes(text.encode(encoding))
        return path

    return to_file


def test_the_table_of_the_tests():
    recordings = read_manifest(DATA / 'manifest.tsv', ('file', 'text', 'source'))
    assert len(recordings) == 7
    assert recordings[1].path == DATA / 'go_forward_ten_meters.flac'
    assert recordings[1].text == 'go forward ten meters'
    assert 'BSD' in recordings[1].columns['source']
    samples = recordings[1].samples()
    assert samples.dtype == np.float32
    assert 2 < len(samples) / 16000 < 4


def test_columns_come_in_any_order_and_paths_are_relative_to_the_table(write):
    path = write('voice\ttext\tfile\nann\tgo on\tb/a.wav\n\nbob\t\t/c.wav\n')
    assert read_manifest(path) == [
        (path.parent / 'b/a.wav', 'go on', {'voice': 'ann', 'text': 'go on', 'file': 'b/a.wav'}),
        (Path('/c.wav'), '', {'voice': 'bob', 'text': '', 'file': '/c.wav'})]


def test_lines_end_as_on_any_system_and_nowhere_else(write):
    path = write('file\ttext\r\na.wav\tone "two\r\nb.wav\tthree\u2028four\x0b five')
    assert [recording.text for recording in read_manifest(path)] == [
        'one "two', 'three\u2028four\x0b five']


def test_texts_may_be_missing_where_nobody_needs_them(write):
    path = write('file\na.wav\n')
    assert [recording.text for recording in read_manifest(path, ('file',))] == ['']
    with pytest.raises(ManifestError, match='columns file, text$'):
        read_manifest(path)


def test_other_columns_may_be_missing_at_the_end_of_a_line(write):
    rows = read_table(write('file\ttext\tends\na\tone\t0.5\nb\ttwo\n'), ('file', 'text'))
    assert rows == [{'file': 'a', 'text': 'one', 'ends': '0.5'}, {'file': 'b', 'text': 'two'}]


@pytest.mark.parametrize(('text', 'message'), [
    ('', 'table.tsv needs a first line with the columns file, text'),
    ('file\twords\na.wav\tone\n', 'table.tsv needs a first line with the columns file, text'),
    ('file,text\na.wav,one\n', 'table.tsv needs a first line with the columns file, text'),
    ('file\ttext\n\na.wav\tone\nb.wav two\n',
     'table.tsv, line 4: 1 columns, the first line has 2; they are separated by tabs'),
])
def test_a_table_that_is_none_is_named_with_the_line(write, text, message):
    with pytest.raises(ManifestError, match=message):
        read_manifest(write(text))


def test_another_encoding_is_named(write):
    with pytest.raises(ManifestError, match=r'table\.tsv is not text in UTF-8'):
        read_manifest(write('file\ttext\na.wav\tgrüße\n', 'latin-1'))


def test_names_of_files_are_bytes(tmp_path):
    (tmp_path / 'table.tsv').write_bytes(b'file\ttext\ncaf\xe9.wav\tgr\xc3\xbc\xc3\x9fe\n')
    recording, = read_manifest(tmp_path / 'table.tsv')
    assert os.fsencode(recording.path.name) == b'caf\xe9.wav'
    assert recording.text == 'gr\u00fc\u00dfe'


def test_a_missing_recording_is_noticed_when_it_is_read(write):
    recording, = read_manifest(write('file\ttext\nnone.wav\tone\n'))
    with pytest.raises(AudioError, match=r'none\.wav'):
        recording.samples()


@pytest.mark.parametrize(('count', 'chosen'), [
    (None, [0, 1, 2, 3, 4, 5, 6]), (3, [0, 2, 4]), (7, [0, 1, 2, 3, 4, 5, 6]),
    (5, [0, 1, 2, 3, 4]), (9, [0, 1, 2, 3, 4, 5, 6]), (1, [0])])
def test_a_sample_is_from_all_over_the_table(count, chosen):
    assert list(sample(range(7), count)) == chosen


@pytest.mark.parametrize('mark', ['x', 'X', '1', 'yes', 'TRUE', '\u2713', ' x '])
def test_only_texts_that_somebody_has_checked_count(write, mark):
    path = write(f'checked\tfile\ttext\n{mark}\ta.wav\tone\n\tb.wav\ttwo\nFALSE\tc.wav\tthree\n'
                 f'0\td.wav\tfour\n{mark}\te.wav\t\n')
    assert [recording.text for recording in checked(read_manifest(path))] == ['one', '']


def test_where_nothing_is_noted_all_texts_count(write):
    recordings = read_manifest(write('file\ttext\na.wav\tone\nb.wav\ttwo\n'))
    assert checked(recordings) == recordings


def test_where_nobody_has_checked_a_text_it_is_said_how(write):
    recordings = read_manifest(write('checked\tfile\ttext\n\ta.wav\tone\n'))
    with pytest.raises(ManifestError, match='none of 1 texts is checked: .* x in the column'):
        checked(recordings)


def test_a_table_may_begin_as_windows_programs_begin_theirs(write):
    path = write('checked\tfile\ttext\r\nx\ta.wav\tgr\u00fc\u00dfe\r\n\tb.wav\tb\r\n',
                 'utf-8-sig')
    assert [recording.text for recording in checked(read_manifest(path))] == ['gr\u00fc\u00dfe']
