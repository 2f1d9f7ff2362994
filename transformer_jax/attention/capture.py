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
from transformer_jax.attention.words import displayed_source_words, displayed_target_words
from transformer_jax.data.run_tokenizers import Tokenizers
from transformer_jax.data.tokenizers import Tokenizer
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

    The bytes of one character are merged: their weights are summed over keys and averaged over the queries of the
    source. A target character keeps the row that predicts its first byte, so the decoder stays causal.

    source_ids: x1 ... xn [EOS].
    target_ids: y1 ... ym [EOS].
    """
    inputs = [tokenizers.target.sos_id, *target_ids[:-1]]
    s, t = len(source_ids), len(inputs)
    captured = jax.device_get(
        _teacher_forced_pass(model, params, _pad(source_ids), _pad(inputs), _pad(target_ids), s, t)
    )
    sources = _first_indices(tokenizers.source.token_groups(source_ids))
    targets = _first_indices(tokenizers.target.token_groups(target_ids))
    source_words = displayed_source_words(tokenizers.source, source, source_ids)
    target_words = displayed_target_words(tokenizers.target, translation, target_ids)
    target_tokens = tuple(tokenizers.target.tokens(target_ids))
    encoder = _sum_keys(captured.encoder[:, :, :s, :s], sources)
    counts = np.diff([*sources, s]).astype(np.float32)[:, None]
    # The decoder reads [SOS], then the target.
    read = [0, *(index + 1 for index in targets[:-1])]
    return Attention(
        encoder=_sum_keys(encoder.swapaxes(2, 3), sources).swapaxes(2, 3) / counts,
        decoder=_sum_keys(captured.decoder[:, :, targets, :t], read),
        cross=_sum_keys(captured.cross[:, :, targets, :s], sources),
        source_tokens=tuple(tokenizers.source.tokens(source_ids)),
        target_tokens=target_tokens,
        target_inputs=(*tokenizers.target.tokens(inputs[:1]), *target_tokens[:-1]),
        source=source,
        translation=translation,
        source_words=tuple(source_words.numbers[index] for index in sources),
        target_words=tuple(target_words.numbers[index] for index in targets),
        source_texts=source_words.texts,
        target_texts=target_words.texts,
        probabilities=captured.probabilities[targets],
        alternatives=_label_alternatives(
            tokenizers.target, captured.top_k_ids[targets], [target_ids[index] for index in targets], target_tokens
        ),
        alternative_probabilities=captured.top_k_probabilities[targets],
    )


def _first_indices(groups: Sequence[int]) -> list[int]:
    """Return the index of the first token of each group."""
    return [index for index, group in enumerate(groups) if index == 0 or group != groups[index - 1]]


def _sum_keys(weights: Float[np.ndarray, "L H Q K"], first: Sequence[int]) -> Float[np.ndarray, "L H Q G"]:
    """Sum the weights over groups of successive keys.

    first: the index of the first key of each group.
    """
    return np.add.reduceat(weights, first, axis=-1)


def _label_alternatives(
    tokenizer: Tokenizer, top_k_ids: Int[np.ndarray, "T N"], chosen: Sequence[int], chosen_tokens: Sequence[str]
) -> tuple[tuple[str, ...], ...]:
    """Return the alternatives as readable text; the chosen token, which may be one byte, is shown as in the target."""
    return tuple(
        tuple(chosen_token if token_id == chosen_id else tokenizer.tokens([token_id])[0] for token_id in ids)
        for ids, chosen_id, chosen_token in zip(top_k_ids.tolist(), chosen, chosen_tokens, strict=True)
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
