"""One update of the parameters, and one evaluation of them: pure functions, to be jitted by the caller.

Axes: B rows, A batches whose gradients are accumulated, N blocks of rows, one for each device that shares them.
"""

from __future__ import annotations

from collections.abc import Callable
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
    dropout: Any = None,
    chunk: int | None = None,
    r_drop: float = 0.0,
) -> LossSums:
    """Sums of the loss over a batch; with a key for ``dropout``, as training sees it. chunk: see ``default_chunk_size``;
    r_drop: other than 0, every row is passed twice and the divergence of both passes weighs so much.
    """
    # The passes of a row side by side: so the masks, which go by the place in the batch, do not depend on the mesh.
    rows = jax.tree.map(lambda x: jnp.repeat(x, forward_passes(r_drop), axis=0), batch)
    features, table = model.apply(
        {"params": params},
        rows.source,
        rows.target_input,
        rows.source_segments,
        rows.target_segments,
        rows.source_positions,
        rows.target_positions,
        rngs=None if dropout is None else {"dropout": dropout},
        method="features_and_table",
    )
    loss_weights = (batch.target_segments != 0).astype(jnp.float32)
    features = features.reshape(len(loss_weights), forward_passes(r_drop), *features.shape[1:]).swapaxes(1, 2)
    chunk = max((chunk or default_chunk_size()) // forward_passes(r_drop), 1)
    return smoothed_cross_entropy(features, table, batch.target_output, loss_weights, smoothing, chunk, r_drop)


def make_train_step(
    model: Transformer,
    optimizer: optax.GradientTransformation,
    config: TrainingConfig,
    mesh: Mesh | None = None,
    chunk: int | None = None,
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """The update for a run's settings.

    The loss is the mean over all target tokens of the global batch: neither devices nor accumulated batches with few
    tokens weigh more than they hold. An update whose loss or gradients are no finite numbers changes nothing but the
    step and the count of such updates in a row, and has no other metrics than that: they are 0. mesh: the devices that
    share the rows, None for one; chunk: see ``default_chunk_size``.
    """
    blocks = batch_multiple(mesh) if mesh else 1

    def gradients(params: Any, batch: Batch, key: Any) -> tuple[Any, LossSums]:
        def total(params: Any) -> tuple[jax.Array, LossSums]:
            whole = gather_over_fsdp(mesh, params) if mesh else params
            sums = loss_sums(model, whole, batch, config.label_smoothing, key, chunk, config.r_drop)
            return sums.loss, sums

        summed, sums = jax.grad(total, has_aux=True)(params)
        return summed, sums

    def block_gradients(params: Any, batch: Batch, key: Any) -> tuple[Any, LossSums]:
        """Gradients [N, ...] of each device's own rows. Summed here, they would travel between the devices at every
        turn of the loops over chunks of tokens and over accumulated batches.
        """
        if blocks == 1:  # On a CPU an axis of blocks costs 5% of a step, even of length 1.
            return jax.tree.map(lambda x: x[None], gradients(params, batch, key))
        rows = jax.tree.map(lambda x: x.reshape(blocks, -1, *x.shape[1:]), batch)
        return jax.vmap(gradients, (None, 0, None), spmd_axis_name=BATCH_AXES if mesh else None)(params, rows, key)

    def accumulated(params: Any, batch: Batch, key: Any) -> tuple[Any, LossSums]:
        if config.accumulate == 1:
            return block_gradients(params, batch, key)
        # Rows are dealt to the parts in turn, so that every device keeps an equal share of each part.
        parts = jax.tree.map(lambda x: x.reshape(-1, config.accumulate, *x.shape[1:]).swapaxes(0, 1), batch)
        keys = jax.random.split(key, config.accumulate)

        def add(total: Any, part: tuple[Batch, Any]) -> tuple[Any, None]:
            return jax.tree.map(jnp.add, total, block_gradients(params, *part)), None

        sums = params, LossSums(*jnp.zeros(4))
        zeros = jax.tree.map(lambda x: jnp.zeros((blocks, *x.shape), x.dtype), sums)
        return jax.lax.scan(add, zeros, (parts, keys))[0]

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        blockwise = accumulated(state.params, batch, jax.random.fold_in(state.key, state.step))
        summed, sums = jax.tree.map(lambda x: x.sum(0), blockwise)
        mean = jax.tree.map(lambda gradient: gradient / sums.tokens, summed)
        updates, optimizer_state = optimizer.update(mean, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        step = state.step + 1
        average = state.average
        if average is not None:
            # Early on, average over the few steps there are instead of remembering the initial weights.
            decay = jnp.minimum(config.ema, step / (step + 10))
            average = jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, average, params)
        norm = optax.tree.norm(mean)
        metrics = {**sums._asdict(), "gradient_norm": norm}
        finite = jnp.isfinite(sums.loss) & jnp.isfinite(norm)
        skipped = jnp.where(finite, 0, state.skipped + 1)
        updated = TrainState(step, params, optimizer_state, average, state.key, skipped)
        unchanged = state._replace(step=step, skipped=skipped)
        metrics = {name: jnp.where(finite, value, 0) for name, value in metrics.items()}
        after = jax.tree.map(lambda new, old: jnp.where(finite, new, old), updated, unchanged)
        return after, {**metrics, "skipped": skipped}

    return train_step
