"""Requests of many threads get their own results in few calls, also next to bad requests and during shutdown."""

import itertools
import threading
import time
from concurrent.futures import CancelledError, ThreadPoolExecutor, wait

import pytest

from transformer_jax.errors import RunError
from transformer_jax.serve.batching import Batcher

TIMEOUT = 10.0
"""Seconds after which a test is considered stuck."""


class Model:
    """A model that returns texts in capitals and records its batches; its calls can be blocked."""

    def __init__(self):
        self.batches = []
        self.called, self.unblocked = threading.Event(), threading.Event()
        self.unblocked.set()

    def __call__(self, texts):
        self.batches.append(list(texts))
        self.called.set()
        assert self.unblocked.wait(TIMEOUT)
        if "bad" in texts:
            raise ValueError("bad")
        return [text.upper() for text in texts]

    def block(self):
        """Block all calls until ``unblocked`` is set; must be called before the first one."""
        self.unblocked.clear()

    def wait_for_call(self):
        assert self.called.wait(TIMEOUT)


@pytest.fixture
def model():
    return Model()


def test_fifty_threads_get_their_own_results_in_fewer_calls(model):
    texts = [f"text {number}" for number in range(50)]
    start = threading.Barrier(len(texts))

    def ask(text):
        start.wait(TIMEOUT)
        return [batcher.submit(f"{text}, {turn}").result(TIMEOUT) for turn in range(3)]

    with Batcher(model) as batcher, ThreadPoolExecutor(len(texts)) as threads:
        answers = list(threads.map(ask, texts))
    assert answers == [[f"{text}, {turn}".upper() for turn in range(3)] for text in texts]
    assert sorted(itertools.chain(*model.batches)) == sorted(f"{text}, {turn}" for text in texts for turn in range(3))
    assert len(model.batches) < 50


def test_items_arriving_during_a_call_form_the_next_batches(model):
    model.block()
    with Batcher(model, max_delay=0.0, max_batch_size=3) as batcher:
        futures = [batcher.submit("first")]
        model.wait_for_call()
        futures += [batcher.submit(str(number)) for number in range(5)]
        model.unblocked.set()
        assert [future.result(TIMEOUT) for future in futures] == ["FIRST", "0", "1", "2", "3", "4"]
    assert model.batches == [["first"], ["0", "1", "2"], ["3", "4"]]


def test_a_full_batch_does_not_wait_for_others(model):
    with Batcher(model, max_delay=10 * TIMEOUT, max_batch_size=2) as batcher:
        wait([batcher.submit("a"), batcher.submit("b")], TIMEOUT)
        assert model.batches == [["a", "b"]]


def test_an_error_affects_only_its_own_request(model):
    with Batcher(model, max_delay=10 * TIMEOUT, max_batch_size=3) as batcher:
        before, bad, after = (batcher.submit(text) for text in ("before", "bad", "after"))
        assert [before.result(TIMEOUT), after.result(TIMEOUT)] == ["BEFORE", "AFTER"]
        with pytest.raises(ValueError, match="bad"):
            bad.result(TIMEOUT)
        # The worker thread continues.
        assert [future.result(TIMEOUT) for future in [*map(batcher.submit, "abc")]] == ["A", "B", "C"]


def test_wrong_number_of_results_is_an_error():
    with Batcher(lambda texts: [], max_delay=0.0) as batcher, pytest.raises(ValueError, match="zip"):
        batcher.submit("a").result(TIMEOUT)


def test_cancelled_requests_are_not_processed(model):
    model.block()
    with Batcher(model, max_delay=0.0) as batcher:
        first = batcher.submit("first")
        model.wait_for_call()
        cancelled, other = batcher.submit("cancelled"), batcher.submit("other")
        assert cancelled.cancel()
        model.unblocked.set()
        assert [first.result(TIMEOUT), other.result(TIMEOUT)] == ["FIRST", "OTHER"]
    assert model.batches == [["first"], ["other"]]
    with pytest.raises(CancelledError):
        cancelled.result(TIMEOUT)


def test_requests_beyond_the_waiting_limit_are_refused(model):
    model.block()
    with Batcher(model, max_delay=0.0, max_waiting=2) as batcher:
        first = batcher.submit("first")
        model.wait_for_call()
        waiting = [batcher.submit("a"), batcher.submit("b")]
        with pytest.raises(RunError, match=r"^2 requests are already waiting\. Try again in a moment\.$"):
            batcher.submit("c")
        model.unblocked.set()
        assert [future.result(TIMEOUT) for future in (first, *waiting)] == ["FIRST", "A", "B"]


def test_shutdown_finishes_the_current_call_and_refuses_others(model):
    model.block()
    with Batcher(model, max_delay=0.0) as batcher:
        first = batcher.submit("first")
        model.wait_for_call()
        waiting, cancelled = batcher.submit("waiting"), batcher.submit("cancelled")
        cancelled.cancel()
        threading.Timer(0.1, model.unblocked.set).start()
    assert first.result(0) == "FIRST"
    for refused in (lambda: waiting.result(0), lambda: batcher.submit("late")):
        with pytest.raises(RunError, match=r"^the server is shutting down\. "):
            refused()
    assert model.batches == [["first"]]


def test_shutdown_does_not_wait_for_a_batch_to_fill(model):
    start = time.monotonic()
    with Batcher(model, max_delay=10 * TIMEOUT) as batcher:
        waiting = batcher.submit("waiting")
    assert time.monotonic() - start < TIMEOUT
    with pytest.raises(RunError):
        waiting.result(0)
