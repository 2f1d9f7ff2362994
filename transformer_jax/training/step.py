"""The training step and the loss as pure functions, which the caller jits.

Axes: N blocks of rows, one per data-parallel device.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from transformer_jax.config import TrainingConfig
from transformer_jax.data.batches import Batch
from transformer_jax.model.transformer import Transformer
from transformer_jax.sharding import BATCH_AXES, batch_multiple, gather_over_fsdp
from transformer_jax.training.loss import LossSums, default_chunk_size, forward_passes, smoothed_cross_entropy
from transformer_jax.training.state import TrainState

Metrics = dict[str, jax.Array]


def loss_sums(
    model: Transformer,
    params: Any,
    batch: Batch,
    smoothing: float,
    dropout_key: Any = None,
    chunk_size: int | None = None,
    r_drop: float = 0.0,
    loss_scale: Any = 1.0,
) -> LossSums:
    """Return the sums of the loss over a batch.

    smoothing: label smoothing.
    dropout_key: random key for dropout; None disables dropout.
    chunk_size: tokens whose logits a device computes at a time; default: ``default_chunk_size``.
    r_drop: weight of the divergence between two forward passes of each row; 0 makes a single pass.
    loss_scale: factor of all sums. It is the weight of the tokens, so that the gradients of the logits are scaled
        before they are rounded to the data type of the model.
    """
    # Both passes of a row are adjacent. Dropout masks depend on the position in the batch, so this order makes them
    # independent of the mesh.
    rows = jax.tree.map(lambda x: jnp.repeat(x, forward_passes(r_drop), axis=0), batch)
    features, table = model.apply(
        {"params": params},
        rows.source,
        rows.target_input,
        rows.source_segments,
        rows.target_segments,
        rows.source_positions,
        rows.target_positions,
        rngs=None if dropout_key is None else {"dropout": dropout_key},
        method="features_and_table",
    )
    loss_weights = (batch.target_segments != 0) * jnp.asarray(loss_scale, jnp.float32)
    features = features.reshape(len(loss_weights), forward_passes(r_drop), *features.shape[1:]).swapaxes(1, 2)
    chunk_size = max((chunk_size or default_chunk_size()) // forward_passes(r_drop), 1)
    return smoothed_cross_entropy(features, table, batch.target_output, loss_weights, smoothing, chunk_size, r_drop)


def map_blocks(function: Callable[..., Any], mesh: Mesh | None) -> Callable[..., Any]:
    """Return a function that applies ``function(params, batch, ...)`` to each block of rows.

    Its results have a first axis [N]. The caller sums over it: an all-reduce in ``function`` would run in every
    iteration of the loops over chunks of tokens and over accumulated batches.
    """
    blocks = batch_multiple(mesh) if mesh else 1

    def mapped(params: Any, batch: Any, *rest: Any) -> Any:
        # Fused attention kernels need the mesh.
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh) if mesh and mesh.size > 1 else nullcontext():
            if blocks == 1:  # On a CPU, vmap over a single block makes a step 5% slower.
                return jax.tree.map(lambda x: x[None], function(params, batch, *rest))
            rows = jax.tree.map(lambda x: x.reshape(blocks, -1, *x.shape[1:]), batch)
            in_axes = (None, 0, *[None] * len(rest))
            return jax.vmap(function, in_axes, spmd_axis_name=BATCH_AXES)(params, rows, *rest)

    return mapped


def make_train_step(
    model: Transformer,
    optimizer: optax.GradientTransformation,
    config: TrainingConfig,
    mesh: Mesh | None = None,
    chunk_size: int | None = None,
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """Return the function that makes one update of the optimizer.

    The loss is the mean over all target tokens of the global batch, so every token has the same weight, however the
    tokens are spread over devices and accumulated batches.

    An update with non-finite loss or gradients is skipped: it changes only ``step``, ``skipped`` and ``loss_scale``,
    and all other metrics are 0. In float16, non-finite gradients of a finite loss count as an overflow instead of a
    skipped update, unless the scale cannot be halved any more.

    mesh: mesh of the devices; None for a single device.
    chunk_size: tokens whose logits a device computes at a time; default: ``default_chunk_size``.
    """
    accumulated_gradients = _make_gradient_function(model, config, mesh, chunk_size)

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        scale = 1.0 if state.loss_scale is None else state.loss_scale.value
        blockwise = accumulated_gradients(state.params, batch, jax.random.fold_in(state.key, state.step), scale)
        summed, sums = jax.tree.map(lambda x: x.sum(0) / scale, blockwise)
        mean_gradients = jax.tree.map(lambda gradient: gradient / sums.tokens, summed)
        updates, optimizer_state = optimizer.update(mean_gradients, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        step = state.step + 1
        average = state.average
        if average is not None:
            # The decay is smaller at first, so that the average forgets the initial parameters quickly.
            decay = jnp.minimum(config.ema, step / (step + 10))
            average = jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, average, params)
        norm = optax.tree.norm(mean_gradients)
        metrics = {**sums._asdict(), "gradient_norm": norm}
        finite = jnp.isfinite(sums.loss) & jnp.isfinite(norm)
        metrics = {name: jnp.where(finite, value, 0) for name, value in metrics.items()}
        is_skipped, loss_scale = ~finite, state.loss_scale
        if loss_scale is not None:
            metrics["overflows"] = jnp.isfinite(sums.loss) & ~finite & loss_scale.can_halve()
            is_skipped &= ~metrics["overflows"]
            loss_scale = loss_scale.after(finite)
        skipped = jnp.where(is_skipped, state.skipped + 1, 0)
        updated = TrainState(step, params, optimizer_state, average, state.key, skipped, loss_scale)
        unchanged = state._replace(step=step, skipped=skipped, loss_scale=loss_scale)
        after = jax.tree.map(lambda new, old: jnp.where(finite, new, old), updated, unchanged)
        return after, {**metrics, "skipped": skipped}

    return train_step


def _make_gradient_function(
    model: Transformer, config: TrainingConfig, mesh: Mesh | None, chunk_size: int | None
) -> Callable[[Any, Batch, Any, Any], tuple[Any, LossSums]]:
    """Return the function (params, batch, key, scale) -> gradients [N, ...] and loss sums [N] of each block of rows.

    scale: see ``loss_sums``. Both results contain it as a factor.
    """

    def gradients(params: Any, batch: Batch, key: Any, scale: Any) -> tuple[Any, LossSums]:
        def loss_fn(params: Any) -> tuple[jax.Array, LossSums]:
            gathered = gather_over_fsdp(mesh, params) if mesh else params
            sums = loss_sums(model, gathered, batch, config.label_smoothing, key, chunk_size, config.r_drop, scale)
            return sums.loss, sums

        return jax.grad(loss_fn, has_aux=True)(params)

    block_gradients = map_blocks(gradients, mesh)

    def accumulated_gradients(params: Any, batch: Batch, key: Any, scale: Any) -> tuple[Any, LossSums]:
        if config.accumulate == 1:
            return block_gradients(params, batch, key, scale)
        # Consecutive rows go to different batches, so that every device has equally many rows of each batch.
        batches = jax.tree.map(lambda x: x.reshape(-1, config.accumulate, *x.shape[1:]).swapaxes(0, 1), batch)
        keys = jax.random.split(key, config.accumulate)

        def add(total: Any, batch_and_key: tuple[Batch, Any]) -> tuple[Any, None]:
            return jax.tree.map(jnp.add, total, block_gradients(params, *batch_and_key, scale)), None

        sums = params, LossSums(*jnp.zeros(4))
        blocks = batch_multiple(mesh) if mesh else 1
        zeros = jax.tree.map(lambda x: jnp.zeros((blocks, *x.shape), x.dtype), sums)
        return jax.lax.scan(add, zeros, (batches, keys))[0]

    return accumulated_gradients
