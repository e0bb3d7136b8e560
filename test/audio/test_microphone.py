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
"""Microphone against a real virtual device (PulseAudio), and against a device that misbehaves."""

from __future__ import annotations

from collections.abc import Iterator
import json
import os
from pathlib import Path
import subprocess
import sys
import tempfile
import threading
import time
from types import SimpleNamespace

from audio.virtual_microphone import DEVICE_NAME, missing, VirtualMicrophone
import numpy as np
import pytest
import soundfile
from support.processes import ends_with_us

from voxtral_ros.audio import microphone
from voxtral_ros.audio.block import AudioError
from voxtral_ros.audio.microphone import DeviceInfo, find_device, list_devices, Microphone

RECORD = Path(__file__).with_name('record.py')
ROOT = Path(microphone.__file__).parents[2]

needs_pulseaudio = pytest.mark.skipif(missing() is not None, reason=missing() or '')


# A real device


@pytest.fixture
def ear() -> Iterator[VirtualMicrophone]:
    # Not tmp_path: a Unix socket's path has at most 107 characters.
    with tempfile.TemporaryDirectory(prefix='ear') as folder, \
            VirtualMicrophone(Path(folder)) as virtual:
        yield virtual


def _start(ear: VirtualMicrophone, *arguments: str) -> subprocess.Popen[str]:
    path = os.pathsep.join([str(ROOT), ear.environment.get('PYTHONPATH', '')])
    return subprocess.Popen(
        [*ends_with_us(), sys.executable, str(RECORD), *arguments],
        env={**ear.environment, 'PYTHONPATH': path},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _result(process: subprocess.Popen[str]) -> dict:
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return json.loads(out.splitlines()[-1])


@needs_pulseaudio
@pytest.mark.parametrize(('device', 'rate_hz'), [('Robot_Ear', 16_000), ('', 44_100)])
def test_a_tone_in_the_room_is_transcribed_with_true_stamps(ear, tmp_path, device, rate_hz):
    tone = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(12 * 48_000) / 48_000)
    soundfile.write(tmp_path / 'tone.wav', np.stack([tone, tone], axis=1), 48_000)
    player = ear.play(tmp_path / 'tone.wav')
    try:
        time.sleep(0.5)
        result = _result(_start(ear, 'record', device, str(rate_hz), '4', str(tmp_path / 'a.npy')))
    finally:
        player.kill()
        player.wait()
    assert result['device'] == (DEVICE_NAME if device else 'default')
    assert (result['rate_hz'], result['channels']) == (rate_hz, 1)
    assert result['frame_id'] == 'ear'
    assert result['overflows'] == result['dropped'] == 0
    assert result['closing_s'] < 1.0

    # The last second is the tone, at its frequency and loudness.
    samples = np.load(tmp_path / 'a.npy')[-rate_hz:]
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(rate_hz)))
    assert np.argmax(spectrum) == pytest.approx(1000, abs=2)  # bins of 1 Hz
    assert np.sqrt(np.mean(samples**2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.05)

    # Stamps increase in step with the samples, and blocks arrive soon after their last sample.
    stamps_s = np.array(result['stamps_ns']) / 1e9
    durations_s = np.array(result['sizes']) / rate_hz
    ends_s = stamps_s + durations_s
    late_s = np.array(result['arrivals_ns']) / 1e9 - ends_s
    assert (np.diff(stamps_s) > 0).all()
    assert (late_s > -0.01).all() and late_s.max() < 0.15
    assert stamps_s[-1] - stamps_s[0] == pytest.approx(durations_s[:-1].sum(), abs=0.1)


@needs_pulseaudio
def test_a_device_that_vanishes_is_reported_in_time_and_closes_quickly(ear):
    process = _start(ear, 'wait-for-loss', DEVICE_NAME, '16000')
    assert process.stdout.readline() == 'open\n'
    ear.stop()
    result = _result(process)
    assert result['error'].startswith('microphone gone: ') and DEVICE_NAME in result['error']
    assert result['detected_s'] < 2.0
    assert result['closing_s'] < 2.0


@needs_pulseaudio
def test_a_device_that_comes_back_can_be_opened_again(ear):
    process = _start(ear, 'reopen', DEVICE_NAME, '16000')
    assert process.stdout.readline() == 'open\n'
    ear.stop()
    for line in process.stdout:
        if line == 'refused\n':  # it was lost, and is not yet back
            break
    ear.start()
    result = _result(process)
    assert result['again'] is True
    assert result['refusals'][0].startswith('microphone gone')
    assert DEVICE_NAME in result['refusals'][1]


@needs_pulseaudio
def test_the_list_of_devices_is_in_the_error(ear):
    result = _result(_start(ear, 'find', 'no such thing'))
    assert sorted(result['devices']) == ['default', 'pulse', DEVICE_NAME]
    assert DEVICE_NAME in result['error'] and 'Hz)' in result['error']


# A device that misbehaves


class FakePortAudio:
    """As much of sounddevice as Microphone uses; it records nothing until it is fed."""

    class PortAudioError(Exception):
        pass

    def __init__(self) -> None:
        self.default = SimpleNamespace(device=[1, 0])
        self.entries = [
            ('HDMI', 0, 48_000), ('USB Mic: Audio (hw:1,0)', 1, 44_100),
            ('ReSpeaker 4 Mic Array', 6, 16_000), ('USB Mic', 2, 48_000), ('pulse', 32, 44_100)]
        self.rates = {16_000, 48_000}
        self.tried: list[tuple[int, int]] = []
        self.restarts = 0
        self.start_error: Exception | None = None
        self.stream: SimpleNamespace | None = None
        self.ended = 0

    def query_devices(self):
        return [{'index': i, 'name': name, 'max_input_channels': channels,
                 'default_samplerate': float(rate)}
                for i, (name, channels, rate) in enumerate(self.entries)]

    def _terminate(self):
        self.restarts += 1

    def _initialize(self):
        pass

    def RawInputStream(
            self, samplerate, channels, device, dtype, blocksize, callback, finished_callback):
        self.tried.append((channels, samplerate))
        if samplerate not in self.rates:
            raise self.PortAudioError('Invalid sample rate [PaErrorCode -9997]')

        def start():
            if self.start_error:
                raise self.start_error

        def close(ignore_errors):
            self.ended += 1

        self.stream = SimpleNamespace(
            samplerate=float(samplerate), time=100.0, latency=0.04, start=start, callback=callback,
            abort=lambda ignore_errors: finished_callback(), close=close,
            finish=finished_callback, blocksize=blocksize, channels=channels)
        return self.stream

    def record(self, samples, adc_s=0.0, now_s=100.0, overflow=False):
        """Deliver one block as PortAudio's thread would."""
        data = bytearray(np.asarray(samples, np.int16).tobytes())
        self.stream.callback(
            memoryview(data), len(data) // 2 // self.stream.channels,
            SimpleNamespace(inputBufferAdcTime=adc_s, currentTime=now_s),
            SimpleNamespace(input_overflow=overflow))
        data[:] = bytes(len(data))  # PortAudio uses its buffer again


@pytest.fixture
def fake(monkeypatch) -> Iterator[FakePortAudio]:
    fake = FakePortAudio()
    monkeypatch.setattr(microphone, '_sounddevice', lambda: fake)
    monkeypatch.setattr(microphone, '_fresh', True)
    yield fake
    assert microphone._n_open == 0, 'a microphone was left open'


def _open(device='USB Mic', now_ns=lambda: 1_000_000_000_000, **options) -> Microphone:
    return Microphone(device, now_ns=now_ns, **options)


def test_only_inputs_are_listed(fake):
    assert [device.index for device in list_devices()] == [1, 2, 3, 4]


@pytest.mark.parametrize(('wanted', 'index'), [
    ('', 1), ('2', 2), (' 4 ', 4), ('respeaker', 2), ('hw:1', 1),
    ('usb mic', 3)])  # equal as a whole, though it is also part of another name
def test_devices_are_chosen_by_default_index_or_part_of_the_name(fake, wanted, index):
    assert find_device(wanted).index == index


@pytest.mark.parametrize(('wanted', 'problem'), [
    ('0', 'no input device with index 0'), ('9', 'no input device with index 9'),
    ('kinect', "no input device has 'kinect' in its name"),
    ('mic', "'mic' fits 3 input devices")])
def test_a_choice_that_does_not_fit_lists_the_devices(fake, wanted, problem):
    with pytest.raises(AudioError, match=problem) as caught:
        find_device(wanted)
    assert '[2] ReSpeaker 4 Mic Array (6 ch, 16000 Hz)' in str(caught.value)
    assert 'HDMI' not in str(caught.value)


def test_no_microphone_at_all(fake):
    fake.entries, fake.default.device = [('HDMI', 0, 48_000)], [-1, 0]
    with pytest.raises(AudioError, match=r'no default microphone(.|\n)*\(none\)'):
        find_device('')


def test_missing_portaudio_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, 'sounddevice', None)
    with pytest.raises(AudioError, match='apt install libportaudio2'):
        list_devices()


def test_devices_are_looked_for_afresh_unless_a_microphone_is_open(fake):
    list_devices()
    assert fake.restarts == 0  # it has only just started
    fake.entries.append(('New Mic', 1, 16_000))
    assert find_device('new mic').index == 5 and fake.restarts == 1
    with _open():
        restarts = fake.restarts
        list_devices()
        assert fake.restarts == restarts  # it would end the recording
    list_devices()
    assert fake.restarts == restarts + 1


@pytest.mark.parametrize(('rates', 'rate_hz'), [
    ({16_000, 48_000}, 16_000), ({48_000}, 48_000), ({32_000}, 32_000)])
def test_a_refused_rate_falls_back_to_what_the_device_offers(fake, rates, rate_hz):
    fake.rates = rates
    with _open() as mic:
        assert mic.rate_hz == rate_hz
        assert fake.tried[0] == (2, 16_000)
        assert fake.stream.blocksize == rate_hz // 50
        fake.record(np.zeros(2 * rate_hz // 50), adc_s=99.0)
        assert mic.read().rate_hz == rate_hz


def test_the_default_rate_is_tried_before_others(fake):
    fake.rates = {44_100, 48_000}
    with _open('hw:1') as mic:
        assert mic.rate_hz == 44_100


def test_a_device_that_refuses_everything_says_why_once(fake):
    fake.rates = set()
    with pytest.raises(AudioError, match=r'cannot open .*USB Mic') as caught:
        _open()
    assert str(caught.value).count('-9997') == 1


def test_a_device_that_does_not_start_is_closed(fake):
    fake.start_error = fake.PortAudioError('Device unavailable')
    with pytest.raises(AudioError, match=r'cannot start.*Device unavailable'):
        _open()
    assert fake.ended == 1


@pytest.mark.parametrize(('device', 'channel', 'opened'), [
    ('respeaker', -1, 6), ('respeaker', 2, 6), ('respeaker', 'respeaker_xvf3800', 6),
    ('pulse', -1, 1), ('pulse', 3, 4)])
def test_real_devices_open_all_channels_and_virtual_ones_only_what_is_needed(
        fake, device, channel, opened):
    with _open(device, channel=channel) as mic:
        assert mic.channels == opened


def test_an_array_is_opened_with_all_of_its_channels_or_not_at_all(fake):
    fake.rates = ()
    with pytest.raises(AudioError, match='cannot open'):
        _open('respeaker', channel='respeaker_xvf3800')
    assert {channels for channels, _ in fake.tried} == {6}


@pytest.mark.parametrize('channel', [2, -3])
def test_a_channel_that_is_not_there_is_refused(fake, channel):
    with pytest.raises(AudioError, match=f'no channel {channel}'):
        _open(channel=channel)


@pytest.mark.parametrize(('channel', 'expected'), [(-1, [0.25]), (0, [0.5]), (1, [0.0])])
def test_the_block_is_a_copy_of_the_channel(fake, channel, expected):
    with _open(channel=channel, frame_id='head') as mic:
        fake.record([16384, 0], adc_s=99.0)
        block = mic.read()
        np.testing.assert_array_equal(block.samples, expected)
        assert block.frame_id == 'head'


def test_the_stamp_is_now_minus_the_age_of_the_sample(fake):
    with _open() as mic:
        fake.record([0, 0], adc_s=99.975)
        assert mic.read().stamp_ns == 1_000_000_000_000 - 25_000_000


def test_a_block_that_waited_in_the_queue_keeps_its_stamp(fake):
    with _open() as mic:
        fake.record([0, 0], adc_s=99.975)
        fake.stream.time = 107.0
        assert mic.read().stamp_ns == 1_000_000_000_000 - 7_025_000_000


def test_without_an_adc_time_the_block_has_only_just_ended(fake):
    with _open() as mic:
        fake.record(np.zeros(2 * 320), adc_s=0.0)
        assert mic.read().stamp_ns == 1_000_000_000_000 - 20_000_000
        fake.stream.time = 101.0
        fake.record(np.zeros(2 * 320), adc_s=0.0, now_s=0.0)
        assert mic.read().stamp_ns == 1_000_000_000_000 - 20_000_000 + 1


def test_ages_are_believed_only_after_the_timing_has_settled(fake):
    with _open() as mic:
        for now_s, age_s, believed_s in [
                (100.0, 0.6, 0.1), (102.9, 0.6, 0.1), (103.1, 0.6, 0.6), (103.2, -0.5, 0.02)]:
            fake.stream.time = now_s
            mic._now_ns = lambda now_s=now_s: round(now_s * 1e9)
            mic._last_stamp_ns = None
            fake.record(np.zeros(2 * 320), adc_s=now_s - age_s, now_s=now_s)
            assert mic.read().stamp_ns == pytest.approx((now_s - believed_s) * 1e9, abs=1000)


def test_stamps_increase_unless_the_clock_is_set_back(fake):
    now_ns = iter([10_000_000_000, 9_900_000_000, 3_000_000_000])
    with _open(now_ns=lambda: next(now_ns)) as mic:
        for _ in range(3):
            fake.record(np.zeros(2 * 320), adc_s=99.95)
        assert [mic.read().stamp_ns for _ in range(3)] == [
            9_950_000_000, 9_950_000_001, 2_950_000_000]


def test_overflows_are_counted(fake):
    with _open() as mic:
        for overflow in (True, False, True):
            fake.record([0, 0], adc_s=99.0, overflow=overflow)
        assert mic.overflows == 2


def test_the_oldest_blocks_are_dropped_and_counted_when_nobody_reads(fake):
    with _open(channel=0, queue_s=0.06) as mic:  # three blocks of 20 ms
        for value in range(5):
            fake.record([value * 1024, 0], adc_s=99.0)
        assert mic.dropped_blocks == 2
        assert [mic.read(0).samples[0] * 32 for _ in range(3)] == [2, 3, 4]
        assert mic.read(0) is None


def test_nothing_for_a_while_is_none_and_for_too_long_an_error(fake):
    with _open(lost_after_s=0.2) as mic:
        assert mic.read(0.02) is None
        started_s = time.monotonic()
        with pytest.raises(AudioError, match=r'microphone gone: .*USB Mic.*no data for 0.2 s'):
            mic.read(5.0)
        assert time.monotonic() - started_s < 1.0


def test_a_slow_reader_is_not_a_lost_device(fake):
    with _open(lost_after_s=0.05) as mic:
        fake.record([0, 0], adc_s=99.0)
        fake.record([0, 0], adc_s=99.0)
        time.sleep(0.1)
        assert mic.read(0.02) is not None
        assert mic.read(0.02) is not None
        assert mic.read(0.02) is None


def test_a_stream_that_ends_hands_out_what_it_has_and_then_the_error_each_time(fake):
    with _open(lost_after_s=60.0) as mic:
        fake.record([0, 0], adc_s=99.0)
        fake.stream.finish()
        assert mic.read() is not None
        for _ in range(2):
            with pytest.raises(AudioError, match=r'microphone gone: .*the stream has ended'):
                mic.read(0.01)


def test_close_wakes_a_reader_and_may_be_repeated(fake):
    mic = _open(lost_after_s=60.0)
    results = []
    reader = threading.Thread(target=lambda: results.append(mic.read(30.0)))
    reader.start()
    time.sleep(0.05)
    mic.close()
    reader.join(5.0)
    mic.close()
    assert results == [None]
    assert fake.ended == 1
    with pytest.raises(AudioError, match='is closed'):
        mic.read()


def test_a_device_prints_as_one_line():
    assert str(DeviceInfo(3, 'USB Mic', 2, 48_000)) == '[3] USB Mic (2 ch, 48000 Hz)'
