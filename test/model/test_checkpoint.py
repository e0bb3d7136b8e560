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

"""Weights files: every damage is one clear error, and loading needs no second copy."""

import copy
import json
import os
import pickle
import struct
import subprocess
import sys
import textwrap
import zipfile

import numpy as np
import pytest
from safetensors.torch import save, save_file
from support.slow import slow_but
import torch

from voxtral_ros.model import loading
from voxtral_ros.model.checkpoint import check_folder, CheckpointError, WEIGHTS
from voxtral_ros.model.config import ConfigError
from voxtral_ros.model.loading import checkpoint_parameters, load_network
from voxtral_ros.model.tokenizer import TokenizerError
from voxtral_ros.quantization.tensorfile import TensorFile

checkpoints = pytest.importorskip('support.checkpoints')

PARAMS = checkpoints.tiny_params(n_layers=1, **{'encoder.n_layers': 1})
TENSORS = checkpoints.random_tensors(PARAMS, seed=0)
NORM = 'layers.0.ffn_norm.weight'
GOOD = save(TENSORS)
N_HEADER = 8 + struct.unpack('<Q', GOOD[:8])[0]
ENDS = sorted(N_HEADER + entry['data_offsets'][1]
              for entry in json.loads(GOOD[8:N_HEADER]).values())


@pytest.fixture
def folder(tmp_path):
    return checkpoints.write_checkpoint(tmp_path, PARAMS, TENSORS, checkpoints.tiny_tekken())


def refusal(folder, content):
    """Return what is said about a weights file with this content."""
    (folder / WEIGHTS).write_bytes(content)
    with pytest.raises(CheckpointError) as error:
        load_network(folder)
    assert str(folder / WEIGHTS) in str(error.value)
    return str(error.value)


def with_header(header):
    """Return a weights file with another header, a dict or bytes, before the good data."""
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack('<Q', len(header)) + header + GOOD[N_HEADER:]


def test_every_tensor_comes_back(folder):
    loaded = dict(checkpoint_parameters(load_network(folder)))
    assert loaded.keys() == TENSORS.keys()
    for name, parameter in loaded.items():
        assert torch.equal(parameter, TENSORS[name]), name
        assert not parameter.requires_grad


def test_the_type_is_that_of_the_file_or_the_one_asked_for(folder):
    halves = {name: tensor.bfloat16() for name, tensor in TENSORS.items()}
    save_file(halves, folder / WEIGHTS)
    for dtype, expected in ((None, torch.bfloat16), (torch.float32, torch.float32),
                            (torch.float16, torch.float16)):
        loaded = dict(checkpoint_parameters(load_network(folder, dtype=dtype)))
        for name, tensor in halves.items():
            assert loaded[name].dtype == expected
            assert torch.equal(loaded[name], tensor.to(expected))


def test_the_network_is_complete_and_ready(folder):
    network = load_network(str(folder))
    assert not network.training
    assert not any(parameter.is_meta for parameter in network.parameters())
    samples = torch.zeros(1, 1520)
    assert torch.equal(network.mel(samples), torch.full((1, 128, 8), -0.625))


def test_extra_metadata_does_not_matter(folder):
    save_file(TENSORS, folder / WEIGHTS, metadata={'format': 'pt', 'made by': 'someone'})
    load_network(folder)


def test_loaded_tensors_do_not_need_the_file(folder):
    """Neither overwriting it in place nor deleting it changes a weight."""
    network = load_network(folder)
    with open(folder / WEIGHTS, 'r+b') as file:
        file.write(b'\xff' * len(GOOD))
    (folder / WEIGHTS).unlink()
    for name, parameter in checkpoint_parameters(network):
        assert torch.equal(parameter, TENSORS[name]), name


def test_a_missing_tensor_is_named(folder):
    lost = {name: tensor for name, tensor in TENSORS.items() if name != NORM}
    assert f'missing: {NORM}' in refusal(folder, save(lost))


def test_many_missing_tensors_are_counted(folder):
    message = refusal(folder, save({}))
    assert 'missing: ' in message
    assert f'and {len(TENSORS) - 3} more' in message


def test_an_unknown_tensor_is_named(folder):
    message = refusal(folder, save({**TENSORS, 'output.weight': torch.zeros(3)}))
    assert 'unknown: output.weight' in message
    assert 'missing' not in message


def test_the_tensors_of_a_relative_are_both_missing_and_unknown(folder):
    renamed = {('model.' + name if name == NORM else name): tensor
               for name, tensor in TENSORS.items()}
    message = refusal(folder, save(renamed))
    assert f'missing: {NORM}' in message
    assert f'unknown: model.{NORM}' in message


@pytest.mark.parametrize('shape', [(63,), (65,), (64, 1), (1,), ()])
def test_a_misshapen_tensor_is_named_with_both_shapes(folder, shape):
    message = refusal(folder, save({**TENSORS, NORM: torch.ones(shape)}))
    assert f'{NORM} is {list(shape)}, but params.json makes it [64]' in message


@pytest.mark.parametrize(('dtype', 'name'), [(torch.int8, 'I8'), (torch.int64, 'I64'),
                                             (torch.bool, 'BOOL'), (torch.uint8, 'U8')])
def test_integers_are_no_weights(folder, dtype, name):
    message = refusal(folder, save({**TENSORS, NORM: torch.ones(64).to(dtype)}))
    assert f'{NORM} is {name}, expected floating point' in message


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float64])
def test_one_network_has_one_type(folder, dtype):
    """A file of mixed types loads as one type, or is refused; it never fails in the first pass."""
    save_file({**TENSORS, NORM: torch.ones(64).to(dtype)}, folder / WEIGHTS)
    try:
        network = load_network(folder)
    except CheckpointError:
        return
    assert len({parameter.dtype for parameter in network.parameters()}) == 1


@pytest.mark.parametrize('size', [0, 1, 7, 8, 9, 100, N_HEADER - 1, N_HEADER])
def test_a_file_cut_off_in_its_header_must_be_downloaded_again(folder, size):
    assert 'again' in refusal(folder, GOOD[:size])


def test_a_file_cut_off_between_tensors_says_how_much_is_there(folder):
    for end in [N_HEADER, *ENDS[:-1]]:
        assert f'has {end} of {len(GOOD)} bytes: the download was cut off' in \
            refusal(folder, GOOD[:end])


def test_a_file_cut_off_anywhere_must_be_downloaded_again(folder):
    rng = np.random.default_rng(0)
    for size in [*rng.integers(9, N_HEADER, 40), *rng.integers(N_HEADER, len(GOOD), 40)]:
        assert 'again' in refusal(folder, GOOD[:size])


def test_a_longer_file_is_refused(folder):
    assert 'again' in refusal(folder, GOOD + b'\0' * 4)


def test_a_damaged_header_never_raises_anything_else(folder):
    """A changed byte is refused, unless it is as good as before (a space, say)."""
    rng = np.random.default_rng(1)
    for place in [*range(8), *rng.integers(8, N_HEADER, 200)]:
        content = bytearray(GOOD)
        content[place] ^= 1 << int(rng.integers(0, 8))
        (folder / WEIGHTS).write_bytes(content)
        try:
            load_network(folder)
        except CheckpointError as error:
            assert str(error).strip()


@pytest.mark.parametrize('header', [
    {}, [1], {'a': 1}, {'a': {}}, {'a': {'dtype': 'F32', 'shape': [1]}},
    {'a': {'dtype': 'F32', 'shape': [1], 'data_offsets': []}},
    {'a': {'dtype': 'F32', 'shape': [1], 'data_offsets': [0]}},
    {'a': {'dtype': 'F32', 'shape': [1], 'data_offsets': [0, 'four']}},
    {'a': {'dtype': 'F32', 'shape': [1], 'data_offsets': [0, None]}},
    {'a': {'dtype': 'F32', 'shape': [1], 'data_offsets': [0, 10**30]}},
    {'a': {'dtype': 'F99', 'shape': [1], 'data_offsets': [0, 4]}},
    {'a': {'dtype': 'F32', 'shape': ['one'], 'data_offsets': [0, 4]}},
    {'a': {'dtype': 'F32', 'shape': 1, 'data_offsets': [0, 4]}},
    {'a': {'dtype': ['F32'], 'shape': [1], 'data_offsets': [0, 4]}},
    {'a': {'dtype': 'F32', 'shape': [1], 'data_offsets': {}}},
    b'{', b'{}' * 9, b'{"a": \xff}', pytest.param(b'{"a":' * 20_000, id='deep')])
def test_an_absurd_header_is_refused(folder, header):
    refusal(folder, with_header(header))


def test_more_layers_than_the_file_has_are_refused_before_they_are_built(folder, monkeypatch):
    params = {**PARAMS, 'n_layers': 1000}
    (folder / 'params.json').write_text(json.dumps(params))
    monkeypatch.setattr(loading, 'VoxtralRealtime', None)
    with pytest.raises(CheckpointError, match=f'it has {len(TENSORS)} weights, but "n_layers"'):
        load_network(folder)


def many(n):
    """Return a header with so many tensors of nothing."""
    return with_header({f't{number}': {'dtype': 'F32', 'shape': [0], 'data_offsets': [0, 0]}
                        for number in range(n)})[:-len(GOOD) + N_HEADER]


@pytest.mark.slow
def test_hundreds_of_thousands_of_tensors_are_no_model(folder):
    assert 'it has 200000 tensors, more than any' in refusal(folder, many(200_000))


def test_the_work_grows_with_the_number_of_tensors_and_not_faster(folder, monkeypatch):
    """How often the names are gone through does not depend on how many there are."""
    class Counted(dict):

        n_passes = 0

        def __iter__(self):
            Counted.n_passes += 1
            return super().__iter__()

    def read_header(file):
        specs, places, metadata = original(file)
        return Counted(specs), places, metadata

    original = TensorFile._read_header
    monkeypatch.setattr(TensorFile, '_read_header', read_header)
    passes = []
    for n in (10, 1000):
        Counted.n_passes = 0
        refusal(folder, many(n))
        passes.append(Counted.n_passes)
    assert passes[0] == passes[1]


# ---- values ----

WRONG = (None, True, [], {}, '', 'x', -1, 0, 1, 3, 7, 1e-9, 0.1, 1000, 10**5, 10**9, 10**30,
         1e308, float('nan'), float('inf'))


def leaves(value, path=()):
    """Yield the paths to all numbers, texts and flags, of lists the first entries alone."""
    items = value.items() if isinstance(value, dict) else enumerate(value[:3]) \
        if isinstance(value, list) else ()
    for key, inner in items:
        yield from leaves(inner, (*path, key))
        yield (*path, key)


@pytest.mark.parametrize('name', slow_but('params.json', of=['params.json', 'tekken.json']))
def test_any_value_is_one_error_or_a_network_that_can_be_opened(folder, name):
    good = json.loads((folder / name).read_text())
    for path in leaves(good):
        for wrong in WRONG:
            content = copy.deepcopy(good)
            place = content
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] = wrong
            (folder / name).write_text(json.dumps(content))
            try:
                check_folder(folder)
            except (CheckpointError, ConfigError, TokenizerError) as error:
                assert str(folder) in str(error), (path, wrong)
                assert len(str(error)) < 600, (path, wrong)


def test_a_pickle_is_never_loaded(folder):
    class Bomb:

        def __reduce__(self):
            return (sys.exit, ('unpickled',))

    assert 'pickle' in refusal(folder, pickle.dumps(Bomb()))
    torch.save({'norm.weight': torch.ones(3)}, folder / WEIGHTS)
    assert 'pickle' in refusal(folder, (folder / WEIGHTS).read_bytes())
    with zipfile.ZipFile(folder / WEIGHTS, 'w') as archive:
        archive.writestr('data.pkl', pickle.dumps(Bomb()))
    assert 'convert it to safetensors' in refusal(folder, (folder / WEIGHTS).read_bytes())


@pytest.mark.parametrize('content', [
    b'version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 8859462744\n',
    b'<!DOCTYPE html><html>Not found</html>', bytes(1000),
    np.random.default_rng(0).bytes(5000)])
def test_garbage_is_refused(folder, content):
    assert 'not a safetensors file' in refusal(folder, content)


def test_missing_files_say_what_a_model_is(folder, tmp_path):
    (folder / WEIGHTS).unlink()
    with pytest.raises(CheckpointError, match='does not exist: a model is a folder with'):
        load_network(folder)
    (folder / WEIGHTS).mkdir()
    with pytest.raises(CheckpointError, match=WEIGHTS):
        load_network(folder)
    with pytest.raises(ConfigError, match='does not exist'):
        load_network(tmp_path / 'nowhere')


# Anonymous memory is what a process really takes. The peak of all resident memory (ru_maxrss,
# VmHWM) also counts the pages of the mapped file, which the kernel drops when it wants them back.
MEASURE = textwrap.dedent("""
    import sys, threading, torch
    from voxtral_ros.model.loading import load_network

    def anonymous_kib():
        with open('/proc/self/status') as status:
            return next(int(line.split()[1]) for line in status if line.startswith('RssAnon'))

    peak, done = 0, threading.Event()

    def watch():
        global peak
        while not done.wait(0.003):
            peak = max(peak, anonymous_kib())

    torch.set_num_threads(1)
    load_network(sys.argv[3])  # what is imported or allocated once does not count
    before = anonymous_kib()
    watcher = threading.Thread(target=watch)
    watcher.start()
    network = load_network(sys.argv[1], dtype=getattr(torch, sys.argv[2]))
    done.set()
    watcher.join()
    weights = sum(p.numel() * p.element_size() for p in network.parameters())
    print(weights, max(p.numel() * 4 for p in network.parameters()), (peak - before) * 1024)
""")


@pytest.mark.skipif(sys.platform != 'linux', reason='reads /proc')
@pytest.mark.parametrize(('stored', 'dtype'), slow_but((torch.bfloat16, 'float32'), of=[
    (torch.float32, 'float32'), (torch.bfloat16, 'float32'), (torch.bfloat16, 'bfloat16')]))
def test_loading_needs_the_weights_and_one_tensor_of_memory(folder, tmp_path, stored, dtype):
    """Measured: the weights and 7 to 15 MB."""
    params = checkpoints.tiny_params(dim=1024, hidden_dim=4096, **{'n_layers': 3})
    tensors = {name: torch.full(shape, 0.1, dtype=stored)
               for name, shape in checkpoints.tensor_shapes(params).items()}
    large = checkpoints.write_checkpoint(
        tmp_path / 'large', params, tensors, checkpoints.tiny_tekken())
    run = subprocess.run(
        [sys.executable, '-c', MEASURE, str(large), dtype, str(folder)], check=True, text=True,
        stdout=subprocess.PIPE, cwd=tmp_path, env={**os.environ, 'PYTHONPATH': ':'.join(sys.path)})
    weights, largest, peak = map(int, run.stdout.split())
    assert weights > 80e6
    assert 0.9 * weights < peak < weights + largest + 30e6
