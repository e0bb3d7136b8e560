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

"""The worker thread: nothing that was recognised is lost, whatever happens to its stream."""

from dataclasses import replace
import math
from pathlib import Path
import threading
import time

import numpy as np
import pytest
from support.realtime import ServedScript
from support.scripted import join, PAUSE, Script, scripted_voice, silence, voice

from voxtral_ros.audio.block import AudioBlock
from voxtral_ros.audio.files import read_file
from voxtral_ros.node.worker import Worker
from voxtral_ros.recognizer.endpoint import EndpointOptions
from voxtral_ros.recognizer.engine import Engine
from voxtral_ros.recognizer.events import SpeechActivity, Transcript
from voxtral_ros.recognizer.options import StreamOptions
from voxtral_ros.recognizer.phrases import PhraseList
from voxtral_ros.recognizer.stream import Stream
from voxtral_ros.resources import demo_model

ORDERS = Path(__file__).resolve().parents[1] / 'data' / 'orders.flac'


class Published(list):
    """What the worker reports."""

    def __call__(self, events, origin):
        self.extend(event for event in events if isinstance(event, Transcript))

    @property
    def finals(self):
        return [event for event in self if event.is_final]


@pytest.fixture(scope='module')
def engine():
    return Engine.load(demo_model(), 'cpu', threads=1)


@pytest.fixture
def blocks():
    return list(read_file(ORDERS, block_s=0.5))


def transcribe(worker, blocks):
    """Let the worker process blocks and wait until it has."""
    for block in blocks:
        worker.put(block, 0)
    worker.flush()


def test_ids_go_on_in_the_next_worker(engine, blocks):
    published = Published()
    first = Worker(engine, 480, StreamOptions(), published)
    transcribe(first, blocks)
    first.stop(60)
    second = Worker(engine, 480, StreamOptions(), published, n_utterances=first.n_utterances)
    transcribe(second, blocks)
    second.stop(60)
    assert [final.utterance_id for final in published.finals] == list(range(1, 9))


def test_an_exception_loses_no_transcript_and_does_not_end_the_node(engine, blocks, monkeypatch):
    published = Published()
    poll, calls = Stream.poll, []

    def failing(stream):
        events = poll(stream)
        calls.append(events)
        if len(calls) == 6:  # 3 s in: in the middle of the first order
            raise RuntimeError('the engine has a bad day')
        return events

    monkeypatch.setattr(Stream, 'poll', failing)
    worker = Worker(engine, 480, StreamOptions(), published)
    transcribe(worker, blocks)
    worker.stop(60)
    assert worker.stats.failures == 1
    finals = published.finals
    assert finals[0].text.startswith('robot go')
    assert finals[-1].text == 'stop following me and return to the charging station'
    assert [final.utterance_id for final in finals] == list(range(1, len(finals) + 1))
    # Every utterance that was begun was also ended.
    assert {event.utterance_id for event in published} == {final.utterance_id for final in finals}


def unstamped(blocks, begin_s, end_s):
    """Return a part of the recording as one message without a stamp."""
    samples = np.concatenate([block.samples for block in blocks])
    return AudioBlock(samples[round(begin_s * 16000):round(end_s * 16000)], 16000, None)


def test_unstamped_audio_that_stops_coming_ends_its_utterance(engine, blocks):
    """Push to talk: nothing else will come that could end it, and no gap is known to be long."""
    published, ended = Published(), threading.Event()

    def publish(events, origin):
        published(events, origin)
        if published.finals:
            ended.set()

    worker = Worker(engine, 480, StreamOptions(), publish, max_gap_s=3600.0)
    worker.put(unstamped(blocks, 0.3, 3.6), 4 * 10**9)
    assert ended.wait(60)
    worker.stop(60)
    assert published.finals[0].text == 'robot go to the kitchen and bring me the red cup'


def test_orders_that_come_as_a_message_each_are_utterances_where_they_were_said(engine, blocks):
    published, origins = Published(), []

    def publish(events, origin):
        published(events, origin)
        origins.append(origin)

    worker = Worker(engine, 480, StreamOptions(), publish)
    said_s = [(0.3, 3.6), (8.4, 11.4), (12.4, 15.7)]
    at_s = [100.0, 104.9, 109.5]  # 1.5 s between them
    for (begin_s, end_s), start_s in zip(said_s, at_s, strict=True):
        worker.put(unstamped(blocks, begin_s, end_s),
                   round((start_s + end_s - begin_s) * 1e9))
    worker.flush()
    worker.stop(60)
    assert len(published.finals) == 3
    for final, start_s, (begin_s, end_s) in zip(published.finals, at_s, said_s, strict=True):
        assert start_s - 0.1 < origins[-1].stamp_ns(final.start_s) / 1e9
        assert origins[-1].stamp_ns(final.end_s) / 1e9 < start_s + end_s - begin_s + 0.3
    assert (worker.stats.gaps, worker.stats.jumps) == (0, 0)
    assert worker.stats.paused_s == pytest.approx(1.6 + 1.6, abs=0.2)


def test_stamps_that_stand_still_cut_no_word(engine, blocks):
    published = Published()
    worker = Worker(engine, 480, StreamOptions(), published)
    for block in blocks:
        worker.put(replace(block, stamp_ns=10**18), 0)
    worker.flush()
    worker.stop(60)
    assert len(published.finals) == 4
    assert worker.stats.repeated == len(blocks) - 1
    assert worker.stats.jumps == 0


@pytest.fixture
def held(monkeypatch):
    """Let every poll wait until the event is set: an engine that cannot keep up."""
    go, begun, poll = threading.Event(), threading.Event(), Stream.poll

    def waiting(stream):
        begun.set()
        assert go.wait(60)
        return poll(stream)

    monkeypatch.setattr(Stream, 'poll', waiting)
    go.begun = begun
    yield go
    go.set()


def test_when_it_cannot_keep_up_the_older_half_is_dropped_in_whole_blocks(engine, blocks, held):
    worker = Worker(engine, 480, StreamOptions(), Published(), queue_s=4.0)
    worker.put(blocks[0], 0)
    assert held.begun.wait(60)  # it has the first block in its hands
    for n in range(1, 9):
        worker.put(blocks[n], n)  # 0.5 s each: 4 s wait
    assert worker.stats.dropped_s == 0.0
    worker.put(blocks[9], 9)
    assert worker.stats.dropped_s == 2.5
    assert worker.waiting_s == 2.0
    held.set()
    worker.stop(60)
    assert worker.stats.processed_s == 2.5  # the first one and the newest 2 s
    assert worker.waiting_s == 0.0


def test_what_was_said_before_and_after_dropped_audio_are_two_utterances(engine, held):
    published = Published()
    rate = 16000
    orders = np.concatenate([block.samples for block in read_file(ORDERS)])
    worker = Worker(engine, 480, StreamOptions(), published, queue_s=4.0, max_gap_s=10.0)
    held.set()
    start = 7_000_000_000
    said = AudioBlock(orders[:2 * rate], rate, start)
    worker.put(said, 0)
    wait(lambda: worker.stats.processed_s == 2.0 and worker.waiting_s == 0.0 and published)
    held.clear()
    held.begun.clear()
    worker.put(AudioBlock(np.zeros(rate // 10, np.float32), rate, start + 2_000_000_000), 0)
    assert held.begun.wait(60)
    # 3 s that are dropped at once, and then the second order.
    worker.put(AudioBlock(np.zeros(3 * rate, np.float32), rate, start + 2_100_000_000), 0)
    worker.put(AudioBlock(orders[4 * rate:7 * rate], rate, start + 5_100_000_000), 0)
    assert worker.stats.dropped_s == 3.0
    held.set()
    worker.stop(60)
    first, second = (final.text for final in published.finals)
    assert first.startswith('robot go')
    assert second.startswith('turn l')
    # Nothing was put in the place of what was dropped: it would only cost more time.
    assert worker.stats.gaps == 0


def wait(condition, timeout_s=60.0):
    """Wait until the worker has got so far."""
    pause = threading.Event()
    for _ in range(round(timeout_s / 0.02)):
        if condition():
            return
        pause.wait(0.02)
    raise AssertionError('waited in vain')


def test_it_is_quiet_but_for_utterances(engine, blocks):
    published, within = Published(), []

    def publish(events, origin):
        published(events, origin)
        if published and not published[-1].is_final:
            within.append(worker.quiet)

    worker = Worker(engine, 480, StreamOptions(), publish)
    assert worker.quiet
    transcribe(worker, blocks)
    worker.stop(60)
    assert len(within) > 8
    assert not any(within)
    assert worker.quiet


def test_an_utterance_ends_when_the_audio_stops_coming(engine, blocks):
    published = Published()
    worker = Worker(engine, 480, StreamOptions(), published, max_gap_s=0.0)
    for block in blocks[:5]:  # in the middle of the first order; then the microphone is gone
        worker.put(block, 0)
    wait(lambda: published.finals)
    assert published.finals[0].text.startswith('robot go')
    worker.stop(60)
    assert len(published.finals) == 1


def test_a_stream_that_cannot_be_given_back_loses_no_transcript(engine, blocks, monkeypatch):
    published, all_events = Published(), []
    poll = Stream.poll
    abandon = Stream.abandon

    def failing(stream):
        if published:  # words have been published
            monkeypatch.setattr(Stream, 'poll', poll)
            raise RuntimeError('the engine has a bad day')
        return poll(stream)

    def reluctant(stream):
        monkeypatch.setattr(Stream, 'abandon', abandon)
        abandon(stream)
        raise RuntimeError('and a worse night')

    monkeypatch.setattr(Stream, 'poll', failing)
    monkeypatch.setattr(Stream, 'abandon', reluctant)

    def publish(events, origin):
        published(events, origin)
        all_events.extend(events)

    worker = Worker(engine, 480, StreamOptions(), publish)
    transcribe(worker, blocks)
    worker.stop(60)
    of_finals = {final.utterance_id for final in published.finals}
    assert {event.utterance_id for event in published} == of_finals
    for final in published.finals:
        assert final.text == ''.join(
            event.delta for event in published if event.utterance_id == final.utterance_id)
    assert not worker.broken
    # Speech that was published as started is also published as stopped.
    activity = [event.active for event in all_events if isinstance(event, SpeechActivity)]
    assert activity == [True, False] * (len(activity) // 2)


def test_an_engine_that_keeps_failing_is_given_up_with_the_reason(engine, blocks, monkeypatch):
    def failing(stream):
        raise RuntimeError('out of memory')

    monkeypatch.setattr(Stream, 'poll', failing)
    worker = Worker(engine, 480, StreamOptions(), Published())
    transcribe(worker, blocks)
    wait(lambda: worker.broken)
    assert worker.broken == 'the recogniser failed 3 times in a row: out of memory'
    assert worker.stop(60)
    assert engine.n_open == 0


def test_logits_that_are_no_numbers_are_a_reason_too(engine, blocks, monkeypatch):
    """As a bit of the weights in memory may change while the node runs."""
    decode = engine.backend.decode

    def damaged(slots, windows):
        tokens = decode(slots, windows)
        return tokens._replace(probs=[[math.nan for _ in row] for row in tokens.probs])

    monkeypatch.setattr(engine.backend, 'decode', damaged)
    worker = Worker(engine, 480, StreamOptions(), Published())
    transcribe(worker, blocks)
    wait(lambda: worker.broken)
    assert 'the logits of the model are not numbers' in worker.broken
    assert worker.stop(60)
    assert engine.n_open == 0


def test_failing_now_and_then_is_no_reason_to_give_up(engine, blocks, monkeypatch):
    poll, calls = Stream.poll, []

    def failing(stream):
        calls.append(0)
        events = poll(stream)
        if len(calls) % 8 == 0:  # every 4 s
            raise RuntimeError('now and then')
        return events

    monkeypatch.setattr(Stream, 'poll', failing)
    published = Published()
    worker = Worker(engine, 480, StreamOptions(), published)
    transcribe(worker, blocks)
    worker.stop(60)
    assert worker.stats.failures >= 4
    assert not worker.broken
    of_finals = {final.utterance_id for final in published.finals}
    assert {event.utterance_id for event in published} == of_finals


def test_what_cannot_be_published_does_not_harm_the_stream(engine, blocks):
    published = Published()

    def failing(events, origin):
        published(events, origin)
        raise RuntimeError('no publisher')

    worker = Worker(engine, 480, StreamOptions(), failing)
    transcribe(worker, blocks)
    worker.stop(60)
    assert [final.text for final in published.finals][-1] == \
        'stop following me and return to the charging station'
    assert len(published.finals) == 4
    assert worker.stats.failures > 4


def test_stopping_drops_what_waits_too_long_and_ends_the_utterance(engine, blocks, held):
    published = Published()
    worker = Worker(engine, 480, StreamOptions(), published)
    held.set()
    for block in blocks[:6]:
        worker.put(block, 0)
    wait(lambda: published)
    held.clear()
    held.begun.clear()
    for block in blocks[6:]:
        worker.put(block, 0)
    assert held.begun.wait(60)
    threading.Timer(0.3, held.set).start()
    assert worker.stop(patience_s=0.0)
    assert worker.stats.dropped_s > 5.0
    assert published.finals[0].text.startswith('robot go')


def test_bad_samples_are_counted(engine, blocks):
    worker = Worker(engine, 480, StreamOptions(), Published())
    worker.put(replace(blocks[0], n_bad=7), 0)
    worker.stop(60)
    assert worker.stats.bad_samples == 7


def test_repetition_loops_are_counted_over_all_streams():
    script = Script()
    loop = join(silence(0.8), script.repetition_loop(-2.0, ' the'), voice(3.0), silence(PAUSE))
    with scripted_voice():
        worker = Worker(ServedScript(script), 480, StreamOptions(), Published())
        worker.put(AudioBlock(loop, 16000, 0), 0)
        wait(lambda: worker.stats.repetition_loops == 1)
        worker.reset()
        wait(lambda: not worker._reset)
        worker.put(AudioBlock(loop, 16000, 0), 0)
        wait(lambda: worker.stats.repetition_loops == 2)
        assert worker.stop(60)
    assert worker.stats.watchdog == 2


def test_nothing_is_published_when_nothing_was_transcribed(engine):
    published = Published()
    worker = Worker(engine, 480, StreamOptions(), published)
    worker.flush()
    assert worker.stop(60)
    assert not published
    assert engine.n_open == 0


def test_a_flush_ends_the_utterance_where_it_was_asked_for(engine, blocks, held):
    """Audio that comes faster than it is recognised does not put the flush off."""
    published = Published()
    options = StreamOptions(endpoint=EndpointOptions(silence_s=30.0, max_utterance_s=60.0))
    worker = Worker(engine, 480, options, published)
    for number, block in enumerate(blocks):
        worker.put(block, 0)
        if number == 9:
            worker.flush()
    held.set()
    assert worker.stop(60)
    assert len(published.finals) == 2
    assert published.finals[0].text.startswith('robot go')
    assert published.finals[0].end_s <= 5.0 < published.finals[1].end_s


@pytest.mark.parametrize('block_s, at_once', [(0.02, 10), (0.03, 1000), (0.08, 3)])
def test_how_blocks_come_together_changes_nothing(engine, blocks, block_s, at_once):
    published, expected = Published(), Published()
    worker = Worker(engine, 480, StreamOptions(), expected)
    transcribe(worker, blocks)
    worker.stop(60)
    worker = Worker(engine, 480, StreamOptions(), published)
    items = [(block, 0) for block in read_file(ORDERS, block_s=block_s)]
    for at in range(0, len(items), at_once):
        worker.put_all(items[at:at + at_once])
    worker.stop(60)
    assert [final.text for final in published.finals] == [final.text for final in expected.finals]
    assert worker.stats.gaps == worker.stats.jumps == 0
    assert worker.stats.stamped == len(items)
    assert worker.stats.processed_s == pytest.approx(sum(b.duration_ns for b, _ in items) / 1e9)


def test_blocks_that_came_together_are_processed_together_but_for_long_ones(engine, held):
    worker = Worker(engine, 480, StreamOptions(), Published())
    fed = []
    worker.put(AudioBlock(np.zeros(320, np.float32), 16000, 1), 0)
    assert held.begun.wait(60)
    lengths = [320, 320, 320, 320, 320, 8000, 320, 320]
    worker.put_all([(AudioBlock(np.zeros(n, np.float32), 16000, None), 0) for n in lengths])
    worker.flush()
    poll = Stream.poll

    def polled(stream):
        fed.append(round(16000 * worker.stats.processed_s))
        return poll(stream)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Stream, 'poll', polled)
        held.set()
        assert worker.stop(60)
    # 80 ms, or until that is exceeded; then the flush; then the end.
    assert fed[:4] == [320 + 1280, 320 + 1280 + 320 + 8000, 320 + sum(lengths),
                       320 + sum(lengths)]


def test_other_options_reach_the_stream_that_runs(engine, blocks):
    patient = StreamOptions(endpoint=EndpointOptions(silence_s=30.0, max_utterance_s=60.0))
    published = Published()
    worker = Worker(engine, 480, patient, published)
    worker.tune(StreamOptions())
    transcribe(worker, blocks)
    worker.stop(60)
    assert len(published.finals) == 4


def test_phrases_are_set_while_the_recogniser_is_busy_and_reach_every_stream(monkeypatch):
    reached, set_phrases = [], Stream.set_phrases

    def set_and_note(stream, phrases):
        set_phrases(stream, phrases)
        reached.append((stream, phrases))
        noted.set()

    monkeypatch.setattr(Stream, 'set_phrases', set_and_note)
    first, second = PhraseList.parse(['pantry']), PhraseList.parse(['Kowalski :4', 'pantry'])
    engine, block = ServedScript(Script()), AudioBlock(silence(0.5), 16000, None)
    noted = threading.Event()
    worker = Worker(engine, 480, StreamOptions(), Published(), phrases=first)
    noted.clear()
    with engine.held():
        worker.put(block, 0)
        worker.set_phrases(second)  # and returns
    worker.put(block, 0)
    assert noted.wait(60)
    worker.reset()
    worker.put(block, 0)
    assert worker.stop(60)
    assert [phrases for _, phrases in reached] == [first, second, second]
    streams = [stream for stream, _ in reached]
    assert streams[0] is streams[1] is not streams[2]


def test_who_waits_for_what_is_queued_is_called_when_it_is_recognised():
    script = Script()
    engine, published, calls, done = ServedScript(script), Published(), [], threading.Event()
    with scripted_voice():
        worker = Worker(engine, 480, StreamOptions(), published)
        with engine.held():
            for audio in (silence(1.0), script.say(' stop'), silence(PAUSE)):
                worker.put(AudioBlock(audio, 16000, None), 0)
            worker.after_queued(lambda progress: calls.append(
                (progress, [event.text for event in published.finals])))
            worker.put(AudioBlock(voice(1.0), 16000, None), 0)
            worker.after_queued(lambda progress: calls.append((progress, None)))
            worker.after_queued(lambda progress: done.set())
            assert not calls
        assert done.wait(60)
        assert worker.stop(60)
    (first, texts), (second, _) = calls
    assert texts == ['stop']
    assert (first.position_s, first.is_speaking) == (pytest.approx(3.48, abs=0.02), False)
    assert (second.position_s, second.is_speaking) == (pytest.approx(4.48, abs=0.02), True)
    assert first.origin.stamp_ns is second.origin.stamp_ns  # the same stream
    assert not first.is_pending


def test_a_callback_that_fails_costs_no_stream(caplog):
    script = Script()
    published = Published()
    with scripted_voice():
        worker = Worker(ServedScript(script), 480, StreamOptions(), published)
        worker.put(AudioBlock(join(silence(1.0), script.say(' go')), 16000, None), 0)
        worker.after_queued(lambda progress: 1 / 0)
        worker.put(AudioBlock(join(script.say(' on'), silence(PAUSE)), 16000, None), 0)
        assert worker.stop(60)
    assert [event.text for event in published.finals] == ['go on']
    assert 'division by zero' in caplog.text and worker.stats.failures == 0


def test_who_asks_how_far_it_is_does_not_keep_an_utterance_open():
    """Audio has stopped coming, however often somebody asks meanwhile."""
    script, published, asked = Script(), Published(), threading.Event()
    with scripted_voice():
        worker = Worker(ServedScript(script), 480, StreamOptions(), published)
        worker.put(AudioBlock(join(silence(1.0), script.say(' stop'), voice(0.4)), 16000, None),
                   0)
        for _ in range(1000):
            asked.clear()
            worker.after_queued(lambda progress: asked.set())
            assert asked.wait(60)
            if published.finals:
                break
            time.sleep(0.02)
        assert [event.text for event in published.finals] == ['stop']
        assert worker.stop(60)
