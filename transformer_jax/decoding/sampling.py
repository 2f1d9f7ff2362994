"""One hypothesis a sentence, one token at a time: the most likely one (greedy), or one drawn at random.

Axes: B sentences, S source positions, C most target tokens, V target vocabulary.
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
    return _extend(model, params, source, limits, length, vocabulary, lambda log_p, position: log_p.argmax(-1))


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
    divides the log-probabilities, above 0; top_k: draw from this many most likely tokens, 0 from all.
    """

    def draw(log_p: Float[Array, "B V"], position: Int[Array, ""]) -> Int[Array, "B"]:
        if top_k:
            least = jax.lax.top_k(log_p, min(top_k, log_p.shape[-1]))[0][:, -1:]
            log_p = jnp.where(log_p >= least, log_p, -jnp.inf)
        step_keys = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, position)
        return jax.vmap(jax.random.categorical)(step_keys, log_p / temperature)

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
        logits, caches = model.apply(variables, last[:, None], now.caches, now.position, source_mask, method="step")
        log_p = next_log_probabilities(logits[:, 0], now.position + 1 >= limits, vocabulary)
        token = jnp.where(now.finished, vocabulary.pad, choose(log_p, now.position)).astype(jnp.int32)
        gained = jnp.take_along_axis(log_p, token[:, None], axis=-1)[:, 0]
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
