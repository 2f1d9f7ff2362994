"""Requests of many threads: each gets its own answer, in fewer calls; a bad one, and the end, hurt no other."""

import itertools
import threading
import time
from concurrent.futures import CancelledError, ThreadPoolExecutor, wait

import pytest

from transformer_jax.errors import RunError
from transformer_jax.serve.batching import Batcher

SOON = 10.0
"""Seconds after which a test has hung."""


class Model:
    """Answers with the capitals; notes the batches; a call can be held until it is let go."""

    def __init__(self):
        self.batches = []
        self.called, self.may_go_on = threading.Event(), threading.Event()
        self.may_go_on.set()

    def __call__(self, texts):
        self.batches.append(list(texts))
        self.called.set()
        assert self.may_go_on.wait(SOON)
        if "bad" in texts:
            raise ValueError("bad")
        return [text.upper() for text in texts]

    def hold(self):
        """From now on no call ends; to be used before the first one."""
        self.may_go_on.clear()

    def wait_for_call(self):
        assert self.called.wait(SOON)


@pytest.fixture
def model():
    return Model()


def test_fifty_threads_each_get_their_own_answer_in_fewer_calls(model):
    texts = [f"text {number}" for number in range(50)]
    start = threading.Barrier(len(texts))

    def ask(text):
        start.wait(SOON)
        return [batcher.submit(f"{text}, {turn}").result(SOON) for turn in range(3)]

    with Batcher(model) as batcher, ThreadPoolExecutor(len(texts)) as threads:
        answers = list(threads.map(ask, texts))
    assert answers == [[f"{text}, {turn}".upper() for turn in range(3)] for text in texts]
    assert sorted(itertools.chain(*model.batches)) == sorted(f"{text}, {turn}" for text in texts for turn in range(3))
    assert len(model.batches) < 50


def test_what_comes_during_a_call_is_the_next_batch_in_order_and_no_batch_is_too_large(model):
    model.hold()
    with Batcher(model, seconds=0.0, most=3) as batcher:
        futures = [batcher.submit("first")]
        model.wait_for_call()
        futures += [batcher.submit(str(number)) for number in range(5)]
        model.may_go_on.set()
        assert [future.result(SOON) for future in futures] == ["FIRST", "0", "1", "2", "3", "4"]
    assert model.batches == [["first"], ["0", "1", "2"], ["3", "4"]]


def test_a_full_batch_does_not_wait_for_others(model):
    with Batcher(model, seconds=10 * SOON, most=2) as batcher:
        wait([batcher.submit("a"), batcher.submit("b")], SOON)
        assert model.batches == [["a", "b"]]


def test_an_error_is_that_of_its_own_request_alone(model):
    with Batcher(model, seconds=10 * SOON, most=3) as batcher:
        before, bad, after = (batcher.submit(text) for text in ("before", "bad", "after"))
        assert [before.result(SOON), after.result(SOON)] == ["BEFORE", "AFTER"]
        with pytest.raises(ValueError, match="bad"):
            bad.result(SOON)
        # And the thread goes on.
        assert [future.result(SOON) for future in [*map(batcher.submit, "abc")]] == ["A", "B", "C"]


def test_a_wrong_number_of_answers_is_an_error_not_another_request_s_answer():
    with Batcher(lambda texts: [], seconds=0.0) as batcher, pytest.raises(ValueError, match="zip"):
        batcher.submit("a").result(SOON)


def test_a_request_that_is_given_up_costs_nothing(model):
    model.hold()
    with Batcher(model, seconds=0.0) as batcher:
        first = batcher.submit("first")
        model.wait_for_call()
        given_up, other = batcher.submit("given up"), batcher.submit("other")
        assert given_up.cancel()
        model.may_go_on.set()
        assert [first.result(SOON), other.result(SOON)] == ["FIRST", "OTHER"]
    assert model.batches == [["first"], ["other"]]
    with pytest.raises(CancelledError):
        given_up.result(SOON)


def test_more_than_there_is_room_for_is_refused(model):
    model.hold()
    with Batcher(model, seconds=0.0, room=2) as batcher:
        first = batcher.submit("first")
        model.wait_for_call()
        waiting = [batcher.submit("a"), batcher.submit("b")]
        with pytest.raises(RunError, match=r"^2 requests are waiting already\. Try again in a moment\.$"):
            batcher.submit("c")
        model.may_go_on.set()
        assert [future.result(SOON) for future in (first, *waiting)] == ["FIRST", "A", "B"]


def test_at_the_end_the_call_at_hand_is_answered_and_what_waits_is_refused(model):
    model.hold()
    with Batcher(model, seconds=0.0) as batcher:
        first = batcher.submit("first")
        model.wait_for_call()
        waiting, given_up = batcher.submit("waiting"), batcher.submit("given up")
        given_up.cancel()
        threading.Timer(0.1, model.may_go_on.set).start()
    assert first.result(0) == "FIRST"
    for refused in (lambda: waiting.result(0), lambda: batcher.submit("late")):
        with pytest.raises(RunError, match=r"^the server is ending\. "):
            refused()
    assert model.batches == [["first"]]


def test_the_end_does_not_wait_for_a_batch_to_fill(model):
    began = time.monotonic()
    with Batcher(model, seconds=10 * SOON) as batcher:
        waiting = batcher.submit("waiting")
    assert time.monotonic() - began < SOON
    with pytest.raises(RunError):
        waiting.result(0)
