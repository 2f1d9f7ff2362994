"""A batch goes on as a smaller one when few of its sentences are open, and nothing is lost on the way."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from transformer_jax.decoding.loop import decode_loop
from transformer_jax.decoding.next_token import Hypotheses


class Countdown(NamedTuple):
    turn: jax.Array
    left: jax.Array
    noted: jax.Array


@pytest.mark.parametrize("sentences", [1, 7, 8, 17, 64])
@pytest.mark.parametrize("longest", [0, 3, 41])
def test_every_sentence_advances_until_it_is_done(sentences, longest):
    left = np.random.default_rng(0).integers(0, 5, sentences)
    left[sentences // 2] = longest  # the last one open, unless it is 0 or 3
    rows = []

    def advance(now):
        jax.debug.callback(lambda: rows.append(len(now.left)))
        open_now = now.left > 0
        noted = now.noted + jnp.where(open_now, (now.turn + 1) * 10, 0)
        return Countdown(now.turn + 1, now.left - open_now, noted)

    first = Countdown(jnp.zeros((), jnp.int32), jnp.asarray(left), jnp.asarray(np.arange(sentences)))

    def result(now):
        shown = now.noted[:, None].astype(jnp.float32)
        return Hypotheses(now.noted[:, None, None], shown)

    found = decode_loop(lambda now: now.left > 0, advance, first, result)
    jax.effects_barrier()
    assert len(rows) == left.max()
    expected = np.arange(sentences) + 10 * left * (left + 1) // 2
    np.testing.assert_array_equal(found.tokens[:, 0, 0], expected)
    np.testing.assert_array_equal(found.score[:, 0], expected)
    if longest == 41 and sentences >= 8:
        assert min(rows) == sentences // 8
