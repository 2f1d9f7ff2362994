"""Greedy search and random sampling: one hypothesis per sentence, extended by one token per step.

Axes: B sentences, S source positions, C maximum target length, V target vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from transformer_jax.decoding.loop import decode_loop
from transformer_jax.decoding.next_token import NextTokens, draw_tokens, top_k_log_probs
from transformer_jax.decoding.search_inputs import Hypotheses, SearchInputs
from transformer_jax.model.masks import padding_mask


class _SamplingState(NamedTuple):
    """State of the decoding loop.

    position: number of tokens decoded so far.
    tokens: the tokens decoded so far, then padding.
    log_probs: sum of the log-probabilities of these tokens.
    is_finished: whether a sentence has ended with [EOS] or reached its length limit.
    caches: the decoder's caches.
    source_mask: mask of the source padding.
    length_limits: maximum length of each translation.
    keys: one random key per sentence; None in greedy search.
    """

    position: Int[Array, ""]
    tokens: Int[Array, "B C"]
    log_probs: Float[Array, "B"]
    is_finished: Bool[Array, "B"]
    caches: Any
    source_mask: Bool[Array, "B 1 1 S"]
    length_limits: Int[Array, "B"]
    keys: Any


def greedy(inputs: SearchInputs) -> Hypotheses:
    """Return one translation per sentence, with the most probable token at each step."""

    def choose(logits: Float[Array, "B V"], at_limit: Bool[Array, "B"], state: _SamplingState) -> NextTokens:
        log_probs, tokens = top_k_log_probs(logits, at_limit, inputs.special_ids, 1)
        return tokens[:, 0], log_probs[:, 0]

    return _generate(inputs, choose)


def sample(inputs: SearchInputs, keys: Any, temperature: Float[Array, ""], top_k: int) -> Hypotheses:
    """Return one translation per sentence, with each token drawn from the model's distribution.

    keys: one random key per sentence, so that a draw does not depend on the batch.
    temperature: divisor of the logits, above 0.
    top_k: number of most probable tokens to draw from; 0 for all tokens.
    """

    def choose(logits: Float[Array, "B V"], at_limit: Bool[Array, "B"], state: _SamplingState) -> NextTokens:
        step_keys = jax.vmap(jax.random.fold_in, in_axes=(0, None))(state.keys, state.position)
        return draw_tokens(logits, at_limit, inputs.special_ids, step_keys, temperature, top_k)

    return _generate(inputs, choose, keys)


def _generate(
    inputs: SearchInputs,
    choose: Callable[[Float[Array, "B V"], Bool[Array, "B"], _SamplingState], NextTokens],
    keys: Any = None,
) -> Hypotheses:
    """Return one translation per sentence: tokens are chosen and appended until it ends or reaches its limit."""
    special_ids, buffer_length = inputs.special_ids, inputs.buffer_length
    source_mask = padding_mask(inputs.source, special_ids.pad)
    memory = inputs.apply(inputs.source, source_mask, method="encode")

    def body(state: _SamplingState) -> _SamplingState:
        last = jnp.where(state.position == 0, special_ids.sos, state.tokens[:, state.position - 1])
        prefix_mask = (jnp.arange(buffer_length) <= state.position)[None, None, None]
        logits, caches = inputs.apply(
            last[:, None], state.caches, state.position, prefix_mask, state.source_mask, method="decode_step"
        )
        at_limit = state.position + 1 >= state.length_limits
        tokens, log_probs = choose(logits[:, 0], at_limit, state)
        tokens = jnp.where(state.is_finished, special_ids.pad, tokens)
        # The limit ends a sentence even without [EOS]: if the model outputs NaN, any token may have been chosen.
        ends = (tokens == special_ids.eos) | at_limit
        return state._replace(
            position=state.position + 1,
            tokens=state.tokens.at[:, state.position].set(tokens),
            log_probs=state.log_probs + jnp.where(state.is_finished, 0, log_probs),
            is_finished=state.is_finished | ends,
            caches=caches,
        )

    def hypotheses(state: _SamplingState) -> Hypotheses:
        return Hypotheses(state.tokens[:, None], state.log_probs[:, None])

    batch_size = inputs.source.shape[0]
    init = _SamplingState(
        position=jnp.zeros((), jnp.int32),
        tokens=jnp.full((batch_size, buffer_length), special_ids.pad, jnp.int32),
        log_probs=jnp.zeros(batch_size),
        is_finished=inputs.length_limits < 1,
        caches=inputs.apply(memory, 1, buffer_length, method="init_cache"),
        source_mask=source_mask,
        length_limits=inputs.length_limits,
        keys=keys,
    )
    return decode_loop(lambda state: ~state.is_finished, body, init, hypotheses)
