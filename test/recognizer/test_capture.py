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

"""The recorder: the right audio with every text, and nobody waits for the disk."""

import json
import threading
import tracemalloc

import numpy as np
import pytest
import soundfile

from voxtral_ros.recognizer.capture import Recorder
from voxtral_ros.recognizer.capture_folder import CaptureFolder
from voxtral_ros.recognizer.events import Transcript, Word

RATE_HZ = 16_000


def final(start_s, end_s, text='go on', utterance_id=1, confidence=0.5):
    words = tuple(Word(word, end_s, confidence) for word in text.split())
    return Transcript(utterance_id, 3, True, text, '', words, start_s, end_s)


def stamp_ns(time_s):
    return round((1000 + time_s) * 1e9)


def ramp(begin_s, end_s):
    """Return samples that tell at which moment of the stream they are, to half a millisecond."""
    times_s = np.arange(round(begin_s * RATE_HZ), round(end_s * RATE_HZ)) / RATE_HZ
    return (times_s / 20 % 1).astype(np.float32)


def feed(recorder, begin_s, end_s, before=False, step_s=0.08):
    for at_s in np.arange(begin_s, end_s, step_s):
        samples = ramp(at_s, min(at_s + step_s, end_s))
        if before:
            recorder.feed(-samples, round(at_s * RATE_HZ), before=True)
        recorder.feed(samples, round(at_s * RATE_HZ))


def lines(path):
    return [json.loads(line) for line in (path / 'transcripts.jsonl').read_text().splitlines()]


@pytest.fixture
def recorder(tmp_path):
    recorder = Recorder(CaptureFolder(tmp_path))
    yield recorder
    assert recorder.close()


def read(path, line, what='file'):
    samples, rate_hz = soundfile.read(path / line[what], dtype='float32')
    assert rate_hz == RATE_HZ
    return samples


def test_a_file_has_the_audio_of_its_utterance_and_some_around_it(recorder, tmp_path):
    feed(recorder, 0, 9)
    recorder.keep(final(3.0, 4.0), stamp_ns, {'frame_id': 'head'})
    recorder.close()
    line, = lines(tmp_path)
    samples = read(tmp_path, line)
    np.testing.assert_allclose(samples, ramp(2.5, 4.5), atol=1e-4)
    assert line['start_s'] == 0.5
    assert line['end_s'] == line['words'][-1]['end_s'] == 1.5
    assert line['duration_s'] == 2.0 == len(samples) / RATE_HZ
    assert (line['start_ns'], line['end_ns']) == (1003 * 10**9, 1004 * 10**9)
    assert line['frame_id'] == 'head'
    assert 'before' not in line


def test_without_words_there_is_no_confidence(recorder, tmp_path):
    feed(recorder, 0, 2)
    recorder.keep(final(1.0, 1.0, ''), stamp_ns, {})
    recorder.keep(final(1.0, 1.5, confidence=float('nan')), stamp_ns, {})
    recorder.close()
    assert [line['confidence'] for line in lines(tmp_path)] == [None, None]


def test_both_sides_of_an_echo_canceller_are_kept(recorder, tmp_path):
    feed(recorder, 0, 5, before=True)
    recorder.keep(final(2.0, 3.0), stamp_ns, {})
    feed(recorder, 5, 9)  # it was switched off
    recorder.keep(final(6.0, 7.0), stamp_ns, {})
    feed(recorder, 9, 10, before=True)  # and on, in the middle of an utterance
    recorder.keep(final(8.0, 9.5), stamp_ns, {})
    feed(recorder, 10, 13, before=True)
    recorder.keep(final(11.0, 12.0), stamp_ns, {})
    recorder.close()
    first, second, third, last = lines(tmp_path)
    np.testing.assert_allclose(read(tmp_path, first), ramp(1.5, 3.5), atol=1e-4)
    np.testing.assert_allclose(read(tmp_path, first, 'before'), -ramp(1.5, 3.5), atol=1e-4)
    assert 'before' not in second
    assert 'before' not in third
    np.testing.assert_allclose(read(tmp_path, last, 'before'), -ramp(10.5, 12.5), atol=1e-4)


def test_a_canceller_may_hold_audio_for_a_while(recorder, tmp_path):
    for again_s in (0.0, 7.0):  # the second time in another stream, which is as long
        for at in range(0, 100):
            samples = ramp(at / 10 + again_s, (at + 1) / 10 + again_s)
            recorder.feed(-samples, at * 1600, before=True)
            if at >= 3:
                recorder.feed(ramp((at - 3) / 10 + again_s, (at - 2) / 10 + again_s),
                              (at - 3) * 1600)
            if at == 30:
                recorder.keep(final(0.2, 1.5), stamp_ns, {})
        recorder.keep(final(8.0, 9.6), stamp_ns, {})
    recorder.close()
    expected = [ramp(begin_s + again_s, end_s + again_s) for again_s in (0.0, 7.0)
                for begin_s, end_s in ((0.0, 2.0), (7.5, 9.7))]
    for line, samples in zip(lines(tmp_path), expected, strict=True):
        np.testing.assert_allclose(read(tmp_path, line), samples, atol=1e-4)
        np.testing.assert_allclose(read(tmp_path, line, 'before'), -samples, atol=1e-4)


def test_what_came_before_a_canceller_in_another_stream_is_of_no_use(recorder, tmp_path):
    feed(recorder, 0, 5, before=True)
    feed(recorder, 0, 4)
    recorder.keep(final(2.0, 3.0), stamp_ns, {})
    recorder.close()
    assert 'before' not in lines(tmp_path)[0]


def test_what_belongs_to_the_utterance_before_is_left_out(recorder, tmp_path):
    feed(recorder, 0, 9)
    recorder.keep(final(1.0, 3.8), stamp_ns, {})
    recorder.keep(final(4.0, 5.0), stamp_ns, {})
    recorder.keep(final(5.3, 6.0), stamp_ns, {}, cut=True)  # a wake phrase comes before it
    recorder.close()
    _, second, third = lines(tmp_path)
    np.testing.assert_allclose(read(tmp_path, second), ramp(3.8, 5.5), atol=1e-4)
    np.testing.assert_allclose(read(tmp_path, third), ramp(5.3, 6.5), atol=1e-4)


def test_where_the_audio_begins_or_ends_there_is_less_around_it(recorder, tmp_path):
    feed(recorder, 10, 12)  # capturing has begun in the middle of a stream
    recorder.keep(final(10.2, 11.8), stamp_ns, {})
    feed(recorder, 0, 2)  # another stream
    recorder.keep(final(0.1, 1.9), stamp_ns, {})
    recorder.close()
    first, second = lines(tmp_path)
    np.testing.assert_allclose(read(tmp_path, first), ramp(10, 12), atol=1e-4)
    assert first['start_s'] == 0.2
    np.testing.assert_allclose(read(tmp_path, second), ramp(0, 2), atol=1e-4)


def test_a_text_without_its_audio_is_not_kept(recorder, tmp_path):
    recorder.longest_s = 3.0
    feed(recorder, 5, 15)
    for start_s in (4.9, 10.0):  # capturing had not begun, or it was too long ago
        recorder.keep(final(start_s, 12.0), stamp_ns, {})
    recorder.close()
    assert recorder.status.n_lost == 2
    assert 'audio' in recorder.status.trouble
    assert not list(tmp_path.glob('*.flac'))


def test_what_is_too_loud_is_clipped(recorder, tmp_path):
    recorder.feed(np.float32([1.5, -1.5] * RATE_HZ), 0)
    recorder.keep(final(0.5, 1.5), stamp_ns, {})
    recorder.close()
    samples = read(tmp_path, lines(tmp_path)[0])
    assert samples[::2].min() > 0.99
    assert samples[1::2].max() < -0.99


def test_memory_stays_flat(recorder):
    feed(recorder, 0, 120, before=True)
    tracemalloc.start()
    try:
        feed(recorder, 120, 300, before=True)
        held = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # Two versions of a minute, at most in buffers that are being moved to others twice as large.
    assert held < 6 * 4 * RATE_HZ * recorder.longest_s * 2


class Stuck(CaptureFolder):
    """A disk that does not come back until it is let go."""

    def __init__(self, path):
        super().__init__(path)
        self.entered, self.free = threading.Event(), threading.Event()

    def add(self, *arguments):
        self.entered.set()
        assert self.free.wait(60)
        super().add(*arguments)


def test_a_disk_that_hangs_holds_nobody_up(tmp_path):
    folder = Stuck(tmp_path)
    recorder = Recorder(folder)
    feed(recorder, 0, 3)
    recorder.keep(final(1.0, 2.0, utterance_id=0), stamp_ns, {})
    assert folder.entered.wait(60)
    for utterance_id in range(1, 31):
        recorder.keep(final(1.0, 2.0, utterance_id=utterance_id), stamp_ns, {})
    assert recorder.status.n_lost == 14
    assert str(tmp_path) in recorder.status.trouble
    assert recorder.close(0.0) is False
    folder.free.set()
    assert recorder.close(60)
    assert [line['utterance_id'] for line in lines(tmp_path)] == list(range(17))


class Away(CaptureFolder):
    """A folder in which a change can be waited for."""

    def __init__(self, path):
        super().__init__(path)
        self.tried = threading.Semaphore(0)

    def add(self, *arguments):
        try:
            super().add(*arguments)
        finally:
            self.tried.release()


def test_a_folder_that_goes_away_is_named_and_used_again_when_it_is_back(tmp_path):
    disk, hidden = tmp_path / 'disk', tmp_path / 'hidden'
    disk.mkdir()
    folder = Away(disk / 'capture')
    recorder = Recorder(folder)
    feed(recorder, 0, 3)

    def keep():
        recorder.keep(final(1.0, 2.0), stamp_ns, {})
        assert folder.tried.acquire(timeout=60)

    keep()
    disk.rename(hidden)
    keep()
    keep()
    recorder.close()
    status = recorder.status
    assert (status.n_kept, status.n_lost) == (1, 2)
    assert status.trouble == f'{disk / "capture"}: No such file or directory'
    hidden.rename(disk)
    recorder = Recorder(folder)
    feed(recorder, 0, 3)
    keep()
    recorder.close()
    assert recorder.status.trouble == ''
    assert len(lines(disk / 'capture')) == 2


def test_trouble_is_over_with_the_next_utterance_that_is_kept(tmp_path):
    disk = tmp_path / 'disk'
    folder = Away(disk / 'capture')
    recorder = Recorder(folder)
    feed(recorder, 0, 3)
    for _ in range(2):
        recorder.keep(final(1.0, 2.0), stamp_ns, {})
        assert folder.tried.acquire(timeout=60)
        disk.mkdir(exist_ok=True)
    recorder.close()
    assert recorder.status.trouble == ''
    assert recorder.status.n_lost == recorder.status.n_kept == 1


def test_where_nothing_can_be_written_it_is_said_before_anybody_speaks(tmp_path):
    recorder = Recorder(CaptureFolder(tmp_path / 'away' / 'capture'))
    recorder.close()
    assert recorder.status.trouble.endswith('No such file or directory')
    assert recorder.status.n_lost == 0
