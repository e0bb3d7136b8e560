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

"""Text to tokens, as the model writes it: against mistral-common, and by properties."""

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest
from support import golden

from voxtral_ros.model.bpe import BytePairEncoder
from voxtral_ros.model.tokenizer import Tokenizer

checkpoints = pytest.importorskip('support.checkpoints')

BYTES = [bytes([byte]) for byte in range(256)]


@pytest.fixture(scope='module')
def tekken():
    """Return mistral-common's tokenizer, and ours of the same file."""
    path = golden.mistral_vocabulary()
    if path is None:
        pytest.skip(golden.MISSING_VOCABULARY)
    from mistral_common.tokens.tokenizers.tekken import Tekkenizer
    return Tekkenizer.from_file(path), Tokenizer(golden.vocabulary_bytes(path)[:130_072])


@pytest.mark.parametrize('text', [
    ' Kowalski', ' the conservatory, please', " don't", ' R2D2 v10.5', ' NASA iPhone', ' Железный',
    ' Brünnhilde', '厨房にいる', ' e\u0301te\u0301', ' ห้องครัว', ' 🤖 robot',
    '  two  spaces ', ' a\nb'])
def test_tokens_are_those_of_mistral_common(tekken, text):
    theirs, ours = tekken
    assert ours.encode(text) == theirs.encode(text, bos=False, eos=False)


@settings(deadline=None)
@given(st.text(max_size=30))
def test_tokens_of_any_text_are_those_of_mistral_common(tekken, text):
    theirs, ours = tekken
    assert ours.encode(text) == theirs.encode(text, bos=False, eos=False)


@given(st.text())
def test_decoding_gives_the_text_back(text):
    tokenizer = Tokenizer(checkpoints.tiny_vocabulary())
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_the_lowest_rank_is_merged_first():
    encode = BytePairEncoder([*BYTES, b'bc', b'ab', b'abc'])
    assert encode('abc') == [258]  # a whole part needs no merges
    assert encode('abcd') == [258, ord('d')]  # bc, then a bc
    assert BytePairEncoder([*BYTES, b'ab', b'bc'])('abcd') == [256, ord('c'), ord('d')]


def test_a_vocabulary_without_a_byte_is_named():
    with pytest.raises(ValueError, match="no piece for the byte b'z'"):
        BytePairEncoder([b'a'])('z')


@pytest.mark.parametrize('pattern', ['(', r'[\p{L}', '*'])
def test_a_pattern_that_is_none_is_refused(pattern):
    with pytest.raises(ValueError, match='is not understood'):
        BytePairEncoder(BYTES, pattern)


def test_an_unknown_category_has_no_members():
    assert BytePairEncoder(BYTES, r' ?\p{Nd}+|.')('a1 23') == list(b'a1 23')


@pytest.mark.skipif(not golden.golden_clips(), reason=golden.MISSING_CLIPS)
def test_the_published_model_writes_these_tokens(tekken):
    """Of the real model's output, what it wrote between special tokens."""
    _, ours = tekken
    for clip in golden.golden_clips():
        tokens = [token for token in clip.ids if token >= 1000]
        assert ours.encode(ours.decode(tokens)) == tokens
