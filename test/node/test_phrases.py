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

"""The phrases of the node: from parameters, and from ~/set_phrases in their place."""

from types import SimpleNamespace

from node.driver import ACTIVATE, CLEANUP, CONFIGURE, DEACTIVATE, driven
from node.orders import first_orders
from node.test_parameters import Holder, put
import pytest
from rclpy.parameter import Parameter

from voxtral_ros.node.phrases import Phrases
from voxtral_ros.recognizer.phrases import DEFAULT_BOOST, PhraseError, PhraseList
from voxtral_ros.srv import SetPhrases


class FakeNode(Holder):
    """Has parameters, and a service that is called directly."""

    def create_service(self, kind, name, callback):
        assert (kind, name) == (SetPhrases, '~/set_phrases')
        self.call = lambda *phrases, boost=0.0: callback(
            SetPhrases.Request(phrases=phrases, boost=boost), SetPhrases.Response())

    def get_logger(self):
        return SimpleNamespace(info=lambda text: None, warn=lambda text: None)


def expecting(**values):
    """Return a node, its phrases, and what it was told to expect, one list after the other."""
    node, told = FakeNode(**values), []
    return node, Phrases(node, told.append), told


def changed(name, value):
    kind = Parameter.Type.STRING_ARRAY if isinstance(value, list) else None
    return [Parameter(name, kind, value) if kind else Parameter(name, value=value)]


def boosts(phrases):
    return {phrase.text: phrase.boost for phrase in phrases.phrases}


def test_the_list_and_the_file_are_expected_together(tmp_path):
    file = tmp_path / 'names.txt'
    file.write_text('# people\nŁukasz Żak\n\nKowalski :2.5\n', encoding='utf-8')
    _, phrases, told = expecting(**{'phrases.list': ['pantry', 'R2 :7'], 'phrases.boost': 1.5,
                                    'phrases.file': str(file)})
    phrases.read()
    assert boosts(phrases.expected) == {
        'pantry': 1.5, 'R2': 7.0, 'Łukasz Żak': 1.5, 'Kowalski': 2.5}
    phrases.read()
    assert told == [phrases.expected]  # once, as nothing has changed since


def test_the_last_word_counts():
    node, phrases, _ = expecting(**{'phrases.list': ['pantry']})
    phrases.read()
    answer = node.call('garage', 'garage', 'Kowalski :9')
    assert (answer.success, answer.accepted) == (True, 2)
    assert boosts(phrases.expected) == {'garage': DEFAULT_BOOST, 'Kowalski': 9.0}
    phrases.change(changed('vad.threshold', 0.4), configured=True)
    assert len(phrases.expected) == 2
    # A boost of the request stays as it is, that of the parameter is that of the parameter.
    phrases.change(changed('phrases.boost', 1.0), configured=True)
    assert boosts(phrases.expected) == {'garage': 1.0, 'Kowalski': 9.0}
    node.call('garage', boost=5.0)
    phrases.change(changed('phrases.boost', 1.0), configured=True)
    assert boosts(phrases.expected) == {'garage': 5.0}
    phrases.change(changed('phrases.list', ['pantry']), configured=True)
    assert boosts(phrases.expected) == {'pantry': DEFAULT_BOOST}


def test_an_empty_list_is_none():
    node, phrases, told = expecting(**{'phrases.list': ['pantry']})
    phrases.read()
    answer = node.call()
    assert (answer.success, answer.accepted, answer.message) == (True, 0, 'expecting no phrases')
    assert told[-1] == PhraseList()


@pytest.mark.parametrize(('lines', 'boost', 'reason'), [
    (['pantry', '?!'], 0.0, "phrase 2: the phrase '?!' has no letters"),
    (['Kowalski :much'], 0.0, 'the boost after the colon is no number'),
    (['pantry'], -1.0, 'the boost -1.0 of the phrase'),
    (['pantry'], float('nan'), 'the boost nan of the phrase'),
    ([f'room {n}' for n in range(1001)], 0.0, '1001 phrases')])
def test_a_list_that_cannot_be_is_refused_and_the_old_one_stays(lines, boost, reason):
    node, phrases, told = expecting(**{'phrases.list': ['pantry']})
    phrases.read()
    answer = node.call(*lines, boost=boost)
    assert not answer.success
    assert not answer.accepted
    assert reason in answer.message
    assert boosts(phrases.expected) == {'pantry': DEFAULT_BOOST}
    assert len(told) == 1


def test_what_others_add_comes_on_top_and_counts_as_well():
    node, phrases, _ = expecting(**{'phrases.list': ['pantry']})
    phrases.read()
    phrases.add('wake', PhraseList.parse(['hey robot']))
    phrases.add('goal', PhraseList.parse(['yes', 'no']))
    node.call('garage')
    assert list(boosts(phrases.expected)) == ['garage', 'hey robot', 'yes', 'no']
    phrases.add('goal', PhraseList())
    assert list(boosts(phrases.expected)) == ['garage', 'hey robot']
    answer = node.call(*(f'room {n}' for n in range(1000)))
    assert not answer.success
    assert '1001 phrases' in answer.message
    with pytest.raises(PhraseError, match='1001 phrases'):
        phrases.add('goal', PhraseList.parse(f'word {n}' for n in range(999)))
    assert list(boosts(phrases.expected)) == ['garage', 'hey robot']


def test_before_configure_a_parameter_is_refused_for_its_own_faults_alone(tmp_path):
    _, phrases, told = expecting(**{'phrases.file': str(tmp_path / 'none.txt')})
    with pytest.raises(PhraseError, match='no letters'):
        phrases.change(changed('phrases.list', ['...']), configured=False)
    phrases.change(changed('phrases.list', ['pantry']), configured=False)
    with pytest.raises(PhraseError, match='cannot be read'):
        phrases.read()
    with pytest.raises(PhraseError, match='cannot be read'):
        phrases.change(changed('phrases.list', ['pantry']), configured=True)
    phrases.change(changed('vad.threshold', 0.4), configured=True)
    assert told == []


def test_phrases_of_a_running_node(tmp_path):
    file = tmp_path / 'names.txt'

    def send(driver, *phrases):
        return driver.call(SetPhrases, 'asr/set_phrases', SetPhrases.Request(phrases=phrases))

    def shows(driver, n):
        driver.wait(lambda: driver.diagnostics and driver.shown('phrases') == str(n))

    with driven(tmp_path, source='file', file=first_orders(tmp_path, 2),
                phrases__file=file) as driver:
        assert not driver.change(CONFIGURE)
        driver.wait(lambda: 'names.txt cannot be read' in driver.log)
        file.write_text('Kowalski\n', encoding='utf-8')
        assert driver.change(CONFIGURE)
        shows(driver, 1)
        assert send(driver, 'pantry', 'garage', 'attic').accepted == 3  # while inactive
        shows(driver, 3)
        assert driver.change(ACTIVATE)
        assert 'no letters' in send(driver, 'pantry', '...').message
        shows(driver, 3)
        assert 'phrase 1: the phrase' in put(driver, 'phrases.list', ['...']).reason
        driver.wait(lambda: len(driver.finals) == 2)
        assert send(driver).success
        shows(driver, 0)
        assert put(driver, 'phrases.list', ['the red cup', 'the kitchen']).successful
        shows(driver, 3)  # with that of the file
        assert send(driver, 'the red cup').success
        for transition in (DEACTIVATE, CLEANUP, CONFIGURE, ACTIVATE):
            assert driver.change(transition)
        shows(driver, 1)
        assert driver.state == 'active'
