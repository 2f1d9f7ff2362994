"""The decoding loop: sentences enter free slots at any step, leave a ring that is too short, and end in fewer slots."""

from collections import deque

import numpy as np
import pytest
from uncached import EOS, assert_same, reference_greedy

from transformer_jax.decoding import slot_loop
from transformer_jax.decoding.beam import BeamSearch
from transformer_jax.decoding.sampling import GreedySearch, RandomSampling
from transformer_jax.decoding.slot_loop import LoopShape, Request, translate_few, translate_many

METHODS = {"greedy": GreedySearch(), "beam": BeamSearch(3, 0.6, 3), "sample": RandomSampling(1.0, 0)}
LIMIT = 23


def requests_of(count, method, seed=0):
    """Return requests with sources of 2 to 7 tokens and limits of 1 to ``LIMIT`` tokens."""
    generator = np.random.default_rng(seed)
    numbers = [(7, number) if method == "sample" else () for number in range(count)]
    return [
        Request(
            index,
            (*generator.integers(EOS + 1, 11, generator.integers(1, 7)).tolist(), EOS),
            int(generator.integers(1, LIMIT + 1)),
            numbers[index],
        )
        for index in range(count)
    ]


def alone(case, method, request):
    """Return the hypotheses of a request that is decoded on its own."""
    shape = LoopShape(1, 7, LIMIT, LIMIT)
    [(index, hypotheses)] = translate_few(case.search_model, METHODS[method], [request], shape)
    assert index == request.number
    return hypotheses


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("slots", "columns"), [(8, LIMIT - 1), (17, 5)])
def test_every_sentence_is_translated_as_if_it_were_alone(method, slots, columns, random_case):
    case = random_case(spread=1.0)
    requests = requests_of(41, method)
    shape = LoopShape(slots, 7, columns, LIMIT)
    results = dict(translate_many(case.search_model, METHODS[method], deque(requests), shape))
    assert sorted(results) == list(range(41))
    lengths = {len(hypotheses[0].ids) for hypotheses in results.values()}
    assert min(lengths) <= 5 < max(lengths)
    for request in requests:
        assert_same(results[request.number], alone(case, method, request))


def test_a_ring_longer_than_all_sentences_is_used_many_times(random_case):
    # 41 sentences in 8 slots take more steps than the ring has columns, so all columns are overwritten several times.
    case = random_case(spread=1.0)
    requests = requests_of(41, "greedy", seed=1)
    results = dict(
        translate_many(case.search_model, GreedySearch(), deque(requests), LoopShape(8, 7, LIMIT, LIMIT + 1))
    )
    steps = sum(len(best.ids) for [best] in results.values()) / 8
    assert steps > 2 * LIMIT
    for request in requests:
        if request.length_limit <= 12:  # The reference has room for 13 tokens.
            assert_same(results[request.number], [reference_greedy(case, request.source, request.length_limit)])


def test_the_same_requests_enter_the_same_slots(random_case, monkeypatch):
    entered = []
    original = slot_loop.decode_some

    def recorded(search_model, method, slots, new, max_live):
        entered.append((int(slots.step), new.slots.tolist(), new.source[:, 0].tolist(), max_live))
        return original(search_model, method, slots, new, max_live)

    monkeypatch.setattr(slot_loop, "decode_some", recorded)
    runs = []
    for _ in range(2):
        entered.clear()
        shape = LoopShape(16, 7, 11, LIMIT)
        results = list(
            translate_many(random_case().search_model, GreedySearch(), deque(requests_of(41, "greedy")), shape)
        )
        runs.append((results, list(entered)))
    assert runs[0] == runs[1]
    # Two of the 16 slots are filled at a time. The last sentences leave when two are live.
    entries = [[slot for slot in slots if slot < 16] for _, slots, _, _ in runs[0][1]]
    assert max(map(len, entries)) == 2
    assert sum(map(len, entries)) == 41
    assert {max_live for *_, max_live in runs[0][1]} == {14, 15, 2}


def test_no_step_is_taken_while_free_slots_could_be_filled(random_case, monkeypatch):
    live = []
    original = slot_loop.decode_some

    def recorded(*arguments):
        slots = original(*arguments)
        live.append((int(slots.step), int(slots.is_live.sum())))
        return slots

    monkeypatch.setattr(slot_loop, "decode_some", recorded)
    list(
        translate_many(
            random_case().search_model, GreedySearch(), deque(requests_of(32, "greedy")), LoopShape(16, 7, 22, 23)
        )
    )
    assert live[:7] == [(0, 2), (0, 4), (0, 6), (0, 8), (0, 10), (0, 12), (0, 14)]
    assert live[7][0] > 0
