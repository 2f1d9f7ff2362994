"""Beam search: the W most promising hypotheses a sentence, kept until no unfinished one can still win.

Axes: B sentences, S source positions, W hypotheses (beams), C most target tokens, V target vocabulary.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from transformer_jax.decoding.next_token import Hypotheses, Vocabulary, next_log_probabilities
from transformer_jax.model.masks import padding_mask
from transformer_jax.model.transformer import Transformer


class _Progress(NamedTuple):
    """Open hypotheses with the sum of their log-probabilities, and finished ones with their scores, both best first."""

    position: Int[Array, ""]
    open_tokens: Int[Array, "B W C"]
    open_log_p: Float[Array, "B W"]
    done_tokens: Int[Array, "B W C"]
    done_log_p: Float[Array, "B W"]
    done_score: Float[Array, "B W"]
    caches: Any


def length_penalty(tokens: Int[Array, "*B"], alpha: Float[Array, ""]) -> Float[Array, "*B"]:
    """((5 + tokens) / 6) ** alpha, with [EOS] counted. Source: Wu et al. 2016, section 7, equation 14."""
    return ((5 + tokens) / 6) ** alpha


def beam_search(
    model: Transformer,
    params: Any,
    source: Int[Array, "B S"],
    limits: Int[Array, "B"],
    length: int,
    vocabulary: Vocabulary,
    beams: int,
    alpha: Float[Array, ""],
) -> Hypotheses:
    """Find translations with a high sum of log-probabilities divided by their length penalty.

    limits: most tokens of each translation, [EOS] included, 0 for rows that only fill up the batch; length: most
    tokens of any; alpha: strength of the length penalty, 0 for none. A sentence stops taking part when its best open
    hypothesis, even if it went on for free up to the limit, would score below all its finished ones; so the batch
    around it changes nothing. One beam is not quite greedy search: a translation that could have ended where [EOS] was
    second best is kept for comparison.
    """
    sentences = source.shape[0]
    variables = {"params": params}
    source_mask = padding_mask(source, vocabulary.pad)
    memory = model.apply(variables, source, source_mask, method="encode")
    at_most = length_penalty(limits, alpha)

    def settled(now: _Progress) -> Bool[Array, "B"]:
        # A log-probability only falls, and the largest penalty divides it best.
        return (now.open_log_p[:, 0] / at_most <= now.done_score[:, -1]) | (now.position >= limits)

    def unfinished(now: _Progress) -> Bool[Array, ""]:
        return ~settled(now).all()

    def advance(now: _Progress) -> _Progress:
        last = jnp.where(now.position == 0, vocabulary.start, now.open_tokens[:, :, now.position - 1])
        logits, caches = model.apply(variables, last, now.caches, now.position, source_mask, method="step")
        words = logits.shape[-1]
        at_limit = jnp.repeat(now.position + 1 >= limits, beams)
        log_p = next_log_probabilities(logits.reshape(sentences * beams, words), at_limit, vocabulary)
        total = now.open_log_p[:, :, None] + log_p.reshape(sentences, beams, words)

        # Of the best 2W continuations at most W end (one of each parent), so at least W stay open.
        best, index = jax.lax.top_k(total.reshape(sentences, beams * words), 2 * beams)
        parent, token = index // words, (index % words).astype(jnp.int32)
        tokens = jnp.take_along_axis(now.open_tokens, parent[:, :, None], axis=1).at[:, :, now.position].set(token)
        ends = token == vocabulary.end

        open_log_p, kept = jax.lax.top_k(jnp.where(ends, -jnp.inf, best), beams)
        score = jnp.where(ends, best / length_penalty(now.position + 1, alpha), -jnp.inf)
        # A settled sentence takes nothing more: what it would add depends on how long the batch runs.
        score = jnp.where(settled(now)[:, None], -jnp.inf, score)
        done_score, won = jax.lax.top_k(jnp.concatenate([now.done_score, score], axis=1), beams)
        done_tokens = jnp.concatenate([now.done_tokens, tokens], axis=1)
        done_log_p = jnp.concatenate([now.done_log_p, best], axis=1)
        return _Progress(
            now.position + 1,
            jnp.take_along_axis(tokens, kept[:, :, None], axis=1),
            open_log_p,
            jnp.take_along_axis(done_tokens, won[:, :, None], axis=1),
            jnp.take_along_axis(done_log_p, won, axis=1),
            done_score,
            _follow(caches, jnp.take_along_axis(parent, kept, axis=1)),
        )

    empty = jnp.full((sentences, beams, length), vocabulary.pad, jnp.int32)
    nothing = jnp.full((sentences, beams), -jnp.inf)
    first = _Progress(
        position=jnp.zeros((), jnp.int32),
        open_tokens=empty,
        open_log_p=nothing.at[:, 0].set(0),  # All beams start alike: only one may be continued.
        done_tokens=empty,
        done_log_p=nothing,
        done_score=nothing,
        caches=model.apply(variables, memory, beams, length, method="start"),
    )
    done = jax.lax.while_loop(unfinished, advance, first)
    return Hypotheses(done.done_tokens, done.done_log_p, done.done_score)


def _follow(caches: Any, parent: Int[Array, "B W"]) -> Any:
    """Give each hypothesis the prefix of the one that it continues; a sentence's source is the same for all."""
    sentences, beams = parent.shape
    rows = (jnp.arange(sentences)[:, None] * beams + parent).reshape(-1)
    return tuple(cache._replace(prefix=jax.tree.map(lambda x: x[rows], cache.prefix)) for cache in caches)
