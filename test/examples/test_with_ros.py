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

"""The examples that use ROS, with the node."""

from contextlib import suppress
from xml.etree import ElementTree

from examples.example import EXAMPLES, ORDERS, ROOT, run, running
from geometry_msgs.msg import Twist
from node.conversation import conversation
from node.driver import ACTIVATE, CONFIGURE, DEACTIVATE, driven
import pytest
from support.scripted import join, PAUSE, Script, silence

from voxtral_ros.action import Listen

TREE = ElementTree.parse(EXAMPLES / 'which_room.xml').getroot()
MODELS = {model.get('ID'): model for model in TREE.find('TreeNodesModel')}
BUILT_IN = {'Sequence', 'RetryUntilSuccessful'}  # of BehaviorTree.CPP


# ---- topics and services ----

def test_subscribe_and_act(tmp_path):
    speeds = []
    with driven(tmp_path, source='file', file=ORDERS, file_realtime='false') as driver, \
            running('subscribe_and_act.py'):
        driver.client.create_subscription(Twist, 'cmd_vel', lambda speed: speeds.append(
            (speed.linear.x, speed.angular.z)), 10)
        assert driver.change(CONFIGURE)
        driver.wait(lambda: driver.client.count_publishers('cmd_vel'))
        driver.wait(lambda: driver.client.count_subscribers('transcript/final') == 2)
        for _ in range(5):  # what is published before all know each other is lost
            n_before = len(driver.finals)
            assert driver.change(ACTIVATE)
            driver.wait(lambda n_before=n_before: len(driver.finals) >= n_before + 4)
            assert driver.change(DEACTIVATE)
            with suppress(AssertionError):
                driver.wait(lambda: {(0.0, 0.5), (0.0, 0.0)} <= set(speeds), timeout_s=5)
                break
    assert speeds[-2:] == [(0.0, 0.5), (0.0, 0.0)]  # turn left, stop


def test_phrases_from_map(tmp_path):
    with driven(tmp_path) as driver:
        assert run('phrases_from_map.py', EXAMPLES / 'rooms.yaml') == \
            (0, 'expecting 4 phrases\n', '')
        assert driver.change(CONFIGURE)
        driver.wait(lambda: driver.shown('phrases') == '4')
        file = tmp_path / 'rooms.yaml'
        file.write_text('rooms: [{name: "?!"}]', encoding='utf-8')
        code, printed, _ = run('phrases_from_map.py', file)
        assert code == 1
        assert printed == "phrase 1: the phrase '?!' has no letters: nobody can say it\n"


# ---- the action ----

@pytest.mark.parametrize(('said', 'printed'), [
    (' the garage', 'garage'), (' the moon', 'none of these rooms: the moon'),
    ('', 'nobody has spoken for 5 s')])
def test_listen(said, printed):
    script = Script()
    with conversation(script) as talk, running('listen.py') as client:
        talk.wait(lambda: talk.node.listen.active)
        talk.settle()
        if said:
            talk.play(join(silence(1.0), script.say(said), silence(PAUSE)))
        else:
            talk.pass_time(6.0)
        lines = client.communicate(timeout=60)[0].splitlines()
        assert client.returncode == 0
        assert lines[-1] == printed
        assert all(line.startswith('... ') for line in lines[:-1])


def test_docs_have_the_example():
    code = (EXAMPLES / 'listen.py').read_text(encoding='utf-8').partition('import sys\n')
    docs = (ROOT / 'docs' / 'listen.md').read_text(encoding='utf-8')
    assert f'```python\n{code[1]}{code[2]}```\n' in docs


# ---- the behaviour tree ----

def as_field(text, kind):
    """Return the value of a port as a RosActionNode makes it."""
    return {'string': str, 'boolean': 'true'.__eq__, 'float': float,
            'sequence<string>': lambda text: text.split(';')}[kind](text)


def is_blackboard(value):
    return value.startswith('{') and value.endswith('}')


def test_ports_are_fields_of_the_action():
    goal, result = (kind.get_fields_and_field_types() for kind in (Listen.Goal, Listen.Result))
    inputs = {port.get('name') for port in MODELS['Listen'].findall('input_port')}
    outputs = {port.get('name') for port in MODELS['Listen'].findall('output_port')}
    assert inputs - {'action_name'} <= goal.keys()
    assert outputs <= result.keys()
    for port in MODELS['Listen'].findall('input_port'):
        if port.get('default') is not None and port.get('name') in goal:
            kind = goal[port.get('name')]
            assert as_field(port.get('default'), kind) == getattr(Listen.Goal(), port.get('name'))


def test_the_tree_uses_what_it_declares():
    assert TREE.get('BTCPP_format') == '4'
    trees = {tree.get('ID'): tree for tree in TREE.findall('BehaviorTree')}
    assert TREE.get('main_tree_to_execute') in trees
    written, read = set(), set()
    for element in (node for tree in trees.values() for node in tree.iter() if node is not tree):
        if element.tag in BUILT_IN:
            continue
        ports = {port.get('name'): port.tag for port in MODELS[element.tag]}
        assert set(element.keys()) <= ports.keys() | {'name'}
        for name, value in element.items():
            if is_blackboard(value):
                (written if ports[name] == 'output_port' else read).add(value)
            else:
                assert ports[name] == 'input_port'
    assert read and read <= written


@pytest.mark.parametrize(('said', 'room'), [(' the kitchen', 'kitchen'), (' the moon', '')])
def test_the_goal_of_the_tree(said, room):
    [ask] = TREE.iter('Listen')
    kinds = Listen.Goal.get_fields_and_field_types()
    fields = {name: as_field(value, kinds[name]) for name, value in ask.items()
              if not is_blackboard(value) and name != 'action_name'}
    assert len(fields) > 2
    script = Script()
    with conversation(script) as talk:
        assert ask.get('action_name') == talk.node.get_fully_qualified_name() + '/listen'
        asking = talk.ask(**fields)
        talk.play(join(silence(1.0), script.say(said), silence(PAUSE)))
        result = asking.finish()
        assert result.reason == Listen.Result.SUCCEEDED
        assert (result.text, result.phrase) == (said.strip(), room)
