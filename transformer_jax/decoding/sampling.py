"""One hypothesis a sentence, one token at a time: the most likely one (greedy), or one drawn at random.

Axes: B sentences, S source positions, C most target tokens, V target vocabulary.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from transformer_jax.decoding.next_token import Hypotheses, Vocabulary, allowed_logits, largest, most_likely
from transformer_jax.model.masks import padding_mask
from transformer_jax.model.transformer import Transformer


class _Progress(NamedTuple):
    position: Int[Array, ""]
    tokens: Int[Array, "B C"]
    log_probability: Float[Array, "B"]
    finished: Bool[Array, "B"]
    caches: Any


def greedy(
    model: Transformer,
    params: Any,
    source: Int[Array, "B S"],
    limits: Int[Array, "B"],
    length: int,
    vocabulary: Vocabulary,
) -> Hypotheses:
    """Take the most likely token at each step. Arguments as in ``sample``."""
    return _extend(model, params, source, limits, length, vocabulary, lambda logits, position: most_likely(logits))


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

    def draw(logits: Float[Array, "B V"], position: Int[Array, ""]) -> Int[Array, "B"]:
        if top_k:
            least = largest(logits, min(top_k, logits.shape[-1]))[0][:, -1:]
            logits = jnp.where(logits >= least, logits, -jnp.inf)
        step_keys = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, position)
        return jax.vmap(jax.random.categorical)(step_keys, logits / temperature)

    return _extend(model, params, source, limits, length, vocabulary, draw)


def _extend(
    model: Transformer,
    params: Any,
    source: Int[Array, "B S"],
    limits: Int[Array, "B"],
    length: int,
    vocabulary: Vocabulary,
    choose: Any,
) -> Hypotheses:
    """Append the chosen tokens until each sentence has its [EOS], and stop when all have."""
    variables = {"params": params}
    source_mask = padding_mask(source, vocabulary.pad)
    memory = model.apply(variables, source, source_mask, method="encode")

    def unfinished(now: _Progress) -> Bool[Array, ""]:
        return ~now.finished.all()

    def advance(now: _Progress) -> _Progress:
        last = jnp.where(now.position == 0, vocabulary.start, now.tokens[:, now.position - 1])
        so_far = (jnp.arange(length) <= now.position)[None, None, None]
        inputs = last[:, None], now.caches, now.position, so_far, source_mask
        logits, caches = model.apply(variables, *inputs, method="step")
        allowed, log_z = allowed_logits(logits[:, 0], now.position + 1 >= limits, vocabulary)
        token = jnp.where(now.finished, vocabulary.pad, choose(allowed, now.position)).astype(jnp.int32)
        gained = (jnp.take_along_axis(allowed, token[:, None], axis=-1) - log_z)[:, 0]
        return _Progress(
            now.position + 1,
            now.tokens.at[:, now.position].set(token),
            now.log_probability + jnp.where(now.finished, 0, gained),
            # At its limit a row ends whatever was chosen: among probabilities that are no numbers it may not be [EOS].
            now.finished | (token == vocabulary.end) | (now.position + 1 >= limits),
            caches,
        )

    first = _Progress(
        position=jnp.zeros((), jnp.int32),
        tokens=jnp.full((source.shape[0], length), vocabulary.pad, jnp.int32),
        log_probability=jnp.zeros(source.shape[0]),
        finished=limits < 1,
        caches=model.apply(variables, memory, 1, length, method="start"),
    )
    done = jax.lax.while_loop(unfinished, advance, first)
    return Hypotheses(done.tokens[:, None], done.log_probability[:, None], done.log_probability[:, None])
