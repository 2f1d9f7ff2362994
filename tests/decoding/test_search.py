"""Any number of sentences, in order, in batches of few shapes."""

import math

import numpy as np
import pytest
from uncached import EOS, SPECIAL, assert_same, beam_by_hand, greedy_by_hand

from transformer_jax.decoding import search as module
from transformer_jax.decoding.next_token import Hypotheses
from transformer_jax.decoding.search import BATCH_SIZES, LENGTH_BUCKETS, Sampling, max_target_length, search
from transformer_jax.errors import InputError

A = 4
FIRST, SECOND, *_, LAST = LENGTH_BUCKETS


@pytest.fixture
def recorded(monkeypatch, dice):
    """Greedy search that only notes the shapes and answers each row with its own first token, then [EOS]."""
    shapes = []

    def answer(model, params, batch, limits, length, special_ids):
        shapes.append(batch.shape)
        tokens = np.zeros((len(batch), 1, length), np.int32)
        tokens[:, 0, 0], tokens[:, 0, 1] = batch[:, 0], EOS
        return Hypotheses(tokens, limits[:, None].astype(np.float32))

    monkeypatch.setattr(module, "_greedy", answer)

    def call(lengths):
        return search(*dice(eos=1.0), sources_of(lengths), SPECIAL, 1, 0.6)

    return call, shapes


def sources_of(lengths):
    """A source of each length; the first token tells which it is."""
    return [(number + 4, *[A] * (length - 2), EOS) for number, length in enumerate(lengths)]


@pytest.mark.parametrize("sentences", [0, 1, 7, 65, 200])
def test_any_number_of_sentences_comes_back_in_order(sentences, recorded):
    call, _ = recorded
    lengths = np.random.default_rng(0).integers(2, 301, sentences).tolist()
    found = call(lengths)
    assert [one.ids for [one] in found] == [(number + 4, EOS) for number in range(sentences)]
    assert [one.score for [one] in found] == [max_target_length(length) for length in lengths]


def test_batches_have_few_shapes_and_hold_their_sentences(recorded):
    call, shapes = recorded
    lengths = [length for length in range(2, 128) for _ in range(5)]
    call(lengths)
    assert {rows for rows, _ in shapes} <= set(BATCH_SIZES)
    assert {width for _, width in shapes} <= set(LENGTH_BUCKETS)
    assert sum(rows for rows, _ in shapes) >= len(lengths)


@pytest.mark.parametrize(
    ("length", "width"),
    [(2, FIRST), (FIRST, FIRST), (FIRST + 1, SECOND), (LAST, LAST), (LAST + 1, 2 * LAST), (2 * LAST + 1, 3 * LAST)],
)
def test_width_is_the_next_of_the_list_and_beyond_it_the_next_multiple(length, width, recorded):
    call, shapes = recorded
    call([length])
    assert shapes == [(1, width)]


def test_65_sentences_of_a_width_take_a_full_batch_and_one_alone(recorded):
    call, shapes = recorded
    call([5] * 65)
    assert sorted(shapes) == [(1, FIRST), (64, FIRST)]


def test_as_many_batches_are_decoded_at_once_as_the_memory_holds(random_case, monkeypatch):
    model, batches = random_case().model, [([0] * 64, FIRST)] * 3
    monkeypatch.setattr(module, "max_parallel_batches", lambda: 4)

    def at_once(there):
        monkeypatch.setattr(module, "device_memory", lambda: there)
        try:
            return module._at_once(model, 4, batches)
        except InputError:
            return 0

    assert at_once(None) == 3
    # The first power of two that holds a batch holds no second one; four times as much holds three.
    first = next(2**power for power in range(40) if at_once(2**power))
    assert [at_once(first // 2), at_once(first), at_once(4 * first)] == [0, 1, 3]


@pytest.mark.parametrize("beam", [1, 4])
def test_most_tokens_depend_on_the_sentence_alone(beam, dice):
    # The model never ends by itself; 2 * 3 + 8 = 14, also beside a sentence of 7.
    case = dice(eos=1e-6, a=1 - 1e-6)
    found = search(*case, [(A, A, EOS), (A,) * 6 + (EOS,)], SPECIAL, beam, 2.0)
    assert [len(best.ids) for best, *_ in found] == [14, 22]


@pytest.mark.parametrize("alpha", [0.0, 0.6])
def test_a_beam_of_one_is_greedy(alpha, random_case, batch):
    case = random_case()
    # Limits of 2 * length + 8 would need longer rows by hand: a source of 2 tokens may have 12.
    source = batch[0][1]
    [[found]] = search(*case, [source], SPECIAL, 1, alpha)
    expected = greedy_by_hand(case, source, max_target_length(len(source)))
    assert_same([found], [expected])


def test_n_best_of_each_sentence_is_its_own(random_case):
    case = random_case(spread=1.0)
    sources = [(A, EOS), (7, EOS), (9, EOS)]
    for source, found in zip(sources, search(*case, sources, SPECIAL, 3, 0.6, wanted=3), strict=True):
        expected = beam_by_hand(case, source, max_target_length(2), 3, 0.6)
        assert [one.ids for one in found] == [one.ids for one in expected]
        assert [one.score for one in found] == pytest.approx([one.score for one in expected], rel=1e-4)


def test_a_draw_depends_on_seed_and_numbers_and_on_no_other_sentence(random_case):
    case = random_case(spread=0.5)
    numbers = [(text, part) for text in (0, 5) for part in range(5)]

    def ids(seed, draws):
        sources = [(A, 7, EOS)] * len(draws)
        found = search(*case, sources, SPECIAL, 1, 0.6, Sampling(seed=seed), draws)
        return [one.ids for [one] in found]

    drawn = ids(0, numbers)
    assert drawn == ids(0, numbers)
    assert drawn == [ids(0, [one])[0] for one in numbers]
    assert drawn[::-1] == ids(0, numbers[::-1])
    assert drawn != ids(1, numbers)
    assert drawn[:5] != drawn[5:]
    assert len(set(drawn)) > 1  # equal sentences are drawn independently


@pytest.mark.parametrize("temperature", [0.0, -1.0, 1e-9, math.inf, math.nan])
def test_a_temperature_that_is_none_is_refused(temperature):
    with pytest.raises(InputError, match=r"temperature from 0\.001"):
        Sampling(temperature=temperature)
    with pytest.raises(InputError, match="top-k -1"):
        Sampling(top_k=-1)
