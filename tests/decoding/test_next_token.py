"""The fast top-k returns the same tokens in the same order as a top-k over all logits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from transformer_jax.decoding.next_token import allowed_logits, log_normalizer, top_k_log_probs
from transformer_jax.decoding.search_inputs import SpecialIds

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
