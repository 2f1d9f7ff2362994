"""Decoding loops for the sentences of all requests: sentences join a running loop, and leave it when they are finished.

Sentences with the same search method and the same padded length share their loops: at most one per device, or per core
on a CPU. Each loop has its own thread, so it delays no other loop, and it ends when no sentence is left.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import NamedTuple

from transformer_jax.decoding.elastic_loop import ElasticLoop
from transformer_jax.decoding.search import padded_length
from transformer_jax.decoding.slot_loop import Hypothesis, Request
from transformer_jax.decoding.slots import SearchMethod, SearchModel
from transformer_jax.errors import RunError


class LoopKey(NamedTuple):
    """What the sentences of a loop have in common."""

    method: SearchMethod
    source_length: int


class _Job:
    """The sentences that are translated for one request of a client.

    future: the results of all sentences, in order.
    results: the results of the finished sentences, by the index of the sentence.
    sentences: number of sentences.
    waiting: number of sentences that have not joined a loop.
    """

    def __init__(self, sentences: int) -> None:
        self.future: Future[list[list[Hypothesis]]] = Future()
        self.results: dict[int, list[Hypothesis]] = {}
        self.sentences = self.waiting = sentences

    def fail(self, error: Exception) -> None:
        """Set the exception of the future, unless the future is done."""
        with suppress(InvalidStateError):
            self.future.set_exception(error)

    def finish(self) -> None:
        """Set the result of the future, unless the future is done."""
        with suppress(InvalidStateError):
            self.future.set_result([self.results[index] for index in range(self.sentences)])


class _Sentence(NamedTuple):
    """A sentence of a job.

    place: index of the sentence in its job.
    request: the sentence with a number that no other sentence has.
    """

    job: _Job
    place: int
    request: Request


class Loops:
    """A context manager that translates the sentences of all threads. On exit, it refuses the waiting sentences.

    search_models: the model on the device of each loop that can run in parallel.
    max_waiting: maximum number of jobs with waiting sentences. Further jobs are refused.
    """

    def __init__(self, search_models: Sequence[SearchModel], max_waiting: int = 256) -> None:
        self._search_models = search_models
        self._max_waiting = max_waiting
        self._lock = threading.Lock()  # Guards the attributes below, and the counts and results of all jobs.
        self._numbers = itertools.count()
        self._waiting: dict[LoopKey, deque[_Sentence]] = {}
        self._waiting_jobs: set[_Job] = set()
        self._threads: dict[tuple[LoopKey, int], threading.Thread] = {}  # The running loops, by key and device.
        self._closed = False

    def __enter__(self) -> Loops:
        return self

    def __exit__(self, *_: object) -> None:
        """Refuse the jobs with waiting sentences, and wait for the sentences in the loops."""
        with self._lock:
            self._closed = True
            refused, threads = list(self._waiting_jobs), list(self._threads.values())
            self._waiting_jobs.clear()
            self._waiting.clear()
        for job in refused:
            job.fail(shutdown_error())
        for thread in threads:
            thread.join()

    def warm_up(self, method: SearchMethod, requests: Sequence[Request]) -> None:
        """Compile the programs for requests of these lengths. Raises InputError if they do not fit in memory."""
        for search_model, request in itertools.product(self._search_models, requests):
            ElasticLoop(search_model, method, padded_length(len(request.source))).warm_up(request)

    def submit(self, method: SearchMethod, requests: Sequence[Request]) -> Future[list[list[Hypothesis]]]:
        """Queue sentences, and return a future for the hypotheses of each.

        Sentences that wait when the future is cancelled are not translated. Raises RunError if too many jobs are
        waiting or the loops are closed.
        """
        job = _Job(len(requests))
        with self._lock:
            if self._closed:
                raise shutdown_error()
            if len(self._waiting_jobs) >= self._max_waiting:
                raise RunError(f"{self._max_waiting} requests are already waiting. Try again in a moment.")
            if not requests:
                job.finish()
                return job.future
            self._waiting_jobs.add(job)
            for place, request in enumerate(requests):
                key = LoopKey(method, padded_length(len(request.source)))
                sentence = _Sentence(job, place, request._replace(number=next(self._numbers)))
                self._waiting.setdefault(key, deque()).append(sentence)
                self._start_loop(key)
        return job.future

    def _start_loop(self, key: LoopKey) -> None:
        """Start a loop on a device that has no loop of this key, if there is one."""
        for device in range(len(self._search_models)):
            if (key, device) not in self._threads:
                thread = threading.Thread(target=self._run_loop, args=(key, device), name="decoding loop")
                self._threads[key, device] = thread
                thread.start()
                return

    def _run_loop(self, key: LoopKey, device: int) -> None:
        """Translate waiting sentences until none is left."""
        search_model = self._search_models[device]
        loop = ElasticLoop(search_model, *key)
        sentences: dict[int, _Sentence] = {}  # The sentences in the loop, by number.
        while (joining := self._joining(key, device, len(sentences), loop.capacity)) or sentences:
            sentences |= {sentence.request.number: sentence for sentence in joining}
            try:
                results = loop.advance([sentence.request for sentence in joining])
            except Exception:
                # One sentence may have caused the error, so each is translated in a loop of its own.
                for sentence in sentences.values():
                    self._translate_alone(search_model, key, sentence)
                loop, sentences = ElasticLoop(search_model, *key), {}
            else:
                for request, hypotheses in results:
                    self._finish(sentences.pop(request.number), hypotheses)

    def _joining(self, key: LoopKey, device: int, live: int, capacity: int) -> list[_Sentence]:
        """Return this loop's share of the waiting sentences, at most ``capacity``.

        live: number of sentences in the loop. If it is 0 and no sentence joins, the loop counts as ended.
        """
        joining: list[_Sentence] = []
        with self._lock:
            waiting = self._waiting.get(key, deque())
            share = -(-len(waiting) // len(self._search_models))
            while waiting and len(joining) < min(share, capacity):
                sentence = waiting.popleft()
                job = sentence.job
                job.waiting -= 1
                if not job.waiting:
                    self._waiting_jobs.discard(job)
                if not job.future.done():
                    joining.append(sentence)
            if not waiting:
                self._waiting.pop(key, None)
            if not joining and not live:
                del self._threads[key, device]
        return joining

    def _translate_alone(self, search_model: SearchModel, key: LoopKey, sentence: _Sentence) -> None:
        loop = ElasticLoop(search_model, *key)
        try:
            results = loop.advance([sentence.request])
            while loop.live:
                results = loop.advance([])
        except Exception as error:
            sentence.job.fail(error)
        else:
            [(_, hypotheses)] = results
            self._finish(sentence, hypotheses)

    def _finish(self, sentence: _Sentence, hypotheses: list[Hypothesis]) -> None:
        """Store the result of a sentence. The last one completes its job."""
        job = sentence.job
        with self._lock:
            job.results[sentence.place] = hypotheses
            is_complete = len(job.results) == job.sentences
        if is_complete:
            job.finish()


def shutdown_error() -> RunError:
    """Return the error for requests that arrive or wait while the server shuts down."""
    return RunError("the server is shutting down. Try again after it has restarted.")
