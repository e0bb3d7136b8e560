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

"""More clients than streams: who speaks is transcribed, who is silent costs nothing."""

import json
import threading
from urllib.request import urlopen

import pytest
from support.realtime import running, said, ServedScript, wait_until
from support.scripted import join, PAUSE, Script, scripted_voice, silence, TOKEN_S, voice
from voxtral_ros.recognizer.events import Transcript
from voxtral_ros.recognizer.idle import IdleOptions
from voxtral_ros.recognizer.options import StreamOptions
from voxtral_ros.server.limits import Limits
from voxtral_ros.server.metrics import Metrics
from voxtral_ros.server.worker import Worker


@pytest.fixture(autouse=True)
def _scripted():
    with scripted_voice():
        yield


@pytest.fixture
def script():
    return Script()


def order(script, *pieces):
    return join(silence(1.0), script.say(*pieces), silence(PAUSE))


def serve(script, n_streams, **limits):
    return running(ServedScript(script, max_streams=n_streams), Limits(**limits))


def everything_sent_is_processed(server):
    wait_until(lambda: server.worker.waiting_s == 0)


def test_six_robots_on_a_server_of_four_are_all_served(script):
    audio = [order(script, f' {n}') for n in range(6)]
    with serve(script, 4, sessions=6, idle_slot_s=1.0) as server:
        robots = [server.client() for _ in range(6)]
        for robot in robots:
            robot.update(utterances=True)
        for _ in range(2):  # four of them are always silent
            for pair in ((0, 1), (2, 3), (4, 5)):
                for n in pair:
                    robots[n].append(audio[n])
                for n in set(range(6)) - set(pair):
                    robots[n].append(silence(len(audio[n]) / 16000))
                for n in pair:
                    assert robots[n].until('transcription.segment')[-1]['text'] == str(n)
        for n, robot in enumerate(robots):
            robot.commit()
            assert robot.until('transcription.done')[-1]['text'] == f'{n} {n}'
            robot.socket.close()


def test_who_speaks_while_all_streams_are_used_waits_and_is_counted(script):
    with serve(script, 1, sessions=3) as server, \
            server.client() as talker, server.client() as other, server.client() as third:
        def count(name):
            return server.server.metrics.value(f'voxtral_{name}')
        talker.update()
        talker.append(voice(2.0))
        wait_until(lambda: count('talking_sessions') == 1)
        for n, client in enumerate((other, third), 1):
            client.update()
            client.append(order(script, f' {n}'))
            client.commit()
            wait_until(lambda n=n: count('waiting_sessions') == n)
        assert count('stream_waits_total') == 2
        assert count('waiting_audio_seconds') >= 2 * (0.4 + PAUSE)
        with urlopen(f'{server.http}/healthz') as answer:
            health = json.load(answer)
        assert (health['sessions'], health['talking'], health['max_streams']) == (3, 1, 1)
        talker.commit()
        talker.until('transcription.done')
        assert other.until('transcription.done')[-1]['text'] == '1'
        assert third.until('transcription.done')[-1]['text'] == '2'
        wait_until(lambda: count('waiting_sessions') == count('waiting_audio_seconds') == 0)


def test_who_has_said_all_before_he_has_to_wait_is_heard(script):
    """The end comes with the audio: there is nothing more to be fed, and nothing is lost."""
    worker = Worker(ServedScript(script, max_streams=1), Metrics())
    updates = []
    talker, other = worker.open(lambda update: None), worker.open(updates.append)
    talker.feed(voice(1.0))
    wait_until(lambda: worker.n_talking == 1)
    with worker.condition:
        other.feed(script.say(' go', ' left', seconds=0.4))
        other.finish()
    wait_until(lambda: worker.metrics.value('voxtral_waiting_sessions') == 1)
    assert not other.over
    assert other.waiting_s > 0.3
    talker.finish()
    wait_until(lambda: other.over)
    worker.stop()
    assert ''.join(event.delta for update in updates for event in update.events
                   if isinstance(event, Transcript)) == 'go left'
    assert updates[-1].usage.audio_s == pytest.approx(0.4)


def test_what_waits_for_a_stream_is_bounded_like_all_that_waits(script):
    with serve(script, 1, sessions=2, buffered_s=10.0, backlog_bytes=100_000) as server, \
            server.client() as talker, server.client() as other:
        talker.update()
        talker.append(voice(2.0))
        wait_until(lambda: server.worker.n_talking == 1)
        other.update()
        sending = threading.Thread(target=other.append, args=(voice(120.0),), daemon=True)
        sending.start()

        def waiting_s():
            return [connection.session.waiting_s for connection in server.server.connections
                    if connection.session.must_wait]
        wait_until(waiting_s)
        assert max(waiting_s()) < 12
        talker.commit()
        talker.until('transcription.done')
        sending.join(30)
        other.commit()
        other.until('transcription.done')


def test_who_goes_while_waiting_is_not_waited_for(script):
    with serve(script, 1, sessions=3) as server, \
            server.client() as talker, server.client() as third:
        talker.update()
        talker.append(voice(1.0))
        wait_until(lambda: server.worker.n_talking == 1)
        with server.client() as other:
            other.update()
            other.append(order(script, ' go'))
            wait_until(lambda: server.engine.slots.n_waiting == 1)
        wait_until(lambda: server.engine.slots.n_waiting == 0)
        third.update()
        third.append(order(script, ' stop'))
        third.commit()
        wait_until(lambda: server.engine.slots.n_waiting == 1)
        talker.socket.close()
        assert third.until('transcription.done')[-1]['text'] == 'stop'


def test_a_server_that_is_stopped_says_what_still_waited_for_a_stream(script):
    with serve(script, 1, sessions=2, stop_s=0.3) as server, \
            server.client() as talker, server.client() as other:
        talker.update()
        talker.append(voice(1.0))
        wait_until(lambda: server.worker.n_talking == 1)
        other.update()
        other.append(order(script, ' go'))
        wait_until(lambda: server.engine.slots.n_waiting == 1)
        with server.engine.held():
            server.stop()
            events, code = other.rest()
        assert 'of audio of 1 generations' in events[0]['error']
        assert code == 1001


def test_a_stop_waits_for_those_who_wait(script):
    with serve(script, 1, sessions=2) as server, \
            server.client() as talker, server.client() as other:
        talker.update()
        talker.append(voice(1.0))
        wait_until(lambda: server.worker.n_talking == 1)
        other.update()
        other.append(order(script, ' go'))
        wait_until(lambda: server.engine.slots.n_waiting == 1)
        server.stop()
        events, _ = other.rest()
        assert events[-1]['type'] == 'transcription.done'
        assert events[-1]['text'] == 'go'


def test_a_client_whose_audio_has_ceased_to_come_makes_room(script):
    """It has said something, is connected, and sends neither audio nor an end."""
    with serve(script, 1, sessions=2, idle_slot_s=0.2) as server, \
            server.client() as stalled, server.client() as other:
        stalled.update(utterances=True)
        stalled.append(join(silence(1.0), script.say(' go')))
        everything_sent_is_processed(server)
        other.update()
        other.append(order(script, ' stop'))
        other.commit()
        assert other.until('transcription.done')[-1]['text'] == 'stop'
        # All of it was brought out, and the times of what follows are right.
        assert stalled.until('transcription.segment')[-1]['text'] == 'go'
        stalled.append(order(script, ' left'))
        segment = stalled.until('transcription.segment')[-1]
        assert (segment['text'], segment['end_s']) == ('left', pytest.approx(2.96, abs=0.1))
        stalled.commit()
        assert stalled.until('transcription.done')[-1]['text'] == 'go left'


def test_nobody_is_settled_while_nobody_waits(script):
    with serve(script, 2, sessions=2, idle_slot_s=0.05) as server, \
            server.client() as stalled, server.client() as other:
        stalled.update()
        stalled.append(join(silence(1.0), script.say(' go')))
        everything_sent_is_processed(server)
        for _ in range(4):
            other.update()
            other.append(order(script, ' stop'))
            other.commit()
            other.until('transcription.done')
        stalled.append(join(script.say(' left'), silence(PAUSE)))
        stalled.commit()
        assert stalled.until('transcription.done')[-1]['text'] == 'go left'


# ---- how far the text is ----

def deltas(events):
    return [event['delta'] for event in events if event['type'] == 'transcription.delta']


@pytest.mark.parametrize('pause', [4.0, 31.7])
@pytest.mark.parametrize('lost', [False, True])
def test_who_counts_deltas_finds_the_text_where_it_is_said(script, pause, lost):
    """In vLLM's dialect, whether the pause is given to the model, is not, or loses the stream."""
    audio = join(order(script, ' go'), silence(pause), order(script, ' left'))
    found = []
    for after_s in (2.0, 0.0):
        engine = ServedScript(script, max_streams=1 if lost and after_s else 2)
        with running(engine, Limits(idle_slot_s=0.5)) as server, \
                server.client() as client, server.client() as other:
            server.worker._idle = IdleOptions(after_s=after_s)
            client.update(model='')
            client.commit()
            middle = 16000 * 5
            client.append(audio[:middle])
            everything_sent_is_processed(server)
            other.update()
            other.append(order(script, ' stop'))
            other.commit()
            other.until('transcription.done')
            client.append(audio[middle:])
            client.commit(final=True)
            events = client.until('transcription.done')
        assert events[-1]['text'] == said(events) == 'go left'
        assert events[-1]['usage']['completion_tokens'] == len(deltas(events))
        found.append(([n for n, delta in enumerate(deltas(events)) if delta],
                      events[-1]['usage']))
    (words, usage), (expected_words, expected_usage) = found
    assert usage == expected_usage
    assert words == pytest.approx(expected_words, abs=1 if lost else 0)
    assert words[-1] == pytest.approx((1.48 + PAUSE + pause + 1.48) / TOKEN_S, abs=5)


def test_an_end_while_nobody_speaks_computes_nothing(script):
    engine = ServedScript(script)
    with running(engine) as server, server.client() as client:
        client.update()
        client.append(order(script, ' go'))
        wait_until(lambda: engine.n_open and server.worker.n_talking == 0)
        everything_sent_is_processed(server)
        advanced, advance = [], engine._advance
        engine._advance = lambda *arguments: advanced.append(arguments) or advance(*arguments)
        client.append(silence(20.0))
        client.commit(final=True)
        done = client.until('transcription.done')[-1]
        assert advanced == []
        assert done['usage']['completion_tokens'] == pytest.approx(
            (1.48 + PAUSE + 20.0) / TOKEN_S, abs=20)
        # All but the pre-roll of 1 s, and the chunks that were on their way when it began.
        assert server.server.metrics.value('voxtral_skipped_audio_seconds_total') > 18


def test_the_model_can_be_given_everything(script):
    engine = ServedScript(script)
    worker = Worker(engine, Metrics(), idle=IdleOptions(after_s=0.0))
    tokens, advance = [], engine._advance
    engine._advance = lambda slot, n: tokens.append(n) or advance(slot, n)
    job = worker.open(lambda update: None, options=StreamOptions())
    job.feed(silence(20.0))
    job.finish()
    wait_until(lambda: job.over)
    worker.stop()
    assert sum(tokens) > 20 / TOKEN_S
