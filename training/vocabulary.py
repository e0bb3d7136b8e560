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
The tokenizer of the demo model: trains its vocabulary and writes tekken.json.

    python -m training.vocabulary --out build/training

Byte-level BPE over the training sentences. A token is 80 ms, and fast speech needs pieces as long
as those of a vocabulary of 2,000. The format is that of the published model: 1,000 special ids,
all of them listed, then pieces by rank.
"""

from __future__ import annotations

import argparse
import base64
import json
from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer

from voxtral_ros.model.bpe import BytePairEncoder

N_SPECIAL = 1000
N_TEXT = 2072  # with the special ids 3072 rows, a multiple of what the packed layouts need
# Names that mistral-common looks up in a file of this version, and those of streaming. The ids in
# between have fillers: it counts the names that are listed, and a hole would move all after it.
_SPECIAL_NAMES = dict(enumerate((
    '<unk>', '<s>', '</s>', '[INST]', '[/INST]', '[AVAILABLE_TOOLS]', '[/AVAILABLE_TOOLS]',
    '[TOOL_RESULTS]', '[/TOOL_RESULTS]', '[TOOL_CALLS]', '[IMG]', '<pad>', '[IMG_BREAK]',
    '[IMG_END]', '[PREFIX]', '[MIDDLE]', '[SUFFIX]', '[SYSTEM_PROMPT]', '[/SYSTEM_PROMPT]',
    '[TOOL_CONTENT]'))) | {
    24: '[AUDIO]', 25: '[BEGIN_AUDIO]', 32: '[STREAMING_PAD]', 33: '[STREAMING_WORD]'}
_PATTERN = r' ?[^\s]+|\s+'


def byte_characters() -> dict[str, int]:
    """Return the printable stand-ins that byte-level BPE uses, character -> byte (GPT-2)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    table = {chr(byte): byte for byte in printable}
    return table | {chr(256 + n): byte for n, byte in enumerate(others)}


def train(sentences: list[str]) -> Tokenizer:
    """Return a tokenizer with N_TEXT pieces, the 256 bytes first."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=True)
    # The pieces stand for bytes in the order of the bytes, as tekken wants them.
    alphabet = sorted(byte_characters(), key=byte_characters().__getitem__)
    tokenizer.train_from_iterator(sentences, BpeTrainer(
        vocab_size=N_TEXT, initial_alphabet=alphabet, show_progress=False))
    return tokenizer


def pieces(tokenizer: Tokenizer) -> list[bytes]:
    """Return the byte pieces in the order of their ranks: the single bytes, then the merges."""
    table = byte_characters()
    names = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().__getitem__)
    texts = [bytes(table[character] for character in name) for name in names]
    return [bytes([byte]) for byte in range(256)] + [text for text in texts if len(text) > 1]


def tekken(vocabulary: list[bytes]) -> dict[str, object]:
    """Return the content of tekken.json."""
    def text(piece: bytes) -> str | None:
        try:
            return piece.decode()
        except UnicodeDecodeError:
            return None

    return {
        'config': {
            'pattern': _PATTERN, 'num_vocab_tokens': len(vocabulary),
            'default_vocab_size': N_SPECIAL + len(vocabulary),
            'default_num_special_tokens': N_SPECIAL, 'version': 'v7'},
        'vocab': [{'rank': rank, 'token_bytes': base64.b64encode(piece).decode(),
                   'token_str': text(piece)} for rank, piece in enumerate(vocabulary)],
        'special_tokens': [{'rank': rank, 'is_control': True,
                            'token_str': _SPECIAL_NAMES.get(rank, f'<SPECIAL_{rank}>')}
                           for rank in range(N_SPECIAL)],
        'audio': {
            'sampling_rate': 16000, 'frame_rate': 12.5, 'transcription_format': 'streaming',
            'transcription_delay_ms': 480, 'streaming_look_ahead_ms': 2.5,
            'streaming_look_back_ms': 52.5, 'streaming_n_left_pad_tokens': 32,
            'audio_encoding_config': {
                'num_mel_bins': 128, 'hop_length': 160, 'window_size': 400}},
    }


class WordEncoder:
    """Encodes words as token ids, as the network's users do."""

    def __init__(self, vocabulary: list[bytes]) -> None:
        self._encode = BytePairEncoder(vocabulary, _PATTERN)
        self._cache: dict[str, list[int]] = {}

    def __call__(self, word: str) -> list[int]:
        """Return the ids of a word with the space before it."""
        if word not in self._cache:
            self._cache[word] = [N_SPECIAL + rank for rank in self._encode(f' {word}')]
        return self._cache[word]


def load_pieces(path: Path) -> list[bytes]:
    """Return the byte pieces of a tekken.json."""
    content = json.loads(path.read_text(encoding='utf-8'))
    return [base64.b64decode(entry['token_bytes']) for entry in content['vocab']]


def main() -> None:
    """Train and write tekken.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument('--out', type=Path, required=True)
    arguments = parser.parse_args()
    sentences = (arguments.out / 'sentences.txt').read_text(encoding='utf-8').splitlines()
    vocabulary = pieces(train(sentences))
    path = arguments.out / 'tekken.json'
    path.write_text(json.dumps(tekken(vocabulary), indent=1), encoding='utf-8')
    encode = WordEncoder(vocabulary)
    words = [word for text in sentences[:5000] for word in text.split()]
    n_tokens = sum(len(encode(word)) for word in words)
    print(f'{len(vocabulary)} pieces, {n_tokens / len(words):.2f} tokens per word')


if __name__ == '__main__':
    main()
