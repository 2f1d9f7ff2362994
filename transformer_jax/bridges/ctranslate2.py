"""Export to CTranslate2, which serves a model without JAX. See docs/serving.md.

    python -m transformer_jax export runs/NAME --to ctranslate2 --output DIR [--quantization int8]

This requires the package ctranslate2. The exported model uses the vocabularies of the run's tokenizers.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from transformer_jax.bridges.export_directory import Quantization, new_export_directory
from transformer_jax.decoding.search import max_target_length
from transformer_jax.decoding.translator import Translator
from transformer_jax.errors import InputError
from transformer_jax.model.embeddings import sinusoids

MAX_INPUT_LENGTH = 1024
"""Default value of CTranslate2's ``max_input_length``. Sources with more tokens are truncated."""

EXCLUDED = -1e9
"""Logit bias of tokens that decoding must never produce."""


def export_ctranslate2(translator: Translator, directory: Path, quantization: Quantization = "float32") -> None:
    """Write a CTranslate2 model with tokenizer.source.json and tokenizer.target.json to a new directory.

    Raises InputError if the directory exists, the tokenizers are SentencePiece models or ctranslate2 is not installed,
    RunError if writing fails.
    """
    try:
        from ctranslate2.specs import TransformerSpec
        from ctranslate2.specs.common_spec import Activation
    except ModuleNotFoundError as error:
        raise InputError(f'the export needs {error.name}. Run: pip install "ctranslate2>=4.8.5,<5"') from error

    config, tokenizers = translator.config.model, translator.tokenizers
    layers = (config.encoder_layers, config.decoder_layers)
    activation = {"relu": Activation.RELU, "swish": Activation.SWISH}[config.activation]
    spec = TransformerSpec.from_config(layers, config.heads, pre_norm=config.norm == "pre", activation=activation)
    _copy_parameters(spec, translator)
    special_tokens = tokenizers.target.pieces(tokenizers.target.special_ids)
    _, spec.config.unk_token, spec.config.bos_token, spec.config.eos_token = special_tokens
    spec.config.decoder_start_token = spec.config.bos_token
    spec.config.add_source_eos = True
    spec.config.layer_norm_epsilon = config.norm_epsilon
    spec.register_source_vocabulary(tokenizers.source.pieces(range(len(tokenizers.source))))
    spec.register_target_vocabulary(tokenizers.target.pieces(range(len(tokenizers.target))))
    spec.validate()
    spec.optimize(quantization)
    with new_export_directory(directory, tokenizers) as unfinished:
        spec.save(str(unfinished))


def _copy_parameters(spec: Any, translator: Translator) -> None:
    """Copy the parameters to a ``TransformerSpec``."""
    config, params = translator.config.model, translator.params
    # Copies, because quantization changes them in place.
    target = np.array(params["target_embeddings"]["table"])
    source = target if config.share_embeddings == "all" else np.array(params["source_embeddings"]["table"])
    length = max(MAX_INPUT_LENGTH, max_target_length(translator.config.data.max_length))
    positions = np.array(sinusoids(jnp.arange(length)[None], config.d_model, config.positions)[0])
    for stack, embeddings, table in (
        (spec.encoder, spec.encoder.embeddings[0], source),
        (spec.decoder, spec.decoder.embeddings, target),
    ):
        embeddings.weight = table
        stack.scale_embeddings = config.scale_embeddings == "sqrt"
        stack.position_encodings.encodings = positions

    projection, projection_params = spec.decoder.projection, params.get("projection", {})
    projection.weight = target if config.share_embeddings != "none" else np.array(projection_params["table"])
    projection.bias = np.array(projection_params.get("bias", np.zeros(len(target), np.float32)))
    tokenizer = translator.tokenizers.target
    projection.bias[[tokenizer.pad_id, tokenizer.sos_id]] = EXCLUDED

    for number, layer in enumerate(spec.encoder.layer):
        block = params["encoder"][f"blocks_{number}"]
        _copy_self_attention(layer.self_attention, block["self_attention"], block["attention_residual"])
        _copy_feed_forward(layer.ffn, block)
    for number, layer in enumerate(spec.decoder.layer):
        block = params["decoder"][f"blocks_{number}"]
        _copy_self_attention(layer.self_attention, block["self_attention"], block["self_residual"])
        cross = block["cross_attention"]
        _copy_linear(layer.attention.linear[0], cross["w_query"])
        _copy_linear(layer.attention.linear[1], cross["w_key"], cross["w_value"])
        _copy_linear(layer.attention.linear[2], cross["w_output"])
        _copy_norm(layer.attention.layer_norm, block["cross_residual"])
        _copy_feed_forward(layer.ffn, block)
    if config.norm == "pre":
        _copy_norm(spec.encoder.layer_norm, params["encoder"])
        _copy_norm(spec.decoder.layer_norm, params["decoder"])


def _copy_self_attention(spec: Any, attention: Mapping[str, Any], residual: Mapping[str, Any]) -> None:
    _copy_linear(spec.linear[0], attention["w_query"], attention["w_key"], attention["w_value"])
    _copy_linear(spec.linear[1], attention["w_output"])
    _copy_norm(spec.layer_norm, residual)


def _copy_feed_forward(spec: Any, block: Mapping[str, Any]) -> None:
    _copy_linear(spec.linear_0, block["feed_forward"]["widen"])
    _copy_linear(spec.linear_1, block["feed_forward"]["narrow"])
    _copy_norm(spec.layer_norm, block["feed_forward_residual"])


def _copy_linear(spec: Any, *layers: Mapping[str, Any]) -> None:
    """Concatenate layers with the same input into one matrix [outputs, inputs]. A missing bias becomes zeros."""
    spec.weight = np.concatenate([np.asarray(layer["kernel"]).T for layer in layers])
    spec.bias = np.concatenate(
        [np.asarray(layer.get("bias", np.zeros(layer["kernel"].shape[1], "f4"))) for layer in layers]
    )


def _copy_norm(spec: Any, module: Mapping[str, Any]) -> None:
    spec.gamma, spec.beta = (np.asarray(module["normalization"][name]) for name in ("gamma", "beta"))
