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
Show the node at work, through its topics alone: `make demo`, or `make demo MIC=1`.

The node listens to test/data/orders.flac as it would to a microphone, in real time; what it
publishes is printed as it comes. With a microphone, until Ctrl-C.
"""

import os
from pathlib import Path
import re
import signal
import statistics
import subprocess
import sys
import tempfile

os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus  # noqa: E402
import numpy as np  # noqa: E402
import rclpy  # noqa: E402
from rclpy.signals import SignalHandlerOptions  # noqa: E402
import soundfile  # noqa: E402

from voxtral_ros.msg import Transcript, Turn  # noqa: E402

ORDERS = Path(__file__).resolve().parents[1] / 'test' / 'data' / 'orders.flac'
PAUSE_S = 2.5  # after the recording: long enough to end an utterance


class Screen:
    """Prints words as they come, and remembers how late they came."""

    def __init__(self, node):
        self.partial_s, self.final_s, self.eager_s = [], [], []
        self.has_ended = False  # the recording
        self._eager_s = {}  # utterance -> when its last words were known, after they were said
        self._said = 'unconfigured'
        self._listened = False
        self._shown = ''
        for kind in ('partial', 'final'):
            node.create_subscription(Transcript, f'transcript/{kind}', self._on_transcript, 50)
        node.create_subscription(Turn, 'turn', self._on_turn, 50)
        node.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 10)

    def _on_transcript(self, message):
        delays = self.final_s if message.is_final else self.partial_s
        delays.append(message.latency)
        print(message.text[len(self._shown):], end='', flush=True)
        self._shown = message.text
        if message.is_final:
            eager_s = self._eager_s.pop(message.utterance_id, None)
            self.eager_s += [] if eager_s is None else [eager_s]
            eager = '' if eager_s is None else f'EAGER_END {eager_s:.2f} s, '
            print(f'    [{eager}final {message.latency:.2f} s after its last word]', flush=True)
            self._shown = ''

    def _on_turn(self, message):
        if message.kind == Turn.EAGER_END:
            paused_s = seconds(message.end) - seconds(message.words[-1].end)
            self._eager_s[message.utterance_id] = message.latency + paused_s
        elif message.kind == Turn.RESUMED:
            self._eager_s.pop(message.utterance_id, None)

    def _on_diagnostics(self, array):
        for status in array.status:
            if not status.name.startswith('demo/asr'):
                continue
            self.has_ended |= any(pair.key == 'source' and pair.value.endswith('has ended')
                                  for pair in status.values)
            if self._shown:
                continue
            well = status.level == DiagnosticStatus.OK
            kind = re.sub(r'[0-9.]+ s', 's', status.message)  # not every second of loading
            # Problems when they come; that it listens, once.
            if kind != self._said and not (well and self._listened):
                print(f'({status.message})', flush=True)
            self._said = kind
            self._listened |= status.message.startswith('listening')

    def summary(self):
        """Return what there is to say in the end."""
        if not self.final_s:
            return 'Nothing was recognised.'
        words_s, final_s, eager_s = (
            f'{statistics.median(delays):.2f} s' if delays else 'never' for delays in
            (self.partial_s or self.final_s, self.final_s, self.eager_s))
        return (f'{len(self.final_s)} utterances. Words appeared {words_s} after they were spoken '
                '(0.48 s of that is how long the model listens ahead).\nAfter the last word, the '
                f'whole text was known after {eager_s} (EAGER_END), and final after {final_s}. '
                'All of these are medians.')


def seconds(stamp):
    """Return a stamp in seconds."""
    return stamp.sec + stamp.nanosec / 1e9


def with_pause(recording, folder):
    """Return a copy of a recording that goes on with silence."""
    samples, rate_hz = soundfile.read(recording, dtype='int16')
    copy = folder / 'orders.wav'
    soundfile.write(copy, np.pad(samples, (0, round(PAUSE_S * rate_hz))), rate_hz)
    return copy


def listen(screen, node, parameters):
    """Run the node on a source of audio until that ends, the node does, or Ctrl-C comes."""
    arguments = [part for pair in parameters.items() for part in ('-p', ':='.join(pair))]
    interrupted = []
    signal.signal(signal.SIGINT, lambda *_: interrupted.append(True))
    asr = subprocess.Popen(['asr_node', '--ros-args', '-r', '__ns:=/demo', '--log-level', 'warn',
                            *arguments], start_new_session=True)
    while not (interrupted or screen.has_ended or asr.poll() is not None):
        rclpy.spin_once(node, timeout_sec=0.1)
    asr.send_signal(signal.SIGINT)  # which publishes an open utterance first
    asr.wait(30)
    for _ in range(20):
        rclpy.spin_once(node, timeout_sec=0.02)


def main():
    """Run the demo; return 0 when anything was recognised."""
    microphone = sys.argv[1] if len(sys.argv) > 1 else ''
    parameters = {'autostart': 'true', 'log_transcripts': 'false'}
    rclpy.init(args=['--ros-args', '-r', '__ns:=/demo'],
               signal_handler_options=SignalHandlerOptions.NO)  # Ctrl-C is for the node first
    node = rclpy.create_node('demo')
    screen = Screen(node)
    with tempfile.TemporaryDirectory() as folder:
        if microphone:
            parameters['source'] = 'microphone'
            if microphone != '1':
                parameters['microphone'] = microphone
            print('Speak English; Ctrl-C ends.', flush=True)
        else:
            parameters |= {'source': 'file', 'file': str(with_pause(ORDERS, Path(folder)))}
            print('Four orders, in synthetic voices that the model was never trained on:',
                  flush=True)
        listen(screen, node, parameters)
    print(f'\n{screen.summary()}')
    rclpy.shutdown()
    return 0 if screen.final_s else 1


if __name__ == '__main__':
    sys.exit(main())
