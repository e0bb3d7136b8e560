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

"""What the package logs reaches the log of the node, and each mistake is told."""

import logging

import pytest
import rclpy
from rclpy.logging import LoggingSeverity, set_logger_level
from rclpy.node import Node
from rclpy.qos import QoSProfile

from voxtral_ros.node.logs import RosHandler, Throttle


@pytest.fixture
def node():
    context = rclpy.Context()
    rclpy.init(context=context)
    node = Node('talker', context=context, enable_rosout=True)
    yield node
    node.destroy_node()
    rclpy.shutdown(context=context)


def test_every_severity_goes_to_rosout_under_the_name_of_the_node(node):
    from rcl_interfaces.msg import Log
    logs = []
    node.create_subscription(Log, '/rosout', logs.append, QoSProfile(depth=100))
    handler = RosHandler(node)
    set_logger_level('talker', LoggingSeverity.DEBUG)
    logger = logging.getLogger('voxtral_ros.recognizer.stream')
    words = ['debug', 'info', 'warning', 'error', 'critical']
    executor = rclpy.executors.SingleThreadedExecutor(context=node.context)
    executor.add_node(node)
    while not node.count_publishers('/rosout') or not node.count_subscribers('/rosout'):
        executor.spin_once(timeout_sec=0.05)
    while not {log.msg for log in logs} >= set(words):
        for word in words:
            getattr(logger, word)(word)
        executor.spin_once(timeout_sec=0.2)
    levels = [next(log.level for log in logs if log.msg == word) for word in words]
    as_int = [level if isinstance(level, int) else level[0] for level in levels]
    assert as_int == [10, 20, 30, 40, 50]
    assert {log.name for log in logs if log.msg in words} == {'talker'}
    handler.close()
    executor.shutdown()


def test_what_failed_is_logged_with_its_traceback(node, monkeypatch):
    errors = []
    handler = RosHandler(node)
    monkeypatch.setattr(handler._ros, 'error', errors.append)
    try:
        raise RuntimeError('what is this')
    except RuntimeError:
        logging.getLogger('voxtral_ros.x').exception('%d streams failed', 3)
    handler.close()
    assert len(errors) == 1
    assert errors[0].startswith('3 streams failed\nTraceback')
    assert errors[0].endswith('RuntimeError: what is this')


def test_loggers_are_left_as_they_were(node):
    logger = logging.getLogger('voxtral_ros')
    before = logger.level, logger.propagate, list(logger.handlers)
    RosHandler(node).close()
    assert (logger.level, logger.propagate, list(logger.handlers)) == before


def test_three_mistakes_are_three_messages_and_numbers_make_no_new_one():
    throttle = Throttle(repeat_s=3600)
    messages = ['unknown parameter a', 'unknown parameter b', 'no audio for 3 s',
                'no audio for 4 s', 'unknown parameter a']
    assert [throttle(message) for message in messages] == [True, True, True, False, False]
    assert Throttle(repeat_s=0)('x')


def test_memory_of_the_throttle_is_bounded():
    throttle = Throttle(repeat_s=3600)
    for number in range(1000):
        throttle('x' * number)
    assert len(throttle._passed_s) <= 64
