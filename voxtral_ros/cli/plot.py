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

"""What the recogniser did, as a picture: people look rather than read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, TYPE_CHECKING

import numpy as np

from voxtral_ros.backends.build import BuildError
from voxtral_ros.backends.cpu.mel import LogMel
from voxtral_ros.model.config import AudioConfig

if TYPE_CHECKING:
    from voxtral_ros.cli.transcribe import Result
    from voxtral_ros.recognizer.engine import Engine
    from voxtral_ros.recognizer.slot import Token

_S_PER_INCH = 1.0


def draw(path: Path, engine: Engine, delay: int, samples: np.ndarray, tokens: list[Token],
         result: Result) -> None:
    """
    Write waveform, mel, token timeline and words over time as an image.

    Tokens stand where they were written, words where they were said: the distance between them is
    the delay.

    :param delay: tokens
    :param samples: float32 at 16 kHz
    :raises SystemExit: matplotlib is not installed
    """
    try:
        import matplotlib
    except ImportError:
        raise SystemExit('--plot needs matplotlib: pip install matplotlib') from None
    matplotlib.use('Agg')
    from matplotlib import pyplot
    rate = engine.protocol.audio.sampling_rate
    seconds = len(samples) / rate
    figure, (wave, mel, timeline, words) = pyplot.subplots(
        4, 1, sharex=True, figsize=(min(60.0, max(8.0, seconds / _S_PER_INCH)), 8.0),
        height_ratios=(2, 3, 1, 1), layout='constrained')
    wave.plot(np.arange(len(samples)) / rate, samples, linewidth=0.4)
    wave.set_ylabel('audio')
    _draw_mel(mel, engine, samples, seconds)
    _draw_tokens(timeline, engine, delay, tokens)
    _draw_words(words, result)
    words.set_xlabel('seconds')
    name = os.fsencode(result.file).decode('utf-8', 'backslashreplace')
    wave.set_title(f'{name}: {seconds:.1f} s, computed in {result.compute_s:.1f} s')
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _draw_mel(axes: Any, engine: Engine, samples: np.ndarray, seconds: float) -> None:
    context = engine.protocol.context
    half = engine.protocol.audio.window_size // 2
    padded = np.pad(samples, (half, context))
    frames = _log_mel(engine.protocol.audio, padded[None])[0]  # [128, n]
    axes.imshow(frames, origin='lower', aspect='auto', extent=(0, seconds, 0, len(frames)))
    axes.set_ylabel('mel')


def _log_mel(config: AudioConfig, samples: np.ndarray) -> np.ndarray:
    """Return the log-mel of windows of samples, [B, num_mel_bins, n]."""
    try:
        return LogMel(config)(samples).swapaxes(1, 2)
    except BuildError:  # then it is PyTorch that runs the network
        import torch

        from voxtral_ros.model import mel
        frames: np.ndarray = mel.LogMel(config)(torch.from_numpy(samples)).numpy()
        return frames


def _draw_tokens(axes: Any, engine: Engine, delay: int, tokens: list[Token]) -> None:
    protocol, tokenizer = engine.protocol, engine.tokenizer
    colours = {tokenizer.pad: 'lightgrey', tokenizer.word: 'tab:orange'}
    for token in tokens:
        written_s = protocol.transcribed_s(token.index) + delay * protocol.token_s
        axes.bar(written_s, 1, width=protocol.token_s * 0.9, align='edge',
                 color=colours.get(token.id, 'tab:blue'), alpha=max(0.2, token.probability))
        if tokenizer.is_text(token.id):
            axes.text(written_s, 0.1, tokenizer.decode([token.id]), rotation=90, fontsize=7)
    axes.set_yticks([])
    axes.set_ylabel('tokens')


def _draw_words(axes: Any, result: Result) -> None:
    for row, word in enumerate(result.words):
        axes.plot([word['end_s']] * 2, (0, 1), color='tab:blue', linewidth=0.6)
        axes.text(word['end_s'], 0.1 + 0.25 * (row % 3), word['text'], ha='right', fontsize=9)
    axes.set_ylim(0, 1)
    axes.set_yticks([])
    axes.set_ylabel('words')
