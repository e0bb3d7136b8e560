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

"""The gate that a wake phrase opens: what comes through, and when it closes again."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
import pytest
from support.scripted import join, open_stream, PAUSE, Script, scripted_voice, silence, voice

from voxtral_ros.recognizer.events import SpeechActivity, Transcript, Turn, TurnKind, Word
from voxtral_ros.recognizer.options import StreamOptions
from voxtral_ros.recognizer.turns import TurnOptions
from voxtral_ros.recognizer.wake_gate import Awake, WakeGate, WakeOptions

HEY = WakeOptions(('hey robot',), timeout_s=5.0)
BLOCK = 1280  # samples, 80 ms
NO_LOOKS = StreamOptions(turns=TurnOptions(eager_s=0.0))


def gated(script, audio, options=HEY, stream_options=None, at=(), **take):
    """
    Return what comes through the gate of a stream.

    :param at: pairs of a time, s, and what is then done to the gate
    """
    gate, at = WakeGate(options), list(at)
    passed = []
    with scripted_voice():
        stream = open_stream(script, stream_options)
        for start in range(0, len(audio), BLOCK):
            stream.feed(audio[start:start + BLOCK])
            while at and at[0][0] <= start / 16000:
                at.pop(0)[1](gate)
            passed += gate.take(stream.poll(), (start + BLOCK) / 16000, **take)
        passed += gate.take(stream.close(), len(audio) / 16000, **take)
    return passed


def names(passed):
    """Return what came, in short; of several partial transcripts in a row the last."""
    found = []
    for item in passed:
        event = item.event
        if isinstance(event, Awake):
            found.append('awake' if event.awake else 'asleep')
        elif isinstance(event, Turn):
            found.append(f'{event.kind.name} {event.text}'.strip())
        elif isinstance(event, Transcript):
            if found and found[-1].startswith('partial'):
                found.pop()
            found.append(('final ' if event.is_final else 'partial ') + event.text)
    # A partial right before its final with the same text depends on when blocks end.
    return [name for n, name in enumerate(found)
            if not (name.startswith('partial') and n + 1 < len(found)
                    and found[n + 1] == 'final' + name[len('partial'):])]


def commands(passed):
    return [item.command for item in passed if item.command]


def said(*orders, pause=PAUSE):
    """Return a script and its audio: orders, each of them pieces in one breath."""
    script = Script()
    parts = [silence(1.0)]
    for order in orders:
        pieces = [order] if isinstance(order, str) else order
        parts += [*(script.say(piece, seconds=0.5) for piece in pieces), silence(pause)]
    return script, join(*parts)


def test_without_wake_phrases_everything_comes_through():
    script, audio = said(' hey robot', ' stop')
    passed = gated(script, audio, WakeOptions())
    assert commands(passed) == ['hey robot', 'stop']
    assert WakeGate().awake
    assert not any(isinstance(item.event, Awake) for item in passed)


@pytest.mark.parametrize('stream_options', [StreamOptions(), NO_LOOKS])
def test_what_follows_in_the_same_breath_is_kept(stream_options):
    script, audio = said(' go left', [' hey robot', ' stop'], ' go right')
    passed = gated(script, audio, stream_options=stream_options)
    assert commands(passed) == ['stop', 'go right']
    found = names(passed)
    assert found[0] == 'awake'
    assert 'go left' not in ' '.join(found)
    assert 'hey' not in ' '.join(found)
    assert found.index('START') < found.index('final stop') < found.index('END stop')


def test_a_command_is_consistent_in_text_words_and_times():
    script, audio = said([' so', ' hey robot,', ' go', ' left'])
    transcripts = [item.event for item in gated(script, audio)
                   if isinstance(item.event, Transcript)]
    text = ''
    for transcript in transcripts:
        text += transcript.delta
        assert transcript.text == text == ' '.join(word.text for word in transcript.words)
        assert transcript.start_s < transcript.words[0].end_s <= transcript.end_s
    assert text == 'go left'
    # The command begins where the wake phrase ends, not where the utterance does.
    assert transcripts[-1].start_s == pytest.approx(2.0, abs=0.3)


def test_a_wake_phrase_alone_wakes_in_the_pause_after_it_and_says_nothing():
    script, audio = said(' hey robot', [' stop', ' now'])
    passed = gated(script, audio)
    assert names(passed)[0] == 'awake'
    woken = next(item.event for item in passed if isinstance(item.event, Awake))
    assert woken.time_s < 1.5 + 0.8
    assert commands(passed) == ['stop now']


def test_the_phrase_is_left_out_of_commands_while_it_is_awake():
    script, audio = said(' hey robot', [' hey', ' robot', ' stop'], [' hey', ' you'],
                         [' hey robot', ' hey robot', ' go'], [' go', ' hey robot', ' left'])
    passed = gated(script, audio)
    assert commands(passed) == ['stop', 'hey you', 'go', 'go hey robot left']
    assert 'partial hey' not in names(passed)[:4]


def test_it_sleeps_when_nobody_has_spoken_for_a_while():
    script, audio = said(' hey robot', ' stop', pause=3.0)
    audio = join(audio, silence(4.0), script.say(' go left', seconds=0.5), silence(PAUSE),
                 script.say(' hey robot', ' go', seconds=0.5), silence(PAUSE))
    passed = gated(script, audio)
    assert commands(passed) == ['stop', 'go']
    changes = [item.event for item in passed if isinstance(item.event, Awake)]
    assert [change.awake for change in changes] == [True, False, True]
    # 1 s, hey robot, 3 s, stop; then 5 s.
    assert changes[1].time_s == pytest.approx(5.0 + 5.0, abs=0.2)


def test_it_does_not_sleep_while_somebody_speaks():
    script = Script()
    audio = join(silence(1.0), script.say(' hey robot', seconds=0.5), silence(4.0),
                 *(script.say(f' {n}', seconds=1.5) for n in range(6)), silence(4.3),
                 voice(1.2, 0.9), script.say(' left', seconds=0.5), silence(PAUSE))
    passed = gated(script, audio)
    assert commands(passed) == ['0 1 2 3 4 5', 'left']
    assert [item.event.awake for item in passed if isinstance(item.event, Awake)] == [True]


def test_what_begins_after_the_time_is_not_for_the_robot_even_if_it_seemed_awake():
    """As when a television has kept it open."""
    gate = WakeGate(HEY)
    gate.ask(True)
    assert gate.take([SpeechActivity(True, 0.5)], 1.0)[0].event == Awake(True, 1.0)
    assert gate.take([], 20.0) == []  # somebody speaks
    passed = gate.take([transcript('buy now', 19.0)], 20.0)
    assert [item.event for item in passed] == [Awake(False, 20.0)]


def test_what_began_before_the_time_was_over_is_for_the_robot_even_if_its_text_is_late():
    """As that of a server."""
    gate = WakeGate(HEY)
    gate.ask(True)
    gate.take([], 1.0)
    assert [item.event for item in gate.take([], 6.5)] == [Awake(False, 6.5)]
    passed = gate.take([transcript('stop', 5.5, is_final=True)], 30.0)
    assert passed[0].event == Awake(True, 30.0)
    assert commands(passed) == ['stop']


def transcript(text, start_s, *, utterance_id=1, revision=0, is_final=False):
    words = tuple(Word(word, start_s + 0.4 * (n + 1), 0.9) for n, word in enumerate(text.split()))
    return Transcript(utterance_id, revision, is_final, text, text, words, start_s,
                      words[-1].end_s if words else start_s)


def test_small_pieces_do_not_wake_early_and_publish_no_rest_of_the_phrase():
    script, audio = said([' hey', ' ro', 'bot', 's', ' stop'])
    passed = gated(script, audio)
    assert commands(passed) == ['stop']
    assert all('s stop' not in name and 'bot' not in name for name in names(passed))


def test_sleeping_in_the_middle_ends_what_is_open():
    script, audio = said([' hey robot', ' go', ' left', ' now', ' please'], ' stop')
    passed = gated(script, audio, at=[(3.3, lambda gate: gate.ask(False))])
    found = names(passed)
    last = found.index('asleep')
    assert found[last - 2].startswith('final go')
    assert found[last - 1].startswith('END go')
    assert found[last + 1:] == []
    finals = [item.event for item in passed if isinstance(item.event, Transcript)
              and item.event.is_final]
    assert len(finals) == 1
    assert finals[0].delta == ''


def test_woken_in_the_middle_it_takes_what_is_said_from_then_on():
    script, audio = said([' some', ' talk', ' go', ' left'])
    passed = gated(script, audio, at=[(2.1, lambda gate: gate.ask(True))])
    assert commands(passed) == ['go left']


def test_a_phrase_that_was_said_before_it_was_sent_to_sleep_does_not_wake_it():
    script, audio = said(' hey robot')
    assert names(gated(script, audio, at=[(1.55, lambda gate: gate.ask(False))])) == []


def test_what_the_robot_says_itself_does_not_wake_it():
    script, audio = said([' i am', ' hey robot'], [' hey robot', ' stop'])
    passed = gated(script, audio, robot=lambda start_s, end_s: start_s < 2.0 and end_s > 1.0)
    assert commands(passed) == ['stop']
    assert names(passed)[0] == 'awake'
    assert next(item.event for item in passed if isinstance(item.event, Awake)).time_s > 3


def test_the_time_counts_from_the_end_of_what_the_robot_says():
    gate = WakeGate(HEY)
    gate.ask(True)
    gate.take([], 1.0)
    for second in range(2, 30):
        assert gate.take([], float(second), robot_speaks=True) == []
    assert gate.take([], 33.9) == []
    assert [item.event for item in gate.take([], 34.1)] == [Awake(False, 34.1)]


def test_all_may_come_through_with_a_mark():
    script, audio = said(' go left', [' hey robot', ' stop'])
    options = replace(HEY, pass_all=True)
    passed = gated(script, audio, options)
    finals = [(item.event.text, item.awake, item.command) for item in passed
              if isinstance(item.event, Transcript) and item.event.is_final]
    assert finals == [('go left', False, ''), ('hey robot stop', True, 'stop')]
    ends = [(item.event.text, item.awake) for item in passed
            if isinstance(item.event, Turn) and item.event.kind is TurnKind.END]
    assert ends == [('go left', False), ('hey robot stop', True)]
    plain = gated(script, audio, WakeOptions())
    assert [item.event for item in passed if not isinstance(item.event, Awake)] == [
        item.event for item in plain]


def test_a_new_stream_begins_at_zero_and_the_time_goes_on():
    gate = WakeGate(HEY)
    gate.ask(True)
    gate.take([], 100.0)
    assert gate.take([], 0.5) == []
    assert gate.take([], 5.4) == []
    assert [item.event.awake for item in gate.take([], 5.6)] == [False]


def test_other_options_count_at_once():
    gate = WakeGate(HEY)
    gate.tune(WakeOptions(('okay computer',)))
    assert gate.take([transcript('hey robot stop', 0.5, is_final=True)], 2.0) == []
    passed = gate.take([transcript('okay computer stop', 3.0, utterance_id=2, is_final=True)], 5.0)
    assert commands(passed) == ['stop']
    gate.tune(WakeOptions())
    assert gate.take([], 6.0) == []  # it is awake
    gate.tune(HEY)
    assert [item.event for item in gate.take([], 7.0)] == [Awake(False, 7.0)]
    gate.tune(WakeOptions())
    assert [item.event for item in gate.take([], 8.0)] == [Awake(True, 8.0)]


def test_with_no_timeout_it_stays_awake():
    gate = WakeGate(replace(HEY, timeout_s=0.0))
    gate.ask(True)
    gate.take([], 1.0)
    assert gate.take([], 1e6) == []
    assert gate.awake


def test_where_words_have_no_spaces_the_last_one_is_cut():
    gate = WakeGate(WakeOptions(('\u4f60\u597d\u673a\u5668\u4eba',)))
    words = (Word('\u4f60\u597d', 1.0, 0.9), Word('\u673a\u5668\u4eba\u505c', 1.4, 0.9),
             Word('\u4e0b', 1.6, 0.9))
    text = ''.join(word.text for word in words)
    passed = gate.take([Transcript(1, 0, True, text, text, words, 0.5, 1.6)], 2.0)
    event = passed[-1].event
    assert [word.text for word in event.words] == ['\u505c', '\u4e0b']
    assert event.text == '\u505c\u4e0b'


_PIECES = st.lists(st.sampled_from(
    [' hey', ' robot', ' hey robot', ' go', ' left', ',', '.', 's', ' hey robot,', ' a']),
    min_size=1, max_size=8)


@given(st.lists(st.tuples(_PIECES, st.sampled_from([0.1, 0.5, 2.0, 7.0])), max_size=5),
       st.lists(st.tuples(st.floats(0, 20), st.booleans()), max_size=3),
       st.booleans())
def test_what_comes_through_is_always_whole(breaths, asks, looks):
    """Texts only grow, what begins ends, and commands are the ends of what was said."""
    script, parts = Script(), [silence(0.5)]
    for pieces, pause in breaths:
        parts += [*(script.say(piece, seconds=0.3) for piece in pieces), silence(pause)]
    options = StreamOptions() if looks else NO_LOOKS
    at = [(time_s, lambda gate, awake=awake: gate.ask(awake)) for time_s, awake in sorted(asks)]
    audio = join(*parts, silence(1.0))
    plain = {item.event.utterance_id: item.event.text
             for item in gated(script, audio, WakeOptions(), options)
             if isinstance(item.event, Transcript) and item.event.is_final}
    passed = gated(script, audio, stream_options=options, at=at)
    open_text, open_turn, awake = None, None, False
    for item in passed:
        event = item.event
        if isinstance(event, Awake):
            assert event.awake != awake
            awake = event.awake
        elif isinstance(event, Transcript):
            assert any(map(str.isalnum, event.text))
            assert event.text == (open_text or '') + event.delta
            assert plain[event.utterance_id].find(event.text) >= 0
            assert len(event.words) == len(event.text.split())
            assert event.utterance_id == open_turn
            open_text = None if event.is_final else event.text
        elif isinstance(event, Turn):
            assert (event.kind is TurnKind.START) == (open_turn is None)
            assert open_turn in (None, event.utterance_id)
            open_turn = None if event.kind is TurnKind.END else event.utterance_id
    assert open_text is None
    assert open_turn is None
    assert commands(passed) == [item.event.text for item in passed
                                if isinstance(item.event, Transcript) and item.event.is_final]


def test_a_gate_that_stands_open_has_nothing_to_do_without_events():
    gate = WakeGate(WakeOptions())
    assert not gate.needs_time
    gate.tune(HEY)
    assert gate.needs_time
    gate.take([], 1.0)
    assert gate.needs_time  # it is to close in time
    gate.tune(WakeOptions())
    gate.ask(True)
    gate.take([], 2.0)
    assert gate.awake
    assert not gate.needs_time
    gate.ask(False)
    assert gate.needs_time


def test_it_is_known_of_what_comes_through_that_something_was_said_before():
    script, audio = said([' hey robot', ' stop'], ' go on')
    finals = [item for item in gated(script, audio) if item.command]
    assert [(item.command, item.cut) for item in finals] == [('stop', True), ('go on', False)]
    gate_all = WakeOptions(HEY.phrases, timeout_s=5.0, pass_all=True)
    script, audio = said([' hey robot', ' stop'])
    assert [item.cut for item in gated(script, audio, gate_all) if item.command] == [False]
    script, audio = said([' hey robot', ' stop', ' now'])
    asleep = [item for item in gated(script, audio, at=[(2.4, lambda gate: gate.ask(False))])
              if item.command]
    assert [item.cut for item in asleep] in ([], [True])
