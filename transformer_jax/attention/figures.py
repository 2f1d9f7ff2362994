"""Figures for print: heat maps of one layer's heads at the width of a column or a page, with letters to match.

A caption says what the figure shows, so nothing stands on it but maps, tokens and the numbers of the heads.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Float

from transformer_jax.attention.fonts import is_cubic
from transformer_jax.attention.heat_maps import (
    DOTS_PER_INCH,
    Labelled,
    Sheet,
    Style,
    View,
    blank,
    choices,
    draw_maps,
    extent,
    look_at,
)
from transformer_jax.attention.weights import Attention, AttentionKind
from transformer_jax.errors import InputError, RunError
from transformer_jax.storage import atomic

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMN, PAGE = 3.3, 6.9
"""Widths in inches of a column and of the text of a page in two columns."""
WIDEST = 100
"""Inches that can be asked for."""
HEIGHT = 9.0
"""Inches of a page's text from top to bottom."""
SIZES = (7.0, 6.5, 6.0, 5.5, 5.0)
"""Points of the labels; the last is the least that is legible."""
SMALL = 6.0
"""Points: letters below are for sentences that are too long for others."""
LARGEST_CELL = 0.25
"""Inches: a map of few tokens does not fill the width."""
PRINT_DOTS = 300
"""Dots per inch of a PNG, and of the maps within PDF and SVG, which are pictures of squares."""
FIGURE_METADATA: dict[str, dict[str, Any]] = {".pdf": {"CreationDate": None}, ".png": {}, ".svg": {"Date": None}}
"""The endings that are known, and what to leave out so that the same figure is the same file."""
SETTINGS: Any = {"pdf.fonttype": 42, "svg.fonttype": "none", "svg.hashsalt": "transformer_jax"}
"""Of matplotlib: fonts as TrueType, which publishers ask for; text as text, that can be searched and set anew."""

PRINT = Style(
    label_gap=4,
    margin=8,
    gap=16,
    row_gap=16,
    heading=0,
    title=18,
    title_size=7,
    title_gap=5,
    bar=78,
    bar_gap=14,
    bar_width=10,
    bar_size=6,
    shortest_bar=112,
)


def draw_figure(
    attention: Attention, kind: AttentionKind, layer: int, heads: str = "all", width: float | None = None
) -> Figure:
    """The figure; arguments as in ``PlotCommand``.

    Raises InputError if the kind, the layer or a head does not exist, or if the tokens are not legible at that width.
    """
    view = look_at(attention, kind, layer)
    panels = choose(view, heads)
    labels = Labelled.of(attention, view)
    figure = blank()
    draw_maps(figure, lay_out(figure, view, labels, len(panels.titles), width), panels.maps, panels.titles, labels)
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure, by the path's ending; a reader never finds half a file. Raises RunError if it cannot be."""
    from matplotlib import rc_context

    ending = path.suffix.lower()
    settings = SETTINGS | ({"pdf.fonttype": 3} if _has_cubic_outlines(figure) else {})
    try:
        with rc_context(settings), atomic.new_file(path, atomic.own_name(path), "bytes") as file:
            figure.savefig(file, format=ending[1:], dpi=PRINT_DOTS, metadata=FIGURE_METADATA[ending])
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror or error}. Name another --output.") from error


def _has_cubic_outlines(figure: Figure) -> bool:
    """Whether a font is not TrueType, as those for Chinese, Japanese and Korean often are: matplotlib would embed it
    all the same, and leave a PDF that not every reader can show. As Type 3 every font is shown.
    """
    from matplotlib.font_manager import FontProperties, findfont
    from matplotlib.text import Text

    texts = figure.findobj(Text)
    families = {name for text in texts for name in text.get_fontfamily()}
    return any(is_cubic(findfont(FontProperties(family=[name]))) for name in families)


# What is drawn


class Panels(NamedTuple):
    """The maps of a figure and what stands above each."""

    maps: Float[np.ndarray, "N Q K"]
    titles: list[str]


def choose(view: View, heads: str) -> Panels:
    """The heads that are asked for. Raises InputError if there is no such head, or for anything else."""
    count = len(view.weights)
    if heads == "mean":
        return Panels(view.weights.mean(axis=0, keepdims=True), [f"mean of {count} heads" if count > 1 else "head 0"])
    if heads == "all":
        numbers = list(range(count))
    else:
        try:
            numbers = [int(number) for number in heads.split(",")]
        except ValueError as error:
            raise InputError(f"--heads {heads}: give all, mean, or numbers such as 0,2,5.") from error
        if wrong := [number for number in numbers if not 0 <= number < count]:
            raise InputError(f"{view.title} has no head {wrong[0]}; choose {choices(count)}.")
    return Panels(view.weights[numbers], [f"head {number}" for number in numbers])


# Where it is drawn


def lay_out(figure: Figure, view: View, labels: Labelled, count: int, width: float | None) -> Sheet:
    """The layout for so many panels, as wide as what is asked for, or less if the cells then were too large.

    It should fit on a page, with letters that are not small, in a column, in few rows; then letters are as large as can
    be.
    """
    if width is not None and not 0 < width <= WIDEST:
        raise InputError(f"--width {width:g} makes no sense. Give inches, at most {WIDEST}.")
    widths = [width] if width is not None else [COLUMN, PAGE] if count == 1 else [PAGE]
    panels = [_Panel.of(figure, view, labels, size) for size in SIZES]
    candidates = [
        _Candidate(inches, panel.sheet(count, inches))
        for inches in widths
        for panel in panels
        if panel.least_width() <= inches * DOTS_PER_INCH
    ]
    if candidates:
        return min(candidates, key=lambda one: one.shortcomings(count)).sheet
    needed = math.ceil(10 * panels[-1].least_width() / DOTS_PER_INCH) / 10
    if width is not None:
        raise InputError(
            f"--width {width:g}: there {len(view.keys)} tokens would be smaller than {SIZES[-1]:g} points. "
            f"Use --width {needed}."
        )
    return panels[-1].sheet(count, needed)


class _Candidate(NamedTuple):
    """A layout that fits a width in inches."""

    inches: float
    sheet: Sheet

    def shortcomings(self, count: int) -> tuple[float, bool, float, int, float]:
        """By which layouts are compared, the worst one first."""
        beyond_page = max(0.0, self.sheet.height / DOTS_PER_INCH - HEIGHT)
        rows = math.ceil(count / self.sheet.columns)
        return beyond_page, self.sheet.size < SMALL, self.inches, rows, -self.sheet.size


class _Panel(NamedTuple):
    """What one map and its labels take up, in dots, if the labels have a size in points."""

    size: float
    queries: int
    keys: int
    row_width: int
    column_height: int
    line: int

    @classmethod
    def of(cls, figure: Figure, view: View, labels: Labelled, size: float) -> _Panel:
        """Measure the labels."""
        row_width, row_line = extent(figure, labels.rows, size)
        column_height, column_line = extent(figure, labels.columns, size)
        return cls(size, len(view.queries), len(view.keys), row_width, column_height, max(row_line, column_line))

    def least_width(self) -> int:
        """Of a figure with one such map, whose cells are as narrow as the letters allow."""
        return self.row_width + PRINT.label_gap + self.keys * self.line + PRINT.bar + 2 * PRINT.margin

    def sheet(self, count: int, inches: float) -> Sheet:
        """As many side by side as fit, in rows that are as equally long as can be."""
        width = int(inches * DOTS_PER_INCH)
        beside = self.row_width + PRINT.label_gap
        room = width - 2 * PRINT.margin - PRINT.bar + PRINT.gap
        fitting = room // (beside + self.keys * self.line + PRINT.gap)
        down = math.ceil(count / fitting)
        across = math.ceil(count / down)
        around = PRINT.title + self.column_height + PRINT.label_gap
        gap = PRINT.gap
        within_page = (int(HEIGHT * DOTS_PER_INCH) - 2 * PRINT.margin + PRINT.row_gap) // down - around - PRINT.row_gap
        widest = (room // across - beside - gap) // self.keys
        cell = max(self.line, min(widest, within_page // self.queries, int(LARGEST_CELL * DOTS_PER_INCH)))
        if cell < widest:
            width = across * (beside + cell * self.keys + gap) - gap + PRINT.bar + 2 * PRINT.margin
        elif across > 1:  # What whole dots leave over.
            gap += (room - across * (beside + cell * self.keys + gap)) // (across - 1)
        map_height = cell * self.queries
        below = max(0, PRINT.shortest_bar - map_height)
        return Sheet(
            width=width,
            height=down * (around + map_height + PRINT.row_gap) - PRINT.row_gap + below + 2 * PRINT.margin,
            columns=across,
            cell=cell,
            map_width=cell * self.keys,
            map_height=map_height,
            query_labels=self.row_width,
            key_labels=self.column_height,
            title=PRINT.title,
            size=self.size,
            style=PRINT._replace(gap=gap),
        )
