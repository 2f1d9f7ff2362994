"""Our layers agree with the independent implementations in Flax and JAX."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from transformer_jax.model.attention import KeysValues, MultiHeadAttention, attend, attention_weights
from transformer_jax.model.layers import FeedForward, LayerNormalization

B, T, S, D, H, K, F = 3, 7, 5, 22, 2, 11, 19


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


@pytest.fixture(scope="module")
def mask():
    mask = np.random.default_rng(0).random((B, 1, T, S)) < 0.6
    mask[..., 3] = True  # for a fully masked row, Flax and JAX return the mean of all values, but ours returns zeros
    return jnp.asarray(mask)


@pytest.mark.parametrize("mutable", [[], ["intermediates"]])
def test_multi_head_attention_equals_flax(mask, random_parameters, mutable):
    def attention_of(module, queries, memory):
        return module(queries, module.keys_values(memory), mask)

    ours, theirs = MultiHeadAttention(D, H), nn.MultiHeadDotProductAttention(H, use_bias=False, deterministic=True)
    queries, memory = normal(B, T, D, seed=1), normal(B, S, D, seed=2)
    variables = random_parameters(ours, queries, memory, method=attention_of)
    kernels = {name: parameters["kernel"] for name, parameters in variables["params"].items()}
    parameters = {
        "query": {"kernel": kernels["w_query"].reshape(D, H, K)},
        "key": {"kernel": kernels["w_key"].reshape(D, H, K)},
        "value": {"kernel": kernels["w_value"].reshape(D, H, K)},
        "out": {"kernel": kernels["w_output"].reshape(H, K, D)},
    }

    @jax.jit
    def outputs():
        our_output = ours.apply(variables, queries, memory, method=attention_of, mutable=mutable)
        flax_output = theirs.apply(
            {"params": parameters}, queries, memory, mask=mask, sow_weights=True, mutable=["intermediates"]
        )
        return our_output, flax_output

    (output, sown), (expected, expected_sown) = outputs()
    assert_allclose(output, expected, atol=1e-5)
    if mutable:
        assert_allclose(
            sown["intermediates"]["attention"], expected_sown["intermediates"]["attention_weights"], atol=1e-6
        )


def test_explicit_and_fused_attention_equal_jax_and_flax(mask):
    query, key, value = normal(B, T, H, K, seed=1), normal(B, S, H, K, seed=2), normal(B, S, H, K, seed=3)
    weights = attention_weights(query, key, mask)
    explicit = jnp.einsum("BHTS,BSHK->BTHK", weights, value)
    for expected in (
        jax.nn.dot_product_attention(query, key, value, mask=mask),
        nn.dot_product_attention(query, key, value, mask=mask),
    ):
        assert_allclose(explicit, expected, atol=1e-5)
        assert_allclose(attend(query, KeysValues(key, value), mask), expected, atol=1e-5)
    assert_allclose(weights, nn.dot_product_attention_weights(query, key, mask=mask), atol=1e-6)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("bfloat16", 2**-7)])
def test_layer_normalization_equals_flax(random_parameters, dtype, tolerance):
    x = (5 + normal(B, T, D)).astype(dtype)
    variables = random_parameters(LayerNormalization(), x)
    theirs = {"scale": variables["params"]["gamma"], "bias": variables["params"]["beta"]}
    # Flax's faster variance, E[x^2] - E[x]^2, is less accurate than ours.
    expected = nn.LayerNorm(dtype=jnp.dtype(dtype), use_fast_variance=False).apply({"params": theirs}, x)
    ours = LayerNormalization().apply(variables, x)
    assert ours.dtype == expected.dtype
    assert_allclose(np.asarray(ours, np.float32), np.asarray(expected, np.float32), rtol=tolerance, atol=tolerance)


def test_feed_forward_equals_two_dense_layers(random_parameters):
    x = normal(B, T, D)
    variables = random_parameters(FeedForward(D, F), x)
    theirs = nn.Sequential([nn.Dense(F), nn.relu, nn.Dense(D)])
    parameters = {"layers_0": variables["params"]["widen"], "layers_2": variables["params"]["narrow"]}
    expected = theirs.apply({"params": parameters}, x)
    assert_allclose(FeedForward(D, F).apply(variables, x), expected, atol=1e-5)
