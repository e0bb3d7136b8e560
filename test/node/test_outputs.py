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

"""What was said last arrives before the publishers go."""

import time
from types import SimpleNamespace

from voxtral_ros.node.outputs import Outputs


class Node:
    """It writes down what its publishers do."""

    def __init__(self, error=None, is_transcribed=True):
        self.done = []
        self.waited_s = 0.0
        self._error, self._is_transcribed = error, is_transcribed

    def get_parameter(self, name):
        return SimpleNamespace(value='')

    def create_lifecycle_publisher(self, kind, topic, qos, event_callbacks):
        def wait(timeout):
            assert timeout.nanoseconds >= 0  # less is for ever
            self.done.append(('waited for', topic))
            if self._error:
                raise self._error
            if not self._is_transcribed:
                self.waited_s += timeout.nanoseconds / 1e9
                time.sleep(timeout.nanoseconds / 1e9)

        return SimpleNamespace(topic=topic, wait_for_all_acked=wait)

    def destroy_lifecycle_publisher(self, publisher):
        self.done.append(('destroyed', publisher.topic))


def test_the_last_transcripts_arrive_before_their_publishers_go():
    node = Node()
    Outputs(node, robot=None).destroy()
    for topic in ('transcript/final', 'transcript/text', 'transcript/partial'):
        assert node.done.index(('waited for', topic)) < node.done.index(('destroyed', topic))


def test_subscribers_that_are_gone_hold_up_the_end_once():
    node = Node(is_transcribed=False)
    Outputs(node, robot=None).destroy()
    assert len([what for what, _ in node.done if what == 'waited for']) == 4
    assert 0 < node.waited_s <= 0.5


def test_a_middleware_that_cannot_wait_does_not_keep_them():
    node = Node(RuntimeError('not implemented'))
    Outputs(node, robot=None).destroy()
    assert sum(what == 'destroyed' for what, _ in node.done) == 4
