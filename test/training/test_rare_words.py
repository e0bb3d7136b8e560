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

"""Words that are rare in the training sentences, and how often they are wrong."""

from training import rare_words


def test_a_word_is_matched_where_the_transcript_has_it():
    reference = 'a small iced latte please'.split()
    transcript = 'a small eyes to lattay please'.split()
    assert rare_words.matched_words(reference, transcript) == [True, True, False, False, True]
    assert rare_words.matched_words(reference, []) == [False] * 5


def test_words_are_counted_as_they_are_spoken():
    counts = rare_words.count_errors([('go to room 12', 'go to room twelve'), ('Go up', 'no up')])
    assert counts == {'go': (2, 1), 'to': (1, 0), 'room': (1, 0), 'twelve': (1, 0), 'up': (1, 0)}


def test_rare_and_other_words_are_counted_apart(tmp_path, capsys, monkeypatch):
    sentences, texts = tmp_path / 'sentences.txt', tmp_path / 'texts.tsv'
    sentences.write_text('make some tea tea\nmake it\nmake the mocha\n', encoding='utf-8')
    texts.write_text('file\ttext\ttranscript\na\tmake a mocha\tmake some\nb\tmake tea\tmake tea\n',
                     encoding='utf-8')
    monkeypatch.setattr('sys.argv', ['rare_words', '--sentences', str(sentences),
                                     '--texts', str(texts), '--at-most', '1'])
    rare_words.main()
    lines = capsys.readouterr().out.splitlines()
    assert set(lines[:3]) == {
        'a: in 0 training sentences, 1 of 1 wrong',
        'mocha: in 1 training sentences, 1 of 1 wrong',
        'tea: in 1 training sentences, 0 of 1 wrong'}
    assert lines[3:] == ['3 rare words: 2 of 3 wrong',
                         '1 other words: 0 of 2 wrong']
