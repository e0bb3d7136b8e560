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

"""Everyday sentences: how the sources are read, and what is left out."""

import json

import pytest
from training.everyday import everyday, robot_grammar, split, WordFilter
from training.sentences import excluded_runs, inflected, normalise, select
from training.spoken_numbers import ordinal, spoken, year


def _said(text):
    return [' '.join(normalise(sentence) or ['?']) for sentence in split(text)]


@pytest.mark.parametrize(('written', 'said'), [
    ('wake me up at 7:30', 'wake me up at seven thirty'),
    ('wake me up at 6:05 pm', 'wake me up at six oh five pm'),
    ('it is 5:00 already', "it is five o'clock already"),
    ('be there at 5:00 p.m.', 'be there at five pm'),
    ('lunch at 12pm then', 'lunch at twelve pm then'),
    ('it costs $5.99 today', 'it costs five dollars and ninety nine cents today'),
    ('that is \u00a31 each', 'that is one pound each'),
    ('pay $1,250 by friday', 'pay one thousand two hundred fifty dollars by friday'),
    ('the 22nd of may', 'the twenty second of may'),
    ('the 30th and the 12th', 'the thirtieth and the twelfth'),
    ('born in 1984 or 2005', 'born in nineteen eighty four or two thousand five'),
    ("music of the 80s and the 1990's", 'music of the eighties and the nineteen nineties'),
    ('it weighs 3.5 pounds', 'it weighs three point five pounds'),
    ('dim it to 50% now', 'dim it to fifty percent now'),
    ('call 555-0134 please', 'call five five five zero one three four please'),
    ('the code is 90210', 'the code is nine zero two one zero'),
    ('room 305 please', 'room three hundred five please'),
])
def test_numbers_are_written_as_people_say_them(written, said):
    assert _said(written) == [said]


@pytest.mark.parametrize(('number', 'words'), [
    (1, 'first'), (8, 'eighth'), (20, 'twentieth'), (31, 'thirty first'),
    (112, 'one hundred twelfth')])
def test_ordinals(number, words):
    assert ordinal(number) == words


@pytest.mark.parametrize(('number', 'words'), [
    (1900, 'nineteen hundred'), (1905, 'nineteen oh five'), (2015, 'twenty fifteen')])
def test_years(number, words):
    assert year(number) == words


def test_a_text_without_numbers_stays_as_it_is():
    assert spoken('no number here, not one') == 'no number here, not one'


@pytest.mark.parametrize(('written', 'said'), [
    ('Hi! How are you? Fine; thanks a lot.', ['?', 'how are you', '?', 'thanks a lot']),
    ('Mr. Smith saw Dr. Jones.', ['mister smith saw doctor jones']),
    ("it is n't here and he 's late", ["it isn't here and he's late"]),
    ('dont worry im ok', ["don't worry i'm okay"]),
    ('don\u2019t go there', ["don't go there"]),
    ('salt & pepper', ['salt and pepper']),
])
def test_texts_are_split_into_sentences_of_whole_words(written, said):
    assert _said(written) == said


@pytest.mark.parametrize('form', ['minutes', 'movies', 'hobbies', 'boxes', 'replaced', 'wanted',
                                  'making', 'walking', 'stopping', "dog's"])
def test_inflected_words_are_known(form):
    stems = ('minute', 'movie', 'hobby', 'box', 'replace', 'want', 'make', 'walk', 'stop', 'dog')
    assert form in {found for stem in stems for found in inflected(stem)}


@pytest.mark.parametrize(('text', 'fit'), [
    ('what a lovely day', True), ('you rotten eggs', True), ('that darned thing', False),
    ('the DARN thing', False), ('a bad egg hatched', False), ('darnell is here', True),
    ('how r u today', False), ("i'm sure it's a cat", True)])
def test_word_filter(tmp_path, text, fit):
    path = tmp_path / 'words.json'
    path.write_text(json.dumps(['darn', 'bad egg']))
    assert WordFilter(path)(text) is fit


def test_sentences_of_test_recordings_are_left_out(tmp_path):
    manifest = tmp_path / 'test.tsv'
    manifest.write_text('text\nPlease, bring me the cup of tea!\nGo home.\n')
    texts = ['please bring me the cup', 'can you bring me the cup of', 'bring me the cup',
             'go home', 'go home now']
    known = {word for text in texts for word in text.split()}
    assert select(texts, known, excluded_runs([manifest])) == {'bring me the cup', 'go home now'}


def _robocup(folder):
    folder.mkdir(parents=True)
    (folder / 'common_rules.txt').write_text('; remark\n$take = take the {aobject?} | grab it\n')
    (folder / 'gpsr.txt').write_text(
        '\ufeff$Main = $take to {name 1 meta: {name 1} sits} {void meta: only {room}}\n'
        '$Main = tell {pron} $whattosay\n', encoding='utf-8')
    (folder / 'egpsr.txt').write_text('')
    (folder / 'whattosay.txt').write_text('the time\n')
    (folder / 'names.xml').write_text('<names><name>Robin</name></names>')
    (folder / 'gestures.xml').write_text('<gestures/>')
    (folder / 'locations.xml').write_text(
        '<rooms><room name="hall"><location name="bed" isBeacon="true"/></room></rooms>')
    (folder / 'objects.xml').write_text(
        '<categories><category name="food"><object name="apple"/></category></categories>')


def test_robot_commands_of_a_grammar(tmp_path):
    _robocup(tmp_path / 'robocup')
    grammar = robot_grammar(tmp_path / 'robocup')
    assert {grammar.expand('<Main>') for _ in range(300)} == {
        'take the apple to Robin', 'grab it to Robin', 'tell him the time', 'tell her the time',
        'tell them the time'}


def _write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding='utf-8')


def test_every_source_is_read(tmp_path):
    (tmp_path / 'naughty-words.json').write_text('["darn"]')
    _write(tmp_path / 'clinc' / 'a.json', json.dumps({'train': [['is it late. darn it', 'x']]}))
    _write(tmp_path / 'nlu-evaluation' / 'sub' / 'a.csv',
           'answerid;answer_from_anno;answer_from_user\n1;"stop it, now";"<stop>"\n')
    _write(tmp_path / 'snips' / 'a.json', json.dumps({'Play': [
        {'data': [{'text': 'play '}, {'text': 'jazz', 'entity': 'g'}, {'text': ' at 5'}]}]}))
    _write(tmp_path / 'banking' / 'a.csv', 'text,category\nwhere is my card?,lost\n')
    _robocup(tmp_path / 'robocup')
    _write(tmp_path / 'star' / '1.json', json.dumps({'Events': [
        {'Agent': 'User', 'Text': 'hello there'}, {'Agent': 'UserGuide', 'Text': 'say hello'},
        {'Agent': 'Wizard', 'Action': 'query'}]}))
    _write(tmp_path / 'taskmaster' / '1.json', json.dumps(
        [{'utterances': [{'text': 'one tea please'}, {'text': 'sure thing'}]}]))
    _write(tmp_path / 'self-dialogues' / 'a.csv',
           'WorkerId,Answer.sentence1,Answer.sentence10\nx,i saw it,so did i\n')
    _write(tmp_path / 'tatoeba' / 'fra.txt', 'Come in.\tEntrez.\tCC-BY 2.0 (France)\n')
    _write(tmp_path / 'common-voice' / 'a.txt', 'The sky was grey.\n')
    found = {source.folder: {text.strip() for text in texts}
             for source, texts in everyday(tmp_path)}
    assert found.pop('robocup') >= {'grab it to Robin', 'tell them the time'}
    assert found == {
        'clinc': {'is it late'}, 'nlu-evaluation': {'stop it, now'}, 'snips': {'play jazz at 5'},
        'banking': {'where is my card'}, 'star': {'hello there'},
        'taskmaster': {'one tea please', 'sure thing'},
        'self-dialogues': {'i saw it', 'so did i'}, 'tatoeba': {'Come in'},
        'common-voice': {'The sky was grey'}}
