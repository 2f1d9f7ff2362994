"""Greedy search and drawing at random, against a plain loop over the uncached model and probabilities by hand."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from uncached import EOS, PAD, SOS, SPECIAL, Case, assert_same, decoded, greedy_by_hand, padded

from transformer_jax.decoding.sampling import greedy, sample
from transformer_jax.model.transformer import Transformer

A, B = 4, 5
greedy_jitted = jax.jit(greedy, static_argnums=(0, 4, 5))
sample_jitted = jax.jit(sample, static_argnums=(0, 4, 5, 8))


def run_greedy(case, sources, limits, width=7, length=13):
    limits = np.asarray(limits, np.int32)
    return [
        row[0] if row else None
        for row in decoded(greedy_jitted(*case, padded(sources, width), limits, length, SPECIAL))
    ]


def run_sample(case, sources, limits, seed=0, temperature=1.0, top_k=0, width=7, length=13):
    keys = jax.random.split(jax.random.key(seed), len(sources))
    inputs = padded(sources, width), np.asarray(limits, np.int32), length, SPECIAL, keys, temperature, top_k
    return [row[0] for row in decoded(sample_jitted(*case, *inputs))]


@pytest.mark.parametrize(("norm", "seed"), [("post", 0), ("pre", 1)])
def test_greedy_is_a_plain_loop_over_the_uncached_model(norm, seed, random_case, batch):
    case = random_case(norm=norm, seed=seed)
    expected = [greedy_by_hand(case, source, limit) for source, limit in zip(*batch, strict=True)]
    assert_same(run_greedy(case, *batch), expected)
    assert len({len(one.ids) for one in expected}) > 2, "sentences should end at different steps"


def test_what_ends_ends_and_what_does_not_is_ended_at_its_limit(dice):
    # The best word at every step is a, so only the limits end anything: a a a [EOS], as likely as it is to end there.
    [first, second] = run_greedy(dice(eos=0.25, a=0.75), [(A, EOS), (B, EOS)], [4, 1])
    assert first.ids == (A, A, A, EOS)
    assert first.score == pytest.approx(3 * math.log(0.75) + math.log(0.25), abs=1e-5)
    assert second.ids == (EOS,)
    [ended] = run_greedy(dice(eos=0.75, a=0.25), [(A, EOS)], [4])
    assert ended.ids == (EOS,)
    assert ended.score == pytest.approx(math.log(0.75), abs=1e-5)


@pytest.mark.parametrize("search", [run_greedy, run_sample])
def test_padding_and_start_of_sentence_are_never_produced(search, random_case, batch):
    model, params = random_case()
    # Their logits become the highest of all, or far below, depending on the sign of the features.
    table = params["projection"]["table"]
    tempting = Case(model, params | {"projection": {"table": table.at[jnp.asarray([PAD, SOS])].multiply(50)}})
    free = tempting.whole_pass(batch[0][0], [()], 13)[0, 0]
    produced = {one for row in search(tempting, *batch) for one in row.ids}
    assert free.argmax() in (PAD, SOS)
    assert not produced & {PAD, SOS}


class Counted(Transformer):
    """A model that notes each step it is asked for."""

    def decode_step(self, *inputs):
        jax.debug.callback(lambda: STEPS.append(1))
        return super().decode_step(*inputs)


STEPS = []


def test_the_loop_stops_when_all_sentences_are_finished(random_case, batch):
    model, params = random_case()
    counted = Case(Counted(model.config, model.source_vocab_size, model.target_vocab_size), params)
    found = run_greedy(counted, *batch, length=131)
    jax.effects_barrier()
    assert len(STEPS) == max(len(one.ids) for one in found)
    assert_same(found, run_greedy(Case(model, params), *batch))


def test_rows_that_only_fill_up_the_batch_produce_nothing(random_case, batch):
    sources, limits = batch
    filled = run_greedy(random_case(), [*sources, (PAD,)], [*limits, 0])
    assert filled[-1] is None
    assert_same(filled[:-1], run_greedy(random_case(), sources, limits))


@pytest.mark.parametrize("search", [run_greedy, run_sample])
def test_a_sentence_alone_is_decoded_as_in_a_batch(search, random_case, batch):
    case = random_case()
    together = search(case, *batch)
    if search is run_greedy:
        alone = [one for source, limit in zip(*batch, strict=True) for one in search(case, [source], [limit])]
    else:
        keys = jax.random.split(jax.random.key(0), len(batch[0]))
        alone = [
            decoded(sample_jitted(*case, padded([source], 7), np.asarray([limit]), 13, SPECIAL, key[None], 1.0, 0))[0][
                0
            ]
            for source, limit, key in zip(*batch, keys, strict=True)
        ]
    assert_same(together, alone)


def test_more_padding_changes_nothing(random_case, batch):
    assert_same(run_greedy(random_case(), *batch, width=11), run_greedy(random_case(), *batch))


def test_drawing_from_the_most_likely_word_alone_is_greedy(random_case, batch):
    case = random_case()
    assert_same(run_sample(case, *batch, top_k=1), run_greedy(case, *batch))


def test_a_low_temperature_approaches_greedy(random_case, batch):
    case = random_case()
    assert_same(run_sample(case, *batch, temperature=1e-3), run_greedy(case, *batch))


@pytest.mark.parametrize(
    ("temperature", "top_k", "expected"),
    [
        (1.0, 0, {A: 0.5, B: 0.3, EOS: 0.2}),
        (0.5, 0, {A: 25 / 38, B: 9 / 38, EOS: 4 / 38}),  # shares to the power of 1 / 0.5, over their sum
        (1.0, 2, {A: 5 / 8, B: 3 / 8}),
        (1.0, 100, {A: 0.5, B: 0.3, EOS: 0.2}),  # more than there are words
    ],
)
def test_words_are_drawn_with_their_probabilities(temperature, top_k, expected, dice):
    draws = 4001
    found = run_sample(
        dice(eos=0.2, a=0.5, b=0.3), [(A, EOS)] * draws, [2] * draws, temperature=temperature, top_k=top_k, length=2
    )
    first = [one.ids[0] for one in found]
    assert set(first) == set(expected)
    for word, share in expected.items():
        # Four standard deviations of a share of so many draws.
        assert first.count(word) / draws == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / draws))


def test_the_sum_of_log_probabilities_is_the_models_whatever_the_temperature(dice):
    log_p = {A: math.log(0.5), B: math.log(0.3), EOS: math.log(0.2)}
    for one in run_sample(dice(eos=0.2, a=0.5, b=0.3), [(A, EOS)] * 7, [13] * 7, temperature=2.0):
        assert one.score == pytest.approx(sum(log_p[word] for word in one.ids), abs=1e-4)


def test_the_same_key_draws_the_same_and_another_key_something_else(random_case, batch):
    case = random_case(spread=0.5)
    first, again, other = (run_sample(case, *batch, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert [one.ids for one in first] != [one.ids for one in other]


def test_steps_of_a_sentence_are_drawn_independently(dice):
    # With one key for all steps a row would repeat its first word to the end.
    found = run_sample(dice(eos=1e-6, a=0.5, b=0.5), [(A, EOS)], [13])
    assert {A, B} <= set(found[0].ids)


@pytest.mark.parametrize("search", [run_greedy, run_sample])
def test_a_model_of_no_numbers_ends_too(search, random_case, batch):
    model, params = random_case()
    broken = Case(model, jax.tree.map(lambda leaf: leaf * jnp.nan, params))
    found = greedy_jitted if search is run_greedy else sample_jitted
    inputs = padded(batch[0], 7), np.asarray(batch[1], np.int32), 13, SPECIAL
    keys = () if search is run_greedy else (jax.random.split(jax.random.key(0), 5), 1.0, 2)
    assert not np.isfinite(found(*broken, *inputs, *keys).score).any()


def test_bfloat16_finds_what_its_uncached_model_finds_likely(random_case, batch):
    case = random_case(dtype="bfloat16")
    for source, limit, one in zip(*batch, run_greedy(case, *batch), strict=True):
        assert one.ids[-1] == EOS
        assert len(one.ids) <= limit
        log_p = case.whole_pass(source, [one.ids[:-1]], 13)[0, np.arange(len(one.ids)), one.ids]
        assert one.score == pytest.approx(log_p.sum(), rel=0.02, abs=0.05)
