"""A trained run as two StableHLO programs, which jax alone reloads: docs/serving.md.

    python -m transformer_jax export runs/NAME --to stablehlo --output DIR

Needs the package flatbuffers, in which jax.export writes programs.

Axes: b sentences, s source positions, t target positions at most, L decoder layers, H heads, K head width,
V target vocabulary.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array, Float, Int

from transformer_jax.bridges.export_directory import new_export_directory
from transformer_jax.decoding.translator import Translator
from transformer_jax.errors import InputError
from transformer_jax.model.attention import KVCache
from transformer_jax.model.decoder import BlockCache
from transformer_jax.model.masks import padding_mask
from transformer_jax.model.transformer import Transformer

PLATFORMS = ("cpu", "cuda", "tpu")
"""What each program is lowered for; it holds one body where they do not differ."""


def encode(
    model: Transformer, pad: int, parameters: dict[str, Array], source: Int[Array, "b s"]
) -> Float[Array, "L 2 b H s K"]:
    """Source tokens -> keys and values of the encoder's output, for the cross-attention of every decoder layer."""
    variables = _variables(parameters)
    memory = model.apply(variables, source, padding_mask(source, pad), method="encode")
    caches: Any = model.apply(variables, memory, 1, 1, method="init_cache")
    return jnp.stack([jnp.stack(cache.source) for cache in caches])


def step(
    model: Transformer,
    pad: int,
    parameters: dict[str, Array],
    source: Int[Array, "b s"],
    source_cache: Float[Array, "L 2 b H s K"],
    token: Int[Array, "b"],
    position: Int[Array, ""],
    prefix_cache: Float[Array, "L 2 b H t K"],
) -> tuple[Float[Array, "b V"], Float[Array, "L 2 b H t K"]]:
    """The token at ``position``, from [SOS] at 0 on -> logits of the next one, and the cache with this one in it."""
    caches = tuple(
        BlockCache(KVCache(*prefix), KVCache(*source))
        for prefix, source in zip(prefix_cache, source_cache, strict=True)
    )
    so_far = (jnp.arange(prefix_cache.shape[4]) <= position)[None, None, None]
    inputs = token[:, None], caches, position, so_far, padding_mask(source, pad)
    outputs: Any = model.apply(_variables(parameters), *inputs, method="decode_step")
    logits, caches = outputs
    return logits[:, 0], jnp.stack([jnp.stack(cache.prefix) for cache in caches])


class ExportedFunction(NamedTuple):
    """A function, and the names of the arrays that it takes and returns."""

    function: Callable[..., Any]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


EXPORTED_FUNCTIONS = {
    "encode": ExportedFunction(encode, ("parameters", "source"), ("source_cache",)),
    "step": ExportedFunction(
        step,
        ("parameters", "source", "source_cache", "token", "position", "prefix_cache"),
        ("logits", "prefix_cache"),
    ),
}


def export_stablehlo(translator: Translator, folder: Path) -> None:
    """Write the model's folder: encode.bin, step.bin, parameters.npz, description.json and the tokenizers.

    Raises InputError if there is something of that name or if flatbuffers is not installed, RunError if the folder
    cannot be written.
    """
    if find_spec("flatbuffers") is None:
        raise InputError("the export needs flatbuffers. Run: pip install flatbuffers")
    config, special = translator.config.model, translator.tokenizers.target
    b, s, t = jax.export.symbolic_shape("b, s, t")
    # Beside the programs: both read the parameters, and within them they would be there twice, as constants to compile.
    parameters = {name: np.asarray(leaf) for name, leaf in flatten_dict(translator.params, sep="/").items()}
    cache = (config.decoder_layers, 2, b, config.heads)
    width = config.d_model // config.heads
    arrays: dict[str, Any] = {
        "parameters": {name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for name, leaf in parameters.items()},
        "source": jax.ShapeDtypeStruct((b, s), jnp.int32),
        "source_cache": jax.ShapeDtypeStruct((*cache, s, width), config.dtype),
        "token": jax.ShapeDtypeStruct((b,), jnp.int32),
        "position": jax.ShapeDtypeStruct((), jnp.int32),
        "prefix_cache": jax.ShapeDtypeStruct((*cache, t, width), config.dtype),
        "logits": jax.ShapeDtypeStruct((b, len(translator.tokenizers.target)), jnp.float32),
    }
    programs = {
        name: jax.export.export(
            jax.jit(partial(program.function, translator.model, special.pad_id)), platforms=PLATFORMS
        )(*(arrays[one] for one in program.inputs))
        for name, program in EXPORTED_FUNCTIONS.items()
    }
    description = {
        "jax": jax.__version__,
        "platforms": PLATFORMS,
        "tokens": {"pad": special.pad_id, "unknown": special.unk_id, "start": special.sos_id, "end": special.eos_id},
        "longest_source_trained_on": translator.config.data.max_length,
        "programs": {name: {"inputs": one.inputs, "outputs": one.outputs} for name, one in EXPORTED_FUNCTIONS.items()},
        "arrays": {
            name: {
                "shape": [size if isinstance(size, int) else str(size) for size in one.shape],
                "dtype": str(one.dtype),
            }
            for name, one in arrays.items()
            if name != "parameters"
        },
    }
    with new_export_directory(folder, translator.tokenizers) as unfinished:
        for name, program in programs.items():
            (unfinished / f"{name}.bin").write_bytes(program.serialize())
        np.savez(unfinished / "parameters.npz", **parameters)  # type: ignore[arg-type]  # names are paths
        (unfinished / "description.json").write_text(json.dumps(description, indent=2) + "\n")


def _variables(parameters: dict[str, Array]) -> dict[str, Any]:
    return {"params": unflatten_dict(parameters, sep="/")}
