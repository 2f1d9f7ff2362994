"""The learning-rate schedule of section 5.3, the cosine schedule, and gradient clipping."""

import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from transformer_jax.config import OptimizerConfig
from transformer_jax.errors import InputError
from transformer_jax.training.optimizer import learning_rate, make_optimizer


def test_inverse_sqrt_is_the_schedule_of_the_paper():
    rate = learning_rate(OptimizerConfig(warmup=4000), d_model=512, steps=100_000)
    # 512^-0.5 * min(step^-0.5, step * 4000^-1.5) at the steps 1, 4000 and 16000
    assert_allclose(rate(jnp.float32(0)), 512**-0.5 * 4000**-1.5, rtol=1e-6)
    assert_allclose(rate(jnp.float32(3999)), 512**-0.5 * 4000**-0.5, rtol=1e-6)
    assert_allclose(rate(jnp.float32(15999)), 512**-0.5 * 16000**-0.5, rtol=1e-6)


def test_the_factor_multiplies_the_learning_rate():
    single, double = (learning_rate(OptimizerConfig(factor=factor, warmup=7), 16, 100) for factor in (1.0, 2.0))
    assert_allclose(double(jnp.float32(50)), 2 * single(jnp.float32(50)), rtol=1e-6)


def test_cosine_shares_warm_up_and_peak_and_ends_at_zero():
    paper, cosine = (
        learning_rate(OptimizerConfig(schedule=schedule, warmup=100), 64, 1100)
        for schedule in ("inverse_sqrt", "cosine")
    )
    for step in (0, 50, 99):
        assert_allclose(cosine(jnp.float32(step)), paper(jnp.float32(step)), rtol=1e-5)
    assert_allclose(cosine(jnp.float32(599)), paper(jnp.float32(99)) / 2, rtol=1e-5)
    assert_allclose(cosine(jnp.float32(1099)), 0, atol=1e-9)


def test_gradients_are_clipped_by_their_global_norm():
    params = {"a": jnp.zeros(2), "b": jnp.zeros(1)}
    gradients = {"a": jnp.array([3.0, 0.0]), "b": jnp.array([4.0])}
    optimizer = make_optimizer(OptimizerConfig(clip_norm=1.0), 16, 10)
    [_, adam] = optimizer.update(gradients, optimizer.init(params), params)[1]
    # Adam's first moment is 0.1 times the gradient, here scaled from norm 5 to norm 1.
    assert_allclose(adam[0].mu["a"], np.array([0.06, 0.0]), rtol=1e-5)
    unclipped = make_optimizer(OptimizerConfig(clip_norm=0.0), 16, 10)
    adam = unclipped.update(gradients, unclipped.init(params), params)[1]
    assert_allclose(adam[0].mu["a"], np.array([0.3, 0.0]), rtol=1e-5)


def test_a_warm_up_of_zero_steps_is_refused():
    with pytest.raises(InputError, match="at least 1"):
        OptimizerConfig(warmup=0)
