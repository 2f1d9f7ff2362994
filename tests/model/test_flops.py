"""The FLOP formulas count exactly the matrix products that the model computes."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

from transformer_jax.config import ModelConfig
from transformer_jax.model.flops import forward_flops, training_flops
from transformer_jax.model.transformer import Transformer

CONFIG = ModelConfig(d_model=158, d_ff=211, heads=2, encoder_layers=1, decoder_layers=3)
V, B, S, T = 53, 3, 11, 7


def forward_pass():
    """Return the logits of a batch as a function of the parameters, and the shapes of the parameters."""
    model = Transformer(CONFIG, V, V)
    source, target = jnp.ones((B, S), jnp.int32), jnp.ones((B, T), jnp.int32)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), source, target, source, target))
    return lambda params: model.apply(params, source, target, source, target), shapes


def product_flops(jaxpr):
    """Return the FLOPs of all products in a jaxpr and in those that it calls."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            contracted = equation.params["dimension_numbers"][0][0]
            inner = math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
            total += 2 * inner * equation.outvars[0].aval.size
        total += sum(product_flops(sub) for sub in jaxprs_in_params(equation.params))
    return total


def test_every_product_of_a_forward_pass_is_counted():
    forward, shapes = forward_pass()
    assert product_flops(jax.make_jaxpr(forward)(shapes).jaxpr) == B * forward_flops(CONFIG, V, S, T)


def test_backward_pass_has_twice_the_products_of_the_forward():
    forward, shapes = forward_pass()
    gradient = jax.make_jaxpr(jax.grad(lambda params: forward(params).sum()))(shapes)
    assert product_flops(gradient.jaxpr) == B * training_flops(CONFIG, V, S, T)


def test_flops_agree_with_the_compiler_within_ten_percent():
    # The compiler also counts softmax, normalization and sums.
    forward, shapes = forward_pass()
    counted = jax.jit(forward).lower(shapes).compile().cost_analysis()["flops"]
    assert B * forward_flops(CONFIG, V, S, T) == pytest.approx(counted, rel=0.1)


def test_flops_accept_arrays_of_lengths():
    lengths = np.array([[11, 7], [3, 5]])
    expected = [forward_flops(CONFIG, V, int(s), int(t)) for s, t in lengths]
    assert forward_flops(CONFIG, V, lengths[:, 0], lengths[:, 1]).tolist() == expected
