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

"""What is published: whole texts, whatever is left out, and the last ones before the end."""

from itertools import pairwise
import math

from node.written_down import Node, publishing
import pytest
from std_msgs.msg import String

from voxtral_ros.msg import Word as WordMessage
from voxtral_ros.node import words as words_module
from voxtral_ros.node.outputs import Outputs
from voxtral_ros.recognizer.events import Transcript, Word
from voxtral_ros.recognizer.text import Utterance
from voxtral_ros.recognizer.wake_gate import WakeGate, WakeOptions
from voxtral_ros.recognizer.words import WordSplitter, Written


def test_the_last_transcripts_arrive_before_their_publishers_go():
    node = Node()
    Outputs(node, robot=None).destroy()
    for topic in ('transcript/final', 'transcript/text', 'transcript/partial'):
        assert node.done.index(('waited for', topic)) < node.done.index(('destroyed', topic))


def test_subscribers_that_are_gone_hold_up_the_end_once():
    node = Node(is_transcribed=False)
    Outputs(node, robot=None).destroy()
    assert len([what for what, _ in node.done if what == 'waited for']) == 6
    assert 0 < node.waited_s <= 0.5


def test_a_middleware_that_cannot_wait_does_not_keep_them():
    node = Node(RuntimeError('not implemented'))
    Outputs(node, robot=None).destroy()
    assert sum(what == 'destroyed' for what, _ in node.done) == 6


def test_a_word_is_made_into_a_message_once(monkeypatch):
    """So a partial transcript costs what is new in it, however long the utterance is."""
    made = []
    monkeypatch.setattr(words_module, 'WordMessage',
                        lambda **fields: made.append(fields) or WordMessage(**fields))
    node = Node()
    outputs, origin = publishing(node, lambda: 10 ** 9)
    for utterance_id in (1, 2):
        utterance, splitter = Utterance(utterance_id, 0.0), WordSplitter()
        for n in range(100):
            for piece in (f' {n}', '.'):
                for part in splitter.push(piece):
                    utterance.append(Written(*part, False, float(n), 0.5))
                outputs.publish([utterance.publish(float)], origin)
        outputs.publish([utterance.publish(float, is_final=True)], origin)
        final = [message for message in node.published if getattr(message, 'is_final', False)][-1]
        assert [word.text for word in final.words] == [f'{n}.' for n in range(100)]
        assert [word.end.sec for word in final.words] == list(range(100))
        assert [word.confidence for word in final.words] == [0.25] * 100
    assert len(made) <= 2 * 100 * 4


def test_without_events_a_node_without_wake_phrases_does_nothing(monkeypatch):
    """It is called for every 80 ms of audio, also where nobody ever speaks."""
    node = Node()
    outputs, origin = publishing(node, lambda: 10 ** 9)
    takes = []
    monkeypatch.setattr(WakeGate, 'take', lambda *arguments, **more: takes.append(more) or [])
    outputs.publish([], origin)
    assert not takes
    gate = WakeGate(WakeOptions(('hey robot',)))
    outputs.use(gate)
    outputs.publish([], origin)
    assert len(takes) == 1


def test_deltas_add_up_to_the_text_at_any_rate():
    """Subscribers that join deltas miss nothing of what partial_rate_hz leaves out."""
    node, now_ns = Node(), 10 ** 9
    outputs, origin = publishing(node, lambda: now_ns, 2.0)
    for utterance_id, n_words in ((1, 7), (2, 3)):
        texts = [' '.join('abcdefg'[:n + 1]) for n in range(n_words)]
        for revision, (before, text) in enumerate(pairwise(['', *texts, texts[-1]])):
            now_ns += 10 ** 8
            outputs.publish([Transcript(
                utterance_id, revision, revision == n_words, text, text[len(before):], (),
                0.0, 1.0)], origin)
    for utterance_id, n_partials in ((1, 2), (2, 1)):
        messages = [message for message in node.published
                    if getattr(message, 'utterance_id', 0) == utterance_id]
        assert len(messages) == n_partials + 1
        assert ''.join(message.delta for message in messages) == messages[-1].text


@pytest.mark.parametrize(('confidence', 'texts'), [
    (0.24, []), (0.25, ['hello there']), (math.nan, ['hello there'])])
def test_unsure_utterances_are_left_out_of_the_texts_alone(confidence, texts):
    node = Node()
    outputs, origin = publishing(node, lambda: 10 ** 9, min_confidence=0.25)
    words = tuple(Word(text, 0.5, confidence) for text in ('hello', 'there'))
    outputs.publish([Transcript(1, 0, True, 'hello there', 'hello there', words, 0.0, 0.5)],
                    origin)
    assert [message.data for message in node.published if isinstance(message, String)] == texts
    assert [message.text for message in node.published
            if getattr(message, 'is_final', False)] == ['hello there']
