"""The loop of every search: one step after another until no sentence of the batch is open.

Axes: B sentences.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from transformer_jax.decoding.next_token import Hypotheses

Progress = TypeVar("Progress")

PART = 8
"""The loop goes on with a batch of 1 / PART of the sentences when no more of them are open."""


def decode_loop(
    open_sentences: Callable[[Progress], Bool[Array, "B"]],
    advance: Callable[[Progress], Progress],
    first: Progress,
    found: Callable[[Progress], Hypotheses],
) -> Hypotheses:
    """Advance until no sentence is open.

    Every array of a progress has the sentences along its first axis, but for scalars, and ``advance`` uses nothing else
    that has; so a few sentences that go on for long do so in a small batch of their own, instead of holding up a
    large one. found: what is wanted of a progress in the end.
    """

    def unfinished(now: Progress, most: int) -> Bool[Array, ""]:
        return open_sentences(now).sum() > most

    sentences = open_sentences(first).shape[0]
    few = sentences // PART
    most = jax.lax.while_loop(lambda now: unfinished(now, few), advance, first)
    if not few:
        return found(most)
    _, chosen = jax.lax.top_k(open_sentences(most).astype(jnp.int32), few)
    part = jax.tree.map(lambda x: x[chosen] if x.ndim else x, most)
    rest = jax.lax.while_loop(lambda now: unfinished(now, 0), advance, part)
    return jax.tree.map(_replace(chosen), found(most), found(rest))


def _replace(rows: Array) -> Callable[[Any, Any], Any]:
    return lambda whole, part: whole.at[rows].set(part)
