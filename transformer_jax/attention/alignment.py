"""Which source token a target token came from, read off the attention."""

from __future__ import annotations

from transformer_jax.attention.dump import Attention


def strongest_sources(attention: Attention) -> list[int]:
    """For each target token, the number (from 0) of the source token with the most weight, averaged over layers and
    heads.

    A rough guide: attention shows what was read, not what was translated.
    """
    return [int(source) for source in attention.cross.mean(axis=(0, 1)).argmax(axis=-1)]
