"""Greedy search and random sampling: one hypothesis per sentence, extended by one token per step.

Axes: B slots, V target vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from transformer_jax.decoding.next_token import SpecialIds, draw_tokens, top_k_log_probs
from transformer_jax.decoding.slots import STATIC, Slots


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class GreedySearch:
    """Take the most probable token at each step."""

    beam_size = 1

    def extend(self, slots: Slots, logits: Float[Array, "B 1 V"], special_ids: SpecialIds) -> Slots:
        """Append the most probable token."""
        at_limit = slots.positions + 1 >= slots.length_limits
        log_probs, tokens = top_k_log_probs(logits[:, 0], at_limit, special_ids, 1)
        return _append(slots, tokens[:, 0].astype(jnp.int32), log_probs[:, 0], special_ids.eos)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class RandomSampling:
    """Draw each token from the model's distribution.

    temperature: divisor of the logits, above 0.
    top_k: number of most probable tokens to draw from; 0 for all tokens (static).
    """

    temperature: Any  # a float, or its tracer under jit
    top_k: int = field(metadata=STATIC)
    beam_size = 1

    def extend(self, slots: Slots, logits: Float[Array, "B 1 V"], special_ids: SpecialIds) -> Slots:
        """Append a random token, which depends only on the key of the sentence and on the position."""
        at_limit = slots.positions + 1 >= slots.length_limits
        keys = jax.vmap(jax.random.fold_in)(slots.keys, slots.positions)
        drawn = draw_tokens(logits[:, 0], at_limit, special_ids, keys, self.temperature, self.top_k)
        return _append(slots, *drawn, special_ids.eos)


def _append(slots: Slots, tokens: Int[Array, "B"], log_probs: Float[Array, "B"], eos_id: int) -> Slots:
    """Append a token to every hypothesis. A hypothesis that ends becomes the finished hypothesis of its slot."""
    lengths = slots.positions + 1
    # The limit ends a sentence even without [EOS]: if the model outputs NaN, any token may have been chosen.
    ends = slots.is_live & ((tokens == eos_id) | (lengths >= slots.length_limits))
    total = slots.log_probs[:, 0] + log_probs
    finished = slots.finished
    return slots._replace(
        is_live=slots.is_live & ~ends,
        last_tokens=tokens[:, None],
        log_probs=total[:, None],
        finished=finished._replace(
            lengths=jnp.where(ends, lengths, finished.lengths[:, 0])[:, None],
            scores=jnp.where(ends, total, finished.scores[:, 0])[:, None],
        ),
    )
