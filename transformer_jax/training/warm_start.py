"""Initialization from the parameters of another run (``training.init``)."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import jax
import numpy as np

from transformer_jax.downloads.runs import local_run
from transformer_jax.errors import InputError
from transformer_jax.runtime.agreement import require_agreement
from transformer_jax.storage.checkpoints import load_params
from transformer_jax.storage.home import expand_home
from transformer_jax.storage.untrusted import require_contained
from transformer_jax.training.state import TrainState


def init_from_run(workdir: Path, state: TrainState) -> TrainState:
    """Return the initial ``state`` with the best parameters of the run in ``workdir``.

    Raises InputError if the parameters are unreadable or have different shapes, or if other processes have others.
    """

    def check_shapes(saved: Any) -> None:
        shapes, needed = (jax.tree.map(lambda leaf: leaf.shape, tree) for tree in (saved, state.params))
        if shapes != needed:
            raise InputError(
                f"{workdir}: the parameters do not match config.json. Copy the complete run directory again."
            )

    def replace(old: jax.Array, new: Any) -> jax.Array:
        return jax.make_array_from_callback(old.shape, old.sharding, lambda index: new[index])

    workdir = local_run(expand_home(workdir))
    require_contained(workdir)
    loaded = load_params(workdir / "checkpoints", check_shapes=check_shapes)
    if jax.process_count() > 1:  # The checksum reads all parameters.
        require_agreement("initial weights", {"--training.init with the checksum": checksum(loaded)})
    params = jax.tree.map(replace, state.params, loaded)
    average = None if state.average is None else jax.tree.map(replace, state.average, loaded)
    return state._replace(params=params, average=average)


def checksum(params: Any) -> str:
    """Return a checksum of all arrays of a tree."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(params):
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()[:12]
