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

"""Blocks of a weight are computed at the same time, each on one core, and come back in order."""

import threading

import pytest
from quantization import packable
import torch

from voxtral_ros.quantization import quantizer, rounding
from voxtral_ros.quantization.format import Recipe
from voxtral_ros.quantization.parallel import Workers

PATIENCE_S = 30


@pytest.fixture(autouse=True)
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_results_come_in_the_order_of_the_items():
    second = threading.Event()

    def work(item):
        if item == 0:
            assert second.wait(PATIENCE_S)  # the first one ends last
        second.set()
        return 10 * item

    with Workers() as workers:
        assert list(workers.map(work, range(20))) == list(range(0, 200, 10))


def test_few_items_are_taken_ahead():
    taken = []

    def items():
        for item in range(100):
            taken.append(item)
            yield item

    with Workers() as workers:
        results = workers.map(str, items())
        assert next(results) == '0'
        assert len(taken) == 4


def test_an_error_comes_through_and_ends_the_work():
    def work(item):
        if item == 5:
            raise ValueError('block 5')
        return item

    with pytest.raises(ValueError, match='block 5'), Workers() as workers:
        list(workers.map(work, range(100)))


def test_torch_has_as_many_threads_afterwards_as_before():
    with Workers() as workers:
        assert set(workers.map(lambda _: torch.get_num_threads(), range(9))) == {1}
    assert torch.get_num_threads() == 3
    found = []
    thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert found == [3]  # those that begin later, too


@pytest.mark.parametrize(('rule', 'recipe'), [
    ('round_int4', Recipe(skip=('layers.*.attention.*',))), ('round_int8', Recipe(encoder_bits=8)),
    ('round_int4', Recipe(head_bits=4, skip=('layers.*',)))])
def test_several_blocks_are_rounded_at_once_on_a_core_each(tmp_path, monkeypatch, rule, recipe):
    monkeypatch.setattr(quantizer, '_BLOCK', 1)  # as few rows as there can be
    source = packable.write(tmp_path / 'source')
    together = threading.Barrier(2)
    n_threads, work = [], getattr(rounding, rule)

    def rounded(*arguments):
        if len(n_threads) < 2:
            n_threads.append(torch.get_num_threads())
            together.wait(PATIENCE_S)  # breaks unless another block is in work
        return work(*arguments)

    monkeypatch.setattr(rounding, rule, rounded)
    quantizer.quantize(source, tmp_path / 'small', recipe)
    assert n_threads == [1, 1]


def test_the_result_does_not_depend_on_the_number_of_threads(tmp_path):
    source = packable.write(tmp_path / 'source')
    written = []
    for count in (1, 2, 7):
        torch.set_num_threads(count)
        quantizer.quantize(source, tmp_path / str(count), Recipe('mse', 8, 4))
        written.append((tmp_path / str(count) / 'consolidated.safetensors').read_bytes())
    assert written[0] == written[1] == written[2]
