"""Conversion of a trained post-norm model to a Hugging Face MarianMT model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
import torch
from transformers import MarianConfig, MarianMTModel

from transformer_jax.decoding.translator import Translator
from transformer_jax.errors import InputError
from transformer_jax.model.embeddings import sinusoids
from transformer_jax.model.layers import LayerNormalization

POSITIONS = 512
"""Maximum sequence length of the converted model."""


def marian_model(translator: Translator) -> MarianMTModel:
    """Return a MarianMT model with the weights of the translator.

    Raises InputError if the model uses pre-norm, which Marian does not support.
    """
    config, params = translator.config.model, translator.params
    if config.norm == "pre":
        raise InputError("Marian does not support pre-norm. Train a run with --model.norm post.")
    special = translator.tokenizers.target
    table = params["target_embeddings"]["table"]
    model = MarianMTModel(
        MarianConfig(
            vocab_size=len(table),
            d_model=config.d_model,
            encoder_layers=config.encoder_layers,
            decoder_layers=config.decoder_layers,
            encoder_ffn_dim=config.d_ff,
            decoder_ffn_dim=config.d_ff,
            encoder_attention_heads=config.heads,
            decoder_attention_heads=config.heads,
            activation_function="relu",
            scale_embedding=True,
            max_position_embeddings=POSITIONS,
            pad_token_id=special.pad_id,
            eos_token_id=special.eos_id,
            decoder_start_token_id=special.sos_id,
            forced_eos_token_id=None,
        )
    ).eval()
    positions = sinusoids(jnp.arange(POSITIONS)[None], config.d_model)[0]
    with torch.no_grad():
        _copy(model.model.shared.weight, table)
        for stack in (model.model.encoder, model.model.decoder):
            _copy(stack.embed_positions.weight, positions)
        for index, layer in enumerate(model.model.encoder.layers):
            block = params["encoder"][f"blocks_{index}"]
            _attention(layer.self_attn, block["self_attention"])
            _norm(layer.self_attn_layer_norm, block["attention_residual"])
            _feed_forward(layer, block)
        for index, layer in enumerate(model.model.decoder.layers):
            block = params["decoder"][f"blocks_{index}"]
            _attention(layer.self_attn, block["self_attention"])
            _norm(layer.self_attn_layer_norm, block["self_residual"])
            _attention(layer.encoder_attn, block["cross_attention"])
            _norm(layer.encoder_attn_layer_norm, block["cross_residual"])
            _feed_forward(layer, block)
    return model


def _attention(attention: Any, ours: Mapping[str, Any]) -> None:
    names = {"q_proj": "w_query", "k_proj": "w_key", "v_proj": "w_value", "out_proj": "w_output"}
    for theirs, name in names.items():
        _copy(getattr(attention, theirs).weight, ours[name]["kernel"].T)
        getattr(attention, theirs).bias.zero_()


def _feed_forward(layer: Any, block: Mapping[str, Any]) -> None:
    for theirs, name in ((layer.fc1, "widen"), (layer.fc2, "narrow")):
        _copy(theirs.weight, block["feed_forward"][name]["kernel"].T)
        _copy(theirs.bias, block["feed_forward"][name]["bias"])
    _norm(layer.final_layer_norm, block["feed_forward_residual"])


def _norm(norm: Any, residual: Mapping[str, Any]) -> None:
    norm.eps = LayerNormalization.epsilon
    _copy(norm.weight, residual["normalization"]["gamma"])
    _copy(norm.bias, residual["normalization"]["beta"])


def _copy(parameter: torch.Tensor, values: Any) -> None:
    parameter.copy_(torch.from_numpy(np.array(values)))
