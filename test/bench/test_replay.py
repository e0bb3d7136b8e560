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

"""Calls of a library are recorded with all that it can see, and repeated by another program."""

import ctypes
import os
from unittest import mock

import numpy as np
import pytest
from support import replay

from voxtral_ros.backends.cpu import build

cpu = pytest.importorskip('support.cpu')


class Inner(ctypes.Structure):
    _fields_ = [('n', ctypes.c_int64), ('data', ctypes.c_void_p)]


class Outer(ctypes.Structure):
    _fields_ = [('eps', ctypes.c_double), ('pair', Inner * 2), ('many', ctypes.POINTER(Inner)),
                ('one', Inner), ('both', ctypes.c_void_p * 2)]


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return cpu.random_checkpoint(tmp_path_factory.mktemp('tiny'), n_layers=1)


@pytest.fixture
def machine(tmp_path):
    return replay.Machine(tmp_path, cpu.load()._name, build.find_compiler())


def decode(backend, n):
    return backend.decode([0], cpu.noise(1, 1, n))


def test_addresses_are_found_wherever_they_stand():
    assert list(replay.pointers(Outer)) == [16, 32, 40, 56, 64, 72]
    outer = Outer(many=(Inner * 3)(), both=(ctypes.c_void_p * 2)(None, 4096))
    assert [offset for offset, _ in replay.addresses(outer)] == [40, 72]


def test_arrays_are_found_where_the_caller_has_them(folder):
    backend = cpu.cpu_backend(folder)
    window = np.zeros((2, 8))
    found = {replay.address_of(array) for array in replay.arrays_in(
        {'self': backend, 'half': window[:, :4], 'rows': [window]})}
    assert {window.ctypes.data, backend.state.decoder.keys.ctypes.data,
            ctypes.addressof(backend._model)} <= found
    assert ctypes.addressof(backend._model.decoder.layers[0]) in found
    assert 0 not in found and len(found) > 40


def test_what_python_changes_is_recorded(folder, machine):
    with replay.Recorder() as recorder:
        backend = cpu.cpu_backend(folder)
        cpu.open_streams(backend, 1)
        decode(backend, 0)
        recorder.start()
        decode(backend, 1)
        backend.state.delay_scales *= 1.5
        backend.set_pad_penalty(0, 3.0)
        decode(backend, 2)
        backend.reset(0, 9)
        decode(backend, 3)
        recorder.expect('keys', backend.state.decoder.keys)
    name, results = machine.replay(recorder.recording)
    assert name == cpu.BEST.decode()
    assert recorder.recording.n_calls >= 4  # the sizes of the structures, too
    for result, expected in zip(results, recorder.recording.results, strict=True):
        assert np.array_equal(result.array, expected.array), result.name


def test_an_array_that_is_not_known_is_refused(folder):
    with replay.Recorder() as recorder:
        backend = cpu.cpu_backend(folder)
        recorder.start()
        backend._model.delay_scales = np.ones(4, np.float32).ctypes.data
        with pytest.raises(ValueError, match='in no array'):
            decode(backend, 0)


def test_a_part_and_then_the_whole_is_refused():
    """Otherwise the other machine would have two copies of it."""
    whole = np.zeros((2, 4), np.float32)
    with replay.Recorder() as recorder:
        recorder.expect('whole', whole)
        recorder.expect('its second row', whole[1])
        assert len(recorder.recording.commands) == 4  # an array, its bytes, two results
    with replay.Recorder() as recorder:
        recorder.expect('its second row', whole[1])
        with pytest.raises(ValueError, match='recorded before the whole'):
            recorder.expect('whole', whole)


def test_a_library_that_fails_says_why(machine):
    with replay.Recorder() as recorder:
        recorder.start()
    with pytest.raises(RuntimeError, match='no sse9'):
        machine.replay(recorder.recording, 'sse9')
    recorder.recording.commands.append(b'?')
    with pytest.raises(RuntimeError, match='no such command'):
        machine.replay(recorder.recording)


@pytest.mark.skipif(replay.missing() is not None, reason=replay.missing() or '')
def test_instructions_of_blocks_are_counted(folder, tmp_path):
    with replay.Recorder() as recorder:
        backend = cpu.cpu_backend(folder)
        cpu.open_streams(backend, 1)
        recorder.start()
        for n in range(6):
            decode(backend, n)
    try:
        arm = replay.CountingArm(tmp_path, replay.build_library())
    except RuntimeError as error:
        pytest.skip(str(error))
    n_calls = recorder.recording.n_calls
    none, some, again = (arm.count(recorder.recording, n)[1] for n in (1, n_calls, n_calls))
    multiply_adds = 6 * 0.3e6  # about one for every weight
    assert multiply_adds / 16 < some - none < multiply_adds * 16
    assert again == pytest.approx(some, rel=0.01)


def test_missing_tools_are_named():
    with mock.patch.dict(os.environ, PATH=''):
        assert 'apt install g++-aarch64-linux-gnu qemu-user' in replay.missing()
