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

"""
The library compiled for ARM gives what it gives here, under an emulator of ARM processors.

Every x86 instruction set must repeat the same recordings, which also shows that they are right.
"""

from pathlib import Path

import numpy as np
import pytest
from quantization import packable
import soundfile
from support import replay
from support.slow import slow_but

from voxtral_ros.backends.cpu import build
from voxtral_ros.model.config import ModelConfig
from voxtral_ros.quantization.format import Recipe
from voxtral_ros.quantization.quantizer import quantize
from voxtral_ros.recognizer.engine import Engine
from voxtral_ros.resources import share_folder

cpu = pytest.importorskip('support.cpu')

needs_arm = pytest.mark.skipif(replay.missing() is not None, reason=replay.missing() or '')

# Floats are the same to the last bit wherever there is a fused multiply-add; tokens always are.
FUSED = cpu.BEST != b'baseline'
AUDIO = Path(__file__).resolve().parents[2] / 'data' / 'orders.flac'
N_SLOTS, MAX_TOKENS = 3, 4
RECIPES = {
    'bf16': None,
    'int4, bf16': Recipe(skip=('*.attention.wq.weight',)),
    'int4, int8': Recipe('mse', encoder_bits=8, head_bits=8),
    'int4 head': Recipe('mse', encoder_bits=8, head_bits=4),
    'int4 encoder': Recipe('mse', encoder_bits=4, head_bits=4),
}


@pytest.fixture(scope='module')
def here(tmp_path_factory):
    """Return this machine, where the recordings are made, too."""
    return replay.Machine(tmp_path_factory.mktemp('here'), cpu.load()._name, build.find_compiler())


@pytest.fixture(scope='module')
def arm(tmp_path_factory):
    """Return an emulated machine with the library that is compiled for it."""
    return replay.EmulatedArm(tmp_path_factory.mktemp('arm'), replay.build_library())


def state_arrays(state):
    """Yield all arrays of the state of a backend."""
    for value in vars(state).values():
        if isinstance(value, np.ndarray):
            yield value
        elif isinstance(value, tuple):
            yield from value
        elif hasattr(value, '__dict__'):
            yield from state_arrays(value)


def record_random_passes(folder):
    """Record streams of all ages, of which one is rolled back and one opened again."""
    rng = np.random.default_rng(0)
    config = ModelConfig.load(folder)
    with replay.Recorder() as recorder:
        backend = cpu.cpu_backend(folder, N_SLOTS, MAX_TOKENS)
        cpu.open_streams(backend, N_SLOTS)
        for count in range(24):
            if count == 14:  # emulation is slow
                recorder.start()
            slots = rng.permutation(N_SLOTS)[:rng.integers(1, N_SLOTS + 1)].tolist()
            n_tokens = int(rng.integers(1, MAX_TOKENS + 1))
            windows = cpu.noise(len(slots), n_tokens, count)
            tokens = rng.integers(0, config.vocab_size, (len(slots), n_tokens)).tolist()
            if count % 3:
                backend.decode(slots, windows)
            else:
                backend.prefill(slots, windows, tokens)
            if count == 15:
                backend.save(0)
            elif count == 16:
                backend.rollback(0)
            elif count == 20:
                backend.reset(1, 3)
        assert backend.state.decoder.position.max() > config.decoder.sliding_window
        for array in state_arrays(backend.state):
            recorder.expect('state', array)
    return recorder.recording


@pytest.fixture(scope='module', params=['odd fp32', *RECIPES])
def recording(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp('checkpoint')
    if request.param == 'odd fp32':
        return record_random_passes(cpu.random_checkpoint(folder, **cpu.ODD))
    packable.write(folder)
    recipe = RECIPES[request.param]
    if recipe:
        quantize(folder, folder / 'quantized', recipe)
        folder /= 'quantized'
    return record_random_passes(folder)


def assert_same(results, expected, same_bits=FUSED):
    """Compare ids and positions exactly, floats as it is promised."""
    assert len(results) == len(expected) > 0
    for result, other in zip(results, expected, strict=True):
        assert result.name == other.name
        for field in other.array.dtype.names or (...,):
            assert_same_array(result.name, result.array[field], other.array[field], same_bits)


def assert_same_array(name, result, other, same_bits):
    if same_bits or other.dtype in (np.int64, np.int32):
        assert np.array_equal(result, other), name
    else:
        floats = np.float16 if other.dtype == np.uint16 else other.dtype
        ours, theirs = (each.view(floats).astype(float).ravel() for each in (result, other))
        # Activations that are rounded to INT8 can make another step of a last bit.
        assert np.linalg.norm(ours - theirs) <= 0.02 * np.linalg.norm(theirs), name


@pytest.mark.parametrize('name', cpu.instruction_sets())
def test_a_recording_is_repeated_here(here, recording, name):
    instructions, results = here.replay(recording, name)
    assert instructions == name
    same_bits = name == cpu.BEST.decode() or (FUSED and name != 'baseline')
    assert_same(results, recording.results, same_bits)


# With and without integer dot products.
@needs_arm
@pytest.mark.parametrize('processor', slow_but('cortex-a76', of=['cortex-a76', 'cortex-a72']))
def test_arm_gives_the_same(arm, recording, processor):
    arm.processor = processor
    _, results = arm.replay(recording)
    assert_same(results, recording.results)


@needs_arm
def test_every_processor_gets_what_it_has(arm):
    """The last instruction set of kernels/build.json is the best; an old processor has none."""
    with replay.Recorder() as recorder:
        recorder.start()
    *_, best = build.instruction_sets(Path(replay.COMPILER))
    for processor, expected in (
            ('cortex-a53', 'baseline'), ('cortex-a72', 'baseline'), ('cortex-a76', best),
            ('neoverse-n1', best), ('max', best)):
        arm.processor = processor
        assert arm.replay(recorder.recording)[0] == expected


@pytest.mark.slow
@needs_arm
def test_the_demo_model_writes_the_same_words(arm):
    """Its whole network, from the first word on."""
    samples, _ = soundfile.read(AUDIO, dtype='float32')
    with replay.Recorder() as recorder:
        engine = Engine.load(share_folder() / 'models' / 'voxtral-tiny-en', 'cpu', threads=1)
        slot = engine.take_slot(6)
        slot.feed(samples[:23 * 1280])
        engine.process()
        recorder.start()
        for n in range(23, 29):
            slot.feed(samples[n * 1280:(n + 1) * 1280])
            engine.process()
        words = engine.tokenizer.decode([token.id for token in list(slot.tokens)[-6:]])
        assert words.strip() == 'robot go to the'
        for array in state_arrays(engine.backend.state):
            recorder.expect('state', array)
    for arm.processor in ('cortex-a72', 'cortex-a76'):
        assert_same(arm.replay(recorder.recording)[1], recorder.recording.results)
