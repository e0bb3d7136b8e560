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

"""Vocabulary files and the way from tokens to text, byte by byte."""

import json

from hypothesis import given
from hypothesis import strategies as st
import pytest
from support import golden

from voxtral_ros.model.tokenizer import StreamingConstants, TextDecoder, Tokenizer, TokenizerError

checkpoints = pytest.importorskip('support.checkpoints')

N_SPECIAL, PAD, WORD = checkpoints.N_SPECIAL, checkpoints.STREAMING_PAD, checkpoints.STREAMING_WORD


def write(folder, content):
    (folder / 'tekken.json').write_text(json.dumps(content))
    return folder


def spoiled(path, value):
    """Return a tiny tekken.json with one value replaced; the path is a list of keys."""
    content = checkpoints.tiny_tekken()
    node = content
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    return content


@pytest.fixture(scope='module')
def tiny():
    return Tokenizer(checkpoints.tiny_vocabulary())


def byte_tokens(data):
    return [N_SPECIAL + value for value in data]


def test_load_takes_the_vocabulary_in_use(tmp_path):
    tokenizer = Tokenizer.load(write(tmp_path, checkpoints.tiny_tekken()), 1305)
    assert tokenizer.pieces == checkpoints.tiny_vocabulary()[:305]
    assert tokenizer.n_special == 1000
    assert (tokenizer.bos, tokenizer.eos, tokenizer.pad, tokenizer.word) == (1, 2, 32, 33)
    assert tokenizer.streaming == StreamingConstants(480, 32)


def test_the_size_is_the_networks_or_else_the_files(tmp_path):
    folder = write(tmp_path, checkpoints.tiny_tekken())
    assert len(Tokenizer.load(folder).pieces) == 305
    assert len(Tokenizer.load(folder, 1300).pieces) == 300
    assert len(Tokenizer.load(folder, 1310).pieces) == 310  # listed, though not in use


def test_constants_and_special_ids_come_from_the_file(tmp_path):
    content = checkpoints.tiny_tekken(delay_ms=240, left_pad_tokens=5)
    content['special_tokens'][77]['token_str'] = '[STREAMING_WORD]'
    del content['special_tokens'][33]
    tokenizer = Tokenizer.load(write(tmp_path, content))
    assert tokenizer.streaming == StreamingConstants(240, 5)
    assert tokenizer.word == 77


@pytest.mark.parametrize('key', ['audio', 'special_tokens'])
@pytest.mark.parametrize('empty', [None, {}])
def test_what_related_files_leave_out_is_as_published(tmp_path, key, empty):
    tokenizer = Tokenizer.load(write(tmp_path, spoiled([key], empty)))
    assert tokenizer.streaming == StreamingConstants(480, 32)
    assert (tokenizer.bos, tokenizer.eos, tokenizer.pad, tokenizer.word) == (1, 2, 32, 33)


def test_no_left_pad_at_all_is_not_the_default(tmp_path):
    content = checkpoints.tiny_tekken(left_pad_tokens=0)
    assert Tokenizer.load(write(tmp_path, content)).streaming.n_left_pad_tokens == 0


@pytest.mark.parametrize(('content', 'size'), [
    (checkpoints.tiny_tekken(), 1311),
    (checkpoints.tiny_tekken(), 999),  # no room for the special tokens
    (checkpoints.tiny_tekken(), 500),
    (spoiled(['vocab'], []), 1305),
    (spoiled(['config', 'default_num_special_tokens'], 10), 1305)])
def test_a_vocabulary_that_does_not_fit_the_network_is_refused(tmp_path, content, size):
    with pytest.raises(TokenizerError, match=f'the network has {size} in all'):
        Tokenizer.load(write(tmp_path, content), size)


def test_ranks_out_of_order_are_refused(tmp_path):
    content = checkpoints.tiny_tekken()
    vocab = content['vocab']
    vocab[5], vocab[6] = vocab[6], vocab[5]
    with pytest.raises(TokenizerError, match='rank 5 of the vocabulary is out of order'):
        Tokenizer.load(write(tmp_path, content))


@pytest.mark.parametrize(('path', 'value'), [
    (['config'], None), (['config'], {}), (['config', 'default_num_special_tokens'], 'many'),
    (['config', 'default_vocab_size'], None), (['config', 'default_vocab_size'], float('inf')),
    (['vocab'], None), (['vocab'], 5), (['vocab', 7], None), (['vocab', 7], {}),
    (['vocab', 7, 'token_bytes'], None), (['vocab', 7, 'token_bytes'], 'YQ'),
    (['vocab', 7, 'token_bytes'], '!!!!'), (['vocab', 7, 'token_bytes'], 'YQ=\u00e9'),
    (['special_tokens'], [3]), (['special_tokens'], [{'rank': 1}]),
    (['audio'], [1]), (['audio'], {'transcription_delay_ms': 'long'}),
    (['audio', 'streaming_n_left_pad_tokens'], -1)])
def test_damage_is_a_tokenizer_error_that_names_the_file(tmp_path, path, value):
    with pytest.raises(TokenizerError, match=r'tekken\.json'):
        Tokenizer.load(write(tmp_path, spoiled(path, value)))


def test_a_damaged_piece_is_noticed_by_its_text(tmp_path):
    content = checkpoints.tiny_tekken()
    content['vocab'][300]['token_bytes'] = content['vocab'][301]['token_bytes']
    with pytest.raises(TokenizerError, match='the bytes and the text of token 300'):
        Tokenizer.load(write(tmp_path, content))


@pytest.mark.parametrize('rank', [-1, N_SPECIAL, 10**6, 10**30])
@pytest.mark.parametrize('name', ['<s>', '</s>', '[STREAMING_PAD]', '[STREAMING_WORD]'])
def test_special_tokens_beyond_the_special_ones_are_refused(tmp_path, name, rank):
    """They would fail at the first audio, or write text between the words."""
    content = checkpoints.tiny_tekken()
    next(entry for entry in content['special_tokens']
         if entry['token_str'] == name)['rank'] = rank
    with pytest.raises(TokenizerError, match=r'special tokens are 0 to ') as error:
        Tokenizer.load(write(tmp_path, content))
    assert f'{name} is {rank}' in str(error.value)


def test_special_tokens_that_are_the_same_are_refused(tmp_path):
    content = checkpoints.tiny_tekken()
    content['special_tokens'][33]['rank'] = 32
    with pytest.raises(TokenizerError, match='two of its special tokens are the same'):
        Tokenizer.load(write(tmp_path, content))


def test_too_many_pads_are_refused(tmp_path):
    with pytest.raises(TokenizerError, match='1000000000 in its section "audio"'):
        Tokenizer.load(write(tmp_path, checkpoints.tiny_tekken(left_pad_tokens=10**9)))


@pytest.mark.parametrize('content', [
    b'', b'{', b'\xff', b'[]', b'null', b'3', b'"text"', b'{"vocab": []}',
    pytest.param(b'[' * 100_000, id='deep'),
    json.dumps(checkpoints.tiny_tekken()).encode()[:-1000]])
def test_a_file_that_is_no_vocabulary_is_refused(tmp_path, content):
    (tmp_path / 'tekken.json').write_bytes(content)
    with pytest.raises(TokenizerError, match=r'tekken\.json'):
        Tokenizer.load(tmp_path)


def test_a_missing_file_says_what_a_model_is(tmp_path):
    with pytest.raises(TokenizerError, match='does not exist: a model is a folder with'):
        Tokenizer.load(tmp_path)


@given(st.text(), st.data())
def test_any_text_comes_back_from_its_bytes(text, data):
    """A character appears with its last byte, wherever pads stand between its bytes."""
    tokenizer = Tokenizer([bytes([value]) for value in range(256)])
    specials = st.lists(st.integers(0, N_SPECIAL - 1), max_size=2)
    decoder, out = TextDecoder(tokenizer), ''
    for character in text:
        for token in byte_tokens(character.encode()):
            assert out == text[:len(out)]
            for special in data.draw(specials):
                assert decoder.push(special) == ''
            out += decoder.push(token)
        assert out.endswith(character)
    assert out + decoder.flush() == text
    assert tokenizer.decode(byte_tokens(text.encode())) == text


@given(st.binary())
def test_any_bytes_are_decoded_like_python_does(data):
    tokenizer = Tokenizer([bytes([value]) for value in range(256)])
    assert tokenizer.decode(byte_tokens(data)) == data.decode('utf-8', 'replace')


def test_a_piece_may_end_inside_a_character(tiny):
    half = N_SPECIAL + tiny.pieces.index(' \u043d'.encode()[:2])
    decoder = TextDecoder(tiny)
    pushed = [decoder.push(token) for token in [WORD, half, PAD, PAD, N_SPECIAL + 0xbd, PAD]]
    assert pushed == ['', ' ', '', '', '\u043d', '']
    assert decoder.flush() == ''


def test_an_unfinished_character_is_one_replacement_and_then_forgotten(tiny):
    decoder = TextDecoder(tiny)
    assert [decoder.push(token) for token in byte_tokens(b'\xe2\x82')] == ['', '']
    assert decoder.flush() == '\ufffd'
    assert decoder.push(N_SPECIAL + ord('a')) == 'a'
    assert decoder.flush() == ''


def test_special_tokens_write_nothing(tiny):
    assert not any(tiny.is_text(token) for token in range(N_SPECIAL))
    assert tiny.is_text(N_SPECIAL)
    assert tiny.decode(list(range(N_SPECIAL))) == ''


def test_decoding_one_list_leaves_nothing_for_the_next(tiny):
    assert tiny.decode(byte_tokens(b'\xd0')) == '\ufffd'
    assert tiny.decode(byte_tokens(b'\xbd')) == '\ufffd'


@pytest.fixture(scope='module')
def real(tmp_path_factory):
    path = golden.mistral_vocabulary()
    if path is None:
        pytest.skip(golden.MISSING_VOCABULARY)
    content = checkpoints.tekken_dict(golden.vocabulary_bytes(path), n_text=130_072)
    return Tokenizer.load(write(tmp_path_factory.mktemp('real'), content), 131_072)


def test_the_real_vocabulary_reads_the_golden_streams(real):
    clips = golden.golden_clips()
    if not clips:
        pytest.skip(golden.MISSING_CLIPS)
    for ids, text, _ in clips:
        assert real.decode(ids).removeprefix(' ') == text


def test_the_real_vocabulary_splits_characters(real):
    assert len(real.pieces) == 130_072
    decoder = TextDecoder(real)
    assert [decoder.push(token) for token in [1300, PAD, 1000 + 0xbd]] == [' ', '', '\u043d']
