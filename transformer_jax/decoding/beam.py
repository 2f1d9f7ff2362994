"""Beam search with length penalty and early stopping.

Axes: B slots, W hypotheses per sentence (beams), C columns of the ring, N continuations per sentence (2 * W), V target
vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from transformer_jax.decoding.next_token import SpecialIds, top_k_log_probs
from transformer_jax.decoding.slots import STATIC, Finished, Slots


def length_penalty(lengths: Int[Array, "*B"] | int, alpha: Float[Array, ""] | float) -> Float[Array, "*B"] | float:
    """Return ((5 + length) / 6) ** alpha. Lengths include [EOS]. Source: Wu et al. 2016, section 7, equation 14."""
    return ((5 + lengths) / 6) ** alpha


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class BeamSearch:
    """Search for the translations with the highest sum of log-probabilities divided by their length penalty.

    A sentence is finished when its best live hypothesis can no longer become one of the ``n_best`` best finished
    hypotheses, even if all further tokens had probability 1. From then on, its finished hypotheses do not change.

    A beam size of 1 differs from greedy search: whenever [EOS] is the second most probable token, the hypothesis that
    ends there is also kept for comparison.

    beam_size: number of live hypotheses, and also of finished hypotheses, per sentence (static).
    alpha: strength of the length penalty; 0 for none.
    n_best: number of hypotheses to find, at most ``beam_size``. Further hypotheses may not be the best.
    """

    beam_size: int = field(metadata=STATIC)
    alpha: Any  # a float, or its tracer under jit
    n_best: Any  # an integer, or its tracer under jit

    def extend(self, slots: Slots, logits: Float[Array, "B W V"], special_ids: SpecialIds) -> Slots:
        """Extend the live hypotheses by one token, and move those that end to the finished hypotheses."""
        lengths = slots.positions + 1
        at_limit = lengths >= slots.length_limits
        log_probs, tokens, parents = self._continuations(slots, logits, at_limit, special_ids)
        ends = tokens == special_ids.eos

        scores = jnp.where(ends, log_probs / length_penalty(lengths[:, None], self.alpha), -jnp.inf)
        # A finished sentence accepts no more hypotheses. Otherwise, its result would depend on the other sentences.
        scores = jnp.where(slots.is_live[:, None], scores, -jnp.inf)
        finished = _add_finished(slots, scores, lengths, parents)

        live_log_probs, live = jax.lax.top_k(jnp.where(ends, -jnp.inf, log_probs), self.beam_size)
        # Log-probabilities only decrease, and the penalty at the length limit is the largest divisor.
        best_possible = live_log_probs[:, 0] / length_penalty(slots.length_limits, self.alpha)
        is_beaten = best_possible <= finished.scores[:, self.n_best - 1]
        live_parents = jnp.take_along_axis(parents, live, axis=1)
        return slots._replace(
            is_live=slots.is_live & ~is_beaten & ~at_limit,
            last_tokens=jnp.take_along_axis(tokens, live, axis=1),
            origins=jnp.take_along_axis(slots.origins, live_parents[:, :, None], axis=1),
            log_probs=live_log_probs,
            finished=finished,
        )

    def _continuations(
        self, slots: Slots, logits: Float[Array, "B W V"], at_limit: Bool[Array, "B"], special_ids: SpecialIds
    ) -> tuple[Float[Array, "B N"], Int[Array, "B N"], Int[Array, "B N"]]:
        """Return the 2 * W most probable one-token continuations of the live hypotheses, best first.

        At most one continuation per live hypothesis ends, so at least W of the 2 * W continuations do not end.

        Returns the log-probabilities of the continuations, their last tokens, and the hypotheses that they extend.
        """
        size, _, vocab_size = logits.shape
        k = min(2 * self.beam_size, vocab_size)
        token_log_probs, next_tokens = top_k_log_probs(
            logits.reshape(-1, vocab_size), jnp.repeat(at_limit, self.beam_size), special_ids, k
        )
        all_log_probs = slots.log_probs[:, :, None] + token_log_probs.reshape(size, self.beam_size, k)
        log_probs, indices = jax.lax.top_k(all_log_probs.reshape(size, -1), 2 * self.beam_size)
        tokens = jnp.take_along_axis(next_tokens.reshape(size, -1), indices, axis=1).astype(jnp.int32)
        return log_probs, tokens, indices // k


def _add_finished(
    slots: Slots, scores: Float[Array, "B N"], lengths: Int[Array, "B"], parents: Int[Array, "B N"]
) -> Finished:
    """Return the best W of the finished hypotheses and of the continuations.

    scores: scores of the continuations; minus infinity for a continuation that does not end.
    """
    old, beam_size = slots.finished, slots.log_probs.shape[1]
    best, chosen = jax.lax.top_k(jnp.concatenate([old.scores, scores], axis=1), beam_size)
    all_lengths = jnp.concatenate([old.lengths, jnp.broadcast_to(lengths[:, None], parents.shape)], axis=1)
    # A continuation that ends has the origins of the hypothesis that it extends.
    all_origins = jnp.concatenate([old.origins, slots.origins], axis=1)
    rows = jnp.concatenate([jnp.broadcast_to(jnp.arange(beam_size), old.lengths.shape), beam_size + parents], axis=1)
    rows = jnp.take_along_axis(rows, chosen, axis=1)
    return Finished(
        origins=jnp.take_along_axis(all_origins, rows[:, :, None], axis=1),
        lengths=jnp.take_along_axis(all_lengths, chosen, axis=1),
        scores=best,
    )
