"""The operations counted are those of the matrix products that the model really computes."""

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
    """Logits of a batch as a function of the parameters, and the parameters' shapes."""
    model = Transformer(CONFIG, V, V)
    source, target = jnp.ones((B, S), jnp.int32), jnp.ones((B, T), jnp.int32)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), source, target, source, target))
    return lambda params: model.apply(params, source, target, source, target), shapes


def products(jaxpr):
    """Operations of all products in a program, and in the programs that it calls."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            contracted = equation.params["dimension_numbers"][0][0]
            inner = math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
            total += 2 * inner * equation.outvars[0].aval.size
        total += sum(products(sub) for sub in jaxprs_in_params(equation.params))
    return total


def test_every_product_of_a_pass_is_counted():
    forward, shapes = forward_pass()
    assert products(jax.make_jaxpr(forward)(shapes).jaxpr) == B * forward_flops(CONFIG, V, S, T)


def test_the_backward_pass_has_two_products_for_each_of_the_forward_pass():
    forward, shapes = forward_pass()
    gradient = jax.make_jaxpr(jax.grad(lambda params: forward(params).sum()))(shapes)
    assert products(gradient.jaxpr) == B * training_flops(CONFIG, V, S, T)


def test_the_compiler_counts_little_more():
    # Beside the products: softmax, normalization, sums.
    forward, shapes = forward_pass()
    counted = jax.jit(forward).lower(shapes).compile().cost_analysis()["flops"]
    assert B * forward_flops(CONFIG, V, S, T) == pytest.approx(counted, rel=0.1)


def test_lengths_may_be_arrays():
    lengths = np.array([[11, 7], [3, 5]])
    each = [forward_flops(CONFIG, V, int(s), int(t)) for s, t in lengths]
    assert forward_flops(CONFIG, V, lengths[:, 0], lengths[:, 1]).tolist() == each
