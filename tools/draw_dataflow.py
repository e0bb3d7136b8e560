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

"""Draw the way of audio through the node: `python tools/draw_dataflow.py docs/dataflow.svg`."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

COLUMN, ROW, LEFT, TOP = 156, 84, 10, 34  # pixels from one box to the next, and to the first
WIDTH, HEIGHT = 132, 50  # of a box
STYLE = """
text { font: 13px sans-serif; fill: #222; text-anchor: middle }
.small { font-size: 11px; fill: #555 } .head { font-size: 12px; fill: #555 }
rect { fill: #5b7ba8; fill-opacity: 0.1; stroke: #5b7ba8 } .ros { fill: #2a8a3e; stroke: #2a8a3e }
.option { stroke-dasharray: 5 3 } .way { fill: none; stroke: #666 } .tip { fill: #666 }
@media (prefers-color-scheme: dark) { text { fill: #ddd } .small, .head { fill: #aaa }
rect { stroke: #8fb0dd } .ros { stroke: #5cc474 } .way { stroke: #aaa } .tip { fill: #aaa } }
"""


@dataclass(frozen=True)
class Box:
    """A step or a topic, in a grid."""

    column: int
    row: float
    name: str
    detail: str = ''
    kind: str = ''

    @property
    def x(self) -> float:
        return LEFT + self.column * COLUMN

    @property
    def y(self) -> float:
        return TOP + self.row * ROW

    def draw(self) -> str:
        """Return the box with its texts."""
        middle = self.x + WIDTH / 2
        parts = [f'<rect class="{self.kind}" x="{self.x}" y="{self.y}" width="{WIDTH}" '
                 f'height="{HEIGHT}" rx="5"/>']
        name_y = self.y + (22 if self.detail else 30)
        parts.append(f'<text x="{middle}" y="{name_y}">{escape(self.name)}</text>')
        if self.detail:
            parts.append(f'<text class="small" x="{middle}" y="{self.y + 39}">'
                         f'{escape(self.detail)}</text>')
        return '\n'.join(parts)


TOPIC = Box(0, 0, 'topic audio', 'or another topic', 'ros')
MICROPHONE = Box(0, 1, 'microphone', 'source:=microphone')
FILE = Box(0, 2, 'file', 'source:=file')
RESAMPLE = Box(1, 1, 'resample', 'one channel, 16 kHz')
ECHO = Box(2, 1, 'echo canceller', 'echo.cancellation', 'option')
PLAYBACK = Box(2, 2, 'topic playback', 'what the robot plays', 'ros option')
VOICE = Box(3, 0, 'voice activity', 'every 32 ms')
MODEL = Box(3, 1, 'model', 'a token per 80 ms')
PHRASES = Box(3, 2, 'phrases', 'names to expect', 'option')
UTTERANCES = Box(4, 0, 'utterances, turns', 'end in a pause')
WORDS = Box(4, 1, 'words', 'times, confidence')
FILTER = Box(5, 0, 'wake phrases', "robot's own words", 'option')
OUTPUTS = [Box(5, 1, 'transcript/...', 'partial, final, text', 'ros'),
           Box(5, 2, 'turn', 'START ... END', 'ros')]
LEGEND = ['green: topics of ROS', 'dashed: off by default']
BOXES = [TOPIC, MICROPHONE, FILE, RESAMPLE, ECHO, PLAYBACK, VOICE, MODEL, PHRASES, UTTERANCES,
         WORDS, FILTER, *OUTPUTS]


def way(*points: tuple[float, float]) -> str:
    """Return a line with a tip at its end."""
    (from_x, from_y), (to_x, to_y) = points[-2:]
    along_x = (to_x > from_x) - (to_x < from_x)
    along_y = (to_y > from_y) - (to_y < from_y)
    back_x, back_y = to_x - 7 * along_x, to_y - 7 * along_y
    tip = (f'{to_x},{to_y} {back_x + 4 * along_y},{back_y + 4 * along_x} '
           f'{back_x - 4 * along_y},{back_y - 4 * along_x}')
    line = ' '.join(f'{x},{y}' for x, y in (*points[:-1], (back_x, back_y)))
    return f'<polyline class="way" points="{line}"/>\n<polygon class="tip" points="{tip}"/>'


def right(start: Box, end: Box) -> str:
    """Return the way from the right of a box to the left of another one, in either row."""
    x0, y0 = start.x + WIDTH, start.y + HEIGHT / 2
    x1, y1 = end.x, end.y + HEIGHT / 2
    if y0 == y1:
        return way((x0, y0), (x1, y1))
    middle = x0 + 12
    return way((x0, y0), (middle, y0), (middle, y1), (x1, y1))


def down(start: Box, end: Box) -> str:
    """Return the way from the bottom of a box to the top of the one below."""
    x = start.x + WIDTH / 2
    return way((x, start.y + HEIGHT), (x, end.y))


def up(start: Box, end: Box) -> str:
    """Return the way from the top of a box to the bottom of the one above."""
    x = start.x + WIDTH / 2
    return way((x, start.y), (x, end.y + HEIGHT))


def draw() -> str:
    """Return the picture."""
    heads = [(0, 'audio comes from'), (1, 'prepared'), (3, 'recognised'), (5, 'published')]
    partial, turn = OUTPUTS
    legend_x, legend_y = WORDS.x + WIDTH / 2, PHRASES.y + 21
    side = FILTER.x + WIDTH + 10
    ways = [right(TOPIC, RESAMPLE), right(MICROPHONE, RESAMPLE), right(FILE, RESAMPLE),
            right(RESAMPLE, ECHO), up(PLAYBACK, ECHO), right(ECHO, MODEL), right(ECHO, VOICE),
            down(VOICE, MODEL), up(PHRASES, MODEL), right(MODEL, WORDS),
            right(VOICE, UTTERANCES), up(WORDS, UTTERANCES), right(UTTERANCES, FILTER),
            down(FILTER, partial),
            way((FILTER.x + WIDTH, FILTER.y + HEIGHT / 2), (side, FILTER.y + HEIGHT / 2),
                (side, turn.y + HEIGHT / 2), (turn.x + WIDTH, turn.y + HEIGHT / 2))]
    width, height = LEFT + 5 * COLUMN + WIDTH + 18, TOP + 2 * ROW + HEIGHT + 10
    return '\n'.join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
        '<title>The way of the audio through the node, from its source to the topics</title>',
        f'<style>{STYLE}</style>',
        *(f'<text class="head" x="{LEFT + column * COLUMN + WIDTH / 2}" y="20">{escape(name)}'
          '</text>' for column, name in heads),
        *(f'<text class="small" x="{legend_x}" y="{legend_y + 18 * n}">{escape(line)}</text>'
          for n, line in enumerate(LEGEND)),
        *ways, *(box.draw() for box in BOXES), '</svg>', ''])


def main() -> None:
    """Draw into a file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('picture', type=Path)
    parser.parse_args().picture.write_text(draw(), encoding='utf-8')


if __name__ == '__main__':
    main()
