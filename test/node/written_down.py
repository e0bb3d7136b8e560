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

"""Outputs of a node that writes down what is published, without any middleware."""

import time
from types import SimpleNamespace

from voxtral_ros.node.outputs import Outputs


class Node:
    """It writes down what its publishers do."""

    def __init__(self, error=None, is_transcribed=True):
        self.done, self.published = [], []
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

        return SimpleNamespace(topic=topic, wait_for_all_acked=wait,
                               publish=self.published.append)

    def destroy_lifecycle_publisher(self, publisher):
        self.done.append(('destroyed', publisher.topic))


def publishing(node, now_ns, partial_rate_hz=0.0, min_confidence=0.0):
    """Return outputs of a node whose clock is a function, and where its audio began."""
    node.get_parameter = lambda name: SimpleNamespace(
        value={'partial_rate_hz': partial_rate_hz, 'log_transcripts': False,
               'text.min_confidence': min_confidence}.get(name, ''))
    node.get_clock = lambda: SimpleNamespace(now=lambda: SimpleNamespace(nanoseconds=now_ns()))
    robot = SimpleNamespace(
        marked=lambda start_ns, end_ns: False, doubtful=lambda start_ns, end_ns: False,
        silent=lambda now_ns: True)
    return Outputs(node, robot), SimpleNamespace(
        stamp_ns=lambda time_s: round(1e9 * time_s), frame_id='', processed_s=0.0)
