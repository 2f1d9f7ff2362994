"""The decoding loop of all searches, which repeats the decoding step until every sentence is finished.

Axes: B sentences.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from transformer_jax.decoding.search_inputs import Hypotheses

State = TypeVar("State")

SHRINK_FACTOR = 8
"""The batch shrinks by this factor as soon as the remaining live sentences fit."""


def decode_loop(
    is_live: Callable[[State], Bool[Array, "B"]],
    body: Callable[[State], State],
    init: State,
    hypotheses: Callable[[State], Hypotheses],
) -> Hypotheses:
    """Run ``body`` until no sentence is live and return the hypotheses of the last state.

    When only a few sentences are live, they are moved to a smaller batch to make each step cheaper. Therefore, the
    first axis of every array in the state, except scalars, must be the batch axis, and ``body`` must not use other
    arrays with a batch axis.

    is_live: returns a mask of the sentences of a state that need more steps.
    body: one decoding step.
    init: the state before the first step.
    hypotheses: returns the hypotheses of a state.
    """
    batch_size = is_live(init).shape[0]
    small_batch_size = batch_size // SHRINK_FACTOR
    state = jax.lax.while_loop(lambda state: is_live(state).sum() > small_batch_size, body, init)
    if not small_batch_size:
        return hypotheses(state)
    _, rows = jax.lax.top_k(is_live(state).astype(jnp.int32), small_batch_size)
    small_state = jax.tree.map(lambda array: array[rows] if array.ndim else array, state)
    small_state = jax.lax.while_loop(lambda state: is_live(state).sum() > 0, body, small_state)
    return jax.tree.map(
        lambda array, small_array: array.at[rows].set(small_array), hypotheses(state), hypotheses(small_state)
    )
