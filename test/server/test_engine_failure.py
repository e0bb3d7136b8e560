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

"""The engine fails in the middle: the sessions are published and go on."""

import json
import math
import queue
import subprocess
from unittest.mock import patch
from urllib.error import HTTPError
from urllib.request import urlopen

from support.realtime import HangingProcess, running, said, ServedScript, wait_until
from support.scripted import join, PAUSE, Script, scripted_voice, silence, voice

from voxtral_ros.recognizer.events import Transcript
from voxtral_ros.server.metrics import Metrics
from voxtral_ros.server.worker import Worker


class Frail(ServedScript):
    """Fails at some step."""

    failing = 0  # of the next steps

    def step(self):
        """Advance, or not."""
        if self.failing and any(slot.ready for slot in self.slots.open.values()):
            self.failing -= 1
            raise RuntimeError('the GPU fell off the bus')
        return super().step()


def test_what_was_said_stays_said_and_the_session_goes_on():
    script = Script()
    engine = Frail(script)
    first = join(silence(1.0), script.say(' go'), silence(PAUSE))
    second = join(silence(1.0), script.say(' stop'), silence(PAUSE))
    with scripted_voice(), running(engine) as server:
        with server.client() as client, server.client() as bystander:
            client.update(utterances=True, words=True)
            client.append(first)
            segment = client.until('transcription.segment')[-1]
            engine.failing = 1
            client.append(voice(0.5))
            error = client.until('error')[-1]
            assert error['code'] == 'processing_error'
            assert 'bus' in error['error']
            client.append(second)
            client.commit()
            events = client.until('transcription.done')
            assert events[-1]['text'] == 'go stop'
            assert said(events) == ' stop'
            other = next(event for event in events if event['type'] == 'transcription.segment')
            assert other['id'] == segment['id'] + 1
            # Times count the audio of the whole generation, whatever engine state processed it.
            assert other['words'][0]['end_s'] > len(first) / 16000
            bystander.update()
            bystander.append(first)
            bystander.commit()
            assert bystander.until('transcription.done')[-1]['text'] == 'go'
        assert server.server.metrics.value('voxtral_engine_failures_total') == 1
    assert engine.n_open == 0


def test_a_session_whose_logits_are_no_numbers_is_told_and_the_others_go_on():
    script = Script()
    good, bad = (join(silence(1.0), script.say(' go', probability=probability), silence(PAUSE))
                 for probability in (0.9, math.nan))
    with scripted_voice(), running(ServedScript(script)) as server, \
            server.client() as client, server.client() as bystander:
        for connection, audio in ((client, bad), (bystander, good)):
            connection.update()
            connection.append(audio)
            connection.commit()
        assert 'not numbers' in client.until('error')[-1]['error']
        assert bystander.until('transcription.done')[-1]['text'] == 'go'


class Numberless(ServedScript):
    """Gives no numbers, as a network with damaged weights."""

    def _write(self, writer, k):
        return self.tokenizer.pad, math.nan


def test_an_engine_that_never_gives_numbers_is_not_healthy():
    with scripted_voice(), running(Numberless(Script())) as server, server.client() as client:
        client.update()
        for _ in range(3):
            client.append(silence(0.64), 10240)  # one round, and its first token
            assert 'not numbers' in client.expect('error')['error']
        assert status_of(server) == (503, 'failing')


def test_an_utterance_that_is_open_is_published_as_it_stands():
    script = Script()
    engine = Frail(script)
    audio = join(silence(1.0), script.say(' go'), voice(1.2))
    with scripted_voice(), running(engine) as server, server.client() as client:
        client.update(utterances=True)
        client.append(audio)
        while client.until('transcription.delta')[-1]['delta'] not in ('go', 'o'):
            pass
        engine.failing = 1
        client.append(voice(0.5))
        segment = client.until('error')[-2]
        assert (segment['type'], segment['text']) == ('transcription.segment', 'go')


def test_an_engine_that_always_fails_is_not_healthy():
    engine = Frail(Script())
    with scripted_voice(), running(engine) as server, server.client() as client:
        client.update()
        engine.failing = 1000
        for n in range(5):
            client.append(silence(0.5))
            assert client.expect('error')['code'] == 'processing_error'
            assert n < 3 or status_of(server) == (503, 'failing')
        engine.failing = 0
        client.append(silence(0.5))
        client.commit()
        client.expect('transcription.done')
        assert status_of(server) == (200, 'ok')  # known before anybody is published


def test_a_step_that_does_not_come_back_is_known_and_given_no_clients(caplog):
    engine, other = ServedScript(Script()), ServedScript(Script())
    with scripted_voice(), running({'one': engine, 'two': other}) as server, \
            server.client() as client:
        pool = server.server.pool
        one, two = pool.workers
        client.update()
        with engine.held(), other.held():
            client.append(silence(1.0))
            wait_until(lambda: engine.n_open + other.n_open)
            stuck, free = (one, two) if engine.n_open else (two, one)
            wait_until(lambda: pool.watch(0.2) or stuck.is_failing)
            assert not free.is_failing
            assert f'a step of {stuck.name} has not come back' in caplog.text
            assert [pool.enter() for _ in range(3)] == [free] * 3
            assert status_of(server) == (200, 'ok')
            wait_until(lambda: stuck.name in pool.watch(0.2))
        wait_until(lambda: not pool.watch(0.2) and not stuck.is_failing)
        client.commit()
        client.until('transcription.done')


class HangsInWarmUp(ServedScript):
    """Hangs when it is tried again."""

    def warm_up(self):
        """Compute, or not."""
        self._free.wait()


def test_an_engine_that_hangs_when_it_is_tried_again_is_stuck_as_well():
    engine = HangsInWarmUp(Script())
    with scripted_voice(), engine.held(), patch('voxtral_ros.server.worker._TRY_AGAIN_S', 0.01):
        worker = Worker(engine, Metrics())
        worker._n_failures = 3
        with worker.condition:
            worker.condition.notify()
        wait_until(lambda: worker.watch(0.1) > 0.1)
    worker.stop()


def test_a_server_whose_only_engine_hangs_ends_to_be_started_again():
    options = '--step-timeout-s', 0.5, '--stop-timeout-s', 0.5
    with HangingProcess(*options, stderr=subprocess.PIPE) as server, server.client() as client:
        client.update()
        client.append(voice(2.0))
        client.rest()
        assert server.process.wait(60) == 1
        assert 'to be started again' in server.process.stderr.read()


def test_an_engine_that_is_well_again_says_so_first():
    engine, published = Frail(Script()), queue.Queue()
    with scripted_voice():
        worker = Worker(engine, Metrics())
        job = worker.open(lambda update: published.put((update.error, worker.is_failing)))
        engine.failing = 3
        for is_failing in (False, False, True):
            job.feed(silence(0.5))
            error, seen = published.get(timeout=30)
            assert error and seen is is_failing
        job.feed(silence(2.0))
        assert published.get(timeout=30) == (None, False)
        worker.stop()


def status_of(server):
    try:
        reply = urlopen(f'{server.http}/healthz')
    except HTTPError as error:
        reply = error
    return reply.status, json.loads(reply.read())['status']


def test_who_is_silent_is_not_told_of_a_failure_and_loses_nothing():
    script = Script()
    engine, metrics = Frail(script), Metrics()
    order = join(silence(1.0), script.say(' go'), silence(PAUSE))
    with scripted_voice():
        worker = Worker(engine, metrics)
        updates, silent_updates = [], []
        speaker, silent = worker.open(updates.append), worker.open(silent_updates.append)
        silent.feed(order)
        wait_until(lambda: silent.is_idle and silent.waiting_s == 0 and engine.n_open)
        with worker.condition:  # so that both are in one round
            engine.failing = 1
            speaker.feed(voice(0.5))
            silent.feed(silence(0.5))
        wait_until(lambda: any(update.error for update in updates))
        silent.feed(order)
        silent.finish()
        wait_until(lambda: silent.over)
        worker.stop()
    assert not any(update.error for update in silent_updates)
    assert [event.utterance_id for update in silent_updates for event in update.events
            if isinstance(event, Transcript) and event.is_final] == [1, 2]
    assert metrics.value('voxtral_engine_failures_total') == 1
