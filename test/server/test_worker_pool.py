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

"""Which engine a client gets, and what becomes of it when that fails."""

from types import SimpleNamespace

import pytest

from voxtral_ros.recognizer.admission import Admission
from voxtral_ros.server.metrics import Metrics
from voxtral_ros.server.worker_pool import WorkerPool


def worker(name, n_slots=4, n_talking=0, pass_ms=None, **state):
    """Return what a pool sees of a worker; a pass over one stream has taken so long of late."""
    admission = Admission(0.08)
    for _ in range(20 if pass_ms else 0):
        admission.passed(1, 1, pass_ms / 1e3)
    return Fake(**{
        'name': name, 'n_slots': n_slots, 'n_talking': n_talking, 'admission': admission,
        'is_failing': False, 'waiting_s': 0.0, **state})


class Fake(SimpleNamespace):
    """Attributes of an object that is only equal to itself."""

    __hash__ = object.__hash__
    __eq__ = object.__eq__


def pool_of(*workers, overload=False):
    return WorkerPool(workers, Metrics(), overload)


def names(pool, n):
    return [pool.enter().name for _ in range(n)]


def test_clients_are_spread_evenly_while_nobody_speaks():
    pool = pool_of(worker('a'), worker('b'), worker('c'))
    assert sorted(names(pool, 6)) == [*'aabbcc']
    assert [pool.n_sessions(one) for one in pool.workers] == [2, 2, 2]


def test_one_with_twice_the_streams_gets_twice_the_clients():
    pool = pool_of(worker('small', n_slots=2), worker('large', n_slots=4))
    assert sorted(names(pool, 6)) == ['large'] * 4 + ['small'] * 2


def test_who_speaks_counts_more_than_who_is_connected():
    pool = pool_of(worker('a', n_talking=1), worker('b'))
    assert names(pool, 3) == ['b', 'b', 'b']
    pool.workers[1].n_talking = 2
    assert names(pool, 1) == ['a']


def test_talking_is_relative_to_the_streams():
    assert names(pool_of(worker('a', 2, n_talking=1), worker('b', 8, n_talking=2)), 1) == ['b']


def test_the_place_of_who_has_gone_is_free():
    pool = pool_of(worker('a'), worker('b'))
    first = pool.enter()
    names(pool, 1)
    pool.leave(first)
    assert pool.enter() is first


def test_an_engine_without_time_is_passed_over_until_all_are():
    pool = pool_of(worker('slow', pass_ms=60, n_talking=1, n_slots=8),
                   worker('fast', pass_ms=20, n_talking=2, n_slots=8))
    assert pool.refusal() == ''
    assert names(pool, 2) == ['fast', 'fast']  # although fewer speak at the other
    assert [one['status'] for one in pool.health().values()] == ['full', 'ok']
    pool.workers[1].n_talking = 4
    assert 'the model computes for 1 streams' in pool.refusal()  # that of the emptiest
    assert [one['status'] for one in pool.health().values()] == ['full', 'full']


def test_with_overload_there_is_always_time():
    pool = pool_of(worker('a', pass_ms=60, n_talking=2), worker('b', pass_ms=60, n_talking=1),
                   overload=True)
    assert pool.refusal() == ''
    assert names(pool, 1) == ['b']


def test_an_engine_that_fails_gets_nobody_while_another_is_well():
    pool = pool_of(worker('a', is_failing=True), worker('b', n_talking=4))
    assert names(pool, 2) == ['b', 'b']
    assert not pool.is_failing
    assert pool.health()['a']['status'] == 'failing'
    pool.workers[1].is_failing = True
    assert pool.is_failing
    assert names(pool, 1) == ['a']  # it may be well again, and nobody else is better
    pool.workers[0].is_failing = False
    assert names(pool, 1) == ['a']
    assert not pool.is_failing


def test_one_that_fails_has_no_time_to_offer():
    pool = pool_of(worker('a', is_failing=True), worker('b', pass_ms=60, n_talking=1))
    assert pool.refusal()


def test_a_client_stays_unless_its_engine_fails():
    pool = pool_of(worker('a'), worker('b'))
    own = pool.enter()
    other = next(one for one in pool.workers if one is not own)
    own.n_talking = 4
    assert pool.next_worker(own) is own
    own.is_failing = True
    assert pool.next_worker(own) is other
    assert (pool.n_sessions(own), pool.n_sessions(other)) == (0, 1)
    other.is_failing = True
    assert pool.next_worker(other) is other  # nowhere is better


def test_numbers_are_those_of_all_and_of_each():
    metrics = Metrics()
    pool = WorkerPool([worker('a', 4, 1, waiting_s=1.5, pass_ms=20),
                       worker('b', 2, 2, waiting_s=2.0, pass_ms=30)], metrics)
    for _ in range(3):
        pool.enter()
    pool.workers[1].is_failing = True
    assert (pool.n_talking, pool.n_slots, pool.waiting_s) == (3, 6, 3.5)
    assert pool.health() == {
        'a': {'status': 'ok', 'sessions': 3, 'talking': 1, 'max_streams': 4},
        'b': {'status': 'failing', 'sessions': 0, 'talking': 2, 'max_streams': 2}}
    assert metrics.value('voxtral_waiting_audio_seconds') == 3.5
    assert metrics.value('voxtral_engine_sessions', engine='a') == 3
    assert [metrics.value('voxtral_engine_failing', engine=name) for name in 'ab'] == [0, 1]
    assert metrics.value('voxtral_engine_step_seconds', engine='a') == pytest.approx(0.06)
    assert metrics.value('voxtral_step_seconds') == pytest.approx(0.06)  # of the slowest
