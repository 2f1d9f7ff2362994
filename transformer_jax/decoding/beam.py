"""Beam search with length penalty and early stopping.

Axes: B sentences, S source positions, W hypotheses per sentence (beams), C maximum target length, P cached positions
per sentence (C * W), N continuations per sentence (2 * W), V target vocabulary.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from transformer_jax.decoding.loop import decode_loop
from transformer_jax.decoding.next_token import top_k_log_probs
from transformer_jax.decoding.search_inputs import Hypotheses, SearchInputs
from transformer_jax.model.masks import padding_mask


class _BeamState(NamedTuple):
    """State of the decoding loop. Live and finished hypotheses are each sorted, best first.

    position: number of tokens decoded so far.
    live_tokens: tokens of the live hypotheses, then padding.
    live_log_probs: sums of the log-probabilities of these tokens.
    beam_origins: for each position of a live hypothesis, the beam whose cache slots store it.
    finished_tokens: tokens of the finished hypotheses with [EOS], then padding.
    finished_scores: their scores; minus infinity for a hypothesis that does not exist yet.
    caches: the decoder's caches.
    source_mask: mask of the source padding.
    length_limits: maximum length of each translation.
    """

    position: Int[Array, ""]
    live_tokens: Int[Array, "B W C"]
    live_log_probs: Float[Array, "B W"]
    beam_origins: Int[Array, "B W C"]
    finished_tokens: Int[Array, "B W C"]
    finished_scores: Float[Array, "B W"]
    caches: Any
    source_mask: Bool[Array, "B 1 1 S"]
    length_limits: Int[Array, "B"]


class _Continuations(NamedTuple):
    """The most probable one-token continuations of the live hypotheses, best first.

    tokens: all tokens of each continuation.
    log_probs: sums of the log-probabilities of these tokens.
    parents: the live hypothesis that each continuation extends.
    ends: whether the new token is [EOS].
    """

    tokens: Int[Array, "B N C"]
    log_probs: Float[Array, "B N"]
    parents: Int[Array, "B N"]
    ends: Bool[Array, "B N"]


def length_penalty(lengths: Int[Array, "*B"] | int, alpha: Float[Array, ""] | float) -> Float[Array, "*B"] | float:
    """Return ((5 + length) / 6) ** alpha. Lengths include [EOS]. Source: Wu et al. 2016, section 7, equation 14."""
    return ((5 + lengths) / 6) ** alpha


def beam_search(inputs: SearchInputs, beam_size: int, alpha: Float[Array, ""], n_best: Int[Array, ""]) -> Hypotheses:
    """Return the translations with the highest sum of log-probabilities divided by their length penalty.

    A sentence is finished when its best live hypothesis can no longer become one of the ``n_best`` best finished
    hypotheses, even if all further tokens had probability 1. From then on, its finished hypotheses do not change, so
    its result does not depend on the other sentences of the batch.

    A beam size of 1 differs from greedy search: whenever [EOS] is the second most probable token, the hypothesis that
    ends there is also kept for comparison.

    beam_size: number of live hypotheses, and also of finished hypotheses, per sentence.
    alpha: strength of the length penalty; 0 for none.
    n_best: number of hypotheses to find, at most ``beam_size``. Further hypotheses may not be the best.
    """
    source_mask = padding_mask(inputs.source, inputs.special_ids.pad)
    memory = inputs.apply(inputs.source, source_mask, method="encode")

    def is_finished(state: _BeamState) -> Bool[Array, "B"]:
        # Log-probabilities only decrease, and the penalty at the length limit is the largest divisor.
        best_possible = state.live_log_probs[:, 0] / length_penalty(state.length_limits, alpha)
        is_beaten = best_possible <= state.finished_scores[:, n_best - 1]
        return is_beaten | (state.position >= state.length_limits)

    def body(state: _BeamState) -> _BeamState:
        beam_origins = state.beam_origins.at[:, :, state.position].set(jnp.arange(beam_size)[None])
        continuations, caches = _continue_hypotheses(inputs, state, beam_origins)
        tokens, log_probs, parents, ends = continuations

        live_log_probs, live = jax.lax.top_k(jnp.where(ends, -jnp.inf, log_probs), beam_size)
        live_parents = jnp.take_along_axis(parents, live, axis=1)

        scores = jnp.where(ends, log_probs / length_penalty(state.position + 1, alpha), -jnp.inf)
        # A finished sentence accepts no more hypotheses. Otherwise, its result would depend on the batch.
        scores = jnp.where(is_finished(state)[:, None], -jnp.inf, scores)
        all_scores = jnp.concatenate([state.finished_scores, scores], axis=1)
        all_tokens = jnp.concatenate([state.finished_tokens, tokens], axis=1)
        finished_scores, finished = jax.lax.top_k(all_scores, beam_size)
        return state._replace(
            position=state.position + 1,
            live_tokens=jnp.take_along_axis(tokens, live[:, :, None], axis=1),
            live_log_probs=live_log_probs,
            beam_origins=jnp.take_along_axis(beam_origins, live_parents[:, :, None], axis=1),
            finished_tokens=jnp.take_along_axis(all_tokens, finished[:, :, None], axis=1),
            finished_scores=finished_scores,
            caches=caches,
        )

    def hypotheses(state: _BeamState) -> Hypotheses:
        return Hypotheses(state.finished_tokens, state.finished_scores)

    batch_size, buffer_length = inputs.source.shape[0], inputs.buffer_length
    no_tokens = jnp.full((batch_size, beam_size, buffer_length), inputs.special_ids.pad, jnp.int32)
    no_scores = jnp.full((batch_size, beam_size), -jnp.inf)
    init = _BeamState(
        position=jnp.zeros((), jnp.int32),
        live_tokens=no_tokens,
        live_log_probs=no_scores.at[:, 0].set(0),  # All beams are equal at first, so only one is continued.
        beam_origins=jnp.zeros_like(no_tokens),
        finished_tokens=no_tokens,
        finished_scores=no_scores,
        caches=inputs.apply(memory, beam_size, buffer_length, method="init_cache"),
        source_mask=source_mask,
        length_limits=inputs.length_limits,
    )
    return decode_loop(lambda state: ~is_finished(state), body, init, hypotheses)


def _continue_hypotheses(
    inputs: SearchInputs, state: _BeamState, beam_origins: Int[Array, "B W C"]
) -> tuple[_Continuations, Any]:
    """Decode one token for all live hypotheses. Return their 2 * W best continuations and the new caches.

    At most one continuation per live hypothesis ends, so at least W of the 2 * W continuations do not end.
    """
    special_ids, beam_size = inputs.special_ids, beam_origins.shape[1]
    last = jnp.where(state.position == 0, special_ids.sos, state.live_tokens[:, :, state.position - 1])
    prefix_mask = _prefix_mask(beam_origins, state.position)
    logits, caches = inputs.apply(
        last, state.caches, state.position, prefix_mask, state.source_mask, method="decode_step"
    )

    at_limit = jnp.repeat(state.position + 1 >= state.length_limits, beam_size)
    k = min(2 * beam_size, logits.shape[-1])
    token_log_probs, next_tokens = top_k_log_probs(logits.reshape(len(at_limit), -1), at_limit, special_ids, k)
    all_log_probs = state.live_log_probs[:, :, None] + token_log_probs.reshape(-1, beam_size, k)
    log_probs, indices = jax.lax.top_k(all_log_probs.reshape(-1, beam_size * k), 2 * beam_size)
    parents = indices // k
    new_tokens = jnp.take_along_axis(next_tokens.reshape(-1, beam_size * k), indices, axis=1).astype(jnp.int32)
    prefixes = jnp.take_along_axis(state.live_tokens, parents[:, :, None], axis=1)
    tokens = prefixes.at[:, :, state.position].set(new_tokens)
    return _Continuations(tokens, log_probs, parents, new_tokens == special_ids.eos), caches


def _prefix_mask(beam_origins: Int[Array, "B W C"], position: Int[Array, ""]) -> Bool[Array, "B 1 W P"]:
    """Return a mask of the cached positions of a sentence that belong to each live hypothesis.

    The cache has W slots per position, one per beam.
    """
    batch_size, beam_size, buffer_length = beam_origins.shape
    is_own = beam_origins[:, :, :, None] == jnp.arange(beam_size)[None, None, None]
    is_written = (jnp.arange(buffer_length) <= position)[None, None, :, None]
    return (is_own & is_written).reshape(batch_size, 1, beam_size, buffer_length * beam_size)
