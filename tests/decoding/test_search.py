"""Search over any number of sentences: results in order, in batches of few shapes."""

import math

import numpy as np
import pytest
from uncached import EOS, SPECIAL_IDS, assert_same, reference_beam_search, reference_greedy

from transformer_jax.decoding import search as search_module
from transformer_jax.decoding.search import BATCH_SIZES, LENGTH_BUCKETS, Sampling, max_target_length, search
from transformer_jax.decoding.search_inputs import Hypotheses
from transformer_jax.errors import InputError
from transformer_jax.runtime import memory

A = 4
FIRST, SECOND, *_, LAST = LENGTH_BUCKETS


@pytest.fixture
def recorded(monkeypatch, dice):
    """A simulated greedy search, which translates each source to its first token, and the shapes of its batches."""
    shapes = []

    def simulated_greedy(inputs):
        source, length_limits = np.asarray(inputs.source), np.asarray(inputs.length_limits)
        shapes.append(source.shape)
        tokens = np.zeros((len(source), 1, inputs.buffer_length), np.int32)
        tokens[:, 0, 0], tokens[:, 0, 1] = source[:, 0], EOS
        return Hypotheses(tokens, length_limits[:, None].astype(np.float32))

    monkeypatch.setattr(search_module, "_greedy", simulated_greedy)

    def call(lengths):
        return search(*dice(eos=1.0), sources_of(lengths), SPECIAL_IDS, 1, 0.6)

    return call, shapes


def sources_of(lengths):
    """Return one source per length. The first token is the index of the source plus 4."""
    return [(index + 4, *[A] * (length - 2), EOS) for index, length in enumerate(lengths)]


@pytest.mark.parametrize("sentences", [0, 1, 7, 65, 200])
def test_results_of_any_number_of_sentences_are_in_order(sentences, recorded):
    call, _ = recorded
    lengths = np.random.default_rng(0).integers(2, 301, sentences).tolist()
    hypotheses = [best for [best] in call(lengths)]
    assert [hypothesis.ids for hypothesis in hypotheses] == [(index + 4, EOS) for index in range(sentences)]
    assert [hypothesis.score for hypothesis in hypotheses] == [max_target_length(length) for length in lengths]


def test_batches_have_few_shapes_and_contain_all_sentences(recorded):
    call, shapes = recorded
    lengths = [length for length in range(2, 128) for _ in range(5)]
    call(lengths)
    assert {batch_size for batch_size, _ in shapes} <= set(BATCH_SIZES)
    assert {length for _, length in shapes} <= set(LENGTH_BUCKETS)
    assert sum(batch_size for batch_size, _ in shapes) >= len(lengths)


@pytest.mark.parametrize(
    ("length", "padded_length"),
    [(2, FIRST), (FIRST, FIRST), (FIRST + 1, SECOND), (LAST, LAST), (LAST + 1, 2 * LAST), (2 * LAST + 1, 3 * LAST)],
)
def test_sources_are_padded_to_the_next_bucket_or_multiple(length, padded_length, recorded):
    call, shapes = recorded
    call([length])
    assert shapes == [(1, padded_length)]


def test_65_sentences_make_a_full_batch_and_one_sentence_alone(recorded):
    call, shapes = recorded
    call([5] * 65)
    assert sorted(shapes) == [(1, FIRST), (64, FIRST)]


def test_as_many_batches_run_in_parallel_as_fit_in_memory(random_case, monkeypatch):
    model, batches = random_case().model, [search_module._Batch([0] * 64, FIRST)] * 3
    monkeypatch.setattr(search_module, "max_parallel_batches", lambda: 4)

    def parallel_batches(available):
        monkeypatch.setattr(memory, "device_memory", lambda: available)
        try:
            return search_module._parallel_batches(model, 4, batches)
        except InputError:
            return 0

    assert parallel_batches(None) == 3
    # The first power of two in which a batch fits is too small for two batches. Three fit in four times as much.
    first = next(2**power for power in range(40) if parallel_batches(2**power))
    assert [parallel_batches(memory) for memory in (first // 2, first, 4 * first)] == [0, 1, 3]


@pytest.mark.parametrize("beam_size", [1, 4])
def test_the_length_limit_depends_on_the_sentence_alone(beam_size, dice):
    # The model almost never ends by itself. The limits are 2 * 3 + 8 = 14 and 2 * 7 + 8 = 22.
    case = dice(eos=1e-6, a=1 - 1e-6)
    results = search(*case, [(A, A, EOS), (A,) * 6 + (EOS,)], SPECIAL_IDS, beam_size, 2.0)
    assert [len(best.ids) for best, *_ in results] == [14, 22]


@pytest.mark.parametrize("alpha", [0.0, 0.6])
def test_a_beam_of_one_is_greedy(alpha, random_case, batch):
    case = random_case()
    source = batch[0][1]  # 2 tokens: the limit of 12 fits the 13 positions of the reference search.
    [hypotheses] = search(*case, [source], SPECIAL_IDS, 1, alpha)
    assert_same(hypotheses, [reference_greedy(case, source, max_target_length(len(source)))])


def test_each_sentence_gets_its_own_n_best_list(random_case):
    case = random_case(spread=1.0)
    sources = [(A, EOS), (7, EOS), (9, EOS)]
    for source, n_best in zip(sources, search(*case, sources, SPECIAL_IDS, 3, 0.6, n_best=3), strict=True):
        expected = reference_beam_search(case, source, max_target_length(2), 3, 0.6)
        assert [ids for ids, _ in n_best] == [ids for ids, _ in expected]
        assert [score for _, score in n_best] == pytest.approx([score for _, score in expected], rel=1e-4)


def test_a_draw_depends_on_its_seed_and_numbers_only(random_case):
    case = random_case(spread=0.5)
    key_numbers = [(text, part) for text in (0, 5) for part in range(5)]

    def draw(seed, key_numbers):
        sources = [(A, 7, EOS)] * len(key_numbers)
        results = search(*case, sources, SPECIAL_IDS, 1, 0.6, Sampling(seed=seed), key_numbers)
        return [hypothesis.ids for [hypothesis] in results]

    drawn = draw(0, key_numbers)
    assert drawn == draw(0, key_numbers)
    assert drawn == [draw(0, [numbers])[0] for numbers in key_numbers]
    assert drawn[::-1] == draw(0, key_numbers[::-1])
    assert len({tuple(draw(seed, key_numbers)) for seed in (0, 1, 2**31, 2**32 - 1)}) == 4
    assert drawn[:5] != drawn[5:]
    assert len(set(drawn)) > 1  # equal sentences are drawn independently


@pytest.mark.parametrize("temperature", [0.0, -1.0, 1e-9, math.inf, math.nan])
def test_sampling_options_out_of_range_are_refused(temperature):
    with pytest.raises(InputError, match=r"temperature to a number from 0\.001"):
        Sampling(temperature=temperature)
    with pytest.raises(InputError, match="top-k -1"):
        Sampling(top_k=-1)
