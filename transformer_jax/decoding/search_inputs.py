"""The arguments and the result of every search.

Axes: B sentences, S source positions, W hypotheses per sentence, C maximum target length.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
from jaxtyping import Array, Float, Int

from transformer_jax.model.transformer import Transformer

STATIC = {"static": True}


class SpecialIds(NamedTuple):
    """Ids of the special tokens that a search needs."""

    pad: int
    unk: int
    sos: int
    eos: int


# A NamedTuple cannot cross jit: all its fields would be traced, and a model is not an array.
@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class SearchInputs:
    """A model and a batch of sources to translate.

    A jitted search is compiled once per combination of values of the static fields and shapes of the other fields.

    model: the Transformer (static).
    params: its parameters.
    source: ids of each source, with [EOS], then padding.
    length_limits: maximum length of each translation, [EOS] included; 0 for a padding row.
    buffer_length: length of the token buffers and caches, at least the largest limit (static).
    special_ids: ids of the special tokens of the target (static).
    """

    model: Transformer = field(metadata=STATIC)
    params: Any
    source: Int[Array, "B S"]
    length_limits: Int[Array, "B"]
    buffer_length: int = field(metadata=STATIC)
    special_ids: SpecialIds = field(metadata=STATIC)

    def apply(self, *arguments: Any, method: str) -> Any:
        """Call a method of the model with the parameters."""
        return self.model.apply({"params": self.params}, *arguments, method=method)


class Hypotheses(NamedTuple):
    """Translations of each sentence, best first.

    tokens: ids of each translation with [EOS], then padding.
    scores: the ranking score: the sum of the tokens' log-probabilities, [EOS] included. Beam search divides it by the
        length penalty.
    """

    tokens: Int[Array, "B W C"]
    scores: Float[Array, "B W"]
