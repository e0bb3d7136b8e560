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

"""An engine takes as many live streams as it can keep up with."""

import re

import pytest
from support import checkpoints

from voxtral_ros.recognizer.admission import Admission
from voxtral_ros.recognizer.engine import Engine
from voxtral_ros.recognizer.options import StreamOptions

TOKEN_S = 0.08


class Clock:
    """Time that passes when a test says so."""

    now_s = 1000.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def admission(clock):
    return Admission(TOKEN_S, clock)


def passes(admission, n_streams, milliseconds, n_tokens=1, repeats=20):
    for _ in range(repeats):
        admission.passed(n_streams, n_tokens, milliseconds / 1e3)


def test_who_knows_nothing_admits(admission):
    assert admission.refusal(100) == ''
    assert admission.predicted_s(100) == 0


def test_the_first_passes_do_not_count(admission):
    """They capture graphs and load kernels."""
    passes(admission, 3, 4000, repeats=7)
    assert admission.refusal(3) == ''


def test_a_slow_pass_among_usual_ones_does_not_count(admission):
    passes(admission, 2, 4000, repeats=3)
    passes(admission, 2, 10, repeats=17)
    assert admission.predicted_s(2) == pytest.approx(0.010)


def test_costs_grow_linearly_between_and_beyond_what_was_seen(admission):
    passes(admission, 1, 3)
    passes(admission, 4, 1000)  # an outlier in between changes no end of the line ...
    passes(admission, 11, 23)
    assert admission.predicted_s(1) == pytest.approx(0.003)
    assert admission.predicted_s(2) == pytest.approx(0.005)
    assert admission.predicted_s(4) == pytest.approx(1.0)  # ... but what was measured is believed
    assert admission.predicted_s(21) == pytest.approx(1.0)


def test_what_is_shared_is_not_known_from_passes_of_one_size(admission):
    passes(admission, 4, 20)
    assert admission.predicted_s(8) == pytest.approx(0.040)


def test_more_streams_are_never_cheaper(admission):
    passes(admission, 1, 30)
    passes(admission, 8, 20)
    assert admission.predicted_s(9) == pytest.approx(0.030)
    assert admission.predicted_s(0) == pytest.approx(0.020)


def test_passes_over_several_tokens_count_per_token(admission):
    passes(admission, 2, 120, n_tokens=3)
    assert admission.predicted_s(2) == pytest.approx(0.040)


def test_what_the_host_does_comes_once_per_stream(admission):
    passes(admission, 1, 3)
    passes(admission, 11, 23)
    for _ in range(20):
        admission.host_took(5, 0.010)
    assert admission.predicted_s(21) == pytest.approx(0.043 + 21 * 0.002)


def test_a_stream_too_many_is_refused_with_the_numbers(admission):
    passes(admission, 4, 54)
    passes(admission, 5, 60)
    assert admission.refusal(4) == ''
    assert admission.refusal(5) == (
        'the model computes for 5 streams, and with one more 80 ms of audio would take about '
        '66 ms: try again when somebody has ceased to speak, or take a faster device or a '
        'smaller model')


def test_as_many_as_were_seen_may_come_back_with_less_of_a_margin(admission):
    passes(admission, 4, 54)
    passes(admission, 5, 71)
    assert admission.refusal(4) == ''
    passes(admission, 5, 73, repeats=30)
    assert '73 ms' in admission.refusal(4)


def test_the_first_stream_is_never_refused(admission):
    passes(admission, 1, 500)
    assert admission.refusal(0) == ''
    assert 'for 1 streams' in admission.refusal(1)


def test_what_was_long_ago_does_not_count(admission, clock):
    passes(admission, 2, 500)
    for _ in range(20):
        admission.host_took(1, 0.5)
    clock.now_s += 59
    assert admission.refusal(2)
    clock.now_s += 2
    assert admission.refusal(2) == ''
    passes(admission, 2, 10)
    assert admission.predicted_s(2) == pytest.approx(0.010)


def test_an_engine_measures_its_passes_and_its_streams(tmp_path, clock):
    params = checkpoints.tiny_params()
    checkpoints.write_checkpoint(tmp_path, params, checkpoints.random_tensors(params, 0),
                                 checkpoints.tiny_tekken())
    engine = Engine.load(tmp_path, 'cpu', max_streams=4)
    engine.admission = Admission(TOKEN_S, clock)
    decode, prefill = engine.backend.decode, engine.backend.prefill

    def slowly(slots, windows):
        clock.now_s += 0.020 * len(slots) * (windows.shape[1] // 1280)
        return decode(slots, windows)

    def still_more_slowly(*arguments):
        clock.now_s += 2.0
        return prefill(*arguments)

    engine.backend.decode, engine.backend.prefill = slowly, still_more_slowly

    def count(_):  # what a stream does with a token
        clock.now_s += 0.005

    options = StreamOptions(on_token=count)
    streams = [engine.open(options=options)]
    for n in (1, 2):
        for stream in streams * 8:
            stream.feed([0.0] * 12_800)
            stream.poll()
        assert engine.admission.predicted_s(1) == pytest.approx(0.025)
        if n == 1:
            streams.append(engine.open(options=options))
    assert re.search('for 2 streams, .* about 75 ms', engine.admission.refusal(2))
    assert engine.n_open == 2
    engine.open()  # a recording may wait
    streams[0].close()
