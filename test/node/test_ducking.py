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

"""The node listens while the robot speaks: its own words are left out, those of others stay."""

from node.conversation import conversation
import pytest
from std_msgs.msg import Bool, String
from support.scripted import join, Script, silence

from voxtral_ros.msg import Turn


@pytest.fixture
def script():
    return Script()


@pytest.fixture
def talk(script):
    with conversation(script, robot_speaking_mode='duck') as talk:
        talk.turns, talk.texts = [], []
        talk._asking.create_subscription(Turn, 'turn', talk.turns.append, 50)
        talk._asking.create_subscription(
            String, 'transcript/text', lambda message: talk.texts.append(message.data), 50)
        talk.speaking = talk._asking.create_publisher(Bool, 'robot_speaking', 10)
        talk.text = talk._asking.create_publisher(String, 'robot_text', 10)
        talk.wait(lambda: talk.node.count_subscribers('turn')
                  and talk.node.count_subscribers('transcript/text')
                  and talk.speaking.get_subscription_count() == 2
                  and talk.text.get_subscription_count() == 2)
        yield talk


def speak(talk, text=''):
    """Let the robot speak from now on."""
    if text:
        talk.text.publish(String(data=text))
        talk.wait(lambda: talk.node._ducking._text._pieces)
    talk.speaking.publish(Bool(data=True))
    talk.wait(lambda: talk.node.robot.speaks)


def test_its_words_go_and_those_of_somebody_else_stay(talk, script):
    talk.play(silence(0.5))
    speak(talk, 'The door is open')
    talk.play(join(script.say(' door'), script.say(' stop'), script.say(' open'), silence(2.0)))
    talk.wait(lambda: talk.texts)
    assert talk.texts == ['stop']
    assert [final.text for final in talk.finals] == ['stop']
    assert talk.finals[0].robot_speaking
    talk.wait(lambda: talk.turns and talk.turns[-1].kind == Turn.END)
    assert [turn.kind for turn in talk.turns if turn.kind != Turn.EAGER_END] == [
        Turn.START, Turn.END]


def test_what_it_says_alone_is_nothing(talk, script):
    talk.play(silence(0.5))
    speak(talk, 'The door is open')
    talk.play(join(script.say(' door'), script.say(' open'), silence(2.0)))
    talk.speaking.publish(Bool(data=False))
    talk.wait(lambda: not talk.node.robot.speaks)
    talk.pass_time(5.0)
    talk._position += 5 * 16000
    talk.play(join(script.say(' door'), silence(2.0)))  # somebody says the same afterwards
    talk.wait(lambda: talk.texts)
    assert talk.texts == ['door']
    assert [turn.kind for turn in talk.turns].count(Turn.START) == 1


def test_without_its_text_all_that_is_left_is_published(talk, script):
    talk.play(silence(0.5))
    speak(talk)
    talk.play(join(script.say(' door'), silence(2.0)))
    talk.wait(lambda: talk.texts)
    assert talk.texts == ['door']


def test_a_goal_is_answered_by_who_interrupts(talk, script):
    talk.play(silence(0.5))
    speak(talk, 'The door is open')
    asking = talk.ask()
    talk.play(join(script.say(' door'), script.say(' stop'), silence(2.0)))
    assert asking.finish().text == 'stop'
