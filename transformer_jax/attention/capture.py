"""The weights of every head for one translation, collected with ``sow`` in one pass over it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from transformer_jax.attention.dump import Attention
from transformer_jax.data.tokenizers import Tokenizers
from transformer_jax.model.transformer import Transformer

LENGTHS = 16
"""Sentences are padded to a multiple of this many tokens, so that few programs are compiled; the padding is cut off
again.
"""


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
    weights = jax.device_get(
        _weights(model, params, _padded(source_ids), _padded(inputs), len(source_ids), len(inputs))
    )
    s, t = len(source_ids), len(inputs)
    return Attention(
        encoder=weights["encoder"][:, :, :s, :s],
        decoder=weights["decoder"][:, :, :t, :t],
        cross=weights["cross"][:, :, :t, :s],
        source_tokens=tuple(tokenizers.source.tokens(source_ids)),
        target_tokens=tuple(tokenizers.target.tokens(target_ids)),
        target_inputs=tuple(tokenizers.target.tokens(inputs)),
        source=source,
        translation=translation,
    )


def _padded(ids: Sequence[int]) -> Int[np.ndarray, "1 T"]:
    return np.pad(np.asarray(ids, np.int32), (0, -len(ids) % LENGTHS))[None]


@partial(jax.jit, static_argnums=0)
def _weights(
    model: Transformer,
    params: Any,
    source: Int[Array, "1 S"],
    target: Int[Array, "1 T"],
    source_length: Int[Array, ""],
    target_length: Int[Array, ""],
) -> dict[str, Float[Array, "_ H _ _"]]:
    """One teacher-forced pass; sown values come back as ``{"blocks_0": {"self_attention": {"attention":
    (weights,)}}}``.
    """
    source_segments = (jnp.arange(source.shape[1]) < source_length).astype(jnp.int32)[None]
    target_segments = (jnp.arange(target.shape[1]) < target_length).astype(jnp.int32)[None]
    _, sown = model.apply(
        {"params": params},
        source,
        target,
        source_segments,
        target_segments,
        method="features",
        mutable=["intermediates"],
    )
    sown = sown["intermediates"]
    return {
        "encoder": _stack(sown["encoder"], "self_attention", model.config.encoder_layers),
        "decoder": _stack(sown["decoder"], "self_attention", model.config.decoder_layers),
        "cross": _stack(sown["decoder"], "cross_attention", model.config.decoder_layers),
    }


def _stack(blocks: Mapping[str, Any], part: str, layers: int) -> Float[Array, "L H T S"]:
    return jnp.concatenate([blocks[f"blocks_{layer}"][part]["attention"][0] for layer in range(layers)])
