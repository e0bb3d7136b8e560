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

"""Words begin at spaces, and in scripts without spaces with the groups of the model."""

from functools import cache

from hypothesis import given
from hypothesis import strategies as st
import pytest
from support import golden
from support.scripted import (
    DELAY, encode, feed, finals, join, NEVER_IDLE, scripted_voice, ScriptedEngine, silence,
    TOKEN_S, TOKENIZER, transcripts, voice)

from voxtral_ros.model.tokenizer import Tokenizer
from voxtral_ros.recognizer.endpoint import EndpointOptions
from voxtral_ros.recognizer.options import StreamOptions
from voxtral_ros.recognizer.slot import Token
from voxtral_ros.recognizer.stream import Stream
from voxtral_ros.recognizer.watchdog import WatchdogOptions
from voxtral_ros.recognizer.words import WordReader, WordSplitter

# A sentence in each language of the model; | stands where it would begin a group.
SENTENCES = {
    'English': '|please go| to the| kitchen| and bring| the red| cup.',
    'French': "|Va|à la| cuisine,| s'il| te plaît,| et rapporte| la tasse| rouge.",
    'German': '|Geh| bitte in| die Küche| und bring| die rote| Tasse| her!',
    'Spanish': '|¿Puedes| ir a| la cocina| y traer| la taza| roja?',
    'Italian': '|Vai in| cucina| e portami| la tazza| rossa, per| favore.',
    'Portuguese': '|Vá à| cozinha| e traga| a xícara| vermelha.',
    'Dutch': "|Ga naar| de keuken| en haal| de rode| beker, 's| avonds.",
    'Russian': '|Иди| на кухню| и принеси| красную| чашку.',
    'Arabic': '|اذهب| إلى| المطبخ| وأحضر| الكوب| الأحمر.',
    'Hindi': '|रसोई| में| जाओ| और लाल| कप| लाओ।',
    'Korean': '|부엌에| 가서| 빨간| 컵을| 가져와|요.',
    'Chinese': '|请|去|厨房，|把|红色的|杯子|拿来。',
    'Japanese': '|赤い|コップ|を|持って|きて|ください。',
}
UNSPACED = ('Chinese', 'Japanese')


def test_probabilities_are_calibrated():
    reader = WordReader(TOKENIZER, exponent=2.0)
    text = iter(encode('ab'))
    (first,), (second,) = (reader.push(Token(0, next(text), probability), 1.0)
                           for probability in (0.5, 0.9))
    assert (first.probability, second.probability) == pytest.approx((0.25, 0.81))


@cache
def tekken() -> Tokenizer:
    path = golden.mistral_vocabulary()
    if path is None:
        pytest.skip(golden.MISSING_VOCABULARY)
    return Tokenizer(golden.vocabulary_bytes(path)[:130_072])


@cache
def ranks() -> dict[bytes, int]:
    return {piece: rank for rank, piece in enumerate(tekken().pieces)}


def real_ids(text: str) -> list[int]:
    """Return the ids of a text in the real vocabulary: pieces of the lowest rank merge first."""
    parts = [bytes([byte]) for byte in text.encode()]
    while len(parts) > 1:
        merged = [ranks().get(parts[n] + parts[n + 1], 1 << 30) for n in range(len(parts) - 1)]
        n = merged.index(min(merged))
        if merged[n] == 1 << 30:
            break
        parts[n:n + 2] = [parts[n] + parts[n + 1]]
    return [tekken().n_special + ranks()[part] for part in parts]


def written(group: str) -> list[int]:
    """Return the ids of a group and the pads after it: the next begins 0.48 s later, or 0.96."""
    ids = [tekken().word, *real_ids(group)]
    return ids + [tekken().pad] * (-len(ids) % 6)


def groups_of(sentence: str) -> list[str]:
    return sentence.split('|')[1:]


def transcribed(ids: list[int], tokenizer: Tokenizer, **endpoint: float):
    """Return the events of a stream whose model writes these ids, even again and again."""
    audio = join(silence(1.0), voice(len(ids) * TOKEN_S), silence(3.0))
    engine = ScriptedEngine(ids=[tokenizer.pad] * 16 + ids, tokenizer=tokenizer)
    with scripted_voice():
        stream = Stream(engine, DELAY, StreamOptions(
            EndpointOptions(**endpoint), watchdog=WatchdogOptions(repeated_tokens=0)))
        return feed(stream, audio) + stream.close()


def split(*pieces: str, new_groups: object = ()) -> list[str]:
    """Return the words of pieces, of which some (by number, or all) begin a group."""
    splitter, words = WordSplitter(), []
    for n, piece in enumerate(pieces):
        for part in splitter.push(piece, new_groups is all or n in new_groups):
            assert part.begins or words
            words += [part.text.strip()] if part.begins else []
            words[-1] += '' if part.begins else part.text
    return words


def read(tokens: list[int], probability: float = 0.5) -> list[tuple[str, float, float]]:
    """Return words with end and probability, of tokens that come one per second."""
    reader, words = WordReader(TOKENIZER), []
    for second, token in enumerate(tokens):
        if not TOKENIZER.is_text(token):
            reader.start_group()
            continue
        for new in reader.push(Token(second, token, probability), float(second)):
            if new.begins:
                words.append((new.text.strip(), new.end_s, new.probability))
            else:
                text, end_s, before = words[-1]
                words[-1] = text + new.text, end_s, before * new.probability
    return words


# ---- in the languages of the model ----

@pytest.mark.parametrize('language', SENTENCES)
def test_words_of_every_language_have_their_own_times(language):
    groups, ids, begun = groups_of(SENTENCES[language]), [], {}
    for n, group in enumerate(groups):
        if n == 0 or group.startswith(' ') or language in UNSPACED:
            # Announced here, written a token later, and that is two after its end.
            begun[round((16 + len(ids)) * TOKEN_S, 3)] = group.split()[0]
        ids += written(group)
    final, = finals(transcribed(ids, tekken()))
    text = ''.join(groups)
    assert final.text == text
    assert [word.text for word in final.words] == (
        groups if language in UNSPACED else text.split())
    at = {round(word.end_s, 3): word.text for word in final.words}
    assert all(at[end_s].startswith(word) for end_s, word in begun.items())
    assert [word.end_s for word in final.words] == sorted(word.end_s for word in final.words)
    assert final.end_s == final.words[-1].end_s
    # At 0.9 per token the probability of a word depends on the word, not on the utterance.
    assert all(word.confidence >= 0.9 ** 12 for word in final.words)


@pytest.mark.parametrize('language', UNSPACED)
def test_words_without_spaces_where_nobody_speaks_are_discarded_one_by_one(language):
    spoken, babble = groups_of(SENTENCES[language]), groups_of(SENTENCES[language])[:2]
    tokenizer, ids = tekken(), [token for group in spoken for token in written(group)]
    audio = join(silence(1.0), voice(len(ids) * TOKEN_S), silence(12.0))
    ids += [tokenizer.pad] * 60 + [token for group in babble for token in written(group)]
    with scripted_voice():
        stream = Stream(ScriptedEngine(ids=[tokenizer.pad] * 16 + ids, tokenizer=tokenizer), DELAY,
                        StreamOptions(idle=NEVER_IDLE))
        events = feed(stream, audio) + stream.close()
    assert [final.text for final in finals(events)] == [''.join(spoken)]
    assert stream.stats.discarded_words == len(babble)


@pytest.mark.parametrize('language', ['Chinese', 'Japanese', 'Korean', 'Hindi', 'English'])
@pytest.mark.parametrize('pads', [0, 2])
def test_a_long_utterance_is_cut_at_a_word_in_every_script(language, pads):
    groups = groups_of(SENTENCES[language] if language in UNSPACED
                       else SENTENCES[language].replace('|', '| ', 1)) * 12
    ids = []
    for group in groups:
        ids += [tekken().word, *real_ids(group)] + [tekken().pad] * pads
    published = finals(transcribed(ids, tekken(), max_utterance_s=4.0))
    assert len(published) > 2
    assert max(final.end_s - final.start_s for final in published) < 5.0
    words = groups if language in UNSPACED else ''.join(groups).split()
    assert [word.text for final in published for word in final.words] == words


def test_characters_of_which_the_vocabulary_has_only_bytes_are_whole_in_every_revision():
    text = '𠮷野家で🤖と𨋢𡁻を食べる🇯🇵👩‍🚀'
    ids = []
    for character in text:
        ids += [tekken().word, *(1000 + ranks()[bytes([byte])] for byte in character.encode())]
    events = transcripts(transcribed(ids, tekken()))
    assert events[-1].text == text
    assert not any('\ufffd' in event.text for event in events)
    assert '👩‍🚀' in [word.text for word in events[-1].words]


# ---- where words begin ----

def test_spaces_begin_words():
    assert split(' new', 's', 'paper', ',', ' of') == ['newspaper,', 'of']
    assert split(' a', 'b c d', 'e') == ['ab', 'c', 'de']
    assert split('one', ' \n', 'two') == ['one', 'two']


@pytest.mark.parametrize('pieces', [
    ('News', 'paper'), ('안녕', '하세요'), ('इस', 'में'), ('24', ':', '30')])
def test_where_there_are_spaces_a_group_does_not_begin_a_word(pieces):
    assert split(*pieces, new_groups=all) == [''.join(pieces)]


def test_without_spaces_groups_are_words():
    assert split('红', '色', '的', '杯', '子', new_groups=(0, 3)) == ['红色的', '杯子']
    assert split('ピュ', 'ー', 'ター', 'を', new_groups=(0, 3)) == ['ピューター', 'を']
    assert split('สวัส', 'ดี', 'ครับ', new_groups=(0, 2)) == ['สวัสดี', 'ครับ']


def test_punctuation_belongs_to_the_word_before_it_and_ends_it():
    assert split('你', '，', '好', '！', new_groups=all) == ['你，', '好！']
    assert split('你好，我是', '机器人。再见') == ['你好，', '我是机器人。', '再见']
    assert split('他说', '“', '你好', '”', '。', new_groups=all) == ['他说', '“你好”。']
    assert split('「はい」と', '言った') == ['「はい」', 'と言った']


def test_marks_and_modifiers_are_no_words():
    assert split('ラ', 'ー', 'メン', new_groups=(0, 1)) == ['ラーメン']
    assert split('人', '々', 'が', new_groups=(0, 1, 2)) == ['人々', 'が']
    assert split('か', '\u3099', new_groups=all) == ['か\u3099']
    assert split('好', '👩', '\u200d', '🚀', new_groups=all) == ['好', '👩\u200d🚀']
    assert split('好', '👍', '🏽', new_groups=all) == ['好', '👍🏽']


def test_scripts_may_be_mixed():
    assert split('打开', 'Wi', 'Fi', '开关', new_groups=all) == ['打开', 'WiFi', '开关']
    assert split('向前', '3', '.', '5', '米', new_groups=all) == ['向前', '3.5', '米']
    assert split('robot', '去', '厨', ' please', new_groups=all) == ['robot', '去', '厨', 'please']
    assert split('弗朗西斯', '·', '培根', new_groups=(0,)) == ['弗朗西斯·培根']


def test_a_group_without_end_is_no_single_word():
    words = split(*'啊' * 100)
    assert ''.join(words) == '啊' * 100
    assert max(map(len, words)) == 12


def test_a_character_may_come_in_several_tokens():
    tokens = [*encode(b' caf'), *encode(b'\xc3'), TOKENIZER.pad, *encode(b'\xa9'), *encode('s')]
    assert [(text, end_s) for text, end_s, _ in read(tokens)] == [('cafés', 0)]


def test_a_word_ends_where_the_first_byte_of_its_first_character_says():
    first, second = ([TOKENIZER.n_special + byte for byte in text.encode()] for text in '请去')
    assert read([TOKENIZER.word, *first, TOKENIZER.word, *second]) == [
        ('请', 1.0, 0.125), ('去', 5.0, 0.125)]


def test_nothing_that_stands_inside_a_character_begins_a_word():
    first, second = ([TOKENIZER.n_special + byte for byte in text.encode()] for text in '请去')
    assert [word for word, _, _ in read([
        *first, second[0], TOKENIZER.word, second[1], TOKENIZER.pad, second[2]])] == ['请去']


def test_half_a_character_at_the_end_is_a_replacement_character():
    reader = WordReader(TOKENIZER)
    assert reader.push(Token(0, TOKENIZER.n_special + 0xe8, 1.0), 0.0) == []
    reader.start_group()
    assert reader.flush() == '\ufffd'
    assert reader.flush() == ''


PIECES = st.tuples(st.text(' \n.é漢カーสวั，“”·3👩\u200da', max_size=4), st.booleans())


@given(st.lists(PIECES, max_size=12))
def test_the_parts_spell_the_text_whatever_it_is(pieces):
    splitter, text = WordSplitter(), ''
    for piece, in_new_group in pieces:
        for part in splitter.push(piece, in_new_group):
            assert part.begins or not part.text[0].isspace()
            assert part.text.strip() and part.text == part.text.rstrip()
            text += part.text
    assert text == ''.join(piece for piece, _ in pieces).rstrip()
