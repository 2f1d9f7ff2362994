"""Statistical tests of the random bits of dropout masks.

All keys are fixed, so a test always gives the same result. The limits are numbers of standard errors that true random
bits would exceed by chance in less than one of 100 choices of the keys, given the number of comparisons per test. The
last test shows that the limits detect a weak hash.

Axes: K keys, N consecutive indices, D features, L distances.
"""

import math
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from transformer_jax.model.layers import Dropout, hash_uint32, random_uint32

KEYS = 48
INDICES = 2**17
RATE = 0.1
DISTANCES = np.arange(1, 32_769)


def random_keys(count, seed=0):
    return jax.random.split(jax.random.key(seed), count)


@partial(jax.jit, static_argnums=(1, 2))
def bits_of(keys, size, hash_function=hash_uint32):
    """Return the random integers [K, N] of each key."""
    index = jnp.arange(size, dtype=jnp.uint32)
    return jax.vmap(lambda key: hash_function(index, *jax.random.bits(key, (2,), jnp.uint32)))(keys)


def murmur(index, first, second):
    """Return the hash that dropout used before: the finalizer of MurmurHash3, with ``second`` added in the middle."""
    mixed = index ^ first
    mixed = (mixed ^ mixed >> 16) * jnp.uint32(0x85EBCA6B) + second
    mixed = (mixed ^ mixed >> 13) * jnp.uint32(0xC2B2AE35)
    return mixed ^ mixed >> 16


def standardized_values(bits):
    """Return the integers as numbers of mean 0 and variance 1."""
    return (np.asarray(bits).astype(np.float32) * np.float32(2**-32) - np.float32(0.5)) * np.float32(math.sqrt(12))


def standardized_decisions(bits, rate=RATE):
    """Return the decisions to keep a value as numbers of mean 0 and variance 1."""
    kept = np.asarray(bits) >= np.uint32(round(rate * 2**32))
    return (kept.astype(np.float32) - np.float32(1 - rate)) / np.float32(math.sqrt(rate * (1 - rate)))


STANDARDIZED = {"values": standardized_values, "decisions": standardized_decisions}


@pytest.fixture(params=STANDARDIZED)
def standardize(request):
    return STANDARDIZED[request.param]


def pair_errors(x):
    """Return the mean products [L] of all pairs at each distance, in standard errors. ``x`` [K, N] is standardized."""
    size = x.shape[1]
    spectrum = np.fft.rfft(x, size + len(DISTANCES))
    products = np.fft.irfft((np.abs(spectrum) ** 2).sum(0), size + len(DISTANCES))[DISTANCES]
    return products / np.sqrt(len(x) * (size - DISTANCES))


def feature_errors(bits, features):
    """Return the number of kept values [K, D] of each feature, minus its mean, in standard deviations."""
    x = standardized_decisions(bits).reshape(len(bits), -1, features)
    return x.sum(1) / math.sqrt(x.shape[1])


def mean_square_error(errors):
    """Return the mean square of independent standardized errors, minus its mean of 1, in standard errors."""
    return (np.square(errors).mean() - 1) / math.sqrt(2 / errors.size)


def uniformity(bits):
    """Return the chi-square of the top 10 bits over its degrees of freedom."""
    counts = np.bincount(np.asarray(bits).ravel() >> 22, minlength=1024)
    expected = bits.size / 1024
    return ((counts - expected) ** 2 / expected).sum() / 1023


@pytest.mark.parametrize("seed", [0, 1])
def test_pairs_at_all_distances_are_uncorrelated(seed, standardize):
    errors = pair_errors(standardize(bits_of(random_keys(KEYS, seed), INDICES)))
    powers_of_two = 2 ** np.arange(16)
    assert np.abs(errors[powers_of_two - 1]).max() < 4
    assert np.abs(errors).max() < 5.5  # the largest of 32,768 distances
    assert abs(mean_square_error(errors)) < 4


@pytest.mark.parametrize("features", [64, 128, 512, 1024])
def test_counts_per_feature_are_binomial(features):
    errors = feature_errors(bits_of(random_keys(KEYS, 2), INDICES), features)
    assert np.abs(errors).max() < 6  # the largest of up to 49,152 counts, whose distribution is skewed
    assert abs(mean_square_error(errors)) < 4


def test_top_10_bits_are_uniform_over_ten_million_indices():
    ratios = [uniformity(bits_of(key[None], 10**7)) for key in random_keys(8, 3)]
    assert max(ratios) < 1.2  # 4.5 standard errors
    assert np.mean(ratios) < 1.06  # 3.8 standard errors


def test_every_bit_is_set_half_of_the_time():
    bits = np.asarray(bits_of(random_keys(1), INDICES)).ravel()
    frequencies = [(bits >> bit & 1).mean() for bit in range(32)]
    assert_allclose(frequencies, 0.5, atol=4 * 0.5 / math.sqrt(INDICES))


def flipped(words, bit):
    """Return pairs of words [K, 2] with one of their 64 bits changed."""
    return words ^ np.array([0, 1 << bit] if bit < 32 else [1 << bit - 32, 0], np.uint32)


def flip_errors(bits_from_words, standardize, seed=4, count=32, size=2**13):
    """Return the correlation [64] between the bits of words [K, 2] and of words with one bit changed, in standard
    errors.
    """
    words = np.random.default_rng(seed).integers(2**32, size=(count, 2), dtype=np.uint32)
    x = standardize(bits_from_words(words, size))
    errors = [(x * standardize(bits_from_words(flipped(words, bit), size))).sum() for bit in range(64)]
    return np.array(errors) / math.sqrt(x.size)


@partial(jax.jit, static_argnums=1)
def bits_of_key_words(words, size):
    return jax.vmap(lambda key: random_uint32(key, (size,)))(jax.random.wrap_key_data(words))


@partial(jax.jit, static_argnums=(1, 2))
def bits_of_hash_words(words, size, hash_function=hash_uint32):
    return jax.vmap(partial(hash_function, jnp.arange(size, dtype=jnp.uint32)))(words[:, 0], words[:, 1])


@pytest.mark.parametrize("bits_from_words", [bits_of_key_words, bits_of_hash_words])
def test_keys_that_differ_in_one_bit_are_uncorrelated(bits_from_words, standardize):
    assert np.abs(flip_errors(bits_from_words, standardize)).max() < 4


class FiveDropouts(nn.Module):
    """The masks of five dropout layers."""

    @nn.compact
    def __call__(self, size):
        return jnp.stack([Dropout(0.5)(jnp.ones(size)) - 1 for _ in range(5)])


def test_masks_of_consecutive_steps_and_layers_are_uncorrelated():
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(0), jnp.arange(11))
    masks = jax.lax.map(lambda key: FiveDropouts().apply({}, INDICES // 8, rngs={"dropout": key}), keys)
    x = np.asarray(masks).reshape(55, -1)
    errors = (x @ x.T)[np.triu_indices(55, 1)] / math.sqrt(x.shape[1])
    assert np.abs(errors).max() < 5  # the largest of 1,485 pairs of masks
    assert abs(mean_square_error(errors)) < 4


def test_random_integers_do_not_depend_on_the_shape():
    key = jax.random.key(4)
    assert_array_equal(random_uint32(key, (7, 11, 13)).ravel(), random_uint32(key, (7 * 11 * 13,)))


def test_a_weak_hash_fails_the_tests():
    bits = bits_of(random_keys(KEYS), INDICES, murmur)
    for standardize in STANDARDIZED.values():
        assert np.abs(pair_errors(standardize(bits))).max() > 5.5
        assert np.abs(flip_errors(partial(bits_of_hash_words, hash_function=murmur), standardize)).max() > 4
    assert mean_square_error(feature_errors(bits, 1024)) > 4
    assert uniformity(bits_of(random_keys(1), 10**7, murmur)) > 1.2
