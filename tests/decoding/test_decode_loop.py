"""The decoding loop: every sentence gets its steps, and the batch shrinks when few sentences are live."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from transformer_jax.decoding.loop import decode_loop
from transformer_jax.decoding.search_inputs import Hypotheses


class Countdown(NamedTuple):
    step: jax.Array
    remaining: jax.Array
    total: jax.Array


@pytest.mark.parametrize("sentences", [1, 7, 8, 17, 64])
@pytest.mark.parametrize("longest", [0, 3, 41])
def test_every_sentence_takes_its_steps_in_shrinking_batches(sentences, longest):
    remaining = np.random.default_rng(0).integers(0, 5, sentences)
    remaining[sentences // 2] = longest  # the last live one if it is 41
    batch_sizes = []

    def body(state):
        jax.debug.callback(lambda: batch_sizes.append(len(state.remaining)))
        is_live = state.remaining > 0
        total = state.total + jnp.where(is_live, (state.step + 1) * 10, 0)
        return Countdown(state.step + 1, state.remaining - is_live, total)

    def hypotheses(state):
        return Hypotheses(state.total[:, None, None], state.total[:, None].astype(jnp.float32))

    init = Countdown(jnp.zeros((), jnp.int32), jnp.asarray(remaining), jnp.asarray(np.arange(sentences)))
    result = decode_loop(lambda state: state.remaining > 0, body, init, hypotheses)
    jax.effects_barrier()
    assert len(batch_sizes) == remaining.max()
    expected = np.arange(sentences) + 10 * remaining * (remaining + 1) // 2
    np.testing.assert_array_equal(result.tokens[:, 0, 0], expected)
    np.testing.assert_array_equal(result.scores[:, 0], expected)
    if longest == 41 and sentences >= 8:
        assert min(batch_sizes) == sentences // 8
