"""The functions of a run, jitted with their shardings for its mesh; each is compiled when it is first called."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh

from transformer_jax.config import Config
from transformer_jax.errors import InputError
from transformer_jax.model.transformer import Transformer
from transformer_jax.sharding import batch_sharding, state_shardings, with_shardings
from transformer_jax.training.optimizer import make_optimizer
from transformer_jax.training.state import TrainState, initial_state
from transformer_jax.training.step import loss_sums, make_train_step


class CompiledFunctions(NamedTuple):
    """initialize() -> the first state; train_step(state, batch) -> the next state, which takes the memory of the one
    before, and metrics; loss_sums(parameters, batch) -> sums of the loss. state: its shapes, each with its sharding.
    """

    mesh: Mesh
    model: Transformer
    state: TrainState
    initialize: Any
    train_step: Any
    loss_sums: Any


def jit_functions(
    config: Config, mesh: Mesh, source_vocab_size: int, target_vocab_size: int, chunk: int | None = None
) -> CompiledFunctions:
    """Nothing is allocated or compiled here. chunk: as in ``make_train_step``."""
    model = Transformer(config.model, source_vocab_size, target_vocab_size)
    training = config.training
    optimizer = make_optimizer(config.optimizer, config.model.d_model, training.steps)
    initialize = partial(initial_state, model, optimizer, training.seed, bool(training.ema))
    shapes = jax.eval_shape(initialize)
    shardings, rows = state_shardings(mesh, shapes), batch_sharding(mesh)
    train_step = jax.jit(
        make_train_step(model, optimizer, training, mesh, chunk),
        in_shardings=(shardings, rows),
        out_shardings=(shardings, None),
        donate_argnums=0,
    )
    loss_fn = partial(loss_sums, model, smoothing=training.label_smoothing)
    return CompiledFunctions(
        mesh,
        model,
        with_shardings(mesh, shapes),
        jax.jit(initialize, out_shardings=shardings),
        train_step,
        jax.jit(loss_fn, in_shardings=(shardings.params, rows)),
    )


def require_enough_rows(config: Config, parts: int, length: int) -> None:
    """Refuse a batch with fewer rows of ``length`` positions than parts to divide them into."""
    rows = config.data.batch_tokens // length
    if rows < parts:
        raise InputError(
            f"data.batch_tokens {config.data.batch_tokens} holds {rows} rows of {length} tokens, too few for {parts} "
            f"parts (mesh data x fsdp x training.accumulate). Use --data.batch-tokens {parts * length}, or at most "
            f"{rows} parts."
        )
