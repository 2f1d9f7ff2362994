"""Export to two StableHLO programs, which need only JAX. See docs/stablehlo.md.

    python -m transformer_jax export runs/NAME --to stablehlo --output DIR

This requires the package flatbuffers, which jax.export uses to write programs.

Axes: b batch, s source positions, t maximum target positions, L decoder layers, H heads, K head width, V target
vocabulary.
"""

from __future__ import annotations

import dataclasses
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
from transformer_jax.config import ModelConfig
from transformer_jax.decoding.translator import Translator
from transformer_jax.errors import InputError
from transformer_jax.model.attention import KVCache
from transformer_jax.model.decoder import BlockCache
from transformer_jax.model.masks import padding_mask
from transformer_jax.model.transformer import Transformer

PLATFORMS = ("cpu", "cuda", "tpu")
"""Platforms that each program is lowered for."""


def encode_program(
    model: Transformer, pad_id: int, parameters: dict[str, Array], source: Int[Array, "b s"]
) -> Float[Array, "L 2 b H s K"]:
    """Return the keys and values of the encoder output for the cross-attention of every decoder layer.

    source: token ids, padded with ``pad_id``.
    """
    variables = _variables(parameters)
    memory = model.apply(variables, source, padding_mask(source, pad_id), method="encode")
    caches: Any = model.apply(variables, memory, 1, 1, method="init_cache")
    return jnp.stack([_stack(cache.source) for cache in caches])


def step_program(
    model: Transformer,
    pad_id: int,
    parameters: dict[str, Array],
    source: Int[Array, "b s"],
    source_cache: Float[Array, "L 2 b H s K"],
    token: Int[Array, "b"],
    position: Int[Array, ""],
    prefix_cache: Float[Array, "L 2 b H t K"],
) -> tuple[Float[Array, "b V"], Float[Array, "L 2 b H t K"]]:
    """Return the logits of the next token, and the cache with the current token added.

    source_cache: the result of ``encode_program``.
    token: the current token of each sentence; [SOS] at position 0.
    prefix_cache: keys and values of the earlier target tokens.
    """
    caches = tuple(
        BlockCache(_unstack(prefix), _unstack(source))
        for prefix, source in zip(prefix_cache, source_cache, strict=True)
    )
    prefix_mask = (jnp.arange(prefix_cache.shape[4]) <= position)[None, None, None]
    inputs = token[:, None], caches, position[None], position, prefix_mask, padding_mask(source, pad_id)
    outputs: Any = model.apply(_variables(parameters), *inputs, method="decode_step")
    logits, caches = outputs
    return logits[:, 0], jnp.stack([_stack(cache.prefix) for cache in caches])


def _stack(cache: KVCache) -> Float[Array, "2 b H t K"]:
    """Return keys and values with the same axes."""
    return jnp.stack([cache.keys.swapaxes(2, 3), cache.values])


def _unstack(keys_values: Float[Array, "2 b H t K"]) -> KVCache:
    keys, values = keys_values
    return KVCache(keys.swapaxes(2, 3), values)


class ExportedFunction(NamedTuple):
    """A function with the names of its inputs and outputs."""

    function: Callable[..., Any]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


EXPORTED_FUNCTIONS = {
    "encode": ExportedFunction(encode_program, ("parameters", "source"), ("source_cache",)),
    "step": ExportedFunction(
        step_program,
        ("parameters", "source", "source_cache", "token", "position", "prefix_cache"),
        ("logits", "prefix_cache"),
    ),
}


def export_stablehlo(translator: Translator, directory: Path) -> None:
    """Write encode.bin, step.bin, parameters.npz, description.json and the tokenizers to a new directory.

    Raises InputError if the directory exists, the tokenizers are SentencePiece models or flatbuffers is not installed,
    RunError if writing fails.
    """
    if find_spec("flatbuffers") is None:
        raise InputError("the export needs flatbuffers. Run: pip install flatbuffers")
    config, tokenizer = _exported_config(translator.config.model), translator.tokenizers.target
    model = translator.model.clone(config=config)
    b, s, t = jax.export.symbolic_shape("b, s, t")
    # The parameters are inputs. As constants, they would be stored and compiled twice, once per program.
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
        "logits": jax.ShapeDtypeStruct((b, len(tokenizer)), jnp.float32),
    }
    programs = {
        name: jax.export.export(jax.jit(partial(program.function, model, tokenizer.pad_id)), platforms=PLATFORMS)(
            *(arrays[array] for array in program.inputs)
        )
        for name, program in EXPORTED_FUNCTIONS.items()
    }
    with new_export_directory(directory, translator.tokenizers) as unfinished:
        for name, program in programs.items():
            (unfinished / f"{name}.bin").write_bytes(program.serialize())
        np.savez(unfinished / "parameters.npz", **parameters)  # type: ignore[arg-type]  # The names are paths.
        description = json.dumps(_description(translator, arrays), indent=2)
        (unfinished / "description.json").write_text(description + "\n")


def _exported_config(config: ModelConfig) -> ModelConfig:
    """Return the config of the exported model. Not all platforms have float16 arithmetic, so float32 replaces it."""
    return dataclasses.replace(config, dtype="float32") if config.dtype == "float16" else config


def _description(translator: Translator, arrays: dict[str, Any]) -> dict[str, Any]:
    """Return the content of description.json."""
    tokenizer = translator.tokenizers.target
    return {
        "jax": jax.__version__,
        "platforms": PLATFORMS,
        "tokens": {
            "pad": tokenizer.pad_id,
            "unknown": tokenizer.unk_id,
            "start": tokenizer.sos_id,
            "end": tokenizer.eos_id,
        },
        "longest_source_trained_on": translator.config.data.max_length,
        "programs": {
            name: {"inputs": function.inputs, "outputs": function.outputs}
            for name, function in EXPORTED_FUNCTIONS.items()
        },
        "arrays": {
            name: {
                "shape": [size if isinstance(size, int) else str(size) for size in array.shape],
                "dtype": str(array.dtype),
            }
            for name, array in arrays.items()
            if name != "parameters"
        },
    }


def _variables(parameters: dict[str, Array]) -> dict[str, Any]:
    return {"params": unflatten_dict(parameters, sep="/")}
