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

"""Phrases in every backend: the choices of the reference, and no effect on other streams."""

import pytest

cpu = pytest.importorskip('support.cpu')
backends = pytest.importorskip('support.backends')

N_SLOTS, SIZES = backends.N_SLOTS, backends.SIZES
compiled, eager, launched, graphs = (
    backends.compiled, backends.eager, backends.launched, backends.graphs)

N_PASSES, LENGTH = 8, 4  # and tokens of each


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return cpu.random_checkpoint(tmp_path_factory.mktemp('phrases'), **SIZES)


def trie(seed):
    return cpu.random_trie(seed, SIZES['vocab_size'])


def expecting(backend, tries):
    """Open streams that expect the phrases of tries, and that write much."""
    cpu.open_streams(backend, N_SLOTS)
    for slot, expected in tries.items():
        backend.set_pad_penalty(slot, 1.0)
        backend.set_phrases(slot, expected)
    return backend


def decode(backend, slots=range(N_SLOTS), n_tokens=LENGTH, n_passes=N_PASSES):
    """Return the tokens of some passes over noise, one after the other, of each stream."""
    slots = list(slots)
    passes = [backend.decode(slots, cpu.noise(N_SLOTS, n_tokens, n)[slots])
              for n in range(n_passes)]
    return {slot: [(part.ids[m], part.probs[m], part.unbiased and part.unbiased[m])
                   for part in passes] for m, slot in enumerate(slots)}


@pytest.mark.parametrize('name', cpu.instruction_sets())
def test_the_compiled_choices_are_those_of_the_reference(folder, name):
    tries = {slot: trie(slot) for slot in range(N_SLOTS)}
    reference = cpu.with_half_caches(cpu.eager_backend(folder, N_SLOTS, LENGTH, exact=True))
    with cpu.instructions(name):
        found = decode(expecting(compiled(folder), tries))
    assert_alike(found, decode(expecting(reference, tries)))


def test_the_choices_of_the_network_on_kernels_are_those_of_the_reference(folder):
    tries = {slot: trie(slot) for slot in range(N_SLOTS)}
    assert_alike(decode(expecting(launched(folder), tries)),
                 decode(expecting(eager(folder), tries)))


def assert_alike(found, expected):
    n_changed = 0
    for slot in expected:
        for (ids, probs, unbiased), (ids_too, probs_too, unbiased_too) in zip(
                found[slot], expected[slot], strict=True):
            assert ids == ids_too
            assert probs == pytest.approx(probs_too, rel=0.02)
            assert [choice.id for choice in unbiased] == [choice.id for choice in unbiased_too]
            for n in (1, 2):
                assert [choice[n] for choice in unbiased] == pytest.approx(
                    [choice[n] for choice in unbiased_too], rel=0.02, abs=0.01)
            n_changed += sum(choice.cost > 0 for choice in unbiased)
    assert n_changed > N_PASSES


@pytest.mark.parametrize('make', backends.all_of(compiled, eager, launched, graphs))
def test_phrases_that_are_not_expected_any_more_leave_no_trace(folder, make):
    backend = expecting(make(folder), {slot: trie(slot) for slot in range(N_SLOTS)})
    decode(backend)
    for slot in range(N_SLOTS):
        backend.set_phrases(slot, None)
    cpu.open_streams(backend, N_SLOTS)
    expected = expecting(make(folder), {})
    assert decode(backend) == decode(expected)


@pytest.mark.parametrize('make', backends.all_of(compiled, eager, launched, graphs))
def test_a_reset_forgets_the_phrases(folder, make):
    backend = expecting(make(folder), {slot: trie(slot) for slot in range(N_SLOTS)})
    decode(backend)
    cpu.open_streams(backend, N_SLOTS)
    assert decode(backend) == decode(expecting(make(folder), {}))


@pytest.mark.parametrize('make', backends.all_of(compiled, graphs))
def test_streams_with_different_phrases_do_not_touch_each_other(folder, make):
    tries = {0: trie(0), 1: trie(1)}
    together = decode(expecting(make(folder), tries))
    for slot in range(N_SLOTS):
        alone = decode(expecting(make(folder), tries), [slot])
        assert [part[:2] for part in alone[slot]] == [part[:2] for part in together[slot]]
    others = decode(expecting(make(folder), {1: trie(7)}))
    assert [part[:2] for part in others[2]] == [part[:2] for part in together[2]]
    assert [part[:2] for part in others[1]] != [part[:2] for part in together[1]]


@pytest.mark.parametrize('make', backends.all_of(compiled, launched, graphs))
def test_long_passes_choose_as_short_ones_do(folder, make):
    tries = {0: trie(3)}
    long = decode(expecting(make(folder), tries), [0], LENGTH, 1)[0][0]
    backend = expecting(make(folder), tries)
    noise = cpu.noise(N_SLOTS, LENGTH, 0)[[0]]
    short = [backend.decode([0], noise[:, 1280 * n:1280 * n + 1520].copy()) for n in range(LENGTH)]
    assert long[0] == [part.ids[0][0] for part in short]
    assert [choice.id for choice in long[2]] == [part.unbiased[0][0].id for part in short]


@pytest.mark.parametrize('make', backends.all_of(launched, graphs))
@pytest.mark.parametrize('penalty', [-2.0, -0.5, 0.0, 1.0])
def test_speculative_decoding_loses_nothing(folder, make, penalty):
    """From streams that write pads only to such that write none."""
    results = []
    for speculative in (False, True):
        backend = expecting(make(folder, speculative=speculative), {0: trie(5)})
        backend.set_pad_penalty(0, penalty)
        results.append(decode(backend, [0], n_passes=24)[0])
    plain, speculative = results
    for (ids, probs, unbiased), (ids_too, probs_too, unbiased_too) in zip(
            plain, speculative, strict=True):
        assert ids == ids_too
        assert [choice.id for choice in unbiased] == [choice.id for choice in unbiased_too]
        assert probs == pytest.approx(probs_too, rel=1e-3)


@pytest.mark.parametrize('make', backends.all_of(compiled, eager, launched, graphs))
def test_another_token_takes_the_place_of_the_last_one(folder, make):
    """As if it had been chosen in the first place: a stream that has chosen it goes on alike."""
    expected = trie(2)
    chosen = expecting(make(folder), {0: expected})
    first = chosen.decode([0], cpu.noise(1, 1, 0))
    token = first.ids[0][0]
    other = expecting(make(folder), {0: expected})
    other.set_pad_penalty(0, -1e4)  # so pad is chosen
    assert other.decode([0], cpu.noise(1, 1, 0)).ids[0][0] == cpu.PAD != token
    other.set_pad_penalty(0, 1.0)
    other.replace_token(0, token, expected.advance(0, token))
    for n in range(1, 5):
        assert other.decode([0], cpu.noise(1, 1, n)) == chosen.decode([0], cpu.noise(1, 1, n))
