import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from transformer_jax.model.attention import (
    KeysValues,
    KVCache,
    MultiHeadAttention,
    attend,
    attend_to_cache,
    attention_weights,
)

# Axes: B batch, T queries, S keys, D model width, H heads, K head width.
B, T, S, D, H, K = 3, 7, 5, 22, 2, 11
LAYER = MultiHeadAttention(D, H)


def attention_of(module, queries, memory, mask):
    """Project the memory and attend to it in one call, as a block does."""
    return module(queries, module.keys_values(memory), mask)


@partial(jax.jit, static_argnames=("layer", "mutable"))
def apply(layer, variables, queries, memory, mask, mutable=()):
    return layer.apply(variables, queries, memory, mask, method=attention_of, mutable=list(mutable))


def fused(layer, *arguments):
    """Return the output of a call that does not request the weights."""
    return jax.device_get(apply(layer, *arguments)[0])


def captured(layer, *arguments):
    """Return the output and the sown weights of a call that requests them."""
    output, sown = jax.device_get(apply(layer, *arguments, mutable=("intermediates",)))
    [weights] = sown["intermediates"]["attention"]
    return output, weights


@pytest.fixture(scope="module")
def inputs():
    generator = np.random.default_rng(0)
    queries, memory = generator.standard_normal((B, T, D)), generator.standard_normal((B, S, D))
    mask = generator.random((B, 1, T, S)) < 0.6
    mask[..., 3] = True  # every query may attend to a key
    return jnp.asarray(queries, jnp.float32), jnp.asarray(memory, jnp.float32), jnp.asarray(mask)


@pytest.fixture(scope="module")
def variables(inputs, random_parameters):
    return random_parameters(LAYER, *inputs, method=attention_of)


def three_to_one_to_four():
    """Return a query of width K = 4 and three keys with scores q k / sqrt(4) of ln 3, 0 and ln 4."""
    query, keys = np.zeros((1, 1, 1, 4), np.float32), np.zeros((1, 3, 1, 4), np.float32)
    query[..., 0] = 1
    keys[0, :, 0, 0] = 2 * np.log([3, 1, 4])
    return jnp.asarray(query), jnp.asarray(keys)


def test_attention_weights_match_hand_computed_values():
    query, keys = three_to_one_to_four()
    for allowed, expected in (([1, 1, 1], [3 / 8, 1 / 8, 4 / 8]), ([1, 1, 0], [3 / 4, 1 / 4, 0])):
        mask = jnp.asarray(np.array(allowed, bool).reshape(1, 1, 1, 3))
        assert_allclose(attention_weights(query, keys, mask), [[[expected]]], rtol=1e-6)


def test_attend_matches_a_hand_computed_weighted_mean():
    query, keys = three_to_one_to_four()
    values = np.broadcast_to(np.float32([8, 4, 1e6]).reshape(1, 3, 1, 1), (1, 3, 1, 4))
    mask = jnp.asarray(np.array([True, True, False]).reshape(1, 1, 1, 3))
    attended = attend(query, KeysValues(keys, jnp.asarray(values)), mask)
    assert_allclose(attended, np.full((1, 1, 1, 4), 3 / 4 * 8 + 1 / 4 * 4), rtol=1e-6)


@pytest.mark.parametrize("mutable", [(), ("intermediates",)])
def test_multi_head_attention_matches_hand_computed_values(mutable):
    # Two heads of width 1. All projections are identities except W^O, which swaps and doubles the heads. With query
    # [ln 3, 0] and memory [1, 5], [0, 9] the weights of the first head are 3/4 and 1/4, so its output is 3/4. The
    # weights of the second head are equal, so its output is 7, the mean of 5 and 9.
    identity, swap = {"kernel": np.eye(2)}, {"kernel": 2 * np.eye(2)[::-1]}
    parameters = {"w_query": identity, "w_key": identity, "w_value": identity, "w_output": swap}
    queries, memory = jnp.array([[[math.log(3), 0.0]]]), jnp.array([[[1.0, 5.0], [0.0, 9.0]]])
    layer, everything = MultiHeadAttention(d_model=2, heads=2), jnp.ones((1, 1, 1, 2), dtype=bool)
    output, _ = apply(layer, {"params": parameters}, queries, memory, everything, mutable=mutable)
    assert_allclose(output, [[[2 * 7, 2 * 3 / 4]]], rtol=1e-6)


def test_weights_are_a_distribution_over_allowed_positions(variables, inputs):
    _, weights = captured(LAYER, variables, *inputs)
    allowed = np.broadcast_to(inputs[2], (B, H, T, S))
    assert_allclose(weights.sum(-1), np.ones((B, H, T)), rtol=1e-6)
    assert (weights[~allowed] == 0).all()
    assert (weights[allowed] > 0).all()


def test_masked_positions_do_not_affect_the_output(variables, inputs):
    queries, memory, _ = inputs
    allowed = np.arange(S) < 3
    mask = jnp.asarray(np.broadcast_to(allowed, (1, 1, 1, S)))
    expected = fused(LAYER, variables, queries, memory[:, :3], mask[..., :3])
    for context in (memory, jnp.where(allowed[None, :, None], memory, 1e3)):
        assert_allclose(fused(LAYER, variables, queries, context, mask), expected, atol=1e-5)
        assert_allclose(captured(LAYER, variables, queries, context, mask)[0], expected, atol=1e-5)


@pytest.mark.parametrize("mutable", [(), ("intermediates",)])
def test_fully_masked_query_has_zero_output_and_gradient(variables, inputs, mutable):
    queries, memory, mask = inputs
    mask = mask.at[1, :, 2].set(False).at[2].set(False)  # one query of the second row, and the complete third row
    fully_masked = ~np.asarray(mask).any(-1)[:, 0]  # [B, T]
    assert fully_masked.sum() == 1 + T

    @jax.jit
    def gradients(variables, queries, memory, ones):
        output, pullback = jax.vjp(lambda *a: apply(LAYER, *a, mask, mutable=mutable)[0], variables, queries, memory)
        return output, pullback(jnp.broadcast_to(ones[..., None], output.shape).astype(output.dtype))

    output, gradients_of_masked = jax.device_get(gradients(variables, queries, memory, fully_masked))
    assert (output[fully_masked] == 0).all()
    assert np.isfinite(output).all()
    for gradient in jax.tree.leaves(gradients_of_masked):
        assert (gradient == 0).all()
    _, gradients_of_all = jax.device_get(gradients(variables, queries, memory, np.ones_like(fully_masked)))
    for gradient in jax.tree.leaves(gradients_of_all):
        assert np.isfinite(gradient).all()
        assert (gradient != 0).any()


def test_fully_masked_query_has_zero_weights(variables, inputs):
    queries, memory, mask = inputs
    _, weights = captured(LAYER, variables, queries, memory, mask.at[1, :, 2].set(False))
    assert (weights[1, :, 2] == 0).all()


def test_heads_split_features_and_see_all_positions():
    variables = {"params": {name: {"kernel": np.eye(D)} for name in ("w_query", "w_key", "w_value", "w_output")}}
    generator = np.random.default_rng(0)
    queries, memory = jnp.asarray(generator.standard_normal((2, B, S, D)), jnp.float32)
    mask = jnp.ones((1, 1, 1, S), dtype=bool)
    before = fused(LAYER, variables, queries, memory, mask)
    # A change in the second half of the features of one memory position affects only that half of every output.
    after = fused(LAYER, variables, queries, memory.at[:, 4, K:].add(1.0), mask)
    assert_array_equal(after[..., :K], before[..., :K])
    assert (after[..., K:] != before[..., K:]).all()


def test_order_of_the_heads_does_not_matter(variables, inputs):
    swapped_columns = np.arange(D).reshape(H, K)[::-1].ravel()
    kernels = {name: np.asarray(parameters["kernel"]) for name, parameters in variables["params"].items()}
    swapped = {name: {"kernel": kernels[name][:, swapped_columns]} for name in ("w_query", "w_key", "w_value")}
    swapped["w_output"] = {"kernel": kernels["w_output"][swapped_columns]}
    output, weights = captured(LAYER, variables, *inputs)
    output_of_swapped, weights_of_swapped = captured(LAYER, {"params": swapped}, *inputs)
    assert_allclose(output_of_swapped, output, atol=1e-5)
    assert_allclose(weights_of_swapped, weights[:, ::-1], atol=1e-6)
    assert not np.allclose(weights, weights[:, ::-1], atol=1e-2)


def test_order_of_the_memory_does_not_matter(variables, inputs):
    queries, memory, mask = inputs
    order = np.array([3, 0, 4, 1, 2])
    expected = fused(LAYER, variables, queries, memory, mask)
    assert_allclose(fused(LAYER, variables, queries, memory[:, order], mask[..., order]), expected, atol=1e-5)


def test_sown_weights_reproduce_the_fused_output(variables, inputs):
    expected = fused(LAYER, variables, *inputs)
    output, weights = captured(LAYER, variables, *inputs)
    assert weights.shape == (B, H, T, S)
    assert_allclose(output, expected, atol=1e-5)
    values = np.asarray(inputs[1] @ variables["params"]["w_value"]["kernel"])
    heads = [weights[:, head] @ values[:, :, head * K : (head + 1) * K] for head in range(H)]
    recomputed = np.concatenate(heads, axis=-1) @ np.asarray(variables["params"]["w_output"]["kernel"])
    assert_allclose(recomputed, expected, atol=1e-5)


def test_attention_is_sown_only_on_request(variables, inputs):
    assert apply(LAYER, variables, *inputs)[1] == {}
    assert apply(LAYER, variables, *inputs, mutable=("cache",))[1] == {}
    assert set(jax.eval_shape(lambda: LAYER.init(jax.random.key(0), *inputs, method=attention_of))) == {"params"}


def test_attention_has_four_projections_without_bias(variables):
    shapes = jax.tree.map(jnp.shape, variables["params"])
    assert shapes == {name: {"kernel": (D, D)} for name in ("w_query", "w_key", "w_value", "w_output")}


@pytest.mark.parametrize(("dtype", "rounding"), [(jnp.bfloat16, 2**-8), (jnp.float16, 2**-11)])
def test_16_bit_attention_is_close_to_float32(dtype, rounding, variables, inputs):
    layer = MultiHeadAttention(D, H, dtype)
    queries, memory, mask = inputs
    in_16_bits = (queries.astype(dtype), memory.astype(dtype), mask)
    expected = fused(LAYER, variables, *inputs)
    output, weights = captured(layer, variables, *in_16_bits)
    for result in (output, fused(layer, variables, *in_16_bits)):
        assert result.dtype == dtype
        # Several consecutive roundings, each with a relative error of up to ``rounding``.
        assert_allclose(result.astype(np.float32), expected, atol=5 * rounding * np.abs(expected).max())
    assert weights.dtype == jnp.float32
    assert_allclose(weights.sum(-1), np.ones((B, H, T)), rtol=1e-6)
    shapes = jax.eval_shape(lambda: layer.init(jax.random.key(0), *in_16_bits, method=attention_of))
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {jnp.dtype("float32")}


def test_cache_write_replaces_one_slot_of_every_row():
    old = KVCache(jnp.zeros((B, H, K, S)), jnp.ones((B, H, S, K)))
    new = KeysValues(jnp.full((B, 1, H, K), 2.0), jnp.full((B, 1, H, K), 3.0))
    keys, values = jax.device_get(old.write(new, jnp.array(3)))
    assert_array_equal(keys, np.broadcast_to([0, 0, 0, 2, 0], (B, H, K, S)))
    assert_array_equal(values, np.broadcast_to(np.reshape([1, 1, 1, 3, 1], (1, 1, S, 1)), (B, H, S, K)))


@pytest.mark.parametrize("hypotheses", [1, 3])
def test_attention_to_a_cache_equals_attention_to_its_content(hypotheses):
    random = np.random.default_rng(0)
    query = jnp.asarray(random.normal(size=(B, hypotheses, H, K)), jnp.float32)
    memory = KeysValues(*(jnp.asarray(random.normal(size=(B, S, H, K)), jnp.float32) for _ in range(2)))
    mask = jnp.asarray(random.random((B, 1, hypotheses, S)) < 0.6).at[0, :, 0].set(False)
    assert_allclose(attend_to_cache(query, KVCache.from_memory(memory), mask), attend(query, memory, mask), atol=1e-6)
