"""Attention heat maps: one image per attention type and layer, with one map per head.

Axes: N maps, Q queries (rows, from the top), K keys (columns).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np
from jaxtyping import Float

from transformer_jax.attention.heat_map_layout import LAYOUT_DPI, SheetLayout, new_figure, screen_layout
from transformer_jax.attention.labels import AxisLabels, label_axes
from transformer_jax.attention.layer_view import select_view
from transformer_jax.attention.weights import Attention, AttentionKind
from transformer_jax.storage import atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

MAX_PIXELS = 40_000_000
"""Larger images are drawn with fewer dots per inch, because image viewers may refuse to open them."""


def save_pictures(attention: Attention, directory: Path, stem: str) -> list[Path]:
    """Write one image `STEM.KIND.layerN.png` of all heads per attention type and layer, and return the paths.

    Raises RunError if a file cannot be written.
    """
    paths = []
    for kind in get_args(AttentionKind):
        for layer in range(len(getattr(attention, kind))):
            path = directory / f"{stem}.{kind}.layer{layer}.png"
            with atomic.writing(path, "Choose another --attention."):
                directory.mkdir(parents=True, exist_ok=True)
                _write_png(*_draw_layer(attention, kind, layer), path)
            paths.append(path)
    return paths


def _draw_layer(attention: Attention, kind: AttentionKind, layer: int) -> tuple[Figure, SheetLayout]:
    """Draw one heat map per head, with queries as rows and keys as columns. Return the figure and its layout."""
    view = select_view(attention, kind, layer)
    heads = len(view.weights)
    figure = new_figure()
    labels = label_axes(attention, view.queries, view.keys)
    layout = screen_layout(figure, view, labels, heads)
    titles = [f"head {head}" for head in range(heads)] if heads > 1 else [""]
    draw_heat_maps(figure, layout, view.weights, titles, labels)
    title = view.title if heads > 1 else f"{view.title}, head 0"
    margin, top = layout.style.margin / layout.width, layout.height - layout.style.margin
    figure.text(margin, top / layout.height, title, fontsize=12, fontweight="bold", va="top")
    figure.text(margin, (top - 32) / layout.height, view.subtitle, fontsize=9, color="0.3", va="top")
    figure.set_dpi(min(LAYOUT_DPI, LAYOUT_DPI * math.sqrt(MAX_PIXELS / (layout.width * layout.height))))
    return figure, layout


def _write_png(figure: Figure, layout: SheetLayout, path: Path) -> None:
    """Write a PNG. All heads share their labels, which are drawn once and copied as pixels to halve the time."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    if figure.dpi < LAYOUT_DPI:  # The maps no longer start at whole pixels.
        figure.savefig(path)
        return
    maps = figure.axes[:-1]
    for axes in maps[1:]:
        for label in axes.texts:
            label.set_visible(False)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3].copy()
    left, top = layout.map_corner(0)
    # Labels may exceed their space by up to 4 pixels. The frame of a map is 2 pixels wide and is not copied.
    label_width = layout.style.label_gap + layout.row_label_width + 4
    label_height = layout.style.label_gap + layout.column_label_height + 4
    strips = (
        (slice(top - label_height, top - 2), slice(left - 4, left + layout.map_width + 4)),
        (slice(top - 2, top + layout.map_height + 4), slice(left - label_width, left - 2)),
    )
    for index in range(1, len(maps)):
        right, down = np.subtract(layout.map_corner(index), (left, top))
        for rows, columns in strips:
            copy = slice(rows.start + down, rows.stop + down), slice(columns.start + right, columns.stop + right)
            pixels[copy] = pixels[rows, columns]
    Image.fromarray(pixels).save(path, dpi=(LAYOUT_DPI, LAYOUT_DPI))


def draw_heat_maps(
    figure: Figure, layout: SheetLayout, weights: Float[np.ndarray, "N Q K"], titles: Sequence[str], labels: AxisLabels
) -> None:
    """Resize the figure to the layout, and draw one panel per map and their common colour bar."""
    figure.set_size_inches(layout.width / LAYOUT_DPI, layout.height / LAYOUT_DPI)
    title_offset = layout.style.label_gap + layout.column_label_height + layout.style.title_gap
    for index, (map_weights, title) in enumerate(zip(weights, titles, strict=True)):
        rectangle = layout.axes_rectangle(*layout.map_corner(index), layout.map_width, layout.map_height)
        axes = figure.add_axes(rectangle)
        _draw_heat_map(axes, map_weights, labels, layout)
        axes.set_title(title, fontsize=layout.style.title_font_size, y=1.0, pad=title_offset * 72 / LAYOUT_DPI)
    _draw_colour_bar(figure, layout)


def _draw_heat_map(axes: Axes, weights: Float[np.ndarray, "Q K"], labels: AxisLabels, layout: SheetLayout) -> None:
    """Draw one map with the labels of its rows and columns."""
    axes.imshow(weights, cmap=_colour_map(), vmin=0, vmax=1, aspect="auto", interpolation="nearest", origin="upper")
    axes.spines[:].set(color="0.5", linewidth=0.6)
    # Texts instead of tick labels: a thousand ticks take two seconds longer.
    axes.xaxis.set_visible(False)
    axes.yaxis.set_visible(False)
    edge = -0.5 - layout.style.label_gap / layout.cell_size
    # Baselines of all labels align, and capitals are centred on the cell: half a capital is 0.36 of the font size.
    half_capital = 0.36 * layout.font_size * LAYOUT_DPI / 72 / layout.cell_size
    column_style, row_style = (
        {"family": list(side.families), "size": layout.font_size, "parse_math": False}
        for side in (labels.columns, labels.rows)
    )
    for column, text in enumerate(labels.columns.texts):
        axes.text(
            column + half_capital,
            edge,
            text,
            column_style,
            rotation=90,
            rotation_mode="anchor",
            ha="left",
            va="baseline",
        )
    for row, text in enumerate(labels.rows.texts):
        axes.text(edge, row + half_capital, text, row_style, ha="right", va="baseline")


@functools.cache
def _colour_map() -> Colormap:
    """Return matplotlib's reversed magma, faded so that weight 0 is white.

    Lightness decreases monotonically, so the order stays visible in greyscale and to colour-blind readers.
    """
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    weight = np.linspace(0, 1, 256)[:, None]
    magma = colormaps["magma_r"](weight[:, 0])[:, :3]
    return ListedColormap(magma + (1 - magma) * (1 - weight) ** 8, name="attention")


def _draw_colour_bar(figure: Figure, layout: SheetLayout) -> None:
    """Draw the colour scale of all maps to the right of the first row."""
    style = layout.style
    left, top = layout.map_corner(layout.panels_per_row - 1)
    height = max(min(layout.map_height, 400), style.min_bar_height)
    bar_left = left + layout.map_width + style.bar_gap
    axes = figure.add_axes(layout.axes_rectangle(bar_left, top, style.bar_width, height))
    bar = figure.colorbar(figure.axes[0].images[0], cax=axes)
    bar.set_ticks([0, 0.5, 1], labels=["0", "0.5", "1"])
    bar.ax.tick_params(labelsize=style.bar_font_size, length=2, width=0.6)
    bar.set_label("attention weight", fontsize=style.bar_font_size)
    bar.outline.set(edgecolor="0.5", linewidth=0.6)
