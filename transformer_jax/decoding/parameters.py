"""Checks of the parameters of a run, which may be untrusted, against its config and its tokenizers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from transformer_jax.errors import InputError
from transformer_jax.model.transformer import Transformer
from transformer_jax.runtime.memory import require_memory


def require_matching_params(workdir: Path, model: Transformer, saved_params: Any) -> None:
    """Check the shapes of saved parameters before they are read.

    workdir: the run directory, for messages.
    model: the model for the config and the tokenizers of the run.
    saved_params: the tree of the saved parameters, or of their shapes.
    Raises InputError if the shapes differ from those that the model needs, or if the parameters do not fit in memory.
    """

    def shapes(tree: Any) -> dict[str, tuple[int, ...]]:
        leaves = jax.tree_util.tree_leaves_with_path(tree)
        return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape for path, leaf in leaves}

    saved = shapes(saved_params)
    layers = model.config.encoder_layers + model.config.decoder_layers
    if layers > len(saved):  # Tracing a model with millions of layers would take hours.
        raise InputError(
            f"{workdir}: config.json specifies more layers ({layers}) than the checkpoint has arrays "
            f"({len(saved)}). Copy the complete run directory again."
        )
    tokens = jax.ShapeDtypeStruct((1, 2), jnp.int32)
    try:
        needed = shapes(jax.eval_shape(model.init, jax.random.key(0), *[tokens] * 4)["params"])
    except OverflowError as error:
        raise InputError(
            f"{workdir}: the sizes in config.json are invalid ({error}). Copy the complete run directory again."
        ) from error
    for name in sorted(needed.keys() | saved.keys()):
        if needed.get(name) != saved.get(name):
            raise InputError(
                f"{workdir}: parameter {name} does not match (in the checkpoint: {saved.get(name, 'absent')}, "
                f"required by config.json and the tokenizers: {needed.get(name, 'absent')}). "
                "Copy the complete run directory again."
            )
    size = 4 * sum(math.prod(shape) for shape in needed.values())
    require_memory(size, f"the parameters of {workdir}", "Use a machine with more memory or a smaller model.")
