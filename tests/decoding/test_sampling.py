"""Greedy search and sampling compared with a loop over the uncached model and with probabilities by hand."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from uncached import EOS, PAD, SOS, Case, assert_same, reference_greedy

from transformer_jax.decoding.sampling import GreedySearch, RandomSampling
from transformer_jax.model.transformer import Transformer

A, B = 4, 5


def run_greedy(case, sources, limits, source_length=7, columns=13):
    rows = case.decode(GreedySearch(), sources, limits, source_length, columns)
    return [row[0] if row else None for row in rows]


def run_sample(case, sources, limits, numbers=None, temperature=1.0, top_k=0, columns=13):
    numbers = key_numbers(len(sources)) if numbers is None else numbers
    rows = case.decode(RandomSampling(temperature, top_k), sources, limits, columns=columns, key_numbers=numbers)
    return [row[0] if row else None for row in rows]


def key_numbers(count, seed=0):
    return [(seed, number) for number in range(count)]


@pytest.mark.parametrize(("norm", "seed"), [("post", 0), ("pre", 1)])
def test_greedy_equals_a_loop_over_the_uncached_model(norm, seed, random_case, batch):
    case = random_case(norm=norm, seed=seed)
    expected = [reference_greedy(case, source, limit) for source, limit in zip(*batch, strict=True)]
    assert_same(run_greedy(case, *batch), expected)
    assert len({len(hypothesis.ids) for hypothesis in expected}) > 2, "sentences should end at different steps"


def test_greedy_ends_at_eos_or_at_the_length_limit(dice):
    # The most probable token is always a, so only the limit ends a a a [EOS], with the probability of [EOS].
    [first, second] = run_greedy(dice(eos=0.25, a=0.75), [(A, EOS), (B, EOS)], [4, 1])
    assert first.ids == (A, A, A, EOS)
    assert first.score == pytest.approx(3 * math.log(0.75) + math.log(0.25), abs=1e-5)
    assert second.ids == (EOS,)
    [ended] = run_greedy(dice(eos=0.75, a=0.25), [(A, EOS)], [4])
    assert ended.ids == (EOS,)
    assert ended.score == pytest.approx(math.log(0.75), abs=1e-5)


@pytest.mark.parametrize("search", [run_greedy, run_sample])
def test_pad_and_sos_are_never_produced(search, random_case, batch):
    model, params = random_case()
    # Their logits become the highest or the lowest, depending on the sign of the features.
    table = params["projection"]["table"]
    tempting = Case(model, params | {"projection": {"table": table.at[jnp.asarray([PAD, SOS])].multiply(50)}})
    log_probs = tempting.uncached_log_probs(batch[0][0], [()], 13)[0, 0]
    produced = {token for hypothesis in search(tempting, *batch) for token in hypothesis.ids}
    assert log_probs.argmax() in (PAD, SOS)
    assert not produced & {PAD, SOS}


class StepCounter(Transformer):
    """A model that counts its decoding steps."""

    def decode_step(self, *inputs):
        jax.debug.callback(lambda: STEPS.append(1))
        return super().decode_step(*inputs)


STEPS = []


def test_the_loop_stops_when_all_sentences_are_finished(random_case, batch):
    model, params = random_case()
    counter = Case(StepCounter(model.config, model.source_vocab_size, model.target_vocab_size), params)
    hypotheses = run_greedy(counter, *batch, columns=131)
    jax.effects_barrier()
    assert len(STEPS) == max(len(hypothesis.ids) for hypothesis in hypotheses)
    assert_same(hypotheses, run_greedy(Case(model, params), *batch))


@pytest.mark.parametrize("search", [run_greedy, run_sample])
def test_a_sentence_alone_is_decoded_as_in_a_batch(search, random_case, batch):
    case = random_case()
    numbers = key_numbers(len(batch[0]))
    options = [{} if search is run_greedy else {"numbers": [each]} for each in numbers]
    alone = [
        search(case, [source], [limit], **option)[0] for source, limit, option in zip(*batch, options, strict=True)
    ]
    assert_same(search(case, *batch), alone)


def test_more_source_padding_changes_nothing(random_case, batch):
    assert_same(run_greedy(random_case(), *batch, source_length=11), run_greedy(random_case(), *batch))


def test_sampling_with_top_k_1_is_greedy(random_case, batch):
    case = random_case()
    assert_same(run_sample(case, *batch, top_k=1), run_greedy(case, *batch))


def test_a_low_temperature_approaches_greedy(random_case, batch):
    case = random_case()
    assert_same(run_sample(case, *batch, temperature=1e-3), run_greedy(case, *batch))


@pytest.mark.parametrize(
    ("temperature", "top_k", "expected"),
    [
        (1.0, 0, {A: 0.5, B: 0.3, EOS: 0.2}),
        (0.5, 0, {A: 25 / 38, B: 9 / 38, EOS: 4 / 38}),  # squared probabilities, divided by their sum
        (1.0, 2, {A: 5 / 8, B: 3 / 8}),
        (1.0, 100, {A: 0.5, B: 0.3, EOS: 0.2}),  # more than the vocabulary has
    ],
)
def test_tokens_are_drawn_with_their_probabilities(temperature, top_k, expected, dice):
    draws, case = 4001, dice(eos=0.2, a=0.5, b=0.3)
    options = {"temperature": temperature, "top_k": top_k, "columns": 2}
    first_tokens = [ids[0] for ids, _ in run_sample(case, [(A, EOS)] * draws, [2] * draws, **options)]
    assert set(first_tokens) == set(expected)
    for token, probability in expected.items():
        deviation = math.sqrt(probability * (1 - probability) / draws)
        assert first_tokens.count(token) / draws == pytest.approx(probability, abs=4 * deviation)


def test_scores_do_not_depend_on_the_temperature(dice):
    log_probs = {A: math.log(0.5), B: math.log(0.3), EOS: math.log(0.2)}
    for ids, score in run_sample(dice(eos=0.2, a=0.5, b=0.3), [(A, EOS)] * 7, [13] * 7, temperature=2.0):
        assert score == pytest.approx(sum(log_probs[token] for token in ids), abs=1e-4)


def test_the_same_keys_draw_the_same_and_others_differ(random_case, batch):
    case = random_case(spread=0.5)
    first, again, other = (run_sample(case, *batch, key_numbers(5, seed)) for seed in (0, 0, 1))
    assert first == again
    assert [ids for ids, _ in first] != [ids for ids, _ in other]


def test_steps_of_a_sentence_are_drawn_independently(dice):
    # With one key for all steps, every token of a row would be the same.
    [hypothesis] = run_sample(dice(eos=1e-6, a=0.5, b=0.5), [(A, EOS)], [13])
    assert {A, B} <= set(hypothesis.ids)


@pytest.mark.parametrize("search", [run_greedy, run_sample])
def test_a_model_that_outputs_nan_ends_without_hypotheses(search, random_case, batch):
    model, params = random_case()
    broken = Case(model, jax.tree.map(lambda leaf: leaf * jnp.nan, params))
    assert search(broken, *batch) == [None] * 5


@pytest.mark.parametrize(("dtype", "rounding"), [("bfloat16", 2**-8), ("float16", 2**-11)])
def test_16_bit_scores_are_those_of_the_uncached_model(dtype, rounding, random_case, batch):
    case = random_case(dtype=dtype)
    for source, limit, (ids, score) in zip(*batch, run_greedy(case, *batch), strict=True):
        assert ids[-1] == EOS
        assert len(ids) <= limit
        log_probs = case.uncached_log_probs(source, [ids[:-1]], 13)[0, np.arange(len(ids)), ids]
        assert score == pytest.approx(log_probs.sum(), rel=5 * rounding, abs=13 * rounding)
