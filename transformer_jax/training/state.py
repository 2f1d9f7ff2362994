"""The training state."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from transformer_jax.model.transformer import Transformer
from transformer_jax.training.loss_scale import LossScale


class TrainState(NamedTuple):
    """Everything that a training step reads and writes.

    step: number of completed updates, including skipped ones.
    params: parameters of the model.
    optimizer: state of the optimizer.
    average: moving average of the parameters; None if the run keeps none.
    key: random key from which each step derives its own key.
    skipped: number of consecutive skipped updates up to this step, without those that an overflow of float16 explains.
    loss_scale: scale of the loss in float16; None for other data types.
    """

    step: Int[Array, ""]
    params: Any
    optimizer: optax.OptState
    average: Any
    key: Any
    skipped: Int[Array, ""]
    loss_scale: LossScale | None = None

    @property
    def eval_params(self) -> Any:
        """The parameters for validation and translation: the average if the run keeps an average."""
        return self.params if self.average is None else self.average


def initial_state(model: Transformer, optimizer: optax.GradientTransformation, seed: int, average: bool) -> TrainState:
    """Return the state before the first update. Its parameters and its random key depend only on ``seed``."""
    tokens = jnp.ones((1, 2), jnp.int32)
    key = jax.random.key(seed)
    params = model.init(key, tokens, tokens, tokens, tokens)["params"]
    copy = jax.tree.map(jnp.copy, params) if average else None
    scale = LossScale.initial() if model.config.dtype == "float16" else None
    zero = jnp.zeros((), jnp.int32)
    return TrainState(zero, params, optimizer.init(params), copy, key, zero, scale)
