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

"""The tables of docs/jetson.md that `bench/step.py --predict` prints."""

from voxtral_ros.backends.benchmark import Board, BOARDS, PassBytes, planned_bytes, TOKEN_S
from voxtral_ros.cli.bench import LAYOUTS
from voxtral_ros.model.config import ModelConfig
from voxtral_ros.quantization.format import Recipe

YOUNG = 500  # tokens in the window: 40 s into a stream
LOOK = 6  # tokens: the delay of 480 ms
# Decoder passes per token of speculative decoding in chunks of 2, 3, ... tokens: counted in the
# token streams of the published BF16 model on three recordings of LibriSpeech, 236 tokens, 64 % of
# them pads, over chunks that begin at any token.
PASSES_PER_TOKEN = (0.682, 0.580, 0.531, 0.504, 0.487)
# A day with a robot: turns, seconds of each; looks ahead in each, by bench/turns.py; and what the
# model is given around it: the pre-roll, and the time until it is idle.
N_TURNS, TURN_S, PAUSES_PER_TURN, AWAKE_S = 1440, 5.0, 1.5, 3.0


def pass_bytes(config: ModelConfig, layout: str, cache_bits: int = 16) -> PassBytes:
    """Count what a pass reads of a model in a layout."""
    weights = planned_bytes(config, Recipe(**LAYOUTS[layout]).bits, head_bits=4)
    return PassBytes.of(config, weights, cache_bits)


def print_factors(config: ModelConfig) -> None:
    """Print real-time factors: 40 s into a stream, window full, the same with caches in 8 bits."""
    print('| checkpoint, chunks | share of the window | '
          + ' | '.join(board.name for board in BOARDS) + ' |')
    print('|---|---|' + '---|' * len(BOARDS))
    window = config.decoder.sliding_window
    for layout in LAYOUTS:
        kinds = [(pass_bytes(config, layout, bits), context)
                 for bits, context in ((16, YOUNG), (16, window), (8, window))]
        for chunk, passes in ((1, 1.0), (2, 1.0), (3, 1.0), (3, PASSES_PER_TOKEN[1])):
            shares = (counted.window_share(chunk, context, passes) for counted, context in kinds)
            cells = [' / '.join(f'{100 * share:.0f}' for share in shares) + ' %']
            for board in BOARDS:
                cells.append(' / '.join(
                    f'{counted.predicted_s(board, chunk, context, passes) / TOKEN_S:.2f}'
                    for counted, context in kinds))
            drafted = ', pads drafted' if passes < 1 else ''
            print(f'| {layout}, {chunk * 80} ms{drafted} | ' + ' | '.join(cells) + ' |')


def print_day(config: ModelConfig) -> None:
    """Print the hours that a board works in a day."""
    print(f'A day with {N_TURNS} turns of {TURN_S:g} s, {N_TURNS * TURN_S / 3600:g} h, and '
          f'{PAUSES_PER_TURN} looks per turn; windows full, chunks of 80 ms: hours of work\n')
    print('| checkpoint | audio given to the model | '
          + ' | '.join(board.name for board in BOARDS) + ' |')
    print('|---|---|' + '---|' * len(BOARDS))
    window = config.decoder.sliding_window
    for layout in LAYOUTS:
        counted = pass_bytes(config, layout)
        for idle in (False, True):
            hours = N_TURNS * (TURN_S + AWAKE_S) / 3600 if idle else 24.0
            print(f'| {layout}{"" if idle else ", never idle"} | {hours:.1f} h | '
                  + ' | '.join(f'{day_h(counted, board, window, hours):.1f} h'
                               for board in BOARDS) + ' |')


def day_h(counted: PassBytes, board: Board, window: int, audio_h: float) -> float:
    """Return the hours that a board works for so many hours of audio, and for the looks ahead."""
    step_s = counted.predicted_s(board, 1, window)
    look_s = LOOK * counted.predicted_s(board, LOOK, window, PASSES_PER_TOKEN[-1])
    return audio_h * step_s / TOKEN_S + N_TURNS * PAUSES_PER_TURN * look_s / 3600
