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
Draw what a stream says of a turn, and when: `python tools/draw_turns.py docs/turns.svg`.

Two of the spoken orders of the tests, with a short pause between them, go through the demo model.
"""

import argparse
from dataclasses import dataclass, field
from pathlib import Path
import sys
from xml.sax.saxutils import escape

import numpy as np
import soundfile

from voxtral_ros.recognizer.engine import Engine
from voxtral_ros.recognizer.events import SpeechActivity, Transcript, Turn, TurnKind
from voxtral_ros.recognizer.options import StreamOptions
from voxtral_ros.resources import demo_model

ORDERS = Path(__file__).resolve().parents[1] / 'test' / 'data' / 'orders.flac'
RATE, BLOCK = 16000, 320
FIRST_S, SECOND_S = (0.0, 3.36), (4.6, 7.1)  # parts of the recording
AFTER_S = 1.2
SHOWN_S = 1.9  # the picture begins here
SCALE, LEFT, WIDTH, HEIGHT = 160, 96, 940, 296  # pixels per second, pixels
WAVE, SAID, WRITTEN, TURNS = 52, 118, 172, 236  # lines of the picture
STYLE = """
text { font: 12px sans-serif; fill: #222 } .small { font-size: 11px }
.wave { stroke: #5b7ba8 } .line { stroke: #8884 } .speech { fill: #5b7ba822 }
.word { stroke: #888 } .eager { stroke: #b96a00; fill: #b96a00 }
.end { stroke: #2a8a3e; fill: #2a8a3e }
.resumed { stroke: #777; fill: #777 } text { stroke: none !important }
@media (prefers-color-scheme: dark) { text { fill: #ddd } .wave { stroke: #8fb0dd }
.eager { stroke: #f0a030; fill: #f0a030 } .end { stroke: #5cc474; fill: #5cc474 }
.resumed { stroke: #aaa; fill: #aaa } }
"""


@dataclass
class Story:
    """What a stream says, at the audio time when it says it."""

    turns: list[tuple[float, Turn]] = field(default_factory=list)
    words: list[tuple[float, float, str]] = field(default_factory=list)  # said, written, text
    speech: list[tuple[float, float]] = field(default_factory=list)


def audio() -> np.ndarray:
    """Return two orders, the second soon after the first [n]."""
    samples, _ = soundfile.read(ORDERS, dtype='float32')
    parts = [samples[round(begin * RATE):round(end * RATE)] for begin, end in (FIRST_S, SECOND_S)]
    return np.concatenate((*parts, np.zeros(round(AFTER_S * RATE), np.float32)))


def transcribe(samples: np.ndarray) -> Story:
    """Feed audio in blocks of 20 ms and note what comes when."""
    stream, story = Engine.load(demo_model(), 'cpu').open(options=StreamOptions()), Story()
    n_words, onset_s = 0, 0.0
    for start in range(0, len(samples), BLOCK):
        stream.feed(samples[start:start + BLOCK])
        now_s = (start + BLOCK) / RATE
        for event in stream.poll():
            if isinstance(event, Turn):
                story.turns.append((now_s, event))
            elif isinstance(event, SpeechActivity) and event.active:
                onset_s = event.time_s
            elif isinstance(event, SpeechActivity):
                story.speech.append((onset_s, event.time_s))
            elif isinstance(event, Transcript):
                story.words += [(word.end_s, now_s, word.text) for word in event.words[n_words:]]
                n_words = 0 if event.is_final else len(event.words)
    stream.abandon()
    return story


def x(time_s: float) -> float:
    return round(LEFT + (time_s - SHOWN_S) * SCALE, 1)


def line(kind: str, from_x: float, from_y: float, to_x: float, to_y: float) -> str:
    return f'<line class="{kind}" x1="{from_x}" y1="{from_y}" x2="{to_x}" y2="{to_y}"/>'


def text(kind: str, at_x: float, at_y: float, words: str, anchor: str = 'middle') -> str:
    return (f'<text class="{kind}" x="{at_x}" y="{at_y}" text-anchor="{anchor}">'
            f'{escape(words)}</text>')


def wave(samples: np.ndarray) -> str:
    """Draw the audio, a line for every second pixel."""
    n_bar = 2 * RATE // SCALE
    shown = samples[round(SHOWN_S * RATE):]
    bars = np.abs(shown[:len(shown) // n_bar * n_bar]).reshape(-1, n_bar).max(1)
    heights = np.maximum(0.5, 34 * bars / bars.max()).tolist()
    path = ''.join(f'M{LEFT + 2 * n} {WAVE - height:.1f}V{WAVE + height:.1f}'
                   for n, height in enumerate(heights))
    return f'<path class="wave" d="{path}"/>'


def words(story: Story) -> list[str]:
    """Draw when words were said, and when they were written, in two heights each."""
    parts = []
    shown = [word for word in story.words if word[0] > SHOWN_S + 0.15]
    for n, (said_s, written_s, word) in enumerate(shown):
        down = 14 * (n % 2)
        parts += [line('word', x(said_s), SAID - 18, x(said_s), SAID - 13 + down),
                  text('small', x(said_s), SAID - 2 + down, word),
                  line('word', x(written_s), WRITTEN - 18, x(written_s), WRITTEN - 13 + down),
                  text('small', x(written_s), WRITTEN - 2 + down, word)]
    return parts


def turns(story: Story) -> list[str]:
    """Draw the messages, and how long after the end of speech they come."""
    parts = []
    for now_s, turn in story.turns:
        if now_s < SHOWN_S:
            continue
        kind = {TurnKind.EAGER_END: 'eager', TurnKind.END: 'end'}.get(turn.kind, 'resumed')
        anchor = 'end' if kind == 'eager' else 'start'
        parts += [line(kind, x(now_s), 14, x(now_s), TURNS + 3),
                  text(kind, x(now_s) + (-4 if anchor == 'end' else 4), TURNS, turn.kind.name,
                       anchor)]
        if turn.kind in (TurnKind.EAGER_END, TurnKind.END):
            y = TURNS + (12 if turn.kind is TurnKind.EAGER_END else 34)
            parts += [line(kind, x(turn.end_s), y, x(now_s), y),
                      text(f'{kind} small', x(now_s), y + 14,
                           f'{now_s - turn.end_s:.2f} s after speech', 'end')]
    return parts


def draw(samples: np.ndarray, story: Story) -> str:
    """Return the picture."""
    seconds = range(int(SHOWN_S) + 1, int(len(samples) / RATE) + 1)
    return '\n'.join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        '<title>Audio, words and turns of two orders with a short pause between them</title>',
        f'<style>{STYLE}</style>',
        *(f'<rect class="speech" x="{x(max(begin, SHOWN_S))}" y="14" '
          f'width="{x(end) - x(max(begin, SHOWN_S)):.1f}" height="76"/>'
          for begin, end in story.speech if end > SHOWN_S),
        wave(samples), *words(story), *turns(story),
        *(text('small', 4, y, label, 'start') for y, label in (
            (WAVE + 4, 'audio'), (SAID, 'words said'), (WRITTEN, 'written'), (TURNS, 'turn'))),
        *(text('small', x(second), 10, f'{second} s') for second in seconds),
        '</svg>', ''])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[1])
    parser.add_argument('path', type=Path, help='where to write the picture, FILE.svg')
    arguments = parser.parse_args()
    samples = audio()
    story = transcribe(samples)
    for now_s, turn in story.turns:
        print(f'{now_s:6.2f} s  {turn.kind.name:10}{now_s - turn.end_s:5.2f} s  {turn.text}')
    arguments.path.write_text(draw(samples, story), encoding='utf-8')
    return 0


if __name__ == '__main__':
    sys.exit(main())
