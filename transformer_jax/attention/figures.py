"""Figures for papers: heat maps of one layer's heads with legible labels, as wide as a column or a page.

A figure shows only heat maps, tokens and head numbers. Its caption in the paper must explain them.

Axes: N maps, Q queries, K keys.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Float

from transformer_jax.attention.fonts import has_postscript_outlines
from transformer_jax.attention.heat_map_layout import LAYOUT_DPI, LayoutStyle, SheetLayout, label_extent, new_figure
from transformer_jax.attention.heat_maps import draw_heat_maps
from transformer_jax.attention.labels import AxisLabels, label_axes
from transformer_jax.attention.layer_view import LayerView, index_range, select_view
from transformer_jax.attention.weights import Attention, AttentionKind
from transformer_jax.errors import InputError
from transformer_jax.storage import atomic

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMN_WIDTH, PAGE_WIDTH = 3.3, 6.9
"""Width of a column and of the text block of a two-column page, in inches."""
MAX_WIDTH = 100
"""Maximum width that can be requested, in inches."""
PAGE_HEIGHT = 9.0
"""Height of the text block of a page, in inches."""
FONT_SIZES = (7.0, 6.5, 6.0, 5.5, 5.0)
"""Font sizes of labels in points, from the preferred size to the smallest legible size."""
SMALL_FONT_SIZE = 6.0
"""Smallest preferred font size in points. Smaller labels are used only if the figure does not fit otherwise."""
MAX_CELL_SIZE = 0.25
"""Maximum side of a cell in inches, so that a map of few tokens does not fill the width."""
PRINT_DPI = 300
"""Dots per inch of a PNG, and of the maps in PDF and SVG, which are embedded as images."""
FIGURE_METADATA: dict[str, dict[str, Any]] = {".pdf": {"CreationDate": None}, ".png": {}, ".svg": {"Date": None}}
"""Supported file name suffix -> metadata to omit, so that the files of equal figures are identical."""
RC_PARAMS: Any = {"pdf.fonttype": 42, "svg.fonttype": "none", "svg.hashsalt": "transformer_jax"}
"""matplotlib settings: TrueType fonts in PDF, which publishers require, and searchable text in SVG."""

PRINT_STYLE = LayoutStyle(
    label_gap=4,
    margin=8,
    panel_gap=16,
    row_gap=16,
    heading_height=0,
    title_height=18,
    title_font_size=7,
    title_gap=5,
    bar_space=78,
    bar_gap=14,
    bar_width=10,
    bar_font_size=6,
    min_bar_height=112,
)


def draw_figure(
    attention: Attention, kind: AttentionKind, layer: int, heads: str = "all", width: float | None = None
) -> Figure:
    """Return a figure of the heads of one layer; ``PlotCommand`` documents the arguments.

    Raises InputError if the attention type, layer or a head does not exist, or if the labels would be illegible.
    """
    view = select_view(attention, kind, layer)
    panels = select_panels(view, heads)
    labels = label_axes(attention, view.queries, view.keys)
    figure = new_figure()
    layout = print_layout(figure, view, labels, len(panels.titles), width)
    draw_heat_maps(figure, layout, panels.maps, panels.titles, labels)
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure atomically, in the format of the path's suffix. Raises RunError if it cannot be written."""
    from matplotlib import rc_context

    suffix = path.suffix.lower()
    rc_params = RC_PARAMS | ({"pdf.fonttype": 3} if _has_postscript_font(figure) else {})
    with (
        atomic.writing(path, "Choose another --output."),
        rc_context(rc_params),
        atomic.new_file(path, atomic.partial_path(path), "bytes") as file,
    ):
        figure.savefig(file, format=suffix[1:], dpi=PRINT_DPI, metadata=FIGURE_METADATA[suffix])


def _has_postscript_font(figure: Figure) -> bool:
    """Return whether a font of the figure has PostScript outlines, as fonts for Chinese, Japanese and Korean often do.

    matplotlib would embed such a font as TrueType, which some PDF readers cannot display. Every reader displays Type 3.
    """
    from matplotlib.font_manager import FontProperties, findfont
    from matplotlib.text import Text

    texts = figure.findobj(Text)
    families = {name for text in texts for name in text.get_fontfamily()}
    return any(has_postscript_outlines(findfont(FontProperties(family=[name]))) for name in families)


# Selection


class Panels(NamedTuple):
    """The maps of a figure and their titles."""

    maps: Float[np.ndarray, "N Q K"]
    titles: list[str]


def select_panels(view: LayerView, heads: str) -> Panels:
    """Return the maps of the heads in ``heads``: "all", "mean" or zero-based indices such as "0,2".

    Raises InputError if ``heads`` is invalid or a head does not exist.
    """
    count = len(view.weights)
    if heads == "mean":
        return Panels(view.weights.mean(axis=0, keepdims=True), [f"mean of {count} heads" if count > 1 else "head 0"])
    if heads == "all":
        numbers = list(range(count))
    else:
        try:
            numbers = [int(number) for number in heads.split(",")]
        except ValueError as error:
            raise InputError(
                f"--heads {heads} is invalid. Set --heads to all, mean, or numbers such as 0,2,5."
            ) from error
        if missing := [number for number in numbers if not 0 <= number < count]:
            raise InputError(
                f"{view.title}, has no head {missing[0]}. Replace {missing[0]} in --heads with {index_range(count)}."
            )
    return Panels(view.weights[numbers], [f"head {number}" for number in numbers])


# Layout


def print_layout(figure: Figure, view: LayerView, labels: AxisLabels, panels: int, width: float | None) -> SheetLayout:
    """Return the layout with the smallest ``_Candidate.penalty``.

    If ``width`` is None, the width is one column, one page or more. Cells are limited to ``MAX_CELL_SIZE``, so the
    layout may be narrower than ``width``.
    Raises InputError if the width is invalid or too small for legible labels.
    """
    if width is not None and not 0 < width <= MAX_WIDTH:
        raise InputError(f"--width {width:g} is invalid. Set --width to a positive number, at most {MAX_WIDTH}.")
    widths = [width] if width is not None else [COLUMN_WIDTH, PAGE_WIDTH] if panels == 1 else [PAGE_WIDTH]
    sizes = [_PanelSize.measure(figure, view, labels, font_size) for font_size in FONT_SIZES]
    candidates = [
        _Candidate(inches, size.layout(panels, inches))
        for inches in widths
        for size in sizes
        if size.min_sheet_width() <= inches * LAYOUT_DPI
    ]
    if candidates:
        return min(candidates, key=lambda candidate: candidate.penalty(panels)).layout
    needed = math.ceil(10 * sizes[-1].min_sheet_width() / LAYOUT_DPI) / 10
    if width is not None:
        raise InputError(
            f"--width {width:g} is too narrow: the labels would be smaller than {FONT_SIZES[-1]:g} points. "
            f"Omit --width, or set --width {needed}."
        )
    return sizes[-1].layout(panels, needed)


class _Candidate(NamedTuple):
    """A layout that fits a width in inches."""

    inches: float
    layout: SheetLayout

    def penalty(self, panels: int) -> tuple[float, bool, float, int, float]:
        """Return a sort key, most important first: page overflow, small labels, width, number of rows, -font size."""
        overflow = max(0.0, self.layout.height / LAYOUT_DPI - PAGE_HEIGHT)
        rows = math.ceil(panels / self.layout.panels_per_row)
        return overflow, self.layout.font_size < SMALL_FONT_SIZE, self.inches, rows, -self.layout.font_size


class _PanelSize(NamedTuple):
    """The label sizes of one map at one font size.

    font_size: in points.
    queries: number of rows.
    keys: number of columns.
    row_label_width: in dots.
    column_label_height: in dots.
    line_height: the height of a line of text in dots, which is also the smallest cell size.
    """

    font_size: float
    queries: int
    keys: int
    row_label_width: int
    column_label_height: int
    line_height: int

    @classmethod
    def measure(cls, figure: Figure, view: LayerView, labels: AxisLabels, font_size: float) -> _PanelSize:
        """Return the label sizes at a font size."""
        row_label_width, row_line_height = label_extent(figure, labels.rows, font_size)
        column_label_height, column_line_height = label_extent(figure, labels.columns, font_size)
        return cls(
            font_size=font_size,
            queries=len(view.queries),
            keys=len(view.keys),
            row_label_width=row_label_width,
            column_label_height=column_label_height,
            line_height=max(row_line_height, column_line_height),
        )

    def min_sheet_width(self) -> int:
        """Return the width, in dots, of a sheet that shows one map with the smallest cells."""
        map_width = self.keys * self.line_height
        style = PRINT_STYLE
        return self.row_label_width + style.label_gap + map_width + style.bar_space + 2 * style.margin

    def layout(self, panels: int, inches: float) -> SheetLayout:
        """Return the layout with as many panels per row as fit, in rows of equal length if possible."""
        style = PRINT_STYLE
        width = int(inches * LAYOUT_DPI)
        label_width = self.row_label_width + style.label_gap
        row_space = width - 2 * style.margin - style.bar_space + style.panel_gap
        max_panels_per_row = row_space // (label_width + self.keys * self.line_height + style.panel_gap)
        rows = math.ceil(panels / max_panels_per_row)
        panels_per_row = math.ceil(panels / rows)
        above_map = style.title_height + self.column_label_height + style.label_gap
        gap = style.panel_gap
        column_space = int(PAGE_HEIGHT * LAYOUT_DPI) - 2 * style.margin + style.row_gap
        max_map_height = column_space // rows - above_map - style.row_gap
        widest_cell = (row_space // panels_per_row - label_width - gap) // self.keys
        cell_limit = min(widest_cell, max_map_height // self.queries, int(MAX_CELL_SIZE * LAYOUT_DPI))
        cell_size = max(self.line_height, cell_limit)
        panel_width = label_width + cell_size * self.keys + gap
        if cell_size < widest_cell:
            width = panels_per_row * panel_width - gap + style.bar_space + 2 * style.margin
        elif panels_per_row > 1:  # Distribute the dots that rounding the cell size left over.
            gap += (row_space - panels_per_row * panel_width) // (panels_per_row - 1)
        map_height = cell_size * self.queries
        bar_overhang = max(0, style.min_bar_height - map_height)
        rows_height = rows * (above_map + map_height + style.row_gap) - style.row_gap
        return SheetLayout(
            width=width,
            height=rows_height + bar_overhang + 2 * style.margin,
            panels_per_row=panels_per_row,
            cell_size=cell_size,
            map_width=cell_size * self.keys,
            map_height=map_height,
            row_label_width=self.row_label_width,
            column_label_height=self.column_label_height,
            title_height=style.title_height,
            font_size=self.font_size,
            style=style._replace(panel_gap=gap),
        )
