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
Draw `make demo` as a moving picture: `python tools/draw_demo.py docs/demo.svg`.

The four spoken orders of the tests go through a stream of the demo model. The picture plays them
at their own speed: each word appears when it was written, and each final when it came.
"""

import argparse
from dataclasses import dataclass, field
from pathlib import Path
import sys
from xml.sax.saxutils import escape

import numpy as np
import soundfile

from voxtral_ros.recognizer.engine import Engine
from voxtral_ros.recognizer.events import Transcript
from voxtral_ros.recognizer.options import StreamOptions
from voxtral_ros.resources import demo_model

ORDERS = Path(__file__).resolve().parents[1] / 'test' / 'data' / 'orders.flac'
RATE, BLOCK = 16000, 320
AFTER_S = 1.6  # silence after the last order, and the time before the picture begins anew
WIDTH, MARGIN, WAVE, HALF, FIRST, LINE = 860, 20, 44, 26, 104, 30  # pixels
STYLE = """
text { font: 15px ui-monospace, Menlo, Consolas, monospace; fill: #222 }
.label { font: 12px sans-serif; fill: #777 } .wave { stroke: #5b7ba8 } .now { stroke: #b96a00 }
.final { font: 12px sans-serif; fill: #2a8a3e }
@media (prefers-color-scheme: dark) { text { fill: #ddd } .label { fill: #999 }
.wave { stroke: #8fb0dd } .now { stroke: #f0a030 } .final { fill: #5cc474 } }
.now { animation: now linear infinite } .word, .final { animation: step-end infinite }
@media (prefers-reduced-motion) { * { animation: none !important } .now { display: none } }
"""


@dataclass
class Line:
    """An utterance: its words and when each was written, and when the final came, in seconds."""

    words: list[tuple[float, str]] = field(default_factory=list)
    final_s: float = 0.0
    spoken_s: float = 0.0  # end of the last word


def transcribe(samples: np.ndarray) -> list[Line]:
    """Feed audio in blocks of 20 ms and note what is written when."""
    stream = Engine.load(demo_model(), 'cpu').open(options=StreamOptions())
    lines, open_line = [], Line()
    for start in range(0, len(samples), BLOCK):
        stream.feed(samples[start:start + BLOCK])
        now_s = (start + BLOCK) / RATE
        for event in stream.poll():
            if not isinstance(event, Transcript):
                continue
            if event.delta:
                open_line.words.append((now_s, event.delta))
            if event.is_final:
                open_line.final_s, open_line.spoken_s = now_s, event.end_s
                lines.append(open_line)
                open_line = Line()
    stream.abandon()
    return lines


def appears(name: str, at_s: float, total_s: float) -> str:
    """Return the animation of what is hidden until `at_s`."""
    return (f'@keyframes {name} {{ 0% {{ fill-opacity: 0 }} '
            f'{100 * at_s / total_s:.2f}% {{ fill-opacity: 1 }} }}')


def wave(samples: np.ndarray, scale: float) -> str:
    """Draw the audio, a line for every second pixel."""
    n_bar = round(2 * RATE / scale)
    bars = np.abs(samples[:len(samples) // n_bar * n_bar]).reshape(-1, n_bar).max(1)
    heights = np.maximum(0.5, HALF * bars / bars.max()).tolist()
    path = ''.join(f'M{MARGIN + 2 * n} {WAVE - height:.1f}V{WAVE + height:.1f}'
                   for n, height in enumerate(heights))
    return f'<path class="wave" d="{path}"/>'


def draw(samples: np.ndarray, lines: list[Line]) -> str:
    """Return the picture."""
    total_s = len(samples) / RATE
    scale = (WIDTH - 2 * MARGIN) / total_s  # pixels per second
    height = FIRST + LINE * len(lines)
    rules, rows = [], []
    for n, line in enumerate(lines):
        y, spans = FIRST + LINE * n, []
        for k, (at_s, text) in enumerate(line.words):
            rules.append(appears(f'w{n}-{k}', at_s, total_s))
            spans.append(f'<tspan class="word" style="animation-name:w{n}-{k}">'
                         f'{escape(text)}</tspan>')
        rules.append(appears(f'f{n}', line.final_s, total_s))
        rows += [f'<text x="{MARGIN}" y="{y}" xml:space="preserve">{"".join(spans)}</text>',
                 f'<text class="final" x="{WIDTH - MARGIN}" y="{y}" text-anchor="end" '
                 f'style="animation-name:f{n}">'
                 f'final, {line.final_s - line.spoken_s:.1f} s after it was said</text>']
    return '\n'.join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        '<title>Words appear while four orders are spoken</title>',
        f'<style>{STYLE}.now, .word, .final {{ animation-duration: {total_s:.2f}s }}',
        f'@keyframes now {{ to {{ transform: translateX({WIDTH - 2 * MARGIN}px) }} }}',
        *rules, '</style>', wave(samples, scale),
        f'<line class="now" x1="{MARGIN}" x2="{MARGIN}" y1="{WAVE - HALF}" y2="{WAVE + HALF}"/>',
        *rows, '</svg>', ''])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[1])
    parser.add_argument('path', type=Path, help='where to write the picture, FILE.svg')
    arguments = parser.parse_args()
    samples, _ = soundfile.read(ORDERS, dtype='float32')
    samples = np.pad(samples, (0, round(AFTER_S * RATE)))
    lines = transcribe(samples)
    for line in lines:
        print(f'{line.final_s:6.2f} s  {"".join(text for _, text in line.words)}')
    arguments.path.write_text(draw(samples, lines), encoding='utf-8')
    return 0


if __name__ == '__main__':
    sys.exit(main())
