"""Beam search: the W most promising hypotheses a sentence, kept until no open one can still be among those wanted.

Axes: B sentences, S source positions, W hypotheses (beams), C most target tokens, P places in a sentence's cache
(C * W), V target vocabulary.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from transformer_jax.decoding.loop import decode_loop
from transformer_jax.decoding.next_token import Hypotheses, SpecialIds, top_k_log_probs
from transformer_jax.model.masks import padding_mask
from transformer_jax.model.transformer import Transformer


class _Progress(NamedTuple):
    """Open hypotheses with the sum of their log-probabilities, and finished ones with their scores, both best first.

    open_places: the place in the beam that each position of an open hypothesis had when it was written to the caches.
    """

    position: Int[Array, ""]
    open_tokens: Int[Array, "B W C"]
    open_places: Int[Array, "B W C"]
    open_log_p: Float[Array, "B W"]
    done_tokens: Int[Array, "B W C"]
    done_score: Float[Array, "B W"]
    caches: Any
    source_mask: Bool[Array, "B 1 1 S"]
    limits: Int[Array, "B"]


def length_penalty(tokens: Int[Array, "*B"], alpha: Float[Array, ""]) -> Float[Array, "*B"]:
    """((5 + tokens) / 6) ** alpha, with [EOS] counted. Source: Wu et al. 2016, section 7, equation 14."""
    return ((5 + tokens) / 6) ** alpha


def beam_search(
    model: Transformer,
    params: Any,
    source: Int[Array, "B S"],
    limits: Int[Array, "B"],
    length: int,
    special_ids: SpecialIds,
    beams: int,
    alpha: Float[Array, ""],
    wanted: Int[Array, ""],
) -> Hypotheses:
    """Find translations with a high sum of log-probabilities divided by their length penalty.

    limits: most tokens of each translation, [EOS] included, 0 for rows that only fill up the batch; length: most
    tokens of any; alpha: strength of the length penalty, 0 for none; wanted: of the hypotheses found, only so many of
    the best are what a longer search would find. A sentence stops taking part when its best open hypothesis, even if it
    went on for free up to the limit, would score below all that are wanted; so the batch around it changes nothing. One
    beam is not quite greedy search: a translation that could have ended where [EOS] was second best is kept for
    comparison.
    """
    sentences = source.shape[0]
    variables = {"params": params}
    source_mask = padding_mask(source, special_ids.pad)
    memory = model.apply(variables, source, source_mask, method="encode")

    def settled(now: _Progress) -> Bool[Array, "B"]:
        # A log-probability only falls, and the largest penalty divides it best.
        at_most = length_penalty(now.limits, alpha)
        return (now.open_log_p[:, 0] / at_most <= now.done_score[:, wanted - 1]) | (now.position >= now.limits)

    def advance(now: _Progress) -> _Progress:
        last = jnp.where(now.position == 0, special_ids.sos, now.open_tokens[:, :, now.position - 1])
        places = now.open_places.at[:, :, now.position].set(jnp.arange(beams)[None])
        so_far = _own_past(places, now.position)
        inputs = last, now.caches, now.position, so_far, now.source_mask
        logits, caches = model.apply(variables, *inputs, method="decode_step")
        at_limit = jnp.repeat(now.position + 1 >= now.limits, beams)

        # Of the best 2W continuations at most W end (one of each parent), so at least W stay open.
        each = min(2 * beams, logits.shape[-1])
        gained, words = top_k_log_probs(logits.reshape(len(at_limit), -1), at_limit, special_ids, each)
        total = now.open_log_p[:, :, None] + gained.reshape(-1, beams, each)
        best, index = jax.lax.top_k(total.reshape(-1, beams * each), 2 * beams)
        parent = index // each
        token = jnp.take_along_axis(words.reshape(-1, beams * each), index, axis=1).astype(jnp.int32)
        tokens = jnp.take_along_axis(now.open_tokens, parent[:, :, None], axis=1).at[:, :, now.position].set(token)
        ends = token == special_ids.eos

        open_log_p, kept = jax.lax.top_k(jnp.where(ends, -jnp.inf, best), beams)
        score = jnp.where(ends, best / length_penalty(now.position + 1, alpha), -jnp.inf)
        # A settled sentence takes nothing more: what it would add depends on how long the batch runs.
        score = jnp.where(settled(now)[:, None], -jnp.inf, score)
        done_score, won = jax.lax.top_k(jnp.concatenate([now.done_score, score], axis=1), beams)
        done_tokens = jnp.concatenate([now.done_tokens, tokens], axis=1)
        followed = jnp.take_along_axis(parent, kept, axis=1)
        return now._replace(
            position=now.position + 1,
            open_tokens=jnp.take_along_axis(tokens, kept[:, :, None], axis=1),
            open_places=jnp.take_along_axis(places, followed[:, :, None], axis=1),
            open_log_p=open_log_p,
            done_tokens=jnp.take_along_axis(done_tokens, won[:, :, None], axis=1),
            done_score=done_score,
            caches=caches,
        )

    def found(now: _Progress) -> Hypotheses:
        return Hypotheses(now.done_tokens, now.done_score)

    empty = jnp.full((sentences, beams, length), special_ids.pad, jnp.int32)
    nothing = jnp.full((sentences, beams), -jnp.inf)
    first = _Progress(
        position=jnp.zeros((), jnp.int32),
        open_tokens=empty,
        open_places=jnp.zeros_like(empty),
        open_log_p=nothing.at[:, 0].set(0),  # All beams start alike: only one may be continued.
        done_tokens=empty,
        done_score=nothing,
        caches=model.apply(variables, memory, beams, length, method="init_cache"),
        source_mask=source_mask,
        limits=limits,
    )
    return decode_loop(lambda now: ~settled(now), advance, first, found)


def _own_past(places: Int[Array, "B W C"], position: Int[Array, ""]) -> Bool[Array, "B 1 W P"]:
    """Which of a sentence's cached positions, C of each place in the beam, stand before each hypothesis."""
    sentences, beams, length = places.shape
    own = places[:, :, :, None] == jnp.arange(beams)[None, None, None]
    written = (jnp.arange(length) <= position)[None, None, :, None]
    return (own & written).reshape(sentences, 1, beams, length * beams)
