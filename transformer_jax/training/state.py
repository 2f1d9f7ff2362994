"""All that a training step reads and writes."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from transformer_jax.model.transformer import Transformer


class TrainState(NamedTuple):
    """step: updates completed, skipped ones included; average: the moving average of the parameters, None unless the
    run keeps one; key: the random key from which each step derives its own; skipped: how many updates in a row, the
    last one included, were skipped.
    """

    step: Int[Array, ""]
    params: Any
    optimizer: optax.OptState
    average: Any
    key: Any
    skipped: Int[Array, ""]

    @property
    def eval_params(self) -> Any:
        """The parameters to validate and to translate with."""
        return self.params if self.average is None else self.average


def initial_state(model: Transformer, optimizer: optax.GradientTransformation, seed: int, average: bool) -> TrainState:
    """Fresh parameters, and the key of all dropout to come: the seed alone decides both."""
    tokens = jnp.ones((1, 2), jnp.int32)
    key = jax.random.key(seed)
    params = model.init(key, tokens, tokens, tokens, tokens)["params"]
    copy = jax.tree.map(jnp.copy, params) if average else None
    return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params), copy, key, jnp.zeros((), jnp.int32))
