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

"""One server, several engines: each client has one of them, and all are one server to it."""

import json
import threading
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from support.realtime import running, said, ServedScript, wait_until
from support.scripted import join, PAUSE, Script, scripted_voice, silence, voice

from voxtral_ros.recognizer.events import Transcript
from voxtral_ros.server import worker as worker_module
from voxtral_ros.server.limits import Limits
from voxtral_ros.server.metrics import EngineMetrics, Metrics
from voxtral_ros.server.worker import Worker


class Frail(ServedScript):
    """Fails while it is told to; without a client it is known to be well or not by warm_up."""

    failing = False

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.tried = threading.Event()

    def step(self, only=None):
        """Advance, or not."""
        if self.failing and any(slot.ready for slot in self.slots.open.values()):
            raise RuntimeError('the GPU fell off the bus')
        return super().step(only)

    def warm_up(self):
        """Compute something."""
        self.tried.set()
        if self.failing:
            raise RuntimeError('the GPU is still off the bus')


@pytest.fixture
def script():
    with scripted_voice():
        yield Script()


@pytest.fixture
def two(script):
    """Serve two engines, 'a' and 'b'."""
    with running({name: Frail(script, max_streams=2) for name in 'ab'},
                 Limits(sessions=8)) as server:
        yield server


def order(script, *pieces):
    return join(silence(1.0), script.say(*pieces), silence(PAUSE))


def health(server):
    try:
        reply = urlopen(f'{server.http}/healthz')
    except HTTPError as error:
        reply = error
    return {'code': reply.status, **json.loads(reply.read())}


def connect(server):
    """Return a client and its session in the server."""
    before = set(server.server.connections)
    client = server.client()
    [connection] = set(server.server.connections) - before
    return client, connection.session


def test_all_clients_are_served_each_by_one_engine(two, script):
    clients = [connect(two) for _ in range(4)]
    assert sorted(session.worker.name for _, session in clients) == [*'aabb']
    for n, (client, _) in enumerate(clients):
        client.update()
        client.append(order(script, f' {n}'))
        client.commit()
    for n, (client, _) in enumerate(clients):
        assert client.until('transcription.done')[-1]['text'] == str(n)
    wait_until(lambda: two.server.pool.n_talking == 0)
    assert health(two) == {
        'code': 200, 'status': 'ok', 'sessions': 4, 'max_sessions': 8, 'talking': 0,
        'max_streams': 4, 'model': 'tiny', 'token_needed': False, 'engines': {
            name: {'status': 'ok', 'sessions': 2, 'talking': 0, 'max_streams': 2}
            for name in 'ab'}}

    def count(name, **labels):
        return two.server.metrics.value(f'voxtral_{name}_total', **labels)
    for name in ('audio_seconds', 'compute_seconds'):
        parts = [count(f'engine_{name}', engine=engine) for engine in 'ab']
        assert min(parts) > 0
        assert sum(parts) == pytest.approx(count(name))
    for client, _ in clients:
        client.socket.close()
    wait_until(lambda: health(two)['engines']['a']['sessions'] == 0)
    assert two.server.metrics.value('voxtral_engine_sessions', engine='b') == 0


def test_a_new_client_goes_where_fewer_speak(two):
    talker, session = connect(two)
    talker.update()
    talker.append(voice(2.0))
    wait_until(lambda: session.worker.n_talking == 1)
    others = [connect(two)[1].worker for _ in range(2)]
    assert session.worker not in others
    assert two.server.metrics.value(
        'voxtral_engine_talking_sessions', engine=session.worker.name) == 1
    assert two.server.metrics.value('voxtral_talking_sessions') == 1


def test_an_engine_that_computes_does_not_hold_up_the_other(two, script):
    (first, session), (second, _) = connect(two), connect(two)
    with two.server.engines[session.worker.name].held():
        for client in (first, second):
            client.update()
            client.append(order(script, ' go'))
            client.commit()
        assert second.until('transcription.done')[-1]['text'] == 'go'
    assert first.until('transcription.done')[-1]['text'] == 'go'


def test_phrases_are_prepared_where_they_are_used(two, script):
    (client, session), _ = connect(two), connect(two)
    client.update(phrases=['conservatory'])
    client.append(order(script, ' go'))
    client.commit()
    client.until('transcription.done')
    for name, engine in two.server.engines.items():
        assert bool(engine.prepared) is (name == session.worker.name)


def test_when_one_engine_fails_the_client_is_told_and_goes_on_with_the_other(two, script):
    (client, session), (bystander, other) = connect(two), connect(two)
    broken = session.worker
    client.update(utterances=True, phrases=['conservatory'])
    client.append(order(script, ' go'))
    first = client.until('transcription.segment')[-1]
    two.server.engines[broken.name].failing = True
    for _ in range(3):
        client.append(voice(0.5))
        assert 'fell off the bus' in client.until('error')[-1]['error']
    wait_until(lambda: not broken._jobs)
    assert session.worker is other.worker is not broken
    # The same generation: ids and times go on, and one `done` has all of its text.
    client.append(order(script, ' stop'))
    client.commit()
    events = client.until('transcription.done')
    assert (events[-1]['text'], said(events)) == ('go stop', ' stop')
    segment = next(event for event in events if event['type'] == 'transcription.segment')
    assert segment['id'] == first['id'] + 1
    assert segment['start_s'] > first['end_s'] + 1.5
    assert session.options.phrases in two.server.engines[other.worker.name].prepared
    bystander.update()
    bystander.append(order(script, ' left'))
    bystander.commit()
    assert bystander.until('transcription.done')[-1]['text'] == 'left'
    now = health(two)
    assert (now['code'], now['status']) == (200, 'ok')
    assert now['engines'][broken.name] == {
        'status': 'failing', 'sessions': 0, 'talking': 0, 'max_streams': 2}
    assert now['engines'][other.worker.name]['sessions'] == 2
    assert connect(two)[1].worker is other.worker


def test_a_generation_does_not_begin_where_everything_fails(two, script):
    (client, session), (_, other) = connect(two), connect(two)
    session.worker._n_failures = 3  # of others
    client.update()
    client.append(order(script, ' go'))
    client.commit()
    events = client.until('transcription.done')
    assert events[-1]['text'] == 'go'
    assert not [event for event in events if event['type'] == 'error']
    assert session.worker is other.worker


def test_only_when_all_engines_fail_the_server_does(two):
    clients = [connect(two)[0] for _ in range(2)]
    for engine in two.server.engines.values():
        engine.failing = True
    for client in clients:
        client.update()
        for _ in range(3):
            client.append(voice(0.5))
            client.until('error')
    wait_until(lambda: health(two)['status'] == 'failing')
    assert health(two)['code'] == 503
    client, session = connect(two)  # as ever: it is tried
    for engine in two.server.engines.values():
        engine.failing = False
    client.update()
    client.append(voice(1.5))
    client.commit()
    client.until('transcription.done')
    assert health(two)['code'] == 200
    assert not session.worker.is_failing


def test_an_engine_that_is_not_used_any_more_is_found_to_be_well_again(script, monkeypatch):
    monkeypatch.setattr(worker_module, '_TRY_AGAIN_S', 0.01)
    engine = Frail(script)
    engine.failing = True
    worker = Worker(engine, Metrics())
    errors = []
    job = worker.open(lambda update: errors.append(update.error))
    for n in range(1, 4):
        job.feed(voice(0.5))
        wait_until(lambda n=n: len(errors) == n)
    assert engine.tried.wait(30)
    assert worker.is_failing
    engine.failing = False
    wait_until(lambda: not worker.is_failing)
    worker.stop()


def test_silence_does_not_make_an_engine_well(script):
    """It computes nothing for those in whose audio nobody speaks."""
    engine = Frail(script)
    worker, updates = Worker(engine, Metrics()), []
    silent, speaker = worker.open(lambda update: None), worker.open(updates.append)
    silent.feed(order(script, ' go'))
    wait_until(lambda: silent.is_idle and silent.waiting_s == 0 and engine.n_open)
    engine.failing = True
    for n in range(1, 4):
        speaker.feed(voice(0.5))
        wait_until(lambda n=n: sum(bool(update.error) for update in updates) == n)
        silent.feed(silence(0.02))
        wait_until(lambda: silent.waiting_s == 0)
    with worker.condition:
        assert worker.is_failing
    worker.stop()


def test_a_job_moves_with_all_that_waits(script):
    """Whatever is fed meanwhile, from another thread, comes to the engine that then has it."""
    engines = [Frail(script), Frail(script)]
    first, second = (Worker(engine, Metrics()) for engine in engines)
    updates = []
    job = first.open(updates.append)
    engines[0].failing = True
    job.feed(voice(0.5))
    wait_until(lambda: any(update.error for update in updates))
    job.move(second)
    audio = join(*[order(script, f' {n}') for n in range(20)])

    def feed():
        for start in range(0, len(audio), 1600):
            job.feed(audio[start:start + 1600])
        job.finish()
    feeding = threading.Thread(target=feed)
    feeding.start()
    wait_until(lambda: job.over)
    feeding.join()
    for worker in (first, second):
        worker.stop()
    texts = [event.text for update in updates for event in update.events
             if isinstance(event, Transcript) and event.is_final]
    assert ' '.join(texts).split()[-19:] == [str(n) for n in range(1, 20)]
    assert updates[-1].usage.audio_s == pytest.approx(0.5 + len(audio) / 16000)


def test_a_job_that_has_got_all_its_audio_moves_to_a_worker_that_sleeps(script):
    broken = Frail(script)
    first, second = (Worker(engine, Metrics()) for engine in (broken, Frail(script)))
    updates = []
    job = first.open(updates.append)
    broken.failing = True
    job.feed(voice(0.5))
    wait_until(lambda: any(update.error for update in updates))
    with first.condition:  # all of it before the worker looks again
        job.feed(order(script, ' go'))
        job.finish()
        job.move(second)
    wait_until(lambda: job.over)
    for worker in (first, second):
        worker.stop()
    assert [event.text for update in updates for event in update.events
            if isinstance(event, Transcript) and event.is_final] == ['go']


def test_a_stream_that_is_well_stays_where_it_is(script):
    engines = [ServedScript(script), ServedScript(script)]
    first, second = (Worker(engine, Metrics()) for engine in engines)
    updates, audio = [], order(script, ' go')
    job = first.open(updates.append)
    job.feed(audio[:16000])
    wait_until(lambda: engines[0].n_open)
    job.move(second)
    job.feed(audio[16000:])
    job.finish()
    wait_until(lambda: job.over)
    for worker in (first, second):
        worker.stop()
    assert job._worker is first
    assert not any(update.error for update in updates)
    assert [event.text for update in updates for event in update.events
            if isinstance(event, Transcript) and event.is_final] == ['go']


def test_what_is_fed_while_a_job_moves_wakes_the_one_that_has_it(script):
    first, second = (Worker(ServedScript(script), Metrics()) for _ in range(2))
    job, updates, waits = first.open(lambda update: None), [], threading.Event()
    job._on_update = updates.append
    held = first.condition

    class Watched:

        def __enter__(self):
            waits.set()
            return held.__enter__()

        def __exit__(self, *error):
            return held.__exit__(*error)

        def notify(self):
            held.notify()
    with held:
        first.condition = Watched()
        feeding = threading.Thread(target=job.feed, args=(voice(1.0),))
        feeding.start()
        assert waits.wait(30)
        job._next_worker = second
        first._jobs.remove(job)
        job.leave()
        with second.condition:
            second._jobs.append(job)
        first.condition = held
    wait_until(lambda: updates)
    feeding.join()
    for worker in (first, second):
        worker.stop()


def test_totals_are_right_whoever_counts_at_the_same_time():
    metrics = Metrics()
    engines = [EngineMetrics(metrics, name) for name in 'abc']

    def count(engine):
        for n in range(500):
            engine.processed(0.5)
            engine.computed(0.25)
            engine.slots(n % 4, n % 3, n)
        engine.slots(2, 1, 499)
    threads = [threading.Thread(target=count, args=(engine,)) for engine in engines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert metrics.value('voxtral_audio_seconds_total') == 750
    assert metrics.value('voxtral_real_time_factor') == 0.5
    assert metrics.value('voxtral_talking_sessions') == 6
    assert metrics.value('voxtral_waiting_sessions') == 3
    assert metrics.value('voxtral_stream_waits_total') == 3 * 499
    assert metrics.value('voxtral_engine_talking_sessions', engine='b') == 2
