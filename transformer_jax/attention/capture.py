"""Collection of all attention weights of one translation in one forward pass, with flax's ``sow``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from transformer_jax.attention.weights import Attention
from transformer_jax.attention.words import source_words, target_words
from transformer_jax.data.tokenizers import Tokenizers
from transformer_jax.model.transformer import Transformer

LENGTH_MULTIPLE = 16
"""Sentences are padded to a multiple of this length, to limit the number of compiled programs."""
MAX_ALTERNATIVES = 5
"""Number of most probable next tokens that are kept per step."""


def capture_attention(
    model: Transformer,
    params: Any,
    tokenizers: Tokenizers,
    source: str,
    translation: str,
    source_ids: Sequence[int],
    target_ids: Sequence[int],
) -> Attention:
    """Run one teacher-forced pass, in which the decoder reads the given translation, and return the attention.

    source_ids: x1 ... xn [EOS].
    target_ids: y1 ... ym [EOS].
    """
    inputs = [tokenizers.target.sos_id, *target_ids[:-1]]
    s, t = len(source_ids), len(inputs)
    captured = jax.device_get(
        _teacher_forced_pass(model, params, _pad(source_ids), _pad(inputs), _pad(target_ids), s, t)
    )
    return Attention(
        encoder=captured.encoder[:, :, :s, :s],
        decoder=captured.decoder[:, :, :t, :t],
        cross=captured.cross[:, :, :t, :s],
        source_tokens=tuple(tokenizers.source.tokens(source_ids)),
        target_tokens=tuple(tokenizers.target.tokens(target_ids)),
        target_inputs=tuple(tokenizers.target.tokens(inputs)),
        source=source,
        translation=translation,
        source_words=source_words(tokenizers.source, source, source_ids),
        target_words=target_words(tokenizers.target, translation, target_ids),
        probabilities=captured.probabilities[:t],
        alternatives=tuple(tuple(tokenizers.target.tokens(ids)) for ids in captured.top_k_ids[:t]),
        alternative_probabilities=captured.top_k_probabilities[:t],
    )


def _pad(ids: Sequence[int]) -> Int[np.ndarray, "1 T"]:
    return np.pad(np.asarray(ids, np.int32), (0, -len(ids) % LENGTH_MULTIPLE))[None]


class _CapturedPass(NamedTuple):
    """The results of one teacher-forced pass. ``Attention`` describes the fields."""

    encoder: Float[Array, "L H S S"]
    decoder: Float[Array, "M H T T"]
    cross: Float[Array, "M H T S"]
    probabilities: Float[Array, "T"]
    top_k_ids: Int[Array, "T N"]
    top_k_probabilities: Float[Array, "T N"]


@partial(jax.jit, static_argnums=0)
def _teacher_forced_pass(
    model: Transformer,
    params: Any,
    source: Int[Array, "1 S"],
    inputs: Int[Array, "1 T"],
    target: Int[Array, "1 T"],
    source_length: Int[Array, ""],
    target_length: Int[Array, ""],
) -> _CapturedPass:
    """Run the model once; sown values have the form ``{"blocks_0": {"self_attention": {"attention": (weights,)}}}``."""
    source_segments = (jnp.arange(source.shape[1]) < source_length).astype(jnp.int32)[None]
    target_segments = (jnp.arange(inputs.shape[1]) < target_length).astype(jnp.int32)[None]
    [logits], sown = model.apply(
        {"params": params}, source, inputs, source_segments, target_segments, mutable=["intermediates"]
    )
    sown = sown["intermediates"]
    probabilities = jax.nn.softmax(logits)
    top_k_probabilities, top_k_ids = jax.lax.top_k(probabilities, min(MAX_ALTERNATIVES, logits.shape[-1]))
    return _CapturedPass(
        encoder=_stack_layers(sown["encoder"], "self_attention", model.config.encoder_layers),
        decoder=_stack_layers(sown["decoder"], "self_attention", model.config.decoder_layers),
        cross=_stack_layers(sown["decoder"], "cross_attention", model.config.decoder_layers),
        probabilities=jnp.take_along_axis(probabilities, target[0][:, None], axis=-1)[:, 0],
        top_k_ids=top_k_ids,
        top_k_probabilities=top_k_probabilities,
    )


def _stack_layers(blocks: Mapping[str, Any], sublayer: str, layers: int) -> Float[Array, "L H T S"]:
    return jnp.concatenate([blocks[f"blocks_{layer}"][sublayer]["attention"][0] for layer in range(layers)])
