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

"""What strangers can make the server log: little."""

import logging
import socket

import pytest

from voxtral_ros.server.log import HttpLogger, RateLimitedLog


@pytest.fixture
def clock():
    """Return a clock that stands until somebody moves it."""
    class Clock:
        now = 0.0

        def __call__(self):
            return self.now
    return Clock()


def texts(caplog):
    return [record.getMessage() for record in caplog.records
            if record.name.startswith('voxtral_ros')]


def test_lines_of_one_kind_are_counted_and_not_logged_beyond_the_rate(caplog, clock):
    log = RateLimitedLog(per_minute=3, clock=clock)
    for n in range(1000):
        log.warning('stranger %d came', n)
    log.warning('something else')
    assert texts(caplog) == ['stranger 0 came', 'stranger 1 came', 'stranger 2 came',
                             'something else']
    clock.now = 61.0
    log.warning('stranger %d came', 1000)
    assert texts(caplog)[-1] == 'stranger 1000 came (997 more like this before)'
    clock.now = 122.0
    log.warning('stranger %d came', 1001)
    assert texts(caplog)[-1] == 'stranger 1001 came'


def test_an_error_of_our_own_has_its_traceback(caplog, clock):
    logger = HttpLogger(RateLimitedLog(clock=clock))
    try:
        raise KeyError('a fault')
    except KeyError:
        logger.exception('Error handling request from %s', '10.0.0.1')
    logger.debug('details')
    logger.debug('details', exc_info=KeyError())
    [record] = caplog.records
    assert record.exc_info[0] is KeyError
    assert record.getMessage() == 'Error handling request from 10.0.0.1'


def test_a_connection_that_breaks_is_one_line(caplog, clock):
    logger = HttpLogger(RateLimitedLog(clock=clock))
    for _ in range(100):
        try:
            raise ConnectionResetError('Cannot write to\nclosing transport')
        except ConnectionResetError:
            logger.exception('Error handling request from %s', '10.0.0.1')
    assert len(caplog.records) == 10
    assert not caplog.records[0].exc_info
    assert caplog.records[0].getMessage() == \
        "Error handling request from 10.0.0.1: 'Cannot write to closing transport'"


@pytest.mark.parametrize('request_', [
    b'GET / HTTP/9\r\nX: ' + b'y' * 7000 + b'\r\n\r\n',
    b'\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03',  # TLS
    b'GET / HTTP/1.1\r\nBad\x1b[31mHeader\r\n\r\n',
    b'GET /' + b'a' * 20_000 + b' HTTP/1.1\r\n\r\n',
    b'GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n'])
def test_malformed_requests_are_some_short_lines_without_a_traceback(scripted, caplog, request_):
    for _ in range(50):
        with socket.create_connection(('127.0.0.1', scripted.server.port), timeout=10) as raw:
            raw.sendall(request_)
            assert b' 400 ' in raw.recv(65536)
    lines = texts(caplog)
    assert len(lines) <= 10
    for record in caplog.records:
        assert not record.exc_info
        assert len(record.getMessage()) < 300
        assert record.getMessage().isprintable()
        assert record.levelno >= logging.WARNING
