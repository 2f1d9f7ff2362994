import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from transformer_jax.model.layers import Dropout, FeedForward, LayerNormalization, Linear, ResidualConnection


def dropped_ones(rate, seed=0, shape=(101, 991)):
    return np.asarray(Dropout(rate).apply({}, jnp.ones(shape), rngs={"dropout": jax.random.key(seed)}))


def normal(*shape):
    return jnp.asarray(np.random.default_rng(0).standard_normal(shape), jnp.float32)


def test_dropout_is_off_without_a_key():
    x = jnp.arange(7.0)
    assert_array_equal(Dropout(0.9).apply({}, x), x)


def test_dropout_of_rate_zero_is_the_identity():
    assert_array_equal(dropped_ones(0.0), jnp.ones((101, 991)))


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.75])
def test_dropout_zeroes_at_its_rate_and_preserves_the_mean(rate):
    y = dropped_ones(rate)
    assert_allclose((y == 0).mean(), rate, atol=4 * math.sqrt(rate * (1 - rate) / y.size))
    assert_allclose(y.mean(), 1, atol=4 * math.sqrt(rate / (1 - rate) / y.size))
    [scaled] = set(y[y != 0].tolist())
    assert_allclose(scaled, 1 / (1 - rate), rtol=1e-6)


def test_dropout_works_up_to_the_highest_rates():
    y = dropped_ones(0.999)
    assert 0 < (y != 0).mean() < 0.01
    assert np.isfinite(y).all()


def test_dropout_masks_depend_only_on_the_key():
    assert_array_equal(dropped_ones(0.5, seed=1), dropped_ones(0.5, seed=1))
    assert not np.array_equal(dropped_ones(0.5, seed=1), dropped_ones(0.5, seed=2))


def test_two_dropout_layers_draw_different_masks_from_one_key():
    layers = nn.Sequential([Dropout(0.5), Dropout(0.5)])
    y = layers.apply({}, jnp.ones((101, 991)), rngs={"dropout": jax.random.key(0)})
    assert_allclose((np.asarray(y) == 0).mean(), 0.75, atol=0.01)  # equal masks would give 0.5


def test_dropout_gradient_is_zero_where_values_were_dropped():
    def total(x):
        return Dropout(0.5).apply({}, x, rngs={"dropout": jax.random.key(0)}).sum()

    x = jnp.ones((5, 7))
    expected = Dropout(0.5).apply({}, x, rngs={"dropout": jax.random.key(0)})
    assert_array_equal(jax.grad(total)(x), expected)


def test_dropout_keeps_the_input_dtype():
    x = jnp.ones((3, 5), jnp.bfloat16)
    assert Dropout(0.3).apply({}, x, rngs={"dropout": jax.random.key(0)}).dtype == jnp.bfloat16


def normalize(x, gamma=None, beta=None, epsilon=1e-6):
    x = jnp.asarray(x)
    gamma = jnp.ones(x.shape[-1]) if gamma is None else jnp.array(gamma)
    beta = jnp.zeros(x.shape[-1]) if beta is None else jnp.array(beta)
    return LayerNormalization(epsilon).apply({"params": {"gamma": gamma, "beta": beta}}, x)


def test_layer_normalization_matches_hand_computed_values():
    # The mean is 1 and the population variance is (1 + 1 + 4) / 3 = 2. The sample variance would be 3.
    assert_allclose(normalize([[0.0, 0.0, 3.0]]), [[-(2**-0.5), -(2**-0.5), 2**0.5]], rtol=1e-5)


def test_layer_normalization_scales_and_shifts_each_feature():
    assert_allclose(normalize([[1.0, 3.0]], gamma=[2.0, 3.0], beta=[10.0, 20.0]), [[10 - 2, 20 + 3]], rtol=1e-5)


def test_epsilon_is_added_to_the_variance_before_the_root():
    assert_allclose(normalize([[-1.0, 1.0]], epsilon=8.0), [[-1 / 3, 1 / 3]], rtol=1e-6)


def test_layer_normalization_of_equal_features_is_beta():
    assert_array_equal(normalize([[5.0, 5.0, 5.0]], beta=[1.0, 2.0, 3.0]), [[1, 2, 3]])


def test_layer_normalization_is_accurate_with_a_large_offset():
    # In float32, E[x^2] - E[x]^2 would lose the variance of 1 next to 10^8.
    assert_allclose(normalize([[10_001.0, 10_003.0]]), [[-1, 1]], rtol=1e-5)


def test_layer_normalization_treats_positions_separately():
    x = normal(3, 5, 7)
    changed = x.at[1, 2].add(jnp.arange(7.0))
    same = jnp.ones((3, 5), dtype=bool).at[1, 2].set(False)
    assert_array_equal((normalize(x) == normalize(changed)).all(-1), same)


def test_layer_normalization_is_float32_and_keeps_input_dtype():
    x = (64 + normal(3, 101)).astype(jnp.bfloat16)
    assert normalize(x).dtype == jnp.bfloat16
    assert_array_equal(normalize(x), normalize(x.astype(jnp.float32)).astype(jnp.bfloat16))


def test_layer_normalization_starts_with_gain_one_and_bias_zero():
    variables = LayerNormalization().init(jax.random.key(0), jnp.ones((2, 3, 5)))
    assert_array_equal(variables["params"]["gamma"], jnp.ones(5))
    assert_array_equal(variables["params"]["beta"], jnp.zeros(5))


def test_feed_forward_matches_hand_computed_values():
    # x = [2, 1]: x W_1 + b_1 = [2, 1 + 4, 1 - 2 - 1] = [2, 5, -2], rectified [2, 5, 0];
    # times W_2 plus b_2 = [2 + 50 + 7, 4 - 5 + 9].
    widen = {"kernel": jnp.array([[1.0, 0.0, -1.0], [0.0, 1.0, 1.0]]), "bias": jnp.array([0.0, 4.0, -1.0])}
    narrow = {"kernel": jnp.array([[1.0, 2.0], [10.0, -1.0], [99.0, 99.0]]), "bias": jnp.array([7.0, 9.0])}
    y = FeedForward(2, 3).apply({"params": {"widen": widen, "narrow": narrow}}, jnp.array([[[2.0, 1.0]]]))
    assert_array_equal(y, [[[59, 8]]])


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_gradients_of_parameters_are_float32_sums_over_positions(dtype):
    # 5003 positions times 16 exceed 65,504, the largest number of float16, and need more than 11 significant bits.
    x, variables = jnp.ones((1, 5003, 2), dtype), {"params": {"kernel": jnp.ones((2, 3)), "bias": jnp.zeros(3)}}
    output, pullback = jax.vjp(lambda variables: Linear(3, dtype=dtype).apply(variables, x), variables)
    assert output.dtype == dtype
    [gradients] = pullback(jnp.full_like(output, 16))
    jax.tree.map(lambda gradient: assert_array_equal(gradient, np.full_like(gradient, 5003 * 16)), gradients)
    jax.tree.map(lambda gradient: assert_array_equal(gradient.dtype, jnp.float32), gradients)


def test_feed_forward_treats_all_positions_equally(random_parameters):
    layer, x = FeedForward(22, 19), normal(3, 5, 22)
    variables = random_parameters(layer, x)
    order = jnp.array([4, 0, 3, 1, 2])
    assert_allclose(layer.apply(variables, x)[:, order], layer.apply(variables, x[:, order]), atol=1e-6)


def residual(norm, x, sublayer, dropout=0.0, rngs=None):
    parameters = {"normalization": {"gamma": jnp.ones(x.shape[-1]), "beta": jnp.zeros(x.shape[-1])}}
    return np.asarray(ResidualConnection(norm, dropout).apply({"params": parameters}, x, sublayer, rngs=rngs))


def test_post_norm_normalizes_the_sum():
    # [1, 3] + 2 [1, 3] = [3, 9], normalized [-1, 1].
    assert_allclose(residual("post", jnp.array([[[1.0, 3.0]]]), lambda y: 2 * y), [[[-1, 1]]], rtol=1e-5)


def test_pre_norm_normalizes_only_the_sublayer_input():
    # [1, 3] normalized is [-1, 1]; [1, 3] + 2 [-1, 1] = [-1, 5].
    assert_allclose(residual("pre", jnp.array([[[1.0, 3.0]]]), lambda y: 2 * y), [[[-1, 5]]], rtol=1e-5)


def test_residual_dropout_applies_to_the_sublayer_output():
    x = jnp.arange(97 * 22.0).reshape(1, 97, 22)
    y = residual("pre", x, jnp.ones_like, dropout=0.5, rngs={"dropout": jax.random.key(0)})
    assert set((y - np.asarray(x)).ravel().tolist()) == {0, 2}


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_residual_dropout_leaves_the_input_unchanged(norm):
    x = jnp.arange(97 * 22.0).reshape(1, 97, 22)
    y = residual(norm, x, jnp.zeros_like, dropout=0.5, rngs={"dropout": jax.random.key(0)})
    assert_array_equal(y, normalize(x) if norm == "post" else x)


def test_post_norm_normalizes_after_dropout():
    x = jnp.zeros((1, 97, 22))
    y = residual("post", x, jnp.ones_like, dropout=0.5, rngs={"dropout": jax.random.key(0)})
    assert_allclose(y.mean(-1), np.zeros((1, 97)), atol=1e-5)
    assert_allclose(y.std(-1), np.ones((1, 97)), atol=1e-4)


def test_swish_is_the_input_times_its_sigmoid():
    widen = {"kernel": jnp.eye(2), "bias": jnp.zeros(2)}
    y = FeedForward(2, 2, activation="swish").apply(
        {"params": {"widen": widen, "narrow": widen}}, jnp.array([[[0.0, -2.0]]])
    )
    np.testing.assert_allclose(y, [[[0, -2 / (1 + np.exp(2))]]], rtol=1e-6)
