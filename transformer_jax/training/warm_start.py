"""Training that starts from the weights of another run (``training.init``) instead of random ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax

from transformer_jax.errors import InputError
from transformer_jax.storage.checkpoints import load_params
from transformer_jax.storage.untrusted import require_contained
from transformer_jax.training.state import TrainState


def init_from_run(folder: Path, state: TrainState) -> TrainState:
    """A state before the first update, with the best weights of the run in ``folder``.

    Raises InputError if they cannot be read, or have other shapes.
    """

    def require(saved: Any) -> None:
        shapes, needed = (jax.tree.map(lambda leaf: leaf.shape, tree) for tree in (saved, state.params))
        if shapes != needed:
            raise InputError(f"{folder}: the weights are not those of its config. Copy the whole run folder again.")

    def place(new: Any, old: jax.Array) -> jax.Array:
        return jax.make_array_from_callback(old.shape, old.sharding, lambda part: new[part])

    require_contained(folder)
    weights = load_params(folder / "checkpoints", require=require)
    params, average = (kept and jax.tree.map(place, weights, kept) for kept in (state.params, state.average))
    return state._replace(params=params, average=average)
