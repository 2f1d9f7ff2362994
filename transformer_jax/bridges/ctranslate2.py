"""A trained run as a model of CTranslate2, which serves it without JAX: docs/serving.md.

    python -m transformer_jax export runs/NAME --to ctranslate2 --output DIR [--quantization int8]

Needs the package ctranslate2. Tokens are the pieces of the run's tokenizers.
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

LONGEST_SOURCE = 1024
"""Tokens after which CTranslate2 cuts a source, unless told otherwise (``max_input_length``)."""

NEVER = -1e9
"""Added to the logits of what our searches never produce."""


def export_ctranslate2(translator: Translator, folder: Path, quantization: Quantization = "float32") -> None:
    """Write the model's folder, with tokenizer.source.json and tokenizer.target.json.

    Raises InputError if there is something of that name or if ctranslate2 is not installed, RunError if the folder
    cannot be written.
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
    _fill(spec, translator)
    special = tokenizers.target.pieces(tokenizers.target.special_ids)
    _, spec.config.unk_token, spec.config.bos_token, spec.config.eos_token = special
    spec.config.decoder_start_token = spec.config.bos_token
    spec.config.add_source_eos = True
    spec.config.layer_norm_epsilon = config.norm_epsilon
    spec.register_source_vocabulary(tokenizers.source.pieces(range(len(tokenizers.source))))
    spec.register_target_vocabulary(tokenizers.target.pieces(range(len(tokenizers.target))))
    spec.validate()
    spec.optimize(quantization)
    with new_export_directory(folder, tokenizers) as unfinished:
        spec.save(str(unfinished))


def _fill(spec: Any, translator: Translator) -> None:
    """Put the parameters where a ``TransformerSpec`` has them."""
    config, params = translator.config.model, translator.params
    # Copies: quantizing writes into them.
    target = np.array(params["target_embeddings"]["table"])
    source = target if config.share_embeddings == "all" else np.array(params["source_embeddings"]["table"])
    longest = max(LONGEST_SOURCE, max_target_length(translator.config.data.max_length))
    positions = np.array(sinusoids(jnp.arange(longest)[None], config.d_model, config.positions)[0])
    for stack, embeddings, table in (
        (spec.encoder, spec.encoder.embeddings[0], source),
        (spec.decoder, spec.decoder.embeddings, target),
    ):
        embeddings.weight = table
        stack.scale_embeddings = config.scale_embeddings == "sqrt"
        stack.position_encodings.encodings = positions

    projection, own = spec.decoder.projection, params.get("projection", {})
    projection.weight = target if config.share_embeddings != "none" else np.array(own["table"])
    projection.bias = np.array(own.get("bias", np.zeros(len(target), np.float32)))
    special = translator.tokenizers.target
    projection.bias[[special.pad_id, special.sos_id]] = NEVER

    for number, layer in enumerate(spec.encoder.layer):
        block = params["encoder"][f"blocks_{number}"]
        _self_attention(layer.self_attention, block["self_attention"], block["attention_residual"])
        _feed_forward(layer.ffn, block)
    for number, layer in enumerate(spec.decoder.layer):
        block = params["decoder"][f"blocks_{number}"]
        _self_attention(layer.self_attention, block["self_attention"], block["self_residual"])
        cross = block["cross_attention"]
        _linear(layer.attention.linear[0], cross["w_query"])
        _linear(layer.attention.linear[1], cross["w_key"], cross["w_value"])
        _linear(layer.attention.linear[2], cross["w_output"])
        _norm(layer.attention.layer_norm, block["cross_residual"])
        _feed_forward(layer.ffn, block)
    if config.norm == "pre":
        _norm(spec.encoder.layer_norm, params["encoder"])
        _norm(spec.decoder.layer_norm, params["decoder"])


def _self_attention(spec: Any, attention: Mapping[str, Any], residual: Mapping[str, Any]) -> None:
    _linear(spec.linear[0], attention["w_query"], attention["w_key"], attention["w_value"])
    _linear(spec.linear[1], attention["w_output"])
    _norm(spec.layer_norm, residual)


def _feed_forward(spec: Any, block: Mapping[str, Any]) -> None:
    _linear(spec.linear_0, block["feed_forward"]["widen"])
    _linear(spec.linear_1, block["feed_forward"]["narrow"])
    _norm(spec.layer_norm, block["feed_forward_residual"])


def _linear(spec: Any, *layers: Mapping[str, Any]) -> None:
    """Layers with one input as one matrix [outputs, inputs]. Their missing biases are zeros."""
    spec.weight = np.concatenate([np.asarray(layer["kernel"]).T for layer in layers])
    spec.bias = np.concatenate(
        [np.asarray(layer.get("bias", np.zeros(layer["kernel"].shape[1], "f4"))) for layer in layers]
    )


def _norm(spec: Any, holder: Mapping[str, Any]) -> None:
    spec.gamma, spec.beta = (np.asarray(holder["normalization"][name]) for name in ("gamma", "beta"))
