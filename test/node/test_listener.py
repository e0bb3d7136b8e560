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

"""A subscription with a thread of its own: processed in order, once, and by nobody else."""

from contextlib import contextmanager
import threading

import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from std_msgs.msg import String

from voxtral_ros.node.listener import Listener

QOS = QoSProfile(depth=100)  # reliable: what is acknowledged is in the queue
NAMES = [str(number) for number in range(20)]


class Received(list):
    """What was processed, and in which threads."""

    def __init__(self):
        super().__init__()
        self.threads = set()
        self.updates = threading.Condition()

    def __call__(self, message):
        with self.updates:
            self.append(message.data)
            self.threads.add(threading.current_thread().name)
            self.updates.notify()

    def wait(self, n):
        """Wait until so many were processed."""
        with self.updates:
            assert self.updates.wait_for(lambda: len(self) >= n, 60), self


@pytest.fixture
def node():
    context = rclpy.Context()
    rclpy.init(context=context)
    node = Node('input', context=context)
    yield node
    node.destroy_node()
    rclpy.shutdown(context=context)


@contextmanager
def listening(node, callback, **options):
    """Yield a listener, and a function that publishes words until they are acknowledged."""
    listener = Listener(node, String, 'words', callback, QOS, **options)
    publisher = node.create_publisher(String, 'words', QOS)
    try:
        while not publisher.get_subscription_count():
            threading.Event().wait(0.01)

        def say(*words):
            for word in words:
                publisher.publish(String(data=word))
            assert publisher.wait_for_all_acked()

        yield listener, say
    finally:
        listener.close()


def test_messages_are_transcribed_in_order_and_no_executor_is_needed(node):
    received = Received()
    with listening(node, received) as (_, say):
        say(*NAMES)
        received.wait(len(NAMES))
        assert received == NAMES
        assert received.threads == {'listener'}


def test_an_executor_leaves_them_alone(node):
    received, go = Received(), threading.Event()
    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(node)
    with listening(node, received, pause_s=lambda: 0.001 * go.wait(60)) as (_, say):
        say(*NAMES)
        for _ in NAMES:
            executor.spin_once(timeout_sec=0.0)
        assert received == []
        go.set()
        received.wait(len(NAMES))
        assert received == NAMES
        assert received.threads == {'listener'}
    executor.shutdown()


def test_where_there_is_no_hurry_what_waits_is_taken_together(node):
    received, transcribed_before = Received(), []
    pausing, go = threading.Event(), threading.Event()

    def pause_s():
        transcribed_before.append(len(received))
        pausing.set()
        assert go.wait(60)
        return 0.01

    with listening(node, received, pause_s=pause_s) as (_, say):
        assert pausing.wait(60)
        say(*NAMES)
        go.set()
        received.wait(len(NAMES))
        assert received == NAMES
        assert set(transcribed_before) <= {0, len(NAMES)}


def test_it_is_said_when_all_that_waited_was_taken(node):
    events, pausing, go = [], threading.Event(), threading.Event()
    done = threading.Condition()

    def pause_s():
        pausing.set()
        assert go.wait(60)
        return 0.01

    def on_message(message):
        events.append(message.data)
        if message.data == NAMES[-1]:
            raise RuntimeError('what was taken is done all the same')

    def on_done():
        with done:
            events.append('done')
            done.notify()

    with listening(node, on_message, pause_s=pause_s, done=on_done) as (_, say):
        assert pausing.wait(60)
        say(*NAMES)
        go.set()
        with done:
            assert done.wait_for(lambda: NAMES[-1] in events and events[-1] == 'done', 60)
    first = events.index(NAMES[0])
    assert events[first:first + len(NAMES) + 1] == [*NAMES, 'done']


def test_a_callback_that_raises_is_published_of_and_does_not_end_it(node, monkeypatch):
    received, errors = Received(), []

    class Logger:
        error = errors.append

    def callback(message):
        received(message)
        if message.data == 'bad':
            raise RuntimeError('what is this')

    monkeypatch.setattr(node, 'get_logger', Logger)
    with listening(node, callback) as (_, say):
        say('bad', 'good')
        received.wait(2)
        assert received == ['bad', 'good']
    assert len(errors) == 1
    assert 'RuntimeError: what is this' in errors[0]


def test_when_it_is_closed_nothing_is_left_of_it(node):
    received = Received()
    with listening(node, received, pause_s=lambda: 3600.0) as (listener, say):
        say('unheard')
        listener.close()
        assert not list(node.subscriptions)
        assert all(thread.name != 'listener' for thread in threading.enumerate())
    assert received == []
