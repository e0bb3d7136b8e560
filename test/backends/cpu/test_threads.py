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

"""Large GEMMs are shared by threads, and results do not depend on how many."""

from contextlib import suppress
import ctypes
import os
import signal
import threading

import pytest
import torch

cpu = pytest.importorskip('support.cpu')

# GEMMs of 8 and attention of 5 million multiply-adds in a pass of 8 tokens.
LARGE = {'n_layers': 1, 'encoder': {
    'dim': 256, 'hidden_dim': 1024, 'head_dim': 64, 'n_heads': 8, 'n_kv_heads': 8, 'n_layers': 1,
    'sliding_window': 300}}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return cpu.random_checkpoint(tmp_path_factory.mktemp('large'), **LARGE)


@pytest.fixture
def threads():
    """Return the function that sets how many there are; afterwards there is one again."""
    yield cpu.load().voxtral_cpu_threads
    cpu.load().voxtral_cpu_threads(1)


def run(backend):
    """Return the results of a stream, and its memory."""
    cpu.open_streams(backend, 1)
    results = [backend.decode([0], cpu.noise(1, 8, seed)) for seed in range(12)]
    return results, cpu.memory(backend, 0)


def n_threads():
    return len(os.listdir('/proc/self/task'))


def same(one, other):
    return one[0] == other[0] and all(map(torch.equal, one[1], other[1]))


def test_results_do_not_depend_on_the_number_of_threads(folder, threads):
    backend = cpu.cpu_backend(folder, 1, 8)
    threads(1)
    before = n_threads()
    alone = run(backend)
    assert n_threads() == before
    for n, more in ((3, 2), (2, 2), (5, 4), (1, 4)):  # helpers stay, and sleep
        threads(n)
        assert same(run(backend), alone)
        assert n_threads() == before + more


def test_engines_in_several_threads_do_not_disturb_each_other(folder, threads):
    backends = [cpu.cpu_backend(folder, 1, 8) for _ in range(3)]
    threads(1)
    alone = run(backends[0])
    threads(2)
    results = {}

    def work(index):
        results[index] = run(backends[index])

    workers = [threading.Thread(target=work, args=(index,)) for index in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert all(same(results[index], alone) for index in range(3))


def test_engines_at_the_same_time_have_as_many_threads_each(threads):
    """Not one of them all the threads, so that the other one works alone."""
    threads(2)
    all_at_work = threading.Barrier(4)  # two callers, and a helper of each
    arrived = []

    @ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)
    def part(context, index):
        with suppress(threading.BrokenBarrierError):
            all_at_work.wait(30)
            arrived.append(index)

    def work():
        parallel_for(ctypes.c_int64(2), part, None)

    parallel_for = cpu.load()._Z12parallel_forlPFvPKvlES0_
    before = n_threads()
    for n in range(1, 4):
        callers = [threading.Thread(target=work) for _ in range(2)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        assert sorted(arrived) == n * [0, 0] + n * [1, 1]
    assert n_threads() <= before + 2  # helpers stay, and no more come


def test_a_child_of_fork_has_helpers_of_its_own(folder, threads):
    backend = cpu.cpu_backend(folder, 1, 8)
    threads(2)
    expected = run(backend)
    child = os.fork()
    if child == 0:
        signal.alarm(60)  # rather than to wait for helpers that are not there
        ok = same(run(backend), expected)
        os._exit(0 if ok else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
