"""Training in float16: the scale of the loss, and the updates that it skips."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from number_words import assert_same_run, metrics_lines
from numpy.testing import assert_allclose
from test_step import MODEL, batch_of, setup

from transformer_jax.config import MeshConfig, TrainingConfig
from transformer_jax.errors import InputError
from transformer_jax.sharding import batch_sharding, make_mesh, put_batch, state_shardings
from transformer_jax.storage.checkpoints import Checkpoints
from transformer_jax.training import loop, loss_scale
from transformer_jax.training.loss import smoothed_cross_entropy
from transformer_jax.training.loss_scale import GROWTH_INTERVAL, INITIAL_SCALE, LossScale
from transformer_jax.training.step import make_train_step

FLOAT16 = dataclasses.replace(MODEL, dtype="float16")
TOO_LARGE = 2.0**40


@pytest.fixture(scope="module")
def run():
    """A state in float16, and the jitted training step."""
    model, optimizer, training, state = setup(FLOAT16, TrainingConfig(seed=3, ema=0.5), optax.adam(0.01))
    return state, jax.jit(make_train_step(model, optimizer, training))


def with_scale(state, value, finite_updates=0):
    return state._replace(loss_scale=LossScale(jnp.float32(value), jnp.int32(finite_updates)))


def test_the_scale_doubles_after_finite_updates_and_halves_at_an_overflow():
    scale = LossScale(jnp.float32(8), jnp.int32(GROWTH_INTERVAL - 2))
    before = scale.after(jnp.bool_(True))
    assert (float(before.value), int(before.finite_updates)) == (8, GROWTH_INTERVAL - 1)
    doubled = before.after(jnp.bool_(True))
    assert (float(doubled.value), int(doubled.finite_updates)) == (16, 0)
    halved = before.after(jnp.bool_(False))
    assert (float(halved.value), int(halved.finite_updates)) == (4, 0)
    minimum = LossScale(jnp.float32(1), jnp.int32(5)).after(jnp.bool_(False))
    assert (float(minimum.value), bool(minimum.can_halve()), bool(halved.can_halve())) == (1, False, True)


def test_only_float16_has_a_scale_in_its_state():
    leaves = []
    for dtype in ("float32", "bfloat16", "float16"):
        state = setup(dataclasses.replace(MODEL, dtype=dtype))[3]
        leaves.append(len(jax.tree.leaves(state)))
        assert (state.loss_scale is not None) == (dtype == "float16")
    assert leaves[0] == leaves[1] == leaves[2] - 2
    assert state.loss_scale.value == INITIAL_SCALE


def test_an_overflow_halves_the_scale_and_skips_the_update(run):
    state, step = run
    state = with_scale(state, TOO_LARGE, 7)
    for number in (1, 2):
        after, metrics = step(state if number == 1 else after, batch_of())
        assert (int(after.step), int(after.skipped)) == (number, 0)
        assert (float(after.loss_scale.value), int(after.loss_scale.finite_updates)) == (TOO_LARGE / 2**number, 0)
        assert {name: float(value) for name, value in metrics.items() if value} == {"overflows": 1}
        for field in ("params", "optimizer", "average"):
            jax.tree.map(np.testing.assert_array_equal, getattr(after, field), getattr(state, field))
    after, metrics = step(with_scale(after, 64.0), batch_of())
    assert (float(after.loss_scale.value), int(after.loss_scale.finite_updates)) == (64, 1)
    assert not metrics["overflows"]
    assert float(metrics["loss"]) > 0


def test_updates_that_the_scale_does_not_explain_count_as_skipped(run, monkeypatch):
    state, step = run
    infinite = state._replace(params=jax.tree.map(lambda x: x.at[0].set(jnp.inf), state.params))
    after, metrics = step(infinite, batch_of())  # The loss itself is not finite.
    assert (int(after.skipped), int(metrics["skipped"]), int(metrics["overflows"])) == (1, 1, 0)
    monkeypatch.setattr(loss_scale, "MINIMUM_SCALE", TOO_LARGE)
    model, optimizer, training, _ = setup(FLOAT16, TrainingConfig(seed=3, ema=0.5), optax.adam(0.01))
    after, metrics = jax.jit(make_train_step(model, optimizer, training))(with_scale(state, TOO_LARGE), batch_of())
    assert (int(after.skipped), int(metrics["skipped"]), int(metrics["overflows"])) == (1, 1, 0)
    assert float(after.loss_scale.value) == TOO_LARGE


def test_the_scale_changes_neither_metrics_nor_update(run):
    state, step = run
    # Powers of two without overflow or underflow round nothing.
    results = [step(with_scale(state, value), batch_of()) for value in (64.0, 256.0)]
    for name in results[0][1]:
        assert_allclose(results[0][1][name], results[1][1][name], rtol=1e-3, err_msg=name)
    assert float(results[0][1]["tokens"]) == batch_of().target_segments.sum()
    plain_state = state._replace(loss_scale=None)
    model, optimizer, training, _ = setup(MODEL, TrainingConfig(seed=3, ema=0.5), optax.adam(0.01))
    _, metrics = jax.jit(make_train_step(model, optimizer, training))(plain_state, batch_of())
    for name in ("loss", "gradient_norm"):
        assert_allclose(results[0][1][name], metrics[name], rtol=5e-3, err_msg=name)
        assert results[0][1][name] != metrics[name]


def test_gradients_below_the_range_of_float16_survive_with_a_scale():
    # Target 0 has a logit of 18 and the other of 0, so both gradients of the logits are about 1.5e-8.
    features, table = jnp.full((1, 1, 1, 1), 18.0), jnp.asarray([[1.0], [0.0]])
    targets, weights = jnp.zeros((1, 1), jnp.int32), jnp.ones((1, 1))

    def gradient(dtype, scale):
        def loss(table):
            return smoothed_cross_entropy(features.astype(dtype), table, targets, weights * scale, 0.0, 1).loss

        return jax.grad(loss)(table) / scale

    expected = gradient(jnp.float32, 1.0)
    assert_allclose(gradient(jnp.float16, INITIAL_SCALE), expected, rtol=1e-2)
    assert not gradient(jnp.float16, 1.0).any()


@pytest.mark.parametrize(("accumulate", "r_drop"), [(2, 4.0)])
def test_a_mesh_trains_in_float16_like_a_single_device(accumulate, r_drop):
    training = TrainingConfig(seed=3, accumulate=accumulate, r_drop=r_drop)
    config = dataclasses.replace(FLOAT16, dropout=0.3)
    model, optimizer, _, state = setup(config, training)
    state = with_scale(state, TOO_LARGE)
    mesh = make_mesh(MeshConfig(2, 2, 2))
    shardings, rows = state_shardings(mesh, jax.eval_shape(lambda: state)), batch_sharding(mesh)
    single = jax.jit(make_train_step(model, optimizer, training))
    sharded = jax.jit(
        make_train_step(model, optimizer, training, mesh),
        in_shardings=(shardings, rows),
        out_shardings=(shardings, None),
    )
    expected, state = state, jax.device_put(state, shardings)
    for scale in (TOO_LARGE, 16.0):
        expected, expected_metrics = single(with_scale(expected, scale), batch_of())
        state, metrics = sharded(jax.device_put(with_scale(state, scale), shardings), put_batch(batch_of(), mesh))
        assert metrics["overflows"] == expected_metrics["overflows"] == (scale == TOO_LARGE)
        assert_allclose(metrics["loss"], expected_metrics["loss"], rtol=1e-3)
        assert_allclose(metrics["gradient_norm"], expected_metrics["gradient_norm"], rtol=1e-2)


def test_an_interrupted_float16_run_ends_with_the_same_bytes(make_config, finished_run, tmp_path, monkeypatch):
    config = make_config()
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, dtype="float16"))
    monkeypatch.setattr(loss_scale, "INITIAL_SCALE", 64.0)  # No overflow, so that the losses are those of float32.
    monkeypatch.setattr(loss_scale, "GROWTH_INTERVAL", 3)
    loop.fit(config, tmp_path / "expected")
    real = loop.score_validation_set

    def interrupt_the_last(*arguments):
        if int(arguments[3].step) == 12:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(loop, "score_validation_set", interrupt_the_last)
    with pytest.raises(KeyboardInterrupt):
        loop.fit(config, tmp_path / "run")
    monkeypatch.setattr(loop, "score_validation_set", real)
    loop.fit(config, tmp_path / "run")
    assert_same_run(tmp_path / "run", tmp_path / "expected")

    lines, float32_lines = (
        [line for line in metrics_lines(run) if line["phase"] == "train"]
        for run in (tmp_path / "expected", finished_run)
    )
    assert [line["loss_scale"] for line in lines] == [64, 128, 256, 256, 512, 1024]
    assert not {"loss_scale", "overflows"} & {name for line in float32_lines for name in line}
    losses, float32_losses = ([line["loss"] for line in run] for run in (lines, float32_lines))
    assert losses != float32_losses
    assert_allclose(losses[:4], float32_losses[:4], rtol=0.005)  # The learning rate amplifies later differences.


def test_checkpoints_of_other_types_have_no_scale(finished_run):
    checkpoints = Checkpoints(finished_run / "checkpoints")
    metadata = finished_run / "checkpoints" / str(checkpoints.latest_step()) / "state" / "_METADATA"
    assert "loss_scale" not in metadata.read_text()


def test_float16_on_a_tpu_is_refused_before_data_is_read(make_config, tmp_path, monkeypatch):
    class Tpu:
        platform, device_kind = "tpu", "TPU v5 lite"

    config = make_config()
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, dtype="float16"))
    monkeypatch.setattr(jax, "local_devices", lambda: [Tpu()])
    monkeypatch.setattr(loop, "load_corpus", None)
    with pytest.raises(InputError, match=r"float16 is not supported on TPU v5 lite\. Set --model\.dtype bfloat16\."):
        loop.fit(config, tmp_path / "run")
