"""Beam search compared with all possible sequences, with a reference beam search, and with scores by hand."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from uncached import EOS, UNK, Case, assert_same, reference_beam_search, reference_greedy

from transformer_jax.decoding.beam import BeamSearch, length_penalty
from transformer_jax.decoding.slot_loop import Hypothesis
from transformer_jax.model.transformer import Transformer

A, B = 4, 5


def run_beam(case, sources, limits, beam_size=3, alpha=0.6, source_length=7, columns=13, n_best=None):
    return case.decode(BeamSearch(beam_size, alpha, n_best or beam_size), sources, limits, source_length, columns)


def all_translations(case, source, limit, alpha):
    """Return all translations of at most ``limit`` tokens, best first, scored in one uncached pass."""
    tokens = [token for token in range(case.model.target_vocab_size) if token == UNK or token > EOS]
    sequences = [(*body, EOS) for length in range(limit) for body in itertools.product(tokens, repeat=length)]
    log_probs = case.uncached_log_probs(source, [ids[:-1] for ids in sequences], length=limit)
    hypotheses = []
    for row, ids in enumerate(sequences):
        total = sum(float(log_probs[row, position, token]) for position, token in enumerate(ids))
        hypotheses.append(Hypothesis(ids, total / ((5 + len(ids)) / 6) ** alpha))
    return sorted(hypotheses, key=lambda hypothesis: -hypothesis.score)


@pytest.mark.parametrize("alpha", [0.0, 0.6, 2.0])
def test_a_wide_beam_finds_all_translations_in_order(alpha, random_case):
    # Three tokens are allowed besides [EOS]: 1 + 3 + 9 + 27 translations of at most 4 tokens.
    case = random_case(vocab_size=6)
    [hypotheses] = run_beam(case, [(B, A, EOS)], [4], 41, alpha, source_length=3, columns=4)
    expected = all_translations(case, (B, A, EOS), 4, alpha)
    assert len(expected) == 40
    assert_same(hypotheses, expected)


# Derandomized: in one of thousands of models two translations have equal scores, so that either may come first.
@settings(max_examples=30, derandomize=True)
@given(
    seed=st.integers(0, 2**32 - 1),
    spread=st.floats(0.1, 3.0),
    alpha=st.floats(0.0, 3.0),
    source=st.lists(st.integers(UNK, B), max_size=2),
    limit=st.integers(1, 4),
)
def test_all_translations_of_any_model_are_found_in_order(random_case, seed, spread, alpha, source, limit):
    case = random_case(vocab_size=6, seed=seed, spread=spread)
    source = tuple(A if token in (2, EOS) else token for token in source)
    [hypotheses] = run_beam(case, [(*source, EOS)], [limit], 41, alpha, columns=4)
    assert_same(hypotheses, all_translations(case, (*source, EOS), limit, alpha))


@pytest.mark.parametrize(("beam_size", "alpha"), [(1, 0.6), (2, 0.0), (2, 2.0), (3, 0.6), (5, 0.6)])
def test_early_stopping_changes_no_hypothesis(beam_size, alpha, random_case, batch):
    case = random_case(seed=beam_size, spread=1.0)
    results = run_beam(case, *batch, beam_size, alpha)
    for source, limit, hypotheses in zip(*batch, results, strict=True):
        assert_same(hypotheses, reference_beam_search(case, source, limit, beam_size, alpha))


@pytest.mark.parametrize("n_best", [1, 2, 4])
def test_a_smaller_n_best_finds_the_same_best_hypotheses(n_best, random_case, batch):
    for seed in range(5):
        case = random_case(seed=seed, spread=1.0)
        few, all_five = run_beam(case, *batch, beam_size=5, n_best=n_best), run_beam(case, *batch, beam_size=5)
        for hypotheses, expected in zip(few, all_five, strict=True):
            assert_same(hypotheses[:n_best], expected[:n_best])


def test_one_beam_is_never_worse_than_greedy(random_case, batch):
    for seed in range(5):
        case = random_case(seed=seed, spread=1.0)
        for source, limit, [best] in zip(*batch, run_beam(case, *batch, beam_size=1, alpha=0.0), strict=True):
            assert best.score >= reference_greedy(case, source, limit).score - 1e-4


def test_length_penalty_is_equation_14():
    # ((5 + 7) / 6) ** 1 = 2, ((5 + 1) / 6) ** alpha = 1, ((5 + 19) / 6) ** 0.5 = 2
    for lengths, alpha, expected in (([7, 1], 1.0, [2, 1]), ([1, 19], 0.5, [1, 2]), ([1, 19], 0.0, [1, 1])):
        assert length_penalty(jnp.asarray(lengths), jnp.asarray(alpha)).tolist() == pytest.approx(expected)


def test_length_penalty_prefers_longer_translations(dice):
    # Ending adds log 0.3. One more token adds log 0.6 and, with alpha = 3, divides by ((n + 6) / (n + 5)) ** 3.
    case = dice(eos=0.3, a=0.6, unk=0.1)
    for alpha, ids in ((0.0, (EOS,)), (3.0, (A,) * 6 + (EOS,))):
        [[best, *_]] = run_beam(case, [(A, EOS)], [7], beam_size=2, alpha=alpha, columns=7)
        assert best.ids == ids
        log_prob = (len(ids) - 1) * math.log(0.6) + math.log(0.3)
        assert best.score == pytest.approx(log_prob / ((5 + len(ids)) / 6) ** alpha, abs=1e-5)


def test_hypotheses_are_sorted_and_distinct(random_case, batch):
    for hypotheses in run_beam(random_case(spread=1.0), *batch, beam_size=5):
        scores = [hypothesis.score for hypothesis in hypotheses]
        assert scores == sorted(scores, reverse=True)
        assert len({hypothesis.ids for hypothesis in hypotheses}) == len(hypotheses)


def test_a_sentence_alone_is_translated_as_in_a_batch(random_case, batch):
    case = random_case(spread=1.0)
    for source, limit, hypotheses in zip(*batch, run_beam(case, *batch, beam_size=4), strict=True):
        [alone] = run_beam(case, [source], [limit], beam_size=4)
        assert_same(alone, hypotheses)


def test_padding_and_other_rows_change_no_hypothesis(random_case, batch):
    case = random_case(spread=1.0)
    sources, limits = batch
    larger = [(7, EOS), *sources, (A,) * 10 + (EOS,)], [3, *limits, 17]
    _, *results, _ = run_beam(case, *larger, beam_size=4, source_length=11, columns=17)
    for hypotheses, expected in zip(results, run_beam(case, *batch, beam_size=4), strict=True):
        assert_same(hypotheses, expected)


def test_a_beam_may_be_larger_than_the_vocabulary(random_case, batch):
    # The first step has 5 continuations and the second 20, for 23 beams.
    case = random_case(vocab_size=7)
    sources = [tuple(min(token, 6) for token in source) for source in batch[0]]
    results = run_beam(case, sources, batch[1], beam_size=23)
    for source, limit, hypotheses in zip(sources, batch[1], results, strict=True):
        assert len(hypotheses) == {1: 1}.get(limit, 23)
        assert hypotheses[0] == max(hypotheses, key=lambda hypothesis: hypothesis.score)
        assert all(len(hypothesis.ids) <= limit for hypothesis in hypotheses)
        assert len(source) > 1


def test_a_limit_of_one_token_leaves_one_translation(dice):
    [hypotheses] = run_beam(dice(eos=0.25, a=0.75), [(A, EOS)], [1], beam_size=3)
    assert [hypothesis.ids for hypothesis in hypotheses] == [(EOS,)]
    assert hypotheses[0].score == pytest.approx(math.log(0.25), abs=1e-5)  # ((5 + 1) / 6) ** 0.6 = 1


class StepCounter(Transformer):
    """A model that counts its decoding steps."""

    def decode_step(self, *inputs):
        jax.debug.callback(lambda: STEPS.append(1))
        return super().decode_step(*inputs)


STEPS = []


def test_the_search_stops_when_no_live_hypothesis_can_win(dice):
    # After two steps [EOS] and a [EOS] are finished: log 0.9 and log(0.06 * 0.9) = -2.9. The best live hypothesis is
    # a a: 2 log 0.06 = -5.6. alpha = 0 turns the penalty off.
    model, params = dice(eos=0.9, a=0.06, b=0.04)
    counter = Case(StepCounter(model.config, model.source_vocab_size, model.target_vocab_size), params)
    [hypotheses] = run_beam(counter, [(A, EOS)], [101], beam_size=2, alpha=0.0, columns=101)
    jax.effects_barrier()
    assert len(STEPS) == 2
    assert [hypothesis.ids for hypothesis in hypotheses] == [(EOS,), (A, EOS)]

    STEPS.clear()  # The best one is certain after one step: log 0.9, compared with log 0.06 of the live ones.
    [[best, *_]] = run_beam(counter, [(A, EOS)], [101], beam_size=2, alpha=0.0, columns=101, n_best=1)
    jax.effects_barrier()
    assert len(STEPS) == 1
    assert best.ids == (EOS,)


@pytest.mark.parametrize(("dtype", "rounding"), [("bfloat16", 2**-8), ("float16", 2**-11)])
def test_16_bit_scores_are_those_of_the_uncached_model(dtype, rounding, random_case, batch):
    case = random_case(dtype=dtype)
    for source, limit, hypotheses in zip(*batch, run_beam(case, *batch, alpha=0.0), strict=True):
        for ids, score in hypotheses:
            assert len(ids) <= limit
            log_probs = case.uncached_log_probs(source, [ids[:-1]], 13)[0, np.arange(len(ids)), ids]
            assert score == pytest.approx(log_probs.sum(), rel=5 * rounding, abs=13 * rounding)
