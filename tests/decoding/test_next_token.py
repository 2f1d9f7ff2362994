"""The fast top-k returns the same tokens in the same order as a top-k over all logits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from transformer_jax.decoding.next_token import SpecialIds, allowed_logits, draw_tokens, log_normalizer, top_k_log_probs

ROWS = 5


@pytest.fixture(params=["distinct", "ties", "mostly impossible", "forbidden most probable"])
def kind(request):
    return request.param


@pytest.fixture(params=[7, 41 * 13, 1103])  # less than one group, groups that fit exactly, and a padded last group
def vocab_size(request):
    return request.param


@pytest.fixture
def special_ids(vocab_size):
    return SpecialIds(pad=0, unk=1, sos=vocab_size - 2, eos=3)


@pytest.fixture
def logits(vocab_size, kind, special_ids):
    values = np.random.default_rng(0).permutation(ROWS * vocab_size).reshape(ROWS, vocab_size).astype(np.float32)
    values = values * 30 / values.max()
    if kind == "ties":
        values = np.floor(values / 6)  # five values
    if kind == "mostly impossible":
        values = np.where(np.arange(vocab_size) % 401 == 3, values, -np.inf)
    if kind == "forbidden most probable":
        values[:, [special_ids.pad, special_ids.sos]] = 40
    return jnp.asarray(values)


@pytest.mark.parametrize("k", [1, 2, 7])
def test_top_k_log_probs_equals_top_k_of_allowed_logits(logits, special_ids, k):
    at_limit = jnp.arange(ROWS) == 2
    log_probs, tokens = top_k_log_probs(logits, at_limit, special_ids, k)
    all_log_probs = allowed_logits(logits, at_limit, special_ids) - log_normalizer(logits)
    expected_log_probs, expected_tokens = jax.lax.top_k(all_log_probs, k)
    np.testing.assert_allclose(log_probs, expected_log_probs, rtol=1e-6)
    possible = np.isfinite(expected_log_probs)
    np.testing.assert_array_equal(np.asarray(tokens)[possible], expected_tokens[possible])
    assert (tokens < logits.shape[1]).all()


def test_nan_logits_give_an_id_of_the_vocabulary():
    _, tokens = top_k_log_probs(jnp.full((1, 13), jnp.nan), jnp.zeros(1, bool), SpecialIds(0, 1, 2, 3), 1)
    assert 0 <= tokens[0, 0] < 13


def plain_draws(logits, at_limit, special_ids, keys, temperature, top_k):
    """Draw from a sorted list of the allowed tokens of each row."""
    tokens = []
    for row, key in zip(np.array(allowed_logits(logits, at_limit, special_ids)), keys, strict=True):
        most_probable = sorted(range(len(row)), key=lambda token: (-row[token], token))
        row[most_probable[top_k or len(row) :]] = -np.inf
        tokens.append(int(jax.random.categorical(key, row / temperature)))
    log_probs = logits - log_normalizer(logits)
    return tokens, np.asarray(log_probs)[np.arange(len(tokens)), tokens]


@pytest.mark.parametrize(("temperature", "top_k"), [(1.0, 1), (1000.0, 7)])
def test_draws_equal_those_from_a_sorted_list(logits, special_ids, temperature, top_k):
    keys = jax.random.split(jax.random.key(0), ROWS)
    options = jnp.arange(ROWS) == 2, special_ids, keys, jnp.float32(temperature), top_k
    tokens, log_probs = draw_tokens(logits, *options)
    expected_tokens, expected_log_probs = plain_draws(logits, *options)
    np.testing.assert_array_equal(tokens, expected_tokens)
    np.testing.assert_allclose(log_probs, expected_log_probs, rtol=1e-6)


ALLOWED = [1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]


@pytest.mark.parametrize(
    ("top_k", "temperature", "drawn"),
    [
        (0, 1.0, ALLOWED),
        (1, 1.0, [6]),
        (2, 1000.0, [6, 11]),
        (4, 1000.0, [1, 3, 6, 11]),  # the nine other tokens are equally probable
        (4, 0.001, [6]),
        (11, 1.0, ALLOWED),
        (13, 1.0, ALLOWED),
        (2**40, 1.0, ALLOWED),
    ],
)
def test_exactly_k_tokens_are_drawn_when_logits_tie(top_k, temperature, drawn):
    logits = jnp.tile(jnp.zeros(13).at[jnp.array([6, 11])].set(jnp.array([0.5, 0.25])), (499, 1))
    keys = jax.random.split(jax.random.key(0), 499)
    tokens, _ = draw_tokens(logits, jnp.zeros(499, bool), SpecialIds(0, 1, 2, 3), keys, jnp.float32(temperature), top_k)
    assert sorted(set(tokens.tolist())) == drawn
