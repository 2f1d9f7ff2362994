"""Beam search against all sequences there are, against a plain beam search, and against scores by hand."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from uncached import EOS, SPECIAL, UNK, Case, assert_same, beam_by_hand, decoded, greedy_by_hand, padded

from transformer_jax.decoding.beam import beam_search, length_penalty
from transformer_jax.decoding.search import Hypothesis
from transformer_jax.model.transformer import Transformer

A, B = 4, 5
beam_jitted = jax.jit(beam_search, static_argnums=(0, 4, 5, 6))


def run_beam(case, sources, limits, beams=3, alpha=0.6, width=7, length=13, wanted=None):
    inputs = padded(sources, width), np.asarray(limits, np.int32), length, SPECIAL, beams, alpha, wanted or beams
    return decoded(beam_jitted(*case, *inputs))


def every_sequence(case, source, limit, alpha):
    """All translations of at most ``limit`` tokens, best first, scored in one uncached pass."""
    words = [word for word in range(case.model.target_vocab_size) if word == UNK or word > EOS]
    sequences = [(*body, EOS) for size in range(limit) for body in itertools.product(words, repeat=size)]
    log_p = case.whole_pass(source, [one[:-1] for one in sequences], length=limit)
    totals = [
        sum(float(log_p[row, place, word]) for place, word in enumerate(one)) for row, one in enumerate(sequences)
    ]
    scored = (
        Hypothesis(one, total / ((5 + len(one)) / 6) ** alpha) for one, total in zip(sequences, totals, strict=True)
    )
    return sorted(scored, key=lambda one: -one.score)


@pytest.mark.parametrize("alpha", [0.0, 0.6, 2.0])
def test_a_beam_as_wide_as_all_sequences_finds_them_all_in_order(alpha, random_case):
    # Three words that may be produced beside [EOS]: 1 + 3 + 9 + 27 sequences of at most 4 tokens.
    case = random_case(words=6)
    [found] = run_beam(case, [(B, A, EOS)], [4], beams=41, alpha=alpha, width=3, length=4)
    expected = every_sequence(case, (B, A, EOS), 4, alpha)
    assert len(expected) == 40
    assert_same(found, expected)


# The same examples each time: once in thousands of models two sequences score alike, and either may come first.
@settings(max_examples=30, derandomize=True)
@given(
    seed=st.integers(0, 2**32 - 1),
    spread=st.floats(0.1, 3.0),
    alpha=st.floats(0.0, 3.0),
    source=st.lists(st.integers(UNK, B), max_size=2),
    limit=st.integers(1, 4),
)
def test_any_model_s_sequences_are_found_in_order(random_case, seed, spread, alpha, source, limit):
    case = random_case(words=6, seed=seed, spread=spread)
    source = tuple(A if word in (2, EOS) else word for word in source)
    [found] = run_beam(case, [(*source, EOS)], [limit], beams=41, alpha=alpha, width=7, length=4)
    assert_same(found, every_sequence(case, (*source, EOS), limit, alpha))


@pytest.mark.parametrize(("beams", "alpha"), [(1, 0.6), (2, 0.0), (2, 2.0), (3, 0.6), (5, 0.6)])
def test_stopping_early_loses_nothing(beams, alpha, random_case, batch):
    case = random_case(seed=beams, spread=1.0)
    expected = [beam_by_hand(case, source, limit, beams, alpha) for source, limit in zip(*batch, strict=True)]
    for found, by_hand in zip(run_beam(case, *batch, beams, alpha), expected, strict=True):
        assert_same(found, by_hand)


@pytest.mark.parametrize("wanted", [1, 2, 4])
def test_wanting_fewer_finds_the_best_of_all(wanted, random_case, batch):
    for seed in range(5):
        case = random_case(seed=seed, spread=1.0)
        few, every = run_beam(case, *batch, beams=5, wanted=wanted), run_beam(case, *batch, beams=5)
        for found, best in zip(few, every, strict=True):
            assert_same(found[:wanted], best[:wanted])


def test_one_beam_is_never_worse_than_greedy(random_case, batch):
    for seed in range(5):
        case = random_case(seed=seed, spread=1.0)
        for source, limit, [found] in zip(*batch, run_beam(case, *batch, beams=1, alpha=0.0), strict=True):
            assert found.score >= greedy_by_hand(case, source, limit).score - 1e-4


def test_length_penalty_is_equation_14():
    # ((5 + 7) / 6) ** 1 = 2, ((5 + 1) / 6) ** alpha = 1, ((5 + 19) / 6) ** 0.5 = 2
    for tokens, alpha, expected in (([7, 1], 1.0, [2, 1]), ([1, 19], 0.5, [1, 2]), ([1, 19], 0.0, [1, 1])):
        assert length_penalty(jnp.asarray(tokens), jnp.asarray(alpha)).tolist() == pytest.approx(expected)


def test_length_penalty_prefers_longer_translations(dice):
    # [EOS] scores log 0.3. A word more costs log 0.6 and, at alpha 3, divides by (n + 1 + 5)^3 / (n + 5)^3.
    case = dice(eos=0.3, a=0.6, unk=0.1)
    for alpha, ids in ((0.0, (EOS,)), (3.0, (A,) * 6 + (EOS,))):
        [[best, *_]] = run_beam(case, [(A, EOS)], [7], beams=2, alpha=alpha, length=7)
        words = len(ids) - 1
        assert best.ids == ids
        log_probability = words * math.log(0.6) + math.log(0.3)
        assert best.score == pytest.approx(log_probability / ((5 + words + 1) / 6) ** alpha, abs=1e-5)


def test_hypotheses_are_sorted_and_all_different(random_case, batch):
    for found in run_beam(random_case(spread=1.0), *batch, beams=5):
        scores = [one.score for one in found]
        assert scores == sorted(scores, reverse=True)
        assert len({one.ids for one in found}) == len(found)


def test_a_sentence_alone_is_translated_as_in_a_batch(random_case, batch):
    case = random_case(spread=1.0)
    together = run_beam(case, *batch, beams=4)
    for source, limit, found in zip(*batch, together, strict=True):
        [alone] = run_beam(case, [source], [limit], beams=4)
        assert_same(alone, found)


def test_padding_longer_sentences_and_fillers_change_nothing(random_case, batch):
    case = random_case(spread=1.0)
    sources, limits = batch
    fuller = run_beam(case, [(), *sources, (A,) * 10 + (EOS,)], [0, *limits, 17], beams=4, width=11, length=17)
    assert fuller[0] == []
    for found, expected in zip(fuller[1:-1], run_beam(case, *batch, beams=4), strict=True):
        assert_same(found, expected)


def test_more_beams_than_words(random_case, batch):
    # The first step has 5 continuations, the second 20, for 23 beams.
    case = random_case(words=7)
    sources = [tuple(min(one, 6) for one in source) for source in batch[0]]
    for source, limit, found in zip(sources, batch[1], run_beam(case, sources, batch[1], beams=23), strict=True):
        assert len(found) == {1: 1}.get(limit, 23)
        assert found[0] == max(found, key=lambda one: one.score)
        assert all(len(one.ids) <= limit for one in found)
        assert len(source) > 1


def test_a_limit_of_one_token_leaves_one_translation(dice):
    [found] = run_beam(dice(eos=0.25, a=0.75), [(A, EOS)], [1], beams=3)
    assert [one.ids for one in found] == [(EOS,)]
    assert found[0].score == pytest.approx(math.log(0.25), abs=1e-5)  # ((5 + 1) / 6) ** 0.6 = 1


class Counted(Transformer):
    """A model that notes each step it is asked for."""

    def decode_step(self, *inputs):
        jax.debug.callback(lambda: STEPS.append(1))
        return super().decode_step(*inputs)


STEPS = []


def test_the_search_stops_when_nothing_open_can_win(dice):
    # After two steps [EOS] and a [EOS] are found: log 0.9 and log(0.06 * 0.9) = -2.9. The best open hypothesis is a a:
    # 2 log 0.06 = -5.6. At alpha 0 there is no penalty.
    model, params = dice(eos=0.9, a=0.06, b=0.04)
    counted = Case(Counted(model.config, model.source_vocab_size, model.target_vocab_size), params)
    [found] = run_beam(counted, [(A, EOS)], [101], beams=2, alpha=0.0, length=101)
    jax.effects_barrier()
    assert len(STEPS) == 2
    assert [one.ids for one in found] == [(EOS,), (A, EOS)]

    STEPS.clear()  # The best is known after one step: log 0.9 beside log 0.06 for what is open.
    [[best, *_]] = run_beam(counted, [(A, EOS)], [101], beams=2, alpha=0.0, length=101, wanted=1)
    jax.effects_barrier()
    assert len(STEPS) == 1
    assert best.ids == (EOS,)


def test_bfloat16_finds_what_its_uncached_model_finds_likely(random_case, batch):
    case = random_case(dtype="bfloat16")
    for source, limit, found in zip(*batch, run_beam(case, *batch, alpha=0.0), strict=True):
        for one in found:
            assert len(one.ids) <= limit
            log_p = case.whole_pass(source, [one.ids[:-1]], 13)[0, np.arange(len(one.ids)), one.ids]
            assert one.score == pytest.approx(log_p.sum(), rel=0.02, abs=0.05)
