"""A picture of head importance: how the loss and BLEU change when each head is masked.

Axes: L layers, H heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from transformer_jax.attention.head_importance import Ablation, Changes
from transformer_jax.attention.heat_maps import blank
from transformer_jax.attention.weights import ATTENTION_NAMES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CELL = 0.42, 0.23
"""Width and height of a cell in inches, enough for a value of 6 points."""


def draw_head_importance(ablation: Ablation) -> Figure:
    """Two heat maps for each kind of attention, layers by heads: the change of the loss, and that of sacreBLEU.

    Both are red where the model is worse without the head, blue where it is better, on one scale for all kinds.
    """
    layers = {kind: len(changes.loss) for kind, changes in ablation.heads.items()}
    heads = max(changes.loss.shape[1] for changes in ablation.heads.values())
    line, left, right, top, foot = 0.42, 0.45, 0.1, 0.05, 0.65
    pitch = max(heads * CELL[0], 1.9) + left  # A title must fit above a map of few heads.
    width, height = 2 * pitch + right, sum(line + count * CELL[1] for count in layers.values()) + top + foot
    figure = blank()
    figure.set_size_inches(width, height)

    measures = ("change of loss, nats a token", "change of sacreBLEU, points")
    for column, (measure, title) in enumerate(zip(Changes._fields, measures, strict=True)):
        tables = {kind: getattr(changes, measure) for kind, changes in ablation.heads.items()}
        largest = max(float(np.abs(table).max()) for table in tables.values()) or 1.0
        x, y = left + column * pitch, height - top
        figure.text(x / width, 1 - 0.04 / height, title, fontsize=7, fontweight="bold", va="top")
        for kind, table in tables.items():
            y -= line + layers[kind] * CELL[1]
            size = table.shape[1] * CELL[0] / width, layers[kind] * CELL[1] / height
            axes = figure.add_axes((x / width, y / height, *size))
            worse = table if measure == "loss" else -table
            _change_map(axes, worse / largest, [[_signed(value, measure) for value in row] for row in table])
            axes.set_title(ATTENTION_NAMES[kind], fontsize=7, loc="left", pad=3)
            axes.set_ylabel("layer", fontsize=6, labelpad=2)
        axes.set_xlabel("head", fontsize=6, labelpad=2)
    note = (
        f"Red: worse without the head; blue: better.  {ablation.conditions}.\n"
        f"With all heads: loss {ablation.loss:.4f}, sacreBLEU {ablation.bleu:.2f}."
    )
    figure.text(0.1 / width, 0.05 / height, note, fontsize=6, color="0.3", va="bottom", linespacing=1.4)
    return figure


def _change_map(axes: Axes, worse: Float[np.ndarray, "L H"], values: Sequence[Sequence[str]]) -> None:
    """One heat map from -1, blue, to 1, red, with the values written in its cells."""
    axes.imshow(worse, cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto", interpolation="nearest", origin="upper")
    axes.spines[:].set(color="0.5", linewidth=0.6)
    layers, heads = worse.shape
    axes.set_xticks(range(heads), labels=map(str, range(heads)))
    axes.set_yticks(range(layers), labels=map(str, range(layers)))
    axes.tick_params(labelsize=6, length=0, pad=2)
    for (layer, head), shade in np.ndenumerate(worse):
        on_dark = abs(shade) > 0.6
        text = values[layer][head]
        axes.text(head, layer, text, fontsize=6, ha="center", va="center", color="white" if on_dark else "black")


def _signed(value: float, measure: str) -> str:
    """The value with its sign, and a true minus; a zero has none."""
    rounded = f"{value:+.3f}" if measure == "loss" else f"{value:+.2f}"
    return rounded.replace("-", "\N{MINUS SIGN}") if float(rounded) else rounded[1:]
