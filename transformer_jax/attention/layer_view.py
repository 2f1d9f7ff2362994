"""The weights, tokens and headings of one attention layer, for heat maps and figures.

Axes: H heads, Q queries (rows, from the top), K keys (columns).

Layers and heads are numbered by their zero-based array index: `attention.cross[2, 1]`, the title "layer 2, head 1" and
the file `1.cross.layer2.png` refer to the same layer.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from transformer_jax.attention.weights import ATTENTION_NAMES, Attention, AttentionKind
from transformer_jax.errors import InputError


class LayerView(NamedTuple):
    """The weights of one layer, with the tokens and the headings that describe them.

    weights: one matrix per head.
    queries: the token of each row.
    keys: the token of each column.
    title: the attention type and the layer.
    subtitle: an explanation of rows and columns.
    """

    weights: Float[np.ndarray, "H Q K"]
    queries: tuple[str, ...]
    keys: tuple[str, ...]
    title: str
    subtitle: str


def select_view(attention: Attention, kind: AttentionKind, layer: int) -> LayerView:
    """Return one layer with the tokens of its rows and columns.

    In "decoder" and "cross", the label of a row is the token that the position predicts. In "decoder", the label of a
    column is the token that the position reads, so the diagonal shows the weight of the token directly before the
    predicted token.
    Raises InputError if the attention type or the layer does not exist.
    """
    source, predicted, read = attention.source_tokens, attention.target_tokens, attention.target_inputs
    kinds: dict[str, tuple[tuple[str, ...], tuple[str, ...], str, str]] = {
        "encoder": (source, source, "the source token that attends", "the source token attended to"),
        "decoder": (predicted, read, "the token being predicted", "the earlier token attended to"),
        "cross": (predicted, source, "the token being predicted", "the source token attended to"),
    }
    if kind not in kinds:
        raise InputError(f"attention type {kind!r} does not exist. Choose one of {', '.join(kinds)}.")
    name, (queries, keys, row, column) = ATTENTION_NAMES[kind], kinds[kind]
    layers = getattr(attention, kind)
    if not 0 <= layer < len(layers):
        raise InputError(f"{name} has no layer {layer}. Set --layer to {index_range(len(layers))}.")
    return LayerView(layers[layer], queries, keys, f"{name}, layer {layer}", f"Row: {row}.  Column: {column}.")


def index_range(count: int) -> str:
    """Return the valid indices of ``count`` layers or heads as text: "0", or for example "a number from 0 to 5"."""
    return "0" if count == 1 else f"a number from 0 to {count - 1}"
