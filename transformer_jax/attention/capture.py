"""The weights of every head for one translation, collected with ``sow`` in one pass over it."""

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

LENGTHS = 16
"""Sentences are padded to a multiple of this many tokens, so that few programs are compiled; the padding is cut off
again.
"""
ALTERNATIVES = 5
"""The likeliest next tokens that are kept for each step."""


def capture(
    model: Transformer,
    params: Any,
    tokenizers: Tokenizers,
    source: str,
    translation: str,
    source_ids: Sequence[int],
    target_ids: Sequence[int],
) -> Attention:
    """Attention while the decoder is fed the translation itself, as it was when it produced it.

    source_ids: x1 ... xn [EOS]; target_ids: y1 ... ym [EOS].
    """
    inputs = [tokenizers.target.sos_id, *target_ids[:-1]]
    s, t = len(source_ids), len(inputs)
    found = jax.device_get(_run(model, params, _padded(source_ids), _padded(inputs), _padded(target_ids), s, t))
    return Attention(
        encoder=found.encoder[:, :, :s, :s],
        decoder=found.decoder[:, :, :t, :t],
        cross=found.cross[:, :, :t, :s],
        source_tokens=tuple(tokenizers.source.tokens(source_ids)),
        target_tokens=tuple(tokenizers.target.tokens(target_ids)),
        target_inputs=tuple(tokenizers.target.tokens(inputs)),
        source=source,
        translation=translation,
        source_words=source_words(tokenizers.source, source, source_ids),
        target_words=target_words(tokenizers.target, translation, target_ids),
        probabilities=found.probabilities[:t],
        alternatives=tuple(tuple(tokenizers.target.tokens(ids)) for ids in found.likeliest[:t]),
        alternative_probabilities=found.likeliest_probabilities[:t],
    )


def _padded(ids: Sequence[int]) -> Int[np.ndarray, "1 T"]:
    return np.pad(np.asarray(ids, np.int32), (0, -len(ids) % LENGTHS))[None]


class _Pass(NamedTuple):
    """What one teacher-forced pass gives; see ``Attention``."""

    encoder: Float[Array, "L H S S"]
    decoder: Float[Array, "M H T T"]
    cross: Float[Array, "M H T S"]
    probabilities: Float[Array, "T"]
    likeliest: Int[Array, "T N"]
    likeliest_probabilities: Float[Array, "T N"]


@partial(jax.jit, static_argnums=0)
def _run(
    model: Transformer,
    params: Any,
    source: Int[Array, "1 S"],
    inputs: Int[Array, "1 T"],
    target: Int[Array, "1 T"],
    source_length: Int[Array, ""],
    target_length: Int[Array, ""],
) -> _Pass:
    """Sown values come back as ``{"blocks_0": {"self_attention": {"attention": (weights,)}}}``."""
    source_segments = (jnp.arange(source.shape[1]) < source_length).astype(jnp.int32)[None]
    target_segments = (jnp.arange(inputs.shape[1]) < target_length).astype(jnp.int32)[None]
    [logits], sown = model.apply(
        {"params": params}, source, inputs, source_segments, target_segments, mutable=["intermediates"]
    )
    sown = sown["intermediates"]
    probabilities = jax.nn.softmax(logits)
    highest, ids = jax.lax.top_k(probabilities, min(ALTERNATIVES, logits.shape[-1]))
    return _Pass(
        _stack(sown["encoder"], "self_attention", model.config.encoder_layers),
        _stack(sown["decoder"], "self_attention", model.config.decoder_layers),
        _stack(sown["decoder"], "cross_attention", model.config.decoder_layers),
        jnp.take_along_axis(probabilities, target[0][:, None], axis=-1)[:, 0],
        ids,
        highest,
    )


def _stack(blocks: Mapping[str, Any], part: str, layers: int) -> Float[Array, "L H T S"]:
    return jnp.concatenate([blocks[f"blocks_{layer}"][part]["attention"][0] for layer in range(layers)])
