"""A sentence pair with random attention, for tests of pictures."""

from collections.abc import Sequence

import numpy as np

from transformer_jax.attention.weights import Attention

SOURCE = ("▁Where", "▁is", "▁the", "▁station", "?")
TARGET = ("▁Wo", "▁ist", "▁denn", "▁der", "▁Bahnhof", "?", "[EOS]")


def random_attention(source: Sequence[str] = SOURCE, target: Sequence[str] = TARGET, heads: int = 3) -> Attention:
    """Return random rows that sum to 1: 2 encoder layers and 1 decoder layer."""
    generator = np.random.default_rng(0)

    def rows(*shape: int) -> np.ndarray:
        weights = generator.random(shape, np.float32)
        return weights / weights.sum(axis=-1, keepdims=True)

    s, t = len(source), len(target)
    arrays = rows(2, heads, s, s), rows(1, heads, t, t), rows(1, heads, t, s)
    return Attention(*arrays, tuple(source), tuple(target), ("[SOS]", *target[:-1]), "source", "translation")
