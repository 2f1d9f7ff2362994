"""A trained run as a model of CTranslate2, in float32. Tokens are the ids, written as numbers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from ctranslate2.specs import TransformerSpec
from ctranslate2.specs.common_spec import Activation

from transformer_jax.decoding.translator import Translator
from transformer_jax.model.embeddings import sinusoids
from transformer_jax.model.layers import LayerNormalization

POSITIONS = 512
"""Positions for which sinusoids are written."""


def export(translator: Translator, folder: Path) -> None:
    """Write the model's folder."""
    config, params = translator.settings.model, translator.params
    layers = (config.encoder_layers, config.decoder_layers)
    spec = TransformerSpec.from_config(layers, config.heads, pre_norm=config.norm == "pre", activation=Activation.RELU)
    table = np.asarray(params["target_embeddings"]["table"])
    positions = np.asarray(sinusoids(jnp.arange(POSITIONS)[None], config.d_model)[0])
    for stack in (spec.encoder, spec.decoder):
        embeddings = stack.embeddings[0] if isinstance(stack.embeddings, list) else stack.embeddings
        embeddings.weight = table
        stack.scale_embeddings = True
        stack.position_encodings.encodings = positions
    spec.decoder.projection.weight = table
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
        _norm(layer.attention.layer_norm, block["cross_residual"]["normalization"])
        _feed_forward(layer.ffn, block)
    if config.norm == "pre":
        _norm(spec.encoder.layer_norm, params["encoder"]["normalization"])
        _norm(spec.decoder.layer_norm, params["decoder"]["normalization"])
    special = translator.tokenizers.target
    spec.config.layer_norm_epsilon = LayerNormalization.epsilon
    spec.config.unk_token, spec.config.eos_token = str(special.unk_id), str(special.eos_id)
    spec.config.bos_token = spec.config.decoder_start_token = str(special.sos_id)
    words = [str(number) for number in range(len(table))]
    spec.register_source_vocabulary(words)
    spec.register_target_vocabulary(words)
    spec.validate()
    spec.optimize()
    folder.mkdir()
    spec.save(str(folder))


def _self_attention(spec: Any, attention: Mapping[str, Any], residual: Mapping[str, Any]) -> None:
    _linear(spec.linear[0], attention["w_query"], attention["w_key"], attention["w_value"])
    _linear(spec.linear[1], attention["w_output"])
    _norm(spec.layer_norm, residual["normalization"])


def _feed_forward(spec: Any, block: Mapping[str, Any]) -> None:
    _linear(spec.linear_0, block["feed_forward"]["widen"])
    _linear(spec.linear_1, block["feed_forward"]["narrow"])
    _norm(spec.layer_norm, block["feed_forward_residual"]["normalization"])


def _linear(spec: Any, *layers: Mapping[str, Any]) -> None:
    """Layers with one input as one matrix [outputs, inputs]. Their missing biases are zeros."""
    spec.weight = np.concatenate([np.asarray(layer["kernel"]).T for layer in layers])
    spec.bias = np.concatenate(
        [np.asarray(layer.get("bias", np.zeros(layer["kernel"].shape[1], "f4"))) for layer in layers]
    )


def _norm(spec: Any, layer: Mapping[str, Any]) -> None:
    spec.gamma, spec.beta = np.asarray(layer["gamma"]), np.asarray(layer["beta"])
