"""Faster ways to find the likeliest words find the same ones, in the same order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from transformer_jax.decoding.next_token import GROUP, largest, most_likely

WORDS = 11 * GROUP + 7


@pytest.fixture(params=["distinct", "ties", "mostly forbidden"])
def logits(request):
    random = np.random.default_rng(0)
    values = random.permutation(5 * WORDS).reshape(5, WORDS).astype(np.float32)
    if request.param == "ties":
        values = np.floor(values / WORDS)  # five values, each hundreds of times
    if request.param == "mostly forbidden":
        values = np.where(np.arange(WORDS) % 401 == 3, values, -np.inf)
    return jnp.asarray(values)


@pytest.mark.parametrize("count", [1, 2, 7, 13])
def test_largest_is_top_k(logits, count):
    values, words = largest(logits, count)
    expected_values, expected_words = jax.lax.top_k(logits, count)
    np.testing.assert_array_equal(values, expected_values)
    finite = np.isfinite(expected_values)
    np.testing.assert_array_equal(words[finite], expected_words[finite])


def test_most_likely_is_argmax(logits):
    np.testing.assert_array_equal(most_likely(logits), logits.argmax(-1))


def test_most_likely_of_no_numbers_is_a_word():
    assert 0 <= most_likely(jnp.full((1, 13), jnp.nan))[0] < 13
