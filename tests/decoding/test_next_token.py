"""The faster way to find the likeliest words finds the same ones, in the same order, as sorting all of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from transformer_jax.decoding.next_token import SpecialIds, allowed_logits, log_normalizer, top_k_log_probs

ROWS = 5


@pytest.fixture(params=["distinct", "ties", "few possible", "forbidden likeliest"])
def kind(request):
    return request.param


@pytest.fixture(params=[7, 41 * 13, 1103])  # fewer than a group, groups that fit, and a last group to fill up
def words(request):
    return request.param


@pytest.fixture
def vocabulary(words):
    return SpecialIds(pad=0, unk=1, sos=words - 2, eos=3)


@pytest.fixture
def logits(words, kind, special_ids):
    values = np.random.default_rng(0).permutation(ROWS * words).reshape(ROWS, words).astype(np.float32)
    values = values * 30 / values.max()
    if kind == "ties":
        values = np.floor(values / 6)  # five values
    if kind == "few possible":
        values = np.where(np.arange(words) % 401 == 3, values, -np.inf)
    if kind == "forbidden likeliest":
        values[:, [special_ids.pad, special_ids.sos]] = 40
    return jnp.asarray(values)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_likeliest_is_top_k_of_what_is_allowed(logits, special_ids, count):
    at_limit = jnp.arange(ROWS) == 2
    log_p, found = top_k_log_probs(logits, at_limit, special_ids, count)
    expected = allowed_logits(logits, at_limit, special_ids) - log_normalizer(logits)
    expected_log_p, expected_words = jax.lax.top_k(expected, count)
    np.testing.assert_allclose(log_p, expected_log_p, rtol=1e-6)
    possible = np.isfinite(expected_log_p)
    np.testing.assert_array_equal(np.asarray(found)[possible], expected_words[possible])
    assert (found < logits.shape[1]).all()


def test_of_no_numbers_a_word_is_found():
    _, found = top_k_log_probs(jnp.full((1, 13), jnp.nan), jnp.zeros(1, bool), SpecialIds(0, 1, 2, 3), 1)
    assert 0 <= found[0, 0] < 13
