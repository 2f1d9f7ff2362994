"""Heat maps of head importance: the change of loss and BLEU when each head is masked.

Axes: L layers, H heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from transformer_jax.attention.head_importance import HeadImportance, ScoreChanges
from transformer_jax.attention.heat_map_layout import new_figure
from transformer_jax.attention.weights import ATTENTION_NAMES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CELL_WIDTH, CELL_HEIGHT = 0.42, 0.23
"""Size of a cell in inches: large enough for a value in 6-point type."""


def draw_head_importance(importance: HeadImportance) -> Figure:
    """Return a figure with two heat maps per attention type: the change of the loss and the change of sacreBLEU.

    Cells are red where the model is worse without the head and blue where it is better. All types share one scale.
    """
    layers = {kind: len(changes.loss) for kind, changes in importance.heads.items()}
    heads = max(changes.loss.shape[1] for changes in importance.heads.values())
    # Inches.
    title_height, left, right, top, note_height = 0.42, 0.45, 0.1, 0.05, 0.65
    column_width = max(heads * CELL_WIDTH, 1.9) + left  # The title needs 1.9 inches, even above a map of few heads.
    maps_height = sum(title_height + count * CELL_HEIGHT for count in layers.values())
    width, height = 2 * column_width + right, maps_height + top + note_height
    figure = new_figure()
    figure.set_size_inches(width, height)

    titles = ("change of loss, nats per token", "change of sacreBLEU, points")
    for column, (measure, title) in enumerate(zip(ScoreChanges._fields, titles, strict=True)):
        tables = {kind: getattr(changes, measure) for kind, changes in importance.heads.items()}
        largest = max(float(np.abs(table).max()) for table in tables.values()) or 1.0
        x, y = left + column * column_width, height - top
        figure.text(x / width, 1 - 0.04 / height, title, fontsize=7, fontweight="bold", va="top")
        for kind, table in tables.items():
            y -= title_height + layers[kind] * CELL_HEIGHT
            size = table.shape[1] * CELL_WIDTH / width, layers[kind] * CELL_HEIGHT / height
            axes = figure.add_axes((x / width, y / height, *size))
            harm = table if measure == "loss" else -table
            _draw_change_map(axes, harm / largest, [[_format_change(value, measure) for value in row] for row in table])
            axes.set_title(ATTENTION_NAMES[kind], fontsize=7, loc="left", pad=3)
            axes.set_ylabel("layer", fontsize=6, labelpad=2)
        axes.set_xlabel("head", fontsize=6, labelpad=2)
    note = (
        f"Red: worse without the head; blue: better.  {importance.conditions}.\n"
        f"With all heads: loss {importance.loss:.4f}, sacreBLEU {importance.bleu:.2f}."
    )
    figure.text(0.1 / width, 0.05 / height, note, fontsize=6, color="0.3", va="bottom", linespacing=1.4)
    return figure


def _draw_change_map(axes: Axes, harm: Float[np.ndarray, "L H"], values: Sequence[Sequence[str]]) -> None:
    """Draw one heat map from -1 (blue) to 1 (red) and write the values in its cells."""
    axes.imshow(harm, cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto", interpolation="nearest", origin="upper")
    axes.spines[:].set(color="0.5", linewidth=0.6)
    layers, heads = harm.shape
    axes.set_xticks(range(heads), labels=map(str, range(heads)))
    axes.set_yticks(range(layers), labels=map(str, range(layers)))
    axes.tick_params(labelsize=6, length=0, pad=2)
    for (layer, head), shade in np.ndenumerate(harm):
        is_dark = abs(shade) > 0.6
        text = values[layer][head]
        axes.text(head, layer, text, fontsize=6, ha="center", va="center", color="white" if is_dark else "black")


def _format_change(value: float, measure: str) -> str:
    """Return the rounded value with a plus or minus sign (U+2212). Zero has no sign."""
    rounded = f"{value:+.3f}" if measure == "loss" else f"{value:+.2f}"
    return rounded.replace("-", "\N{MINUS SIGN}") if float(rounded) else rounded[1:]
