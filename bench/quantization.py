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
What quantizing does to transcripts: rounding to nearest, and GPTQ calibrated right and wrong.

    python bench/quantization.py --model-dir NATIVE --manifest reading=A.tsv orders=B.tsv \
        --calibration C.tsv [--plot docs/quantization.png]
    voxtral export --model models/voxtral-tiny-en --output DENSE --dtype float16
    python bench/quantization.py --variants encoder --model-dir DENSE ...

The second compares ways to store the encoder in INT4, and leaves all else as the source has it.
NATIVE holds a checkpoint in BF16 (for the demo model: what training/ makes; it ships compact).
Manifests are tables with the columns file and text; calibration is recordings that no manifest
has. Only weights differ: all but one of the variants compute in float32.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
import platform
import sys
import tempfile
import time

import numpy as np
import token_streams as streams
import torch
from torch import Tensor
from tqdm import tqdm

from voxtral_ros.evaluation.confidence import difference, error_rate
from voxtral_ros.evaluation.manifest import read_manifest, Recording, sample
from voxtral_ros.evaluation.word_error_rate import count_words, Score, score
from voxtral_ros.model.layers import SequenceAttention, sliding_window_attention
from voxtral_ros.model.loading import load_network
from voxtral_ros.model.network import VoxtralRealtime
from voxtral_ros.model.protocol import StreamingProtocol
from voxtral_ros.model.tokenizer import Tokenizer
from voxtral_ros.quantization.calibration import (
    decoder_input, DecoderInput, embed, encoder_inputs, generate, stream_inputs)
from voxtral_ros.quantization.format import Recipe
from voxtral_ros.quantization.gptq import quantize_decoder, quantize_encoder
from voxtral_ros.quantization.quantizer import Codes, quantize

DELAY_MS = 480
MAX_SHIFT = 10  # tokens; what lies further off is another word of the same spelling
DECODER = ('layers.*',)  # what to skip to leave the decoder alone


@dataclass(frozen=True)
class Variant:
    """One way to store the model."""

    name: str
    recipe: Recipe | None = None
    inputs: str = ''  # of GPTQ: 'text', 'no delay' or 'stream'
    dtype: torch.dtype = torch.float32  # of the arithmetic
    int8_cache: bool = False  # keys and values in INT8

    @property
    def attention(self) -> SequenceAttention:
        return streams.int8_attention if self.int8_cache else sliding_window_attention


VARIANTS = (
    Variant('BF16'),
    Variant('BF16, arithmetic in BF16 too', dtype=torch.bfloat16),
    Variant('INT4 decoder, RTN seed', Recipe()),
    Variant('INT4 decoder, RTN mse', Recipe('mse')),
    Variant('INT4 decoder, GPTQ on text', Recipe(method='gptq'), 'text'),
    Variant('INT4 decoder, GPTQ without delay', Recipe(method='gptq'), 'no delay'),
    Variant('INT4 decoder, GPTQ on streams', Recipe(method='gptq'), 'stream'),
    Variant('INT4 decoder, GPTQ on streams, mse', Recipe('mse', method='gptq'), 'stream'),
    Variant('INT8 encoder alone', Recipe(encoder_bits=8, skip=DECODER)),
    Variant('INT8 head alone', Recipe(head_bits=8, skip=DECODER)),
    Variant('INT4 head alone', Recipe(head_bits=4, skip=DECODER)),
    Variant('RTN mse, INT8 encoder, INT8 head', Recipe('mse', 8, 8)),
    Variant('RTN mse, INT8 encoder, INT4 head', Recipe('mse', 8, 4)),
    Variant('GPTQ on streams, mse, INT8 encoder, INT8 head',
            Recipe('mse', 8, 8, method='gptq'), 'stream'),
)


def encoder_in_int4(name: str, rounding: str, method: str = 'rtn', *skip: str) -> Variant:
    """Return the variant with an encoder in INT4, all of it but some tensors, and no more."""
    patterns = tuple(f'*whisper_encoder*{pattern}' for pattern in skip)
    recipe = Recipe(rounding, 4, skip=(*DECODER, *patterns), method=method)
    return Variant(name, recipe, 'stream' if method == 'gptq' else '')


ENCODER_VARIANTS = (
    Variant('as it is'),
    Variant('KV caches in INT8', int8_cache=True),
    encoder_in_int4('RTN mse', 'mse'),
    encoder_in_int4('GPTQ mse', 'mse', 'gptq'),
    encoder_in_int4('GPTQ mse, but wq, wk, wv', 'mse', 'gptq', '.w[qkv].weight'),
    encoder_in_int4('GPTQ mse, but first and last block', 'mse', 'gptq', '.layers.[07].*'),
)
# One linear layer of every block in INT4, or all of them of one block, of eight.
ENCODER_PARTS = (
    Variant('as it is'),
    *(encoder_in_int4(f'w{name}', 'mse', 'rtn', f'.w[!{name}].weight') for name in 'qkvo132'),
    *(encoder_in_int4(f'block {n}', 'mse', 'rtn', f'.layers.[!{n}].*') for n in range(8)),
)
GROUPS = {'decoder': VARIANTS, 'encoder': ENCODER_VARIANTS, 'encoder parts': ENCODER_PARTS}


@dataclass
class Result:
    """What a variant does with all recordings of all sets."""

    nbytes: int
    scores: dict[str, list[Score]] = field(default_factory=dict)  # per set
    streams: list[Tensor] = field(default_factory=list)
    log_probs: list[Tensor] = field(default_factory=list)  # of BF16: log-probabilities [T, V]
    divergence: list[Tensor] = field(default_factory=list)  # KL from BF16, nats, of each token
    agrees: list[Tensor] = field(default_factory=list)  # on BF16's stream, bool of each token
    margins: list[streams.Margins] = field(default_factory=list)

    def margin(self, where: str) -> Tensor:
        """Return the margins of all recordings at one kind of boundary."""
        return torch.cat([getattr(margins, where) for margins in self.margins])


class Bench:
    """The model, the recordings, and what BF16 makes of them."""

    def __init__(self, arguments: argparse.Namespace, folder: Path) -> None:
        self.source, self._folder = arguments.model_dir, folder
        self.bf16 = load_network(self.source, dtype=torch.float32)
        self.tokenizer = Tokenizer.load(self.source, self.bf16.config.vocab_size)
        self.protocol = StreamingProtocol(self.tokenizer, self.bf16.config.audio)
        self.delay = self.protocol.delay_tokens(DELAY_MS)
        self.sets = {name: sample(read_manifest(Path(path)), arguments.limit)
                     for name, _, path in (part.partition('=') for part in arguments.manifest)}
        self.calibration = sample(read_manifest(arguments.calibration),
                                  arguments.calibration_count)
        tested = {recording.text for recordings in self.sets.values() for recording in recordings}
        if tested & {recording.text for recording in self.calibration}:
            raise SystemExit('a text of the calibration is in a manifest, too: what is measured '
                             'must not have been calibrated on')
        self._embedded: dict[object, list[Tensor]] = {}  # by what the encoder is
        embeddings = self._embed(self.bf16, self.calibration)
        written = generate(self.bf16, self.protocol, embeddings, self.delay)
        self._calibration = list(zip(embeddings, written, strict=True))

    def recordings(self) -> list[Recording]:
        """Return the recordings of all sets."""
        return [recording for recordings in self.sets.values() for recording in recordings]

    def load(self, variant: Variant) -> tuple[VoxtralRealtime, int]:
        """Make a variant and load it; return it and the size of its weights in bytes."""
        folder = self.source
        if variant.recipe:
            folder = self._folder / variant.name.replace(' ', '_')
            calibrated = partial(self.codes, variant) if variant.inputs else None
            quantize(self.source, folder, variant.recipe, calibrated=calibrated)
        network = load_network(folder, dtype=variant.dtype)
        return network, (folder / 'consolidated.safetensors').stat().st_size

    def codes(self, variant: Variant) -> Codes:
        """Return what GPTQ makes of the network."""
        network, recipe = load_network(self.source, dtype=torch.float32), variant.recipe
        codes: dict[str, tuple[Tensor, Tensor]] = {}
        if recipe.encoder_bits == 4:
            samples = [recording.samples() for recording in self.calibration]
            codes = quantize_encoder(
                network, encoder_inputs(network, self.protocol, samples, [self.delay]), recipe)
        inputs = self.inputs(network, variant.inputs)
        return codes | quantize_decoder(network, inputs, recipe)

    @torch.inference_mode()
    def inputs(self, network: VoxtralRealtime, kind: str) -> list[DecoderInput]:
        """
        Return what to calibrate on.

        'stream' is what the decoder is given in use: sums of audio embeddings and those of its
        own tokens, with the delay conditioning. 'no delay' leaves out the conditioning. 'text'
        leaves out the audio, too: a decoder taken for a language model, calibrated on text.
        """
        if kind == 'text':
            h = [network.decoder.tok_embeddings(torch.tensor(
                [self.tokenizer.bos, *streams.encode(recording.text, self.tokenizer)]))
                 for recording in self.calibration]
        else:
            h = [stream_inputs(network, self.protocol, audio, tokens, self.delay)
                 for audio, tokens in self._calibration]
        delay = self.delay if kind == 'stream' else None
        return [decoder_input(network, states, delay) for states in h]

    def measure(self, variant: Variant, bf16: Result | None) -> Result:
        """Let a variant write freely, and score the stream that BF16 wrote."""
        network, nbytes = self.load(variant)
        bits = variant.recipe.encoder_bits if variant.recipe else 16
        encoder = variant.name if bits == 4 else (bits, variant.dtype, variant.int8_cache)
        if encoder not in self._embedded:
            self._embedded[encoder] = self._embed(network, self.recordings(), variant.attention)
        embeddings = self._embedded[encoder]
        result = Result(nbytes)
        result.streams = generate(network, self.protocol, embeddings, self.delay,
                                  variant.int8_cache)
        written = (bf16 or result).streams
        for n, (audio, tokens) in enumerate(zip(embeddings, written, strict=True)):
            logits = streams.score(network, self.protocol, audio, tokens, self.delay,
                                   variant.attention)
            log_probs = logits.log_softmax(-1)
            if bf16 is None:
                result.log_probs.append(log_probs)
            reference = (bf16 or result).log_probs[n]
            result.divergence.append((reference.exp() * (reference - log_probs)).sum(-1))
            result.agrees.append(logits.argmax(-1) == tokens)
            result.margins.append(streams.margins(logits, tokens, self.tokenizer.pad))
        texts = iter([self.tokenizer.decode(tokens.tolist()) for tokens in result.streams])
        for name, recordings in self.sets.items():
            result.scores[name] = [score(recording.path.name, recording.text, next(texts))
                                   for recording in recordings]
        return result

    def _embed(self, network: VoxtralRealtime, recordings: Sequence[Recording],
               attention: SequenceAttention = sliding_window_attention) -> list[Tensor]:
        samples = (recording.samples() for recording in recordings)
        return embed(network, self.protocol, samples, self.delay, attention)


def word_shifts(bench: Bench, result: Result, bf16: Result) -> np.ndarray:
    """Return how many tokens later than in BF16 each word comes that both have."""
    shifts = np.array([shift for before, after in zip(bf16.streams, result.streams, strict=True)
                       for shift in streams.shifts(streams.words(before, bench.tokenizer),
                                                   streams.words(after, bench.tokenizer))])
    return shifts[np.abs(shifts) <= MAX_SHIFT]


def print_tables(bench: Bench, results: dict[str, Result]) -> None:
    """Print all tables as Markdown."""
    bf16 = next(iter(results.values()))
    _print_rows('Tokens', (
        'file, MB', 'KL from BF16, mnat', "same on BF16's stream, %", 'not pads of it, %',
        'same running free, %', 'words earlier, %', 'later, %', 'mean shift, ms'), {
            name: _token_row(bench, result, bf16) for name, result in results.items()})
    written = torch.cat(bf16.streams)
    print(f'{len(written)} tokens, {int((written != bench.tokenizer.pad).sum())} of them no pads.')
    _print_rows("Pad minus the best other logit, on BF16's stream", (
        'before a word: median (5 to 95 %)', 'wrong, %', 'word onset: median (5 to 95 %)',
        'wrong, %', 'shift at onset: mean', 'after a word: median (5 to 95 %)', 'wrong, %'), {
            name: _margin_row(result, bf16) for name, result in results.items()})
    print(f'{len(bf16.margin("onset"))} onsets. Wrong: pad where BF16 starts a word, or the '
          'reverse.')
    columns = [f'{name}{what}' for name in bench.sets for what in ('', ': more than BF16')]
    _print_rows('Word error rate, % (95 % interval)', columns, {
        name: [cell for key, scores in result.scores.items()
               for cell in _rate_cells(scores, bf16.scores[key])]
        for name, result in results.items()})
    for name, scores in bf16.scores.items():
        print(f'{name}: {len(scores)} recordings, {count_words(scores)} words')


def _print_rows(title: str, columns: tuple[str, ...] | list[str],
                rows: dict[str, list[str]]) -> None:
    print(f'\n## {title}\n\n| | {" | ".join(columns)} |\n|---|{"---|" * len(columns)}')
    for name, cells in rows.items():
        print(f'| {name} | {" | ".join(cells)} |')
    print(flush=True)


def _token_row(bench: Bench, result: Result, bf16: Result) -> list[str]:
    written, agrees = torch.cat(bf16.streams), torch.cat(result.agrees)
    free = torch.cat(result.streams) == written
    moved = word_shifts(bench, result, bf16)
    return [f'{result.nbytes / 1e6:.1f}', f'{1000 * torch.cat(result.divergence).mean():.1f}',
            f'{100 * agrees.float().mean():.2f}',
            f'{100 * agrees[written != bench.tokenizer.pad].float().mean():.2f}',
            f'{100 * free.float().mean():.2f}',
            *((f'{100 * (moved < 0).mean():.1f}', f'{100 * (moved > 0).mean():.1f}',
               f'{moved.mean() * bench.protocol.token_ms:+.1f}') if len(moved)
              else ('-', '-', '-'))]


def _margin_row(result: Result, bf16: Result) -> list[str]:
    before, onset, offset = (result.margin(where) for where in ('before', 'onset', 'offset'))
    if not len(onset) or not len(offset):
        return ['-'] * 7  # a stream without a word
    return [_spread(before), f'{100 * (before < 0).float().mean():.1f}',
            _spread(onset), f'{100 * (onset > 0).float().mean():.1f}',
            f'{(onset - bf16.margin("onset")).mean():+.2f}',
            _spread(offset), f'{100 * (offset < 0).float().mean():.1f}']


def _spread(values: Tensor) -> str:
    low, middle, high = values.quantile(torch.tensor([0.05, 0.5, 0.95])).tolist()
    return f'{middle:.1f} ({low:.1f} to {high:.1f})'


def _rate_cells(scores: list[Score], bf16: list[Score]) -> list[str]:
    rate, low, high = error_rate(scores)
    more, less, most = difference(bf16, scores)
    above = f'{100 * more:+.1f} ({100 * less:+.1f} to {100 * most:+.1f})'
    return [f'{100 * rate:.1f} ({100 * low:.1f} to {100 * high:.1f})',
            '-' if scores is bf16 else above]


def draw(path: Path, results: dict[str, Result]) -> None:
    """Write the margins at the boundaries, and what words cost, as an image."""
    import matplotlib
    matplotlib.use('Agg')
    from matplotlib import pyplot
    bf16, names = next(iter(results.values())), list(results)
    figure, (left, right) = pyplot.subplots(
        1, 2, sharey=True, figsize=(11, 0.34 * len(names) + 1.4), width_ratios=(3, 2),
        layout='constrained')
    at = np.arange(len(names))[::-1]
    for where, colour, offset in (('before', 'tab:grey', 0.17), ('onset', 'tab:orange', -0.17)):
        left.boxplot([result.margin(where).numpy() for result in results.values()],
                     positions=at + offset, widths=0.3, orientation='horizontal', whis=(5, 95),
                     showfliers=False, patch_artist=True, medianprops={'color': 'black'},
                     boxprops={'facecolor': colour})
        left.plot([], color=colour, linewidth=6, label={
            'before': 'last pad before a word', 'onset': 'first token of a word'}[where])
    left.axvline(0, color='black', linewidth=0.8)
    left.set_yticks(at, names)
    left.set_xlabel('logit[pad] - best other logit (whiskers: 5 and 95 %)')
    left.legend(loc='lower left', bbox_to_anchor=(0, 1), ncols=2, fontsize=8, frameon=False)
    for n, key in enumerate(bf16.scores):
        rows = [difference(bf16.scores[key], result.scores[key]) for result in results.values()]
        middle, low, high = 100 * np.array(rows).T
        place = at + 0.22 * ((len(bf16.scores) - 1) / 2 - n)
        right.errorbar(middle, place, xerr=(middle - low, high - middle), fmt='o', markersize=3,
                       linewidth=1, label=key)
    right.axvline(0, color='black', linewidth=0.8)
    right.set_xlabel('WER, points above BF16 (95 %)')
    right.legend(loc='lower right', bbox_to_anchor=(1, 1), ncols=3, fontsize=8, frameon=False)
    figure.savefig(path, dpi=80)
    pyplot.close(figure)


def processor() -> str:
    """Return the name of the processor of this machine."""
    lines = Path('/proc/cpuinfo').read_text(encoding='utf-8').splitlines()
    return next((line.split(':')[1].strip() for line in lines if line.startswith('model name')),
                platform.machine())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[1])
    parser.add_argument('--model-dir', type=Path, required=True, help='a checkpoint in BF16')
    parser.add_argument('--manifest', nargs='+', required=True, metavar='NAME=TSV',
                        help='what to measure on')
    parser.add_argument('--calibration', type=Path, required=True, metavar='TSV')
    parser.add_argument('--calibration-count', type=int, default=60, metavar='N',
                        help='recordings to calibrate on, from all over the table [60]')
    parser.add_argument('--limit', type=int, metavar='N',
                        help='recordings of each manifest, from all over the table [all]')
    parser.add_argument('--variants', choices=GROUPS, default='decoder',
                        help='what to store in other ways; of the encoder also part by part '
                             '[decoder]')
    parser.add_argument('--plot', type=Path, help='image to write')
    # A second thread gains little here, and costs a factor on a machine that does other things.
    parser.add_argument('--threads', type=int, default=1, help='of torch [1]')
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    variants = GROUPS[arguments.variants]
    begin = time.perf_counter()
    results: dict[str, Result] = {}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(arguments, Path(folder))
        for variant in tqdm(variants, disable=not sys.stderr.isatty()):
            results[variant.name] = bench.measure(variant, results.get(variants[0].name))
            took = time.perf_counter() - begin
            print(f'{took:.0f} s: {variant.name}', file=sys.stderr)
    print(f'{processor()}, {torch.get_num_threads()} threads, '
          f'torch {torch.__version__}, {time.perf_counter() - begin:.0f} s, '
          f'{time.process_time():.0f} s of CPU time')
    print_tables(bench, results)
    if arguments.plot:
        draw(arguments.plot, results)


if __name__ == '__main__':
    main()
