"""The loss in chunks and its gradients agree with the definition."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose

from transformer_jax.training.loss import smoothed_cross_entropy

B, T, D, V = 5, 7, 3, 11
R_DROP = 3.0


@pytest.fixture(params=[1, 2], ids=["one pass", "two passes"])
def example(request):
    random = np.random.default_rng(0)
    features, table = random.standard_normal((B, T, request.param, D)), random.standard_normal((V, D))
    loss_weights = random.random((B, T)) < 0.7
    targets = random.integers(0, V, (B, T))
    return (
        *(jnp.asarray(x, jnp.float32) for x in (features, table)),
        jnp.asarray(targets),
        jnp.asarray(loss_weights, jnp.float32),
    )


def reference_loss(features, table, targets, loss_weights, smoothing):
    logits = jnp.einsum("BTPD,VD->PBTV", features, table)
    labels = optax.smooth_labels(jax.nn.one_hot(targets, V), smoothing)
    loss = optax.softmax_cross_entropy(logits, jnp.broadcast_to(labels, logits.shape)).mean(axis=0)
    if len(logits) == 2:
        log_p, log_q = jax.nn.log_softmax(logits)
        divergence = optax.kl_divergence(log_p, jnp.exp(log_q)) + optax.kl_divergence(log_q, jnp.exp(log_p))
        loss += R_DROP / 4 * divergence
    return (loss * loss_weights).sum()


@pytest.mark.parametrize("chunk_size", [1, 4, 35, 1000])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_chunks_give_the_loss_and_gradients_of_the_definition(example, chunk_size, smoothing):
    def chunked(features, table):
        return smoothed_cross_entropy(features, table, *example[2:], smoothing, chunk_size, R_DROP).loss

    def reference(features, table):
        return reference_loss(features, table, *example[2:], smoothing)

    value, gradients = jax.value_and_grad(chunked, (0, 1))(*example[:2])
    expected, expected_gradients = jax.value_and_grad(reference, (0, 1))(*example[:2])
    assert_allclose(value, expected, rtol=1e-5)
    assert_allclose(chunked(*example[:2]), expected, rtol=1e-5)
    for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
        assert_allclose(gradient, expected_gradient, atol=1e-5)


def test_the_gradient_scales_with_its_cotangent(example):
    def scaled(features):
        return 3.0 * smoothed_cross_entropy(features, *example[1:], 0.1, 8, R_DROP).loss

    def plain(features):
        return smoothed_cross_entropy(features, *example[1:], 0.1, 8, R_DROP).loss

    assert_allclose(jax.grad(scaled)(example[0]), 3 * jax.grad(plain)(example[0]), rtol=1e-5)


def test_metrics_are_counts_and_unsmoothed_cross_entropy(example):
    features, table, targets, loss_weights = example
    sums = smoothed_cross_entropy(*example, 0.1, 8)
    logits = jnp.einsum("BTPD,VD->PBTV", features, table)
    targets, weights = (jnp.broadcast_to(x, logits.shape[:3]) for x in (targets, loss_weights / len(logits)))
    plain = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
    assert_allclose(sums.cross_entropy, (plain * weights).sum(), rtol=1e-5)
    assert_allclose(sums.correct, ((logits.argmax(-1) == targets) * weights).sum())
    assert_allclose(sums.tokens, loss_weights.sum())


def test_padding_does_not_count(example):
    features, table, targets, loss_weights = example
    changed = jnp.where(loss_weights[..., None, None] == 0, features + 5, features)
    other_targets = jnp.where(loss_weights == 0, (targets + 1) % V, targets)
    before = smoothed_cross_entropy(features, table, targets, loss_weights, 0.1, 8, R_DROP)
    after = smoothed_cross_entropy(changed, table, other_targets, loss_weights, 0.1, 8, R_DROP)
    for a, b in zip(before, after, strict=True):
        assert_allclose(a, b, rtol=1e-6)


def test_a_uniform_model_has_loss_log_vocab_size(example):
    features, table, targets, loss_weights = example
    sums = smoothed_cross_entropy(jnp.zeros_like(features), table, targets, loss_weights, 0.1, 8)
    assert_allclose(sums.loss / sums.tokens, np.log(V), rtol=1e-6)


def test_bfloat16_features_give_a_close_loss_in_float32(example):
    features, *rest = example
    loss = smoothed_cross_entropy(features.astype(jnp.bfloat16), *rest, 0.1, 8, R_DROP).loss
    assert loss.dtype == jnp.float32
    assert_allclose(loss, smoothed_cross_entropy(features, *rest, 0.1, 8, R_DROP).loss, rtol=2e-2)
