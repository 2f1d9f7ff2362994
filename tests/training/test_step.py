"""The training step, which depends neither on accumulation nor on the mesh."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.experimental import pallas
from numpy.testing import assert_allclose

from transformer_jax.config import MeshConfig, ModelConfig, TrainingConfig
from transformer_jax.data.batches import Batch
from transformer_jax.model.transformer import Transformer
from transformer_jax.sharding import batch_sharding, make_mesh, put_batch, state_shardings
from transformer_jax.training.state import initial_state
from transformer_jax.training.step import loss_sums, make_train_step

V = 24
MODEL = ModelConfig(d_model=16, d_ff=32, heads=4, encoder_layers=1, decoder_layers=1, dropout=0.0)


def batch_of(rows=16, source=5, target=7, seed=0):
    """Rows of random lengths, so that any two groups of rows have different token counts."""
    random = np.random.default_rng(seed)
    s, t = (np.arange(n)[None] < random.integers(1, n + 1, (rows, 1)) for n in (source, target))
    x, y = (random.integers(4, V, mask.shape) * mask for mask in (s, t))
    shifted = np.concatenate([np.full((rows, 1), 2), y[:, :-1]], axis=1) * t
    positions = [np.arange(n)[None].repeat(rows, 0) for n in (source, target)]
    return Batch(*(jnp.asarray(a, jnp.int32) for a in (x, s, positions[0], shifted, y, t, positions[1])))


def setup(config=MODEL, training=None, optimizer=None):
    training = training or TrainingConfig(seed=3)
    model = Transformer(config, V, V)
    optimizer = optimizer or optax.sgd(0.5)
    # One program: operation by operation, hundreds would be compiled.
    state = jax.jit(lambda: initial_state(model, optimizer, training.seed, bool(training.ema)))()
    return model, optimizer, training, state


def test_the_mean_loss_per_token_falls():
    model, optimizer, training, state = setup()
    step = jax.jit(make_train_step(model, optimizer, training))
    batch = batch_of()
    losses = []
    for _ in range(5):
        state, metrics = step(state, batch)
        losses.append(float(metrics["loss"] / metrics["tokens"]))
    assert metrics["tokens"] == batch.target_segments.sum()
    assert losses == sorted(losses, reverse=True)
    assert int(state.step) == 5


def test_accumulated_batches_are_weighted_by_their_tokens():
    batch = batch_of()
    results = []
    for accumulate in (1, 4):
        model, optimizer, training, state = setup(training=TrainingConfig(seed=3, accumulate=accumulate))
        results.append(jax.jit(make_train_step(model, optimizer, training))(state, batch))
    (single, single_metrics), (accumulated, accumulated_metrics) = results
    jax.tree.map(lambda a, b: assert_allclose(a, b, atol=2e-6), single.params, accumulated.params)
    jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=1e-5), single_metrics, accumulated_metrics)


def test_an_update_applies_the_gradient_of_the_mean_loss():
    model, optimizer, training, state = setup()
    batch = batch_of()

    def loss(params):
        logits = model.apply({"params": params}, batch.source, batch.target_input, *(batch[i] for i in (1, 5, 2, 6)))
        labels = optax.smooth_labels(jax.nn.one_hot(batch.target_output, V), training.label_smoothing)
        loss_weights = batch.target_segments != 0
        return (optax.softmax_cross_entropy(logits, labels) * loss_weights).sum() / loss_weights.sum()

    expected = jax.tree.map(lambda p, g: p - 0.5 * g, state.params, jax.jit(jax.grad(loss))(state.params))
    after, _ = jax.jit(make_train_step(model, optimizer, training))(state, batch)
    jax.tree.map(lambda a, b: assert_allclose(a, b, atol=2e-6), after.params, expected)


def test_dropout_depends_on_step_and_seed_only():
    config = ModelConfig(**{**vars(MODEL), "dropout": 0.5})
    model, _, training, state = setup(config, optimizer=optax.sgd(0.0))
    step = jax.jit(make_train_step(model, optax.sgd(0.0), training))
    batch = batch_of()
    after, first = step(state, batch)
    _, second = step(after, batch)
    assert first["loss"] != second["loss"]
    assert step(state, batch)[1]["loss"] == first["loss"]
    loss = jax.jit(lambda params: loss_sums(model, params, batch, 0.1).loss)
    assert loss(state.params) == loss(after.params)


def test_two_passes_differ_only_by_dropout():
    with_dropout = ModelConfig(**{**vars(MODEL), "dropout": 0.5})
    batch, key = batch_of(), jax.random.key(1)
    for config, passes_differ in ((MODEL, False), (with_dropout, True)):
        model, _, _, state = setup(config)
        single, small, large = (
            jax.jit(lambda params, w=w, model=model: loss_sums(model, params, batch, 0.1, key, r_drop=w))(state.params)
            for w in (0.0, 1e-9, 4.0)
        )
        assert small.tokens == large.tokens == single.tokens
        assert (not np.isclose(small.loss, large.loss)) == passes_differ
        assert np.isclose(small.loss, single.loss) == (not passes_differ)
    results = []
    for weight in (0.0, 4.0):
        training = TrainingConfig(seed=3, r_drop=weight)
        model, optimizer, _, state = setup(with_dropout, training)
        results.append(jax.jit(make_train_step(model, optimizer, training))(state, batch)[1])
    assert results[1]["loss"] > results[0]["loss"] * 1.01


def test_non_finite_updates_are_skipped_and_counted():
    model, optimizer, training, state = setup(training=TrainingConfig(ema=0.5), optimizer=optax.adam(0.1))
    step = jax.jit(make_train_step(model, optimizer, training))
    infinite = state._replace(params=jax.tree.map(lambda x: x.at[0].set(jnp.inf), state.params))
    for number in (1, 2):
        after, metrics = step(infinite if number == 1 else after, batch_of(seed=number))
        assert (int(after.step), int(after.skipped)) == (number, number)
        assert {name: float(value) for name, value in metrics.items() if value} == {"skipped": number}
        for field in ("params", "optimizer", "average"):
            jax.tree.map(np.testing.assert_array_equal, getattr(after, field), getattr(infinite, field))
    after, metrics = step(after._replace(params=state.params), batch_of())
    assert (int(after.step), int(after.skipped), int(metrics["skipped"])) == (3, 0, 0)
    assert float(metrics["loss"]) > 0


def test_the_moving_average_follows_the_parameters():
    model, optimizer, training, state = setup(training=TrainingConfig(ema=0.5))
    after, _ = jax.jit(make_train_step(model, optimizer, training))(state, batch_of())
    # decay = min(0.5, 1 / 11) after the first step
    jax.tree.map(
        lambda average, old, new: assert_allclose(average, old / 11 + new * 10 / 11, atol=1e-6),
        after.average,
        state.params,
        after.params,
    )
    assert after.eval_params is after.average
    assert setup()[3].eval_params is not None


def test_bfloat16_keeps_parameters_and_loss_in_float32():
    bfloat16 = ModelConfig(**{**vars(MODEL), "dtype": "bfloat16"})
    losses = []
    for config in (MODEL, bfloat16):
        model, optimizer, training, state = setup(config)
        after, metrics = jax.jit(make_train_step(model, optimizer, training))(state, batch_of())
        assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(after.params))
        assert metrics["loss"].dtype == jnp.float32
        losses.append(float(metrics["loss"]))
    assert losses[0] != losses[1]
    assert_allclose(losses[1], losses[0], rtol=1e-2)


@functools.cache
def single_device_run(accumulate, r_drop):
    """Three updates on one device: the setup, the parameters after them and the losses."""
    config = ModelConfig(**{**vars(MODEL), "dropout": 0.3})  # the masks do not depend on the mesh
    training = TrainingConfig(seed=3, accumulate=accumulate, r_drop=r_drop)
    model, optimizer, training, state = setup(config, training)
    expected, expected_losses = state, []
    plain = jax.jit(make_train_step(model, optimizer, training))
    for seed in range(3):
        expected, metrics = plain(expected, batch_of(seed=seed))
        expected_losses.append(metrics["loss"])
    return model, optimizer, training, state, expected, expected_losses


@pytest.mark.parametrize(
    "mesh",
    [MeshConfig(8, 1, 1), MeshConfig(1, 8, 1), MeshConfig(1, 1, 8), MeshConfig(2, 1, 4), MeshConfig(2, 2, 2)],
    ids=lambda mesh: f"{mesh.data}-{mesh.fsdp}-{mesh.tensor}",
)
@pytest.mark.parametrize(("accumulate", "r_drop"), [(1, 0.0), (2, 4.0)])
def test_every_mesh_trains_like_a_single_device(mesh, accumulate, r_drop):
    model, optimizer, training, state, expected, expected_losses = single_device_run(accumulate, r_drop)
    devices = make_mesh(mesh)
    shardings = state_shardings(devices, jax.eval_shape(lambda: state))
    rows = batch_sharding(devices)
    step = make_train_step(model, optimizer, training, devices)
    sharded = jax.jit(step, in_shardings=(shardings, rows), out_shardings=(shardings, None), donate_argnums=0)
    # A copy, because the step takes its memory and other tests use the state.
    state = jax.device_put(jax.tree.map(jnp.copy, state), shardings)
    for seed, expected_loss in enumerate(expected_losses):
        state, metrics = sharded(state, put_batch(batch_of(seed=seed), devices))
        assert_allclose(metrics["loss"], expected_loss, rtol=2e-5)
    jax.tree.map(lambda a, b: assert_allclose(np.asarray(a), np.asarray(b), atol=1e-5), state.params, expected.params)


def test_pallas_with_remat_trains_like_xla_on_a_mesh(monkeypatch):
    call = pallas.pallas_call  # In interpret mode, it runs on the CPU.
    monkeypatch.setattr(pallas, "pallas_call", lambda *args, **options: call(*args, **options | {"interpret": True}))
    devices, results = make_mesh(MeshConfig(2, 2, 2)), []
    for attention, remat in (("xla", "none"), ("pallas", "blocks")):
        model, optimizer, training, state = setup(ModelConfig(**{**vars(MODEL), "attention": attention}))
        shardings = state_shardings(devices, jax.eval_shape(lambda state=state: state))
        step = make_train_step(model.clone(remat=remat), optimizer, training, devices)
        sharded = jax.jit(step, in_shardings=(shardings, batch_sharding(devices)), out_shardings=(shardings, None))
        results.append(sharded(state, put_batch(batch_of(), devices)))
    jax.tree.map(lambda a, b: assert_allclose(a, b, atol=1e-5), *(state.params for state, _ in results))
    assert_allclose(results[1][1]["loss"], results[0][1]["loss"], rtol=2e-5)
