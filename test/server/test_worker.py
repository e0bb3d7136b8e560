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

"""The engine thread: fair to all jobs, and nothing ends it."""

import gc
import threading
import weakref

import pytest
from support.realtime import ServedScript, wait_until
from support.scripted import join, PAUSE, Script, scripted_voice, silence

from voxtral_ros.recognizer.events import Transcript
from voxtral_ros.server.metrics import Metrics
from voxtral_ros.server.worker import Worker


class Recorded:
    """A job whose updates are kept."""

    def __init__(self, worker, log=None):
        self.updates, self.log, self.over = [], log, threading.Event()
        self.job = worker.open(self._publish)

    def _publish(self, update):
        self.updates.append(update)
        if update.usage:
            if self.log is not None:
                self.log.append(self)
            self.over.set()

    @property
    def text(self):
        return ' '.join(event.text for update in self.updates for event in update.events
                        if isinstance(event, Transcript) and event.is_final)


@pytest.fixture
def script():
    with scripted_voice():
        yield Script()


@pytest.fixture
def engine(script):
    return ServedScript(script)


@pytest.fixture
def worker(engine):
    worker = Worker(engine, Metrics())
    yield worker
    worker.stop()


def test_a_backlog_does_not_hold_up_the_others(worker, script):
    order = join(silence(1.0), script.say(' go'), silence(PAUSE))
    ended = []
    with worker.condition:  # both begin in the same round
        flood, live = Recorded(worker, ended), Recorded(worker, ended)
        for job, audio in ((flood, join(*[order] * 30)), (live, order)):
            job.job.feed(audio)
            job.job.finish()
    assert flood.over.wait(30)
    assert live.over.wait(30)
    assert ended == [live, flood]
    assert (live.text, flood.text) == ('go', ' '.join(['go'] * 30))


def test_usage_counts_tokens(worker):
    job = Recorded(worker)
    job.job.feed(silence(8.0))
    job.job.finish()
    assert job.over.wait(30)
    usage = job.updates[-1].usage
    assert usage.prompt_tokens == 1 + 32 + 6
    assert usage.completion_tokens == sum(update.n_tokens for update in job.updates)
    assert usage.completion_tokens >= 100


def test_a_cut_reports_what_is_recognised_and_does_not_transcribe_the_rest(worker, script, engine):
    job = Recorded(worker)
    job.job.feed(join(silence(1.0), script.say(' go'), silence(0.7)))
    wait_until(lambda: any(update.events for update in job.updates)
               and job.updates[-1].n_tokens and job.job.waiting_s == 0)
    with worker.condition:
        job.job.feed(join(silence(PAUSE), script.say(' left'), silence(PAUSE)))
        job.job.cut()
    assert job.over.wait(30)
    assert 'left' not in job.text
    assert engine.n_open == 0


def test_a_cancelled_job_says_nothing_any_more(worker, engine):
    job = Recorded(worker)
    job.job.feed(silence(1.0))
    wait_until(lambda: job.updates)
    job.job.cancel()
    wait_until(lambda: engine.n_open == 0)
    assert not job.over.is_set()


def test_a_listener_that_fails_does_not_end_the_thread(worker, script):
    def fail(_):
        raise RuntimeError('nobody is there')
    broken = worker.open(fail)
    broken.feed(silence(2.0))
    broken.finish()
    wait_until(lambda: broken.over)
    job = Recorded(worker)
    job.job.feed(join(silence(1.0), script.say(' go'), silence(PAUSE)))
    job.job.finish()
    assert job.over.wait(30)
    assert job.text == 'go'


@pytest.mark.parametrize('end', ['finish', 'cut', 'cancel'])
def test_a_job_that_is_over_keeps_nothing_that_computes(worker, script, engine, end):
    opened, open_ = [], engine.open

    def noted(*arguments, **options):
        stream = open_(*arguments, **options)
        opened.append(weakref.ref(stream))
        return stream
    engine.open = noted
    gc.collect()
    gc.disable()  # which finds cycles some time later
    try:
        for _ in range(3):
            job = Recorded(worker)
            job.job.feed(join(silence(1.0), script.say(' go'), silence(PAUSE)))
            wait_until(lambda job=job: job.updates)
            getattr(job.job, end)()
            wait_until(lambda job=job: job.job.over)
        wait_until(lambda: engine.n_open == 0)
        wait_until(lambda: not any(stream() for stream in opened))
        assert len(opened) == 3
    finally:
        gc.enable()


def test_an_end_without_audio_opens_no_stream(worker, engine):
    opened, open_ = [], engine.open
    engine.open = lambda *arguments, **options: opened.append(1) or open_(*arguments, **options)
    job = Recorded(worker)
    job.job.finish()
    assert job.over.wait(30)
    assert job.updates[-1].usage.prompt_tokens == job.updates[-1].usage.completion_tokens == 0
    assert opened == []
