"""Requests of many threads get their own results, also next to failing requests and during shutdown."""

import threading
from concurrent.futures import CancelledError, ThreadPoolExecutor

import pytest
from tiny_run import TINY_CONFIG

from transformer_jax.decoding.beam import BeamSearch
from transformer_jax.decoding.next_token import SpecialIds
from transformer_jax.decoding.sampling import GreedySearch
from transformer_jax.decoding.slot_loop import Hypothesis, Request
from transformer_jax.decoding.slots import SearchModel
from transformer_jax.errors import RunError
from transformer_jax.model.transformer import Transformer
from transformer_jax.serve import loops as loops_module
from transformer_jax.serve.loops import Loops

TIMEOUT = 10.0
"""Seconds after which a test is considered stuck."""
GREEDY = GreedySearch()
BAD = 13
"""A source with this token makes every loop fail that it is in."""
CAPACITY = 8
MODEL = SearchModel(Transformer(TINY_CONFIG.model, 5, 5), None, SpecialIds(0, 1, 2, 3))


class Simulation:
    """Simulated loops, whose calls can be blocked. A sentence is finished after as many calls as its length limit.

    calls: the method, the first source tokens of the sentences that join, and those of all live ones, for each call.
    """

    def __init__(self):
        self.calls = []
        self.called, self.unblocked = threading.Event(), threading.Event()
        self.unblocked.set()

    def loop(self, search_model, method, source_length):
        return SimulatedLoop(self, method)

    def block(self):
        """Block all calls until ``unblocked`` is set; must be called before the first one."""
        self.unblocked.clear()

    def wait_for_call(self):
        assert self.called.wait(TIMEOUT)


class SimulatedLoop:
    def __init__(self, simulation, method):
        self.simulation, self.method = simulation, method
        self.left = {}  # request -> number of calls until it is finished

    @property
    def live(self):
        return len(self.left)

    @property
    def capacity(self):
        return CAPACITY - self.live

    def advance(self, joining):
        self.left |= {request: request.length_limit for request in joining}
        self.simulation.calls.append((self.method, [request.source[0] for request in joining], self.tokens()))
        self.simulation.called.set()
        assert self.simulation.unblocked.wait(TIMEOUT)
        if BAD in self.tokens():
            raise ValueError("bad")
        self.left = {request: left - 1 for request, left in self.left.items()}
        finished = [request for request, left in self.left.items() if not left]
        for request in finished:
            del self.left[request]
        return [(request, result(request.source[0])) for request in finished]

    def tokens(self):
        return [request.source[0] for request in self.left]


def result(token):
    return [Hypothesis((token,), 0.0)]


def sentences(*tokens, calls=1):
    return [Request(index, (token, 1), calls) for index, token in enumerate(tokens)]


@pytest.fixture
def simulation(monkeypatch):
    simulation = Simulation()
    monkeypatch.setattr(loops_module, "ElasticLoop", simulation.loop)
    return simulation


@pytest.fixture
def loops(simulation):
    with Loops([MODEL]) as loops:
        yield loops
        simulation.unblocked.set()


def test_fifty_threads_get_their_own_results(simulation):
    start = threading.Barrier(50)

    def ask(client):
        start.wait(TIMEOUT)
        tokens = [100 * client + turn for turn in range(30)]
        return [
            loops.submit(GREEDY, sentences(*tokens[:turn], calls=1 + turn % 3)).result(TIMEOUT) for turn in range(5)
        ]

    with Loops([MODEL, MODEL]) as loops, ThreadPoolExecutor(50) as threads:
        answers = list(threads.map(ask, range(50)))
    assert answers == [
        [[result(100 * client + index) for index in range(turn)] for turn in range(5)] for client in range(50)
    ]


def test_sentences_join_a_running_loop_and_leave_it_first(loops, simulation):
    simulation.block()
    long = loops.submit(GREEDY, sentences(20, calls=3))
    simulation.wait_for_call()
    short = loops.submit(GREEDY, sentences(21))
    ended = []
    for name, future in (("long", long), ("short", short)):
        future.add_done_callback(lambda _, name=name: ended.append(name))
    simulation.unblocked.set()
    assert [long.result(TIMEOUT), short.result(TIMEOUT)] == [[result(20)], [result(21)]]
    assert ended == ["short", "long"]
    assert [live for _, _, live in simulation.calls] == [[20], [20, 21], [20]]


def test_other_search_methods_and_lengths_have_their_own_loops(loops, simulation):
    simulation.block()
    beam = BeamSearch(2, 0.6, 2)
    futures = [
        loops.submit(method, [Request(0, (token,) * length, 1)])
        for token, (method, length) in enumerate([(GREEDY, 2), (beam, 2), (BeamSearch(2, 0.7, 2), 2), (GREEDY, 100)])
    ]
    simulation.unblocked.set()
    assert [future.result(TIMEOUT) for future in futures] == [[result(token)] for token in range(4)]
    assert sorted(live for _, _, live in simulation.calls) == [[0], [1], [2], [3]]


def test_a_blocked_loop_does_not_block_others(loops, simulation, monkeypatch):
    simulation.block()
    blocked = loops.submit(GREEDY, sentences(20))
    simulation.wait_for_call()
    monkeypatch.setattr(loops_module, "ElasticLoop", Simulation().loop)
    assert loops.submit(BeamSearch(2, 0.6, 2), sentences(21)).result(TIMEOUT) == [result(21)]
    assert not blocked.done()


def test_devices_share_the_waiting_sentences(simulation):
    simulation.block()
    with Loops([MODEL, MODEL]) as loops:
        future = loops.submit(GREEDY, sentences(*range(20, 26)))
        simulation.unblocked.set()
        assert future.result(TIMEOUT) == [result(token) for token in range(20, 26)]
    assert max(len(joining) for _, joining, _ in simulation.calls) == 3


def test_an_error_affects_only_its_own_request(loops, simulation):
    simulation.block()
    futures = [loops.submit(GREEDY, sentences(20, calls=2))]
    simulation.wait_for_call()
    futures += [loops.submit(GREEDY, sentences(21, BAD)), loops.submit(GREEDY, sentences(22, calls=2))]
    simulation.unblocked.set()
    assert [futures[0].result(TIMEOUT), futures[2].result(TIMEOUT)] == [[result(20)], [result(22)]]
    with pytest.raises(ValueError, match="bad"):
        futures[1].result(TIMEOUT)
    assert loops.submit(GREEDY, sentences(23)).result(TIMEOUT) == [result(23)]


def test_cancelled_requests_are_not_translated(loops, simulation):
    simulation.block()
    first = loops.submit(GREEDY, sentences(20))
    simulation.wait_for_call()
    cancelled, other = loops.submit(GREEDY, sentences(21)), loops.submit(GREEDY, sentences(22))
    assert cancelled.cancel()
    simulation.unblocked.set()
    assert [first.result(TIMEOUT), other.result(TIMEOUT)] == [[result(20)], [result(22)]]
    assert [joining for _, joining, _ in simulation.calls] == [[20], [22]]
    with pytest.raises(CancelledError):
        cancelled.result(TIMEOUT)


def test_a_request_can_be_cancelled_while_it_is_translated(loops, simulation):
    simulation.block()
    first = loops.submit(GREEDY, sentences(*range(20, 20 + 2 * CAPACITY)))
    simulation.wait_for_call()
    assert first.cancel()
    other = loops.submit(GREEDY, sentences(50))
    simulation.unblocked.set()
    assert other.result(TIMEOUT) == [result(50)]
    assert [len(joining) for _, joining, _ in simulation.calls] == [CAPACITY, 1]


def test_requests_beyond_the_waiting_limit_are_refused(simulation):
    simulation.block()
    with Loops([MODEL], max_waiting=2) as loops:
        first = loops.submit(GREEDY, sentences(20))
        simulation.wait_for_call()
        waiting = [loops.submit(GREEDY, sentences(21, 22)), loops.submit(GREEDY, sentences(23))]
        with pytest.raises(RunError, match=r"^2 requests are already waiting\. Try again in a moment\.$"):
            loops.submit(GREEDY, sentences(24))
        simulation.unblocked.set()
        results = [future.result(TIMEOUT) for future in (first, *waiting)]
        assert results == [[result(20)], [result(21), result(22)], [result(23)]]
        assert loops.submit(GREEDY, sentences(25)).result(TIMEOUT) == [result(25)]


def test_shutdown_finishes_live_sentences_and_refuses_others(simulation):
    simulation.block()
    with Loops([MODEL]) as loops:
        live = loops.submit(GREEDY, sentences(20, calls=3))
        simulation.wait_for_call()
        waiting, cancelled = loops.submit(GREEDY, sentences(21)), loops.submit(GREEDY, sentences(22))
        cancelled.cancel()
        threading.Timer(0.1, simulation.unblocked.set).start()
    assert live.result(0) == [result(20)]
    for refused in (lambda: waiting.result(0), lambda: loops.submit(GREEDY, sentences(23))):
        with pytest.raises(RunError, match=r"^the server is shutting down\. "):
            refused()
    assert [live for _, _, live in simulation.calls] == [[20]] * 3


def test_loops_without_sentences_end(loops, simulation):
    loops.submit(GREEDY, sentences(20)).result(TIMEOUT)
    for thread in list(loops._threads.values()):
        thread.join(TIMEOUT)
    assert loops._threads == {}
    assert loops._waiting == {}
