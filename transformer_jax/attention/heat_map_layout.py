"""The layout of heat maps on a sheet: sizes and positions of panels, labels, titles and the colour bar.

Lengths are in dots at ``LAYOUT_DPI``, so every cell is a whole number of pixels and its edges are sharp.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from transformer_jax.attention.labels import AxisLabels, TokenLabels
from transformer_jax.attention.layer_view import LayerView

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LAYOUT_DPI = 150
"""Dots per inch of the layout."""


class LayoutStyle(NamedTuple):
    """The spacing around the heat maps, in dots, and font sizes, in points.

    label_gap: distance between a map and its labels.
    margin: distance from the content to the edge of the sheet.
    panel_gap: distance between panels in a row.
    row_gap: distance between rows of panels.
    heading_height: space above all panels.
    title_height: height of a panel's title.
    title_font_size: font size of a panel's title.
    title_gap: distance between a panel's title and its column labels.
    bar_space: space for the colour bar to the right of the panels.
    bar_gap: part of `bar_space` to the left of the bar.
    bar_width: width of the colour bar.
    bar_font_size: font size of the colour bar.
    min_bar_height: smallest height of the colour bar, enough for its label.
    """

    label_gap: int
    margin: int
    panel_gap: int
    row_gap: int
    heading_height: int
    title_height: int
    title_font_size: float
    title_gap: int
    bar_space: int
    bar_gap: int
    bar_width: int
    bar_font_size: float
    min_bar_height: int


SCREEN_STYLE = LayoutStyle(
    label_gap=10,
    margin=24,
    panel_gap=40,
    row_gap=40,
    heading_height=68,
    title_height=44,
    title_font_size=10,
    title_gap=14,
    bar_space=130,
    bar_gap=30,
    bar_width=18,
    bar_font_size=8,
    min_bar_height=170,
)


class SheetLayout(NamedTuple):
    """The sizes of a sheet of heat maps, in dots.

    width: width of the sheet.
    height: height of the sheet.
    panels_per_row: number of panels side by side.
    cell_size: side of a cell.
    map_width: width of a map without labels.
    map_height: height of a map without labels.
    row_label_width: space for the labels to the left of a map.
    column_label_height: space for the labels above a map.
    title_height: height of a panel's title; 0 without titles.
    font_size: font size of the labels, in points.
    style: spacing and other font sizes.
    """

    width: int
    height: int
    panels_per_row: int
    cell_size: int
    map_width: int
    map_height: int
    row_label_width: int
    column_label_height: int
    title_height: int
    font_size: float
    style: LayoutStyle

    def map_corner(self, index: int) -> tuple[int, int]:
        """Return the distance of a panel's map from the left and from the top of the sheet."""
        row, column = divmod(index, self.panels_per_row)
        left_of_map = self.row_label_width + self.style.label_gap
        above_map = self.title_height + self.column_label_height + self.style.label_gap
        left = self.style.margin + column * (left_of_map + self.map_width + self.style.panel_gap) + left_of_map
        first_row = self.style.margin + self.style.heading_height
        top = first_row + row * (above_map + self.map_height + self.style.row_gap) + above_map
        return left, top

    def axes_rectangle(self, left: int, top: int, width: int, height: int) -> tuple[float, float, float, float]:
        """Return left, bottom, width and height as fractions of the sheet, as matplotlib's ``add_axes`` expects."""
        return (
            left / self.width,
            (self.height - top - height) / self.height,
            width / self.width,
            height / self.height,
        )


def new_figure() -> Figure:
    """Return an empty figure that is independent of pyplot and its windows."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(dpi=LAYOUT_DPI)
    figure.set_layout_engine("none")  # The user's matplotlibrc must not move the axes.
    FigureCanvasAgg(figure)
    return figure


def screen_layout(figure: Figure, view: LayerView, labels: AxisLabels, panels: int) -> SheetLayout:
    """Return the layout for a screen: the sheet grows until every label fits."""
    style = SCREEN_STYLE
    longest = max(len(view.queries), len(view.keys))
    font_size = _screen_font_size(longest)
    row_label_width, row_line_height = label_extent(figure, labels.rows, font_size)
    column_label_height, column_line_height = label_extent(figure, labels.columns, font_size)
    cell_size = math.ceil(max(1.1 * row_line_height, 1.1 * column_line_height, min(50, 460 / longest)))
    title_height = style.title_height if panels > 1 else 0
    map_width, map_height = cell_size * len(view.keys), cell_size * len(view.queries)
    panel_width = row_label_width + style.label_gap + map_width + style.panel_gap
    panel_height = title_height + column_label_height + style.label_gap + map_height + style.row_gap
    panels_per_row = _panels_per_row(panels, panel_width, panel_height)
    rows = math.ceil(panels / panels_per_row)
    heading_width = max(
        _text_extent(figure, view.title + ", head 99", 12.0, weight="bold")[0],
        _text_extent(figure, view.subtitle, 9.0)[0],
    )
    content_width = max(panels_per_row * panel_width - style.panel_gap + style.bar_space, heading_width)
    bar_overhang = max(0, style.min_bar_height - map_height)
    content_height = style.heading_height + rows * panel_height - style.row_gap + bar_overhang
    return SheetLayout(
        width=content_width + 2 * style.margin,
        height=content_height + 2 * style.margin,
        panels_per_row=panels_per_row,
        cell_size=cell_size,
        map_width=map_width,
        map_height=map_height,
        row_label_width=row_label_width,
        column_label_height=column_label_height,
        title_height=title_height,
        font_size=font_size,
        style=style,
    )


def _panels_per_row(panels: int, width: int, height: int) -> int:
    """Return the number of panels per row that brings the sheet closest to an aspect ratio of 3:2.

    Prefer numbers that fill every row.
    """
    divisors = [count for count in range(1, panels + 1) if panels % count == 0]
    candidates = divisors if len(divisors) > 2 else range(1, panels + 1)
    return min(candidates, key=lambda count: abs(math.log(count * width / (math.ceil(panels / count) * height) / 1.5)))


def _screen_font_size(tokens: int) -> float:
    """Return 9 points for up to 12 tokens, decreasing linearly to 6.5 points for 40 or more."""
    return float(np.interp(tokens, (12, 40), (9, 6.5)))


def label_extent(figure: Figure, labels: TokenLabels, font_size: float) -> tuple[int, int]:
    """Return the width of the widest label and the height of a line that fits every label."""
    extents = [_text_extent(figure, text, font_size, labels.families) for text in set(labels.texts)]
    widths, ascents, descents = zip(*extents, strict=True)
    return max(widths), max(ascents) + max(descents)


def _text_extent(
    figure: Figure, text: str, font_size: float, families: Sequence[str] = ("DejaVu Sans",), weight: str = "normal"
) -> tuple[int, int, int]:
    """Return the width, the height above the baseline and the depth below it."""
    drawn = figure.text(
        0, 0, text, family=list(families), size=font_size, weight=weight, va="baseline", parse_math=False
    )
    box = drawn.get_window_extent()
    drawn.remove()
    return math.ceil(box.width), math.ceil(box.y1), math.ceil(-box.y0)
