"""One hypothesis a sentence, one token at a time: the most likely one (greedy), or one drawn at random.

Axes: B sentences, S source positions, C most target tokens, V target vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from transformer_jax.decoding.loop import decode_loop
from transformer_jax.decoding.next_token import Hypotheses, SpecialIds, allowed_logits, log_normalizer, top_k_log_probs
from transformer_jax.model.masks import padding_mask
from transformer_jax.model.transformer import Transformer

Chosen = tuple[Int[Array, "B"], Float[Array, "B"]]
"""A word for each row, and its log-probability."""


class _Progress(NamedTuple):
    position: Int[Array, ""]
    tokens: Int[Array, "B C"]
    log_probability: Float[Array, "B"]
    finished: Bool[Array, "B"]
    caches: Any
    source_mask: Bool[Array, "B 1 1 S"]
    limits: Int[Array, "B"]
    keys: Any


def greedy(
    model: Transformer,
    params: Any,
    source: Int[Array, "B S"],
    limits: Int[Array, "B"],
    length: int,
    special_ids: SpecialIds,
) -> Hypotheses:
    """Take the most likely token at each step. Arguments as in ``sample``."""

    def choose(logits: Float[Array, "B V"], at_limit: Bool[Array, "B"], now: _Progress) -> Chosen:
        log_p, words = top_k_log_probs(logits, at_limit, special_ids, 1)
        return words[:, 0], log_p[:, 0]

    return _extend(model, params, source, limits, length, special_ids, choose)


def sample(
    model: Transformer,
    params: Any,
    source: Int[Array, "B S"],
    limits: Int[Array, "B"],
    length: int,
    special_ids: SpecialIds,
    keys: Any,
    temperature: Float[Array, ""],
    top_k: int,
) -> Hypotheses:
    """Draw each token from the model's distribution.

    limits: most tokens of each translation, [EOS] included, 0 for rows that only fill up the batch; length: most
    tokens of any; keys: a random key for each sentence, so that a draw does not depend on the batch; temperature:
    divides the logits, above 0; top_k: draw from this many most likely tokens, 0 from all.
    """

    def draw(logits: Float[Array, "B V"], at_limit: Bool[Array, "B"], now: _Progress) -> Chosen:
        allowed = allowed_logits(logits, at_limit, special_ids)
        among = allowed
        if top_k:
            least = jax.lax.top_k(allowed, min(top_k, allowed.shape[-1]))[0][:, -1:]
            among = jnp.where(allowed >= least, allowed, -jnp.inf)
        step_keys = jax.vmap(jax.random.fold_in, in_axes=(0, None))(now.keys, now.position)
        words = jax.vmap(jax.random.categorical)(step_keys, among / temperature)
        log_p = jnp.take_along_axis(allowed - log_normalizer(logits), words[:, None], axis=-1)
        return words, log_p[:, 0]

    return _extend(model, params, source, limits, length, special_ids, draw, keys)


def _extend(
    model: Transformer,
    params: Any,
    source: Int[Array, "B S"],
    limits: Int[Array, "B"],
    length: int,
    special_ids: SpecialIds,
    choose: Callable[[Float[Array, "B V"], Bool[Array, "B"], _Progress], Chosen],
    keys: Any = None,
) -> Hypotheses:
    """Append the chosen tokens until each sentence has its [EOS], and stop when all have."""
    variables = {"params": params}
    source_mask = padding_mask(source, special_ids.pad)
    memory = model.apply(variables, source, source_mask, method="encode")

    def advance(now: _Progress) -> _Progress:
        last = jnp.where(now.position == 0, special_ids.sos, now.tokens[:, now.position - 1])
        so_far = (jnp.arange(length) <= now.position)[None, None, None]
        inputs = last[:, None], now.caches, now.position, so_far, now.source_mask
        logits, caches = model.apply(variables, *inputs, method="decode_step")
        words, log_p = choose(logits[:, 0], now.position + 1 >= now.limits, now)
        token = jnp.where(now.finished, special_ids.pad, words)
        # At its limit a row ends whatever was chosen: among probabilities that are no numbers it may not be [EOS].
        ended = (token == special_ids.eos) | (now.position + 1 >= now.limits)
        return now._replace(
            position=now.position + 1,
            tokens=now.tokens.at[:, now.position].set(token),
            log_probability=now.log_probability + jnp.where(now.finished, 0, log_p),
            finished=now.finished | ended,
            caches=caches,
        )

    def found(now: _Progress) -> Hypotheses:
        return Hypotheses(now.tokens[:, None], now.log_probability[:, None])

    first = _Progress(
        position=jnp.zeros((), jnp.int32),
        tokens=jnp.full((source.shape[0], length), special_ids.pad, jnp.int32),
        log_probability=jnp.zeros(source.shape[0]),
        finished=limits < 1,
        caches=model.apply(variables, memory, 1, length, method="init_cache"),
        source_mask=source_mask,
        limits=limits,
        keys=keys,
    )
    return decode_loop(lambda now: ~now.finished, advance, first, found)
