"""The decoding loop: sentences enter free slots at any step, and are cut if the ring is too short."""

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
    shape = LoopShape(1, 7, LIMIT)
    [(translated, hypotheses)] = translate_few(case.search_model, METHODS[method], deque([request]), shape)
    assert translated == request
    return hypotheses


def together(case, method, requests, slots, columns):
    """Return the hypotheses of requests that share the slots, by their number."""
    shape = LoopShape(slots, 7, columns)
    results = translate_many(case.search_model, METHODS[method], deque(requests), shape)
    return {request.number: hypotheses for request, hypotheses in results}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("slots", [8, 17, 32])
def test_every_sentence_is_translated_as_if_it_were_alone(method, slots, random_case):
    case = random_case(spread=1.0)
    requests = requests_of(101, method)
    results = together(case, method, requests, slots, LIMIT)
    assert sorted(results) == list(range(101))
    lengths = {len(hypotheses[0].ids) for hypotheses in results.values()}
    assert min(lengths) <= 5 < max(lengths)
    for request in requests:
        assert_same(results[request.number], alone(case, method, request))


@pytest.mark.parametrize("method", METHODS)
def test_translations_that_do_not_fit_in_the_ring_are_cut(method, random_case):
    case, columns = random_case(spread=1.0), 5
    requests = requests_of(41, method)
    results = together(case, method, requests, 8, columns)
    cut = [request for request in requests if results[request.number] is None]
    assert 0 < len(cut) < 41
    for request in requests:
        if request in cut:
            assert request.length_limit > columns
        else:
            assert_same(results[request.number], alone(case, method, request))
    few = translate_few(case.search_model, METHODS[method], deque(requests), LoopShape(7, 7, columns))
    assert [request for request, hypotheses in few if hypotheses is None] == cut


def test_a_ring_longer_than_all_sentences_is_used_many_times(random_case):
    # 41 sentences in 8 slots take more steps than the ring has columns, so all columns are overwritten several times.
    case = random_case(spread=1.0)
    requests = requests_of(41, "greedy", seed=1)
    results = together(case, "greedy", requests, 8, LIMIT + 1)
    steps = sum(len(best.ids) for [best] in results.values()) / 8
    assert steps > 2 * LIMIT
    for request in requests:
        if request.length_limit <= 12:  # The reference has room for 13 tokens.
            assert_same(results[request.number], [reference_greedy(case, request.source, request.length_limit)])


def test_the_same_requests_enter_the_same_slots(random_case, monkeypatch):
    entered = []
    original = slot_loop.decode_some

    def recorded(search_model, method, slots, new, max_live, max_steps):
        entered.append((int(slots.step), new.source[:, 0].tolist(), new.length_limits.tolist(), max_live.tolist()))
        return original(search_model, method, slots, new, max_live, max_steps)

    monkeypatch.setattr(slot_loop, "decode_some", recorded)
    runs = []
    for _ in range(2):
        entered.clear()
        shape = LoopShape(16, 7, LIMIT)
        results = list(
            translate_many(random_case().search_model, GreedySearch(), deque(requests_of(41, "greedy")), shape)
        )
        runs.append((results, list(entered)))
    assert runs[0] == runs[1]
    # Groups of two sentences enter the 16 slots. The last sentences leave when two are live.
    assert {len(length_limits) for _, _, length_limits, _ in runs[0][1]} == {2 * slot_loop.GROUPS}
    assert {count for *_, max_live in runs[0][1] for count in max_live} == {14, 15, 2}


def test_no_step_is_taken_while_free_slots_could_be_filled(random_case, monkeypatch):
    live, steps = [], []
    original = slot_loop.decode_some

    def recorded(*arguments):
        slots, results = original(*arguments)
        live.extend(results.is_live.sum(axis=1).tolist())
        steps.append(int(slots.step))
        return slots, results

    monkeypatch.setattr(slot_loop, "decode_some", recorded)
    list(
        translate_many(
            random_case().search_model, GreedySearch(), deque(requests_of(32, "greedy")), LoopShape(16, 7, LIMIT)
        )
    )
    assert live[:7] == [2, 4, 6, 8, 10, 12, 14]
    assert steps[0] > 0
