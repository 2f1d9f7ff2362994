"""One hypothesis a sentence, one token at a time: the most likely one (greedy), or one drawn at random.

Axes: B sentences, S source positions, C most target tokens, V target vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from transformer_jax.decoding.loop import until_done
from transformer_jax.decoding.next_token import Hypotheses, Vocabulary, allowed_logits, largest, most_likely
from transformer_jax.model.masks import padding_mask
from transformer_jax.model.transformer import Transformer


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
    vocabulary: Vocabulary,
) -> Hypotheses:
    """Take the most likely token at each step. Arguments as in ``sample``."""
    return _extend(model, params, source, limits, length, vocabulary, lambda logits, now: most_likely(logits))


def sample(
    model: Transformer,
    params: Any,
    source: Int[Array, "B S"],
    limits: Int[Array, "B"],
    length: int,
    vocabulary: Vocabulary,
    keys: Any,
    temperature: Float[Array, ""],
    top_k: int,
) -> Hypotheses:
    """Draw each token from the model's distribution.

    limits: most tokens of each translation, [EOS] included, 0 for rows that only fill up the batch; length: most
    tokens of any; keys: a random key for each sentence, so that a draw does not depend on the batch; temperature:
    divides the logits, above 0; top_k: draw from this many most likely tokens, 0 from all.
    """

    def draw(logits: Float[Array, "B V"], now: _Progress) -> Int[Array, "B"]:
        if top_k:
            least = largest(logits, min(top_k, logits.shape[-1]))[0][:, -1:]
            logits = jnp.where(logits >= least, logits, -jnp.inf)
        step_keys = jax.vmap(jax.random.fold_in, in_axes=(0, None))(now.keys, now.position)
        return jax.vmap(jax.random.categorical)(step_keys, logits / temperature)

    return _extend(model, params, source, limits, length, vocabulary, draw, keys)


def _extend(
    model: Transformer,
    params: Any,
    source: Int[Array, "B S"],
    limits: Int[Array, "B"],
    length: int,
    vocabulary: Vocabulary,
    choose: Callable[[Float[Array, "B V"], _Progress], Int[Array, "B"]],
    keys: Any = None,
) -> Hypotheses:
    """Append the chosen tokens until each sentence has its [EOS], and stop when all have."""
    variables = {"params": params}
    source_mask = padding_mask(source, vocabulary.pad)
    memory = model.apply(variables, source, source_mask, method="encode")

    def advance(now: _Progress) -> _Progress:
        last = jnp.where(now.position == 0, vocabulary.start, now.tokens[:, now.position - 1])
        so_far = (jnp.arange(length) <= now.position)[None, None, None]
        inputs = last[:, None], now.caches, now.position, so_far, now.source_mask
        logits, caches = model.apply(variables, *inputs, method="step")
        allowed, log_z = allowed_logits(logits[:, 0], now.position + 1 >= now.limits, vocabulary)
        token = jnp.where(now.finished, vocabulary.pad, choose(allowed, now)).astype(jnp.int32)
        gained = (jnp.take_along_axis(allowed, token[:, None], axis=-1) - log_z)[:, 0]
        # At its limit a row ends whatever was chosen: among probabilities that are no numbers it may not be [EOS].
        ended = (token == vocabulary.end) | (now.position + 1 >= now.limits)
        return now._replace(
            position=now.position + 1,
            tokens=now.tokens.at[:, now.position].set(token),
            log_probability=now.log_probability + jnp.where(now.finished, 0, gained),
            finished=now.finished | ended,
            caches=caches,
        )

    def found(now: _Progress) -> Hypotheses:
        return Hypotheses(now.tokens[:, None], now.log_probability[:, None], now.log_probability[:, None])

    first = _Progress(
        position=jnp.zeros((), jnp.int32),
        tokens=jnp.full((source.shape[0], length), vocabulary.pad, jnp.int32),
        log_probability=jnp.zeros(source.shape[0]),
        finished=limits < 1,
        caches=model.apply(variables, memory, 1, length, method="start"),
        source_mask=source_mask,
        limits=limits,
        keys=keys,
    )
    return until_done(lambda now: ~now.finished, advance, first, found)
