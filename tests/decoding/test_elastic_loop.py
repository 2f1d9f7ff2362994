"""Sentences join a running loop, which has as many slots as its sentences need."""

import pytest
from test_slots import METHODS, alone, requests_of
from uncached import EOS, assert_same

from transformer_jax.decoding import elastic_loop
from transformer_jax.decoding.elastic_loop import MAX_STEPS, ElasticLoop
from transformer_jax.decoding.sampling import GreedySearch
from transformer_jax.decoding.slot_loop import Request, SlotLoop
from transformer_jax.errors import InputError
from transformer_jax.runtime import memory

A = 4
SOURCE_LENGTH = 7
"""The padded length of all sources. Translations have up to 2 * 7 + 8 = 22 tokens."""


@pytest.fixture
def sizes(monkeypatch):
    """Give the loops up to 17 slots, and return the number of slots of each call."""
    sizes = []
    original = SlotLoop.decode

    def recorded(loop, *arguments):
        sizes.append(loop.size)
        return original(loop, *arguments)

    monkeypatch.setattr(SlotLoop, "decode", recorded)
    monkeypatch.setattr(elastic_loop, "default_slots", lambda beam_size: 17)
    return sizes


@pytest.fixture
def never_ending(dice, sizes):
    """Return a loop whose translations end at their length limit, so that the tests control their length."""
    return ElasticLoop(dice(eos=1e-9, a=1.0).search_model, GreedySearch(), SOURCE_LENGTH)


def request(number, limit):
    return Request(number, (A, EOS), limit)


def numbers(results):
    return [request.number for request, _ in results]


@pytest.mark.parametrize("method", METHODS)
def test_sentences_that_join_are_translated_as_if_alone(method, random_case, sizes):
    case = random_case(spread=1.0)
    requests = [request._replace(length_limit=min(request.length_limit, 22)) for request in requests_of(41, method)]
    loop = ElasticLoop(case.search_model, METHODS[method], SOURCE_LENGTH)
    waiting, results, arrivals = list(requests), {}, [1, 2, 5, 0, 8, 3, 8, 8, 1, 0, 0, 8, 8]
    while len(results) < len(requests):
        count = min(loop.capacity, arrivals.pop(0) if arrivals else 1, len(waiting))
        if loop.live or count:
            finished = loop.advance([waiting.pop(0) for _ in range(count)])
            results |= {request.number: hypotheses for request, hypotheses in finished}
    assert {1, 8, 17} == set(sizes)
    for request in requests:
        assert_same(results[request.number], alone(case, method, request))


def test_a_long_sentence_does_not_delay_a_short_one(never_ending):
    assert never_ending.advance([request(0, limit=22)]) == []
    assert numbers(never_ending.advance([request(1, limit=2)])) == [1]
    assert never_ending.live == 1
    assert numbers(never_ending.advance([])) == [0]
    assert never_ending.live == 0


def test_a_call_ends_after_a_limited_number_of_steps(never_ending):
    [(_, [hypothesis])] = never_ending.advance([request(0, limit=MAX_STEPS)])
    assert len(hypothesis.ids) == MAX_STEPS
    assert never_ending.advance([request(1, limit=MAX_STEPS + 1)]) == []
    assert numbers(never_ending.advance([])) == [1]


def test_a_call_ends_when_an_eighth_of_the_sentences_is_finished(never_ending):
    assert never_ending.capacity == 8
    assert numbers(never_ending.advance([request(number, limit=2 + number) for number in range(7)])) == [0]
    assert numbers(never_ending.advance([request(number, limit=20) for number in range(7, 15)])) == [1]
    # With 16 sentences, the call ends when two of them are finished.
    assert numbers(never_ending.advance([request(number, limit=20) for number in (15, 16, 17)])) == [2, 3]


def test_the_number_of_slots_follows_the_number_of_sentences(never_ending, sizes):
    never_ending.advance([request(0, limit=22)])
    never_ending.advance([request(1, limit=1)])
    never_ending.advance([request(number, limit=2) for number in range(2, 10)])
    assert never_ending.live == 1
    never_ending.advance([request(10, limit=1)])
    assert sizes == [1, 8, 17, 8]
    while never_ending.live:
        never_ending.advance([])
    never_ending.advance([request(11, limit=1)])
    assert sizes[-1] == 1


def test_capacity_is_the_number_of_free_slots(never_ending, sizes):
    for first in (0, 8):
        never_ending.advance([request(first + index, limit=22 if index else 1) for index in range(8)])
    assert never_ending.live == 14
    assert never_ending.capacity == 3


def test_all_numbers_of_slots_are_warmed_up(never_ending, sizes, monkeypatch):
    changes = set()
    resize = SlotLoop.resize
    monkeypatch.setattr(SlotLoop, "resize", lambda loop, size: changes.add((loop.size, size)) or resize(loop, size))
    never_ending.warm_up(request(0, limit=22))
    assert set(sizes) == {1, 8, 17}
    assert changes == {(1, 8), (1, 17), (8, 1), (8, 17), (17, 1), (17, 8)}
    assert never_ending.live == 0


def test_slots_that_do_not_fit_in_memory_are_refused(random_case, monkeypatch):
    def loop(available):
        monkeypatch.setattr(memory, "device_memory", lambda: available)
        return ElasticLoop(random_case().search_model, GreedySearch(), SOURCE_LENGTH)

    assert loop(10**9).capacity == 8
    assert loop(1).capacity == 1
    with pytest.raises(InputError, match="not enough memory for beam size 1 with texts of up to 7 tokens"):
        loop(1).advance([request(0, limit=5)])
