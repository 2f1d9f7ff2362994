"""Rematerialization saves memory and changes nothing else."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from test_step import MODEL, V, batch_of, setup, single_device_run

from transformer_jax.config import MeshConfig
from transformer_jax.model.masks import padding_mask
from transformer_jax.model.transformer import Transformer
from transformer_jax.sharding import batch_sharding, make_mesh, put_batch, state_shardings
from transformer_jax.training.compiled import jit_functions
from transformer_jax.training.step import loss_sums, make_train_step

DROPOUT = dataclasses.replace(MODEL, dropout=0.3, encoder_layers=2, decoder_layers=2)


def models(norm):
    config = dataclasses.replace(DROPOUT, norm=norm)
    return config, [Transformer(config, V, V, remat) for remat in ("none", "blocks")]


def loss_of(model, batch=None):
    batch = batch_of() if batch is None else batch
    return lambda params: loss_sums(model, params, batch, 0.1, jax.random.key(1), r_drop=2.0).loss


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_loss_has_the_same_bytes_and_gradients_are_equal(norm):
    config, both = models(norm)
    params = setup(config)[3].params
    (loss, gradients), (remat_loss, remat_gradients) = (
        jax.jit(jax.value_and_grad(loss_of(model)))(params) for model in both
    )
    assert loss == remat_loss
    jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=1e-4, atol=1e-4), gradients, remat_gradients)


def test_parameters_have_the_same_paths_and_values():
    tokens = jnp.ones((1, 2), jnp.int32)
    plain, remat = (jax.jit(model.init)(jax.random.key(0), *[tokens] * 4) for model in models("pre")[1])
    assert jax.tree.structure(plain) == jax.tree.structure(remat)
    jax.tree.map(assert_array_equal, plain, remat)


def test_only_inputs_of_blocks_are_kept_for_the_backward_pass():
    config, both = models("post")
    params = jax.eval_shape(lambda: setup(config)[3].params)
    sizes = []
    for model in both:
        residuals = jax.eval_shape(lambda params, model=model: jax.vjp(loss_of(model), params)[1], params)
        sizes.append(sum(leaf.size for leaf in jax.tree.leaves(residuals)))
    parameters = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert sizes[1] - parameters < 0.3 * (sizes[0] - parameters)


def test_attention_and_decoding_steps_are_the_same():
    config, both = models("pre")
    params, batch = setup(config)[3].params, batch_of(rows=3)
    source_mask = padding_mask(batch.source, 0)

    def captured_and_decoded(model):
        inputs = (batch.source, batch.target_input, batch.source_segments, batch.target_segments)
        logits, captured = model.apply({"params": params}, *inputs, mutable=["intermediates"])
        memory = model.apply({"params": params}, batch.source, source_mask, method="encode")
        caches = model.apply({"params": params}, memory, 1, 5, method="init_cache")
        first_slot = (jnp.arange(5) == 0)[None, None, None]
        step = (batch.target_input[:, :1], caches, jnp.zeros(1, jnp.int32), jnp.int32(0), first_slot, source_mask)
        return logits, captured, model.apply({"params": params}, *step, method="decode_step")

    plain, remat = (jax.jit(captured_and_decoded, static_argnums=0)(model) for model in both)
    assert jax.tree.structure(plain) == jax.tree.structure(remat)
    jax.tree.map(lambda a, b: assert_allclose(a, b, atol=1e-6), plain, remat)


def test_a_mesh_with_remat_trains_like_a_single_device_without():
    model, optimizer, training, state, expected, expected_losses = single_device_run(accumulate=2, r_drop=4.0)
    mesh = make_mesh(MeshConfig(2, 2, 2))
    shardings, rows = state_shardings(mesh, jax.eval_shape(lambda: state)), batch_sharding(mesh)
    step = make_train_step(model.clone(remat="blocks"), optimizer, training, mesh)
    sharded = jax.jit(step, in_shardings=(shardings, rows), out_shardings=(shardings, None))
    state = jax.device_put(state, shardings)
    for seed, expected_loss in enumerate(expected_losses):
        state, metrics = sharded(state, put_batch(batch_of(seed=seed), mesh))
        assert_allclose(metrics["loss"], expected_loss, rtol=2e-5)
    jax.tree.map(lambda a, b: assert_allclose(np.asarray(a), np.asarray(b), atol=1e-5), state.params, expected.params)


@pytest.mark.parametrize("remat", ["none", "blocks"])
def test_a_run_trains_with_its_remat(remat, make_config):
    functions = jit_functions(make_config(remat=remat), make_mesh(MeshConfig()), V, V)
    assert functions.model.remat == remat
