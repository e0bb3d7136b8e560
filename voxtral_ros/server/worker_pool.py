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

"""
The workers of a server, one for each engine, and which of them a client gets.

A client stays with its worker: the phrases that it expects are prepared there, and its audio is
transcribed there. Only when that one fails is the next generation of the client begun elsewhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

from voxtral_ros.server.metrics import Metrics
from voxtral_ros.server.worker import Worker


class WorkerPool:
    """Gives new clients to the emptiest engine; belongs to the event loop."""

    def __init__(self, workers: Sequence[Worker], metrics: Metrics,
                 overload: bool = False) -> None:
        """
        Begin without clients.

        :param overload: take clients with whom an engine would be slower than the audio
        """
        self.workers, self._overload = tuple(workers), overload
        self._n_sessions = dict.fromkeys(self.workers, 0)
        metrics.waiting_seconds.set_function(lambda: self.waiting_s)
        metrics.step_seconds.set_function(
            lambda: max(map(self.predicted_s, self.workers)))
        for worker in self.workers:
            metrics.watch(worker.name, {
                'sessions': partial(self.n_sessions, worker),
                'step_seconds': partial(self.predicted_s, worker),
                'failing': partial(getattr, worker, 'is_failing')})

    # ---- clients ----

    def refusal(self) -> str:
        """Return why no engine has time for another client, '' if one has."""
        usable = self._usable()
        if not all(map(self._refusal, usable)):
            return ''
        return self._refusal(self._emptiest(usable))

    def enter(self) -> Worker:
        """Return the worker of a new client."""
        usable = self._usable()
        worker = self._emptiest([one for one in usable if not self._refusal(one)] or usable)
        self._n_sessions[worker] += 1
        return worker

    def leave(self, worker: Worker) -> None:
        """Forget a client of a worker."""
        self._n_sessions[worker] -= 1

    def next_worker(self, worker: Worker) -> Worker:
        """Return where the next generation of a client begins: elsewhere if its engine fails."""
        if worker not in self._usable():
            self.leave(worker)
            worker = self.enter()
        return worker

    def n_sessions(self, worker: Worker) -> int:
        """Return how many clients a worker has."""
        return self._n_sessions[worker]

    # ---- the state of all ----

    @property
    def is_failing(self) -> bool:
        """Return whether no engine is well."""
        return all(worker.is_failing for worker in self.workers)

    @property
    def is_computing(self) -> bool:
        """Return whether the thread of an engine still runs, as it does until it is stopped."""
        return any(worker.is_alive for worker in self.workers)

    @property
    def n_talking(self) -> int:
        """Return for how many clients the engines compute."""
        return sum(worker.n_talking for worker in self.workers)

    @property
    def n_slots(self) -> int:
        """Return for how many clients they can compute at the same time."""
        return sum(worker.n_slots for worker in self.workers)

    @property
    def waiting_s(self) -> float:
        """Return the seconds of audio that wait for them."""
        return sum(worker.waiting_s for worker in self.workers)

    def watch(self, stuck_after_s: float) -> str:
        """
        Return what is wrong if a step of an engine hangs, else ''; to be called once a second.

        :param stuck_after_s: it is failing then, and hangs after twice that; 0: never
        """
        if stuck_after_s:
            for worker in self.workers:
                if worker.watch(stuck_after_s) >= 2 * stuck_after_s:
                    return f'a step of {worker.name} has not come back for {worker.stuck_s:.0f} s'
        return ''

    def predicted_s(self, worker: Worker) -> float:
        """Return the seconds of work per token of audio, if all clients of an engine speak."""
        return worker.admission.predicted_s(min(self.n_sessions(worker), worker.n_slots))

    def health(self) -> dict[str, dict[str, str | int]]:
        """Return what each engine does, and whether it is 'ok', 'full' or 'failing'."""
        return {worker.name: {
            'status': 'failing' if worker.is_failing else
                      'full' if self._refusal(worker) else 'ok',
            'sessions': self.n_sessions(worker), 'talking': worker.n_talking,
            'max_streams': worker.n_slots} for worker in self.workers}

    async def stop(self) -> None:
        """End all their threads."""
        loop = asyncio.get_running_loop()
        await asyncio.gather(*(
            loop.run_in_executor(None, worker.stop) for worker in self.workers))

    # ---- inside ----

    def _usable(self) -> Sequence[Worker]:
        """Return those that are well, or all if none is: then each may be well again."""
        return [worker for worker in self.workers if not worker.is_failing] or self.workers

    def _emptiest(self, workers: Sequence[Worker]) -> Worker:
        return min(workers, key=lambda worker: (
            worker.n_talking / worker.n_slots, self.n_sessions(worker) / worker.n_slots))

    def _refusal(self, worker: Worker) -> str:
        if self._overload:
            return ''
        # Those who talk at the same time are never more than there are streams.
        return worker.admission.refusal(min(worker.n_talking, worker.n_slots - 1))
