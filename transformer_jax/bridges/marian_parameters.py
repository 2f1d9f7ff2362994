"""Conversion of the parameters of MarianMT models to the names and shapes of this package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from transformer_jax.bridges.marian_vocabulary import VectorCounts
from transformer_jax.bridges.tensors import Tensors
from transformer_jax.config import ModelConfig
from transformer_jax.data.run_tokenizers import Tokenizers
from transformer_jax.errors import InputError
from transformer_jax.model.transformer import Transformer

PATH_REPLACEMENTS = {
    "encoder/blocks_": "model.encoder.layers.",
    "decoder/blocks_": "model.decoder.layers.",
    "feed_forward_residual/normalization": "final_layer_norm",
    "cross_residual/normalization": "encoder_attn_layer_norm",
    "attention_residual/normalization": "self_attn_layer_norm",
    "self_residual/normalization": "self_attn_layer_norm",
    "feed_forward/widen": "fc1",
    "feed_forward/narrow": "fc2",
    "self_attention": "self_attn",
    "cross_attention": "encoder_attn",
    "w_query": "q_proj",
    "w_key": "k_proj",
    "w_value": "v_proj",
    "w_output": "out_proj",
    "kernel": "weight",
    "gamma": "weight",
    "beta": "bias",
    "projection/bias": "final_logits_bias",
    "/": ".",
}
"""Part of our parameter paths -> its replacement in Marian's tensor names, in order of replacement."""
SOURCE_TABLE, TARGET_TABLE = "model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight"
SHARED_TABLE, PROJECTION_TABLE = "model.shared.weight", "lm_head.weight"
LOGITS_BIAS = "final_logits_bias"
TABLE_NAMES: dict[str, dict[str, tuple[str, ...]]] = {
    "all": {"target_embeddings/table": (SHARED_TABLE, TARGET_TABLE, SOURCE_TABLE, PROJECTION_TABLE)},
    "target": {
        "source_embeddings/table": (SOURCE_TABLE,),
        "target_embeddings/table": (TARGET_TABLE, PROJECTION_TABLE),
    },
    "none": {
        "source_embeddings/table": (SOURCE_TABLE,),
        "target_embeddings/table": (TARGET_TABLE,),
        "projection/table": (PROJECTION_TABLE,),
    },
}
"""model.share_embeddings -> our parameter path -> Marian's names. A shared table may have any of these names."""
VOCABULARY_SIDES = {
    "source_embeddings/table": "source",
    "target_embeddings/table": "target",
    "projection/table": "target",
    "projection/bias": "target",
}
"""Our path of each parameter with one row or value per token -> the side of its vocabulary."""
IGNORED_TENSORS = {
    *(SHARED_TABLE, SOURCE_TABLE, TARGET_TABLE, PROJECTION_TABLE),
    *(f"model.{side}.embed_positions.weight" for side in ("encoder", "decoder")),
}
"""Tensors that are ignored: copies of shared tables, and the sinusoidal positional encodings."""


def convert_parameters(
    tensors: Tensors, config: ModelConfig, tokenizers: Tokenizers, vector_counts: VectorCounts, directory: Path
) -> Any:
    """Return the parameters of our model, converted from Marian's tensors.

    vector_counts: the number of vectors in the tables, at least the number of tokens. The vectors of larger ids are
        left out.
    directory: the directory of the tensors, for messages.
    Raises InputError for a tensor that is missing, has the wrong shape or has no counterpart, or if the sizes in
    config.json are too large.
    """
    if config.encoder_layers + config.decoder_layers > len(tensors):  # Tracing millions of layers would take hours.
        raise InputError(
            f"{directory}: config.json specifies more layers than the model has tensors. Download the model again."
        )
    model = Transformer(config, len(tokenizers.source), len(tokenizers.target))
    tokens = jax.ShapeDtypeStruct((1, 2), jnp.int32)
    try:
        shapes = jax.eval_shape(model.init, jax.random.key(0), *[tokens] * 4)["params"]
    except OverflowError as error:
        raise InputError(
            f"{directory}: the sizes in config.json are too large ({error}). Download the model again."
        ) from error
    names_read = set()

    def convert(path: Any, leaf: Any) -> np.ndarray:
        our_path = jax.tree_util.keystr(path, simple=True, separator="/")
        is_kernel = our_path.endswith("kernel")
        names = marian_names(our_path, config)
        name = next((name for name in names if name in tensors), names[0])
        names_read.add(name)
        shape = leaf.shape[::-1] if is_kernel else leaf.shape
        tensor = tensors.get(name)
        if our_path in VOCABULARY_SIDES:
            shape = (getattr(vector_counts, VOCABULARY_SIDES[our_path]), *leaf.shape[1:])
        if name == LOGITS_BIAS:  # A row in Marian's files, but some files lack it.
            tensor = np.zeros((1, *leaf.shape), np.float32) if tensor is None else tensor
            # resize_token_embeddings(..., pad_to_multiple_of) adds no values to it for the padding.
            is_unpadded = tensor.shape == (1, tensor.size) and leaf.size <= tensor.size < shape[0]
            shape = (1, tensor.size if is_unpadded else shape[0])
        if tensor is None or tensor.shape != shape:
            problem = "is missing" if tensor is None else f"has shape {tensor.shape}"
            raise InputError(
                f"{directory}: tensor {name} {problem}, but config.json requires shape {shape}. "
                "Download the model again."
            )
        if our_path in VOCABULARY_SIDES:
            tensor = tensor.reshape(-1, *leaf.shape[1:])[: leaf.shape[0]]
        return np.ascontiguousarray(tensor.T if is_kernel else tensor).reshape(leaf.shape)

    params = jax.tree_util.tree_map_with_path(convert, shapes)
    if unknown := sorted(tensors.keys() - names_read - IGNORED_TENSORS):
        raise InputError(f"{directory}: tensor {unknown[0]} has no counterpart in this package. Choose another model.")
    return params


def marian_names(path: str, config: ModelConfig) -> tuple[str, ...]:
    """Return the names that Marian uses for a parameter. Only a shared table has several names."""
    if path in TABLE_NAMES[config.share_embeddings]:
        return TABLE_NAMES[config.share_embeddings][path]
    for our_part, marian_part in PATH_REPLACEMENTS.items():
        path = path.replace(our_part, marian_part)
    return (path,)
