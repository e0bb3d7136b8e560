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

"""The parameters of the engine reach it."""

import pytest
from quantization import packable

from voxtral_ros.model.checkpoint import WEIGHTS
from voxtral_ros.node.loading import load_engine
from voxtral_ros.node.parameter_table import ROWS, TABLE
from voxtral_ros.quantization.checksums import write_side_file
from voxtral_ros.quantization.inspection import inspect


def load(**changes):
    values = {row.name: row.default for row in TABLE} | {
        f'engine.{name}': value for name, value in changes.items()} | {
        'device': 'cpu', 'model': changes.get('model', '')}
    return load_engine(values.__getitem__)[0]


def test_chunks_and_window():
    engine = load(encoder_chunk_ms=160, window=100)
    assert engine.max_chunk_tokens == 2
    assert engine.backend.config.decoder.sliding_window == 100
    assert engine.stats.tokens_per_pass >= 1  # it has warmed up
    assert not engine.stats.speculative


def test_by_default_the_window_is_that_of_the_model():
    engine = load()
    assert engine.max_chunk_tokens == 6
    assert engine.backend.config.decoder.sliding_window == 256


def test_a_window_that_cannot_be_is_explained():
    with pytest.raises(ValueError, match='the window is 8192 tokens'):
        load(window=8192)


def test_the_delays_that_the_parameter_offers_are_those_of_the_protocol():
    protocol = load().protocol

    def possible(delay_ms):
        try:
            return protocol.delay_tokens(delay_ms) > 0
        except ValueError:
            return False

    assert list(ROWS['delay_ms'].choices) == list(filter(possible, range(0, 5000, 20)))


def write_model(folder, damage, with_checksums):
    """Write a small model and change a byte of it, or its norm to NaN."""
    weights = {name: tensor.clone() for name, tensor in packable.tensors().items()}
    if damage == 'nan':
        weights['norm.weight'][:] = float('nan')
    packable.write(folder, weights)
    path = folder / WEIGHTS
    if with_checksums:
        write_side_file(path, inspect(path).checksums)
    if damage == 'byte':
        content = bytearray(path.read_bytes())
        content[-2] ^= 1
        path.write_bytes(content)
    return str(folder)


def test_damage_is_an_error_unless_it_is_not_looked_for(tmp_path):
    model = write_model(tmp_path / 'model', 'byte', with_checksums=True)
    with pytest.raises(ValueError, match='is damaged, its checksum is another'):
        load(model=model)
    load(model=model, verify=False)


def test_a_model_that_gives_no_numbers_is_not_loaded(tmp_path):
    model = write_model(tmp_path / 'model', 'nan', with_checksums=False)
    with pytest.raises(ValueError, match=f'{model}: the logits of the model are not numbers'):
        load(model=model)
