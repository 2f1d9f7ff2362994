"""The jitted functions of a run, with the shardings of its mesh. Each is compiled on its first call."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from transformer_jax.config import Config
from transformer_jax.data.batches import Batch, BatchShape
from transformer_jax.errors import InputError
from transformer_jax.model.transformer import Transformer
from transformer_jax.sharding import batch_sharding, state_shardings, with_shardings
from transformer_jax.training.loss import LossSums
from transformer_jax.training.optimizer import make_optimizer
from transformer_jax.training.state import TrainState, initial_state
from transformer_jax.training.step import loss_sums, make_train_step, map_blocks


class CompiledFunctions(NamedTuple):
    """The jitted functions of a run, with its mesh, model and state shapes.

    mesh: mesh of the devices.
    model: the Transformer.
    state: shapes of the training state, with shardings.
    initialize: () -> initial state.
    train_step: (state, batch) -> (next state, metrics). It donates the memory of its state to the next state.
    loss_sums: (params, batch) -> LossSums, without dropout.
    replicate: params -> the same params on every device.
    """

    mesh: Mesh
    model: Transformer
    state: TrainState
    initialize: Any
    train_step: Any
    loss_sums: Any
    replicate: Any


def jit_functions(
    config: Config, mesh: Mesh, source_vocab_size: int, target_vocab_size: int, chunk_size: int | None = None
) -> CompiledFunctions:
    """Return the jitted functions of a run, without compiling them or allocating memory.

    chunk_size: see ``make_train_step``.
    """
    training = config.training
    model = Transformer(config.model, source_vocab_size, target_vocab_size, training.remat)
    optimizer = make_optimizer(config.optimizer, config.model.d_model, training.steps)
    initialize = partial(initial_state, model, optimizer, training.seed, bool(training.ema))
    shapes = jax.eval_shape(initialize)
    shardings, rows = state_shardings(mesh, shapes), batch_sharding(mesh)
    train_step = jax.jit(
        make_train_step(model, optimizer, training, mesh, chunk_size),
        in_shardings=(shardings, rows),
        out_shardings=(shardings, None),
        donate_argnums=0,
    )
    block_sums = map_blocks(partial(loss_sums, model, smoothing=training.label_smoothing, chunk_size=chunk_size), mesh)

    def summed_loss(params: Any, batch: Batch) -> LossSums:
        return jax.tree.map(lambda x: x.sum(0), block_sums(params, batch))

    return CompiledFunctions(
        mesh,
        model,
        with_shardings(mesh, shapes),
        jax.jit(initialize, out_shardings=shardings),
        train_step,
        jax.jit(summed_loss, in_shardings=(shardings.params, rows)),
        jax.jit(lambda params: params, out_shardings=NamedSharding(mesh, PartitionSpec())),
    )


def abstract_batch(shape: BatchShape, mesh: Mesh) -> Batch:
    """Return the shapes and shardings of a batch, for which a jitted function can be compiled."""
    source, target = (
        jax.ShapeDtypeStruct((shape.rows, length), np.int32, sharding=batch_sharding(mesh))
        for length in (shape.source, shape.target)
    )
    fields: Any = [source if "source" in name else target for name in Batch._fields]
    return Batch(*fields)


def require_enough_rows(config: Config, parts: int, length: int) -> None:
    """Raise InputError if a batch has fewer than ``parts`` rows of ``length`` tokens.

    parts: number of parts of a batch: data-parallel devices times accumulation steps.
    """
    rows = config.data.batch_tokens // length
    if rows < parts:
        lower = f", or lower --mesh.data, --mesh.fsdp or --training.accumulate until their product is at most {rows}"
        raise InputError(
            f"the number of rows of {length} tokens in data.batch_tokens {config.data.batch_tokens} is {rows}, but "
            f"must be at least {parts} (mesh.data x mesh.fsdp x training.accumulate). "
            f"Set --data.batch-tokens to at least {parts * length}{lower if rows else ''}."
        )
