"""Heat maps of attention: one picture a kind and layer, one map a head.

Axes: L layers, H heads, Q queries (rows, from the top), K keys (columns). Layers and heads have one number everywhere,
that of the array: `attention.cross[2, 1]`, the title "layer 2, head 1" and the file `1.cross.layer2.png` agree.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, get_args

import numpy as np
from jaxtyping import Float

from transformer_jax.attention.fonts import report_missing
from transformer_jax.attention.labels import Labels, legible, make_labels
from transformer_jax.attention.weights import ATTENTION_NAMES, Attention, AttentionKind
from transformer_jax.errors import InputError, RunError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

DOTS_PER_INCH = 150
"""Dots in which pictures are laid out, so that every cell is a whole number of them and every square is sharp."""
PIXELS = 40_000_000
"""A larger picture is drawn with fewer dots per inch, since viewers refuse it."""


def _compose(attention: Attention, kind: AttentionKind, layer: int) -> tuple[Figure, Sheet]:
    """One layer's attention and its layout, a heat map for each head: keys along the top, queries down the side.

    In "decoder" and "cross" a row has the name of the token that it predicts; in "decoder" a column has the name of the
    token that is read there. The two are one step apart: the diagonal is the token just before the predicted one.
    """
    view = look_at(attention, kind, layer)
    count = len(view.weights)
    figure = blank()
    labels = Labelled.of(attention, view)
    sheet = _screen_sheet(figure, view, labels, count)
    titles = [f"head {head}" for head in range(count)] if count > 1 else [""]
    draw_maps(figure, sheet, view.weights, titles, labels)
    title = view.title if count > 1 else f"{view.title}, head 0"
    margin, top = SCREEN.margin / sheet.width, sheet.height - SCREEN.margin
    figure.text(margin, top / sheet.height, title, fontsize=12, fontweight="bold", va="top")
    figure.text(margin, (top - 32) / sheet.height, view.subtitle, fontsize=9, color="0.3", va="top")
    figure.set_dpi(min(DOTS_PER_INCH, DOTS_PER_INCH * math.sqrt(PIXELS / (sheet.width * sheet.height))))
    return figure, sheet


def save_pictures(attention: Attention, folder: Path, stem: str) -> list[Path]:
    """Write `STEM.KIND.layerN.png` for each kind and layer, all heads in one picture; return the paths.

    Raises RunError if a file cannot be written.
    """
    paths = []
    for kind in get_args(AttentionKind):
        for layer in range(len(getattr(attention, kind))):
            path = folder / f"{stem}.{kind}.layer{layer}.png"
            try:
                folder.mkdir(parents=True, exist_ok=True)
                _write(*_compose(attention, kind, layer), path)
            except OSError as error:
                raise RunError(f"{path}: cannot be written: {error.strerror}. Name another folder.") from error
            paths.append(path)
    return paths


def _write(figure: Figure, sheet: Sheet, path: Path) -> None:
    """Write a PNG. The labels, alike for all heads, are drawn for the first and copied: that halves the time."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    if figure.dpi < DOTS_PER_INCH:  # The layout is no longer in whole pixels.
        figure.savefig(path)
        return
    maps = figure.axes[:-1]
    for axes in maps[1:]:
        for label in axes.texts:
            label.set_visible(False)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3].copy()
    left, top = sheet.corner(0)
    # Labels may stand out by a pixel or two; the frame of the map, which is two pixels wide, is left alone.
    beside, above = SCREEN.label_gap + sheet.query_labels + 4, SCREEN.label_gap + sheet.key_labels + 4
    strips = (
        (slice(top - above, top - 2), slice(left - 4, left + sheet.map_width + 4)),
        (slice(top - 2, top + sheet.map_height + 4), slice(left - beside, left - 2)),
    )
    for index in range(1, len(maps)):
        right, down = np.subtract(sheet.corner(index), (left, top))
        for rows, columns in strips:
            copy = slice(rows.start + down, rows.stop + down), slice(columns.start + right, columns.stop + right)
            pixels[copy] = pixels[rows, columns]
    Image.fromarray(pixels).save(path, dpi=(DOTS_PER_INCH, DOTS_PER_INCH))


# What is drawn


class View(NamedTuple):
    """One layer of one kind, in words."""

    weights: Float[np.ndarray, "H Q K"]
    queries: tuple[str, ...]
    keys: tuple[str, ...]
    title: str
    subtitle: str


def look_at(attention: Attention, kind: AttentionKind, layer: int) -> View:
    """Pick the layer and name its rows and columns. Raises InputError if the kind or the layer does not exist."""
    source, predicted, read = attention.source_tokens, attention.target_tokens, attention.target_inputs
    kinds: dict[str, tuple[tuple[str, ...], tuple[str, ...], str, str]] = {
        "encoder": (source, source, "the source token that attends", "the source token attended to"),
        "decoder": (predicted, read, "the token being predicted", "the earlier token attended to"),
        "cross": (predicted, source, "the token being predicted", "the source token attended to"),
    }
    if kind not in kinds:
        raise InputError(f"There is no attention of the kind {kind!r}; choose one of {', '.join(kinds)}.")
    name, (queries, keys, rows, columns) = ATTENTION_NAMES[kind], kinds[kind]
    layers = getattr(attention, kind)
    if not 0 <= layer < len(layers):
        raise InputError(f"{name} has no layer {layer}; choose {choices(len(layers))}.")
    return View(layers[layer], queries, keys, f"{name}, layer {layer}", f"Row: {rows}.  Column: {columns}.")


def choices(count: int) -> str:
    """What there is, where so many are numbered from 0."""
    return f"from 0 to {count - 1}" if count > 1 else "0, the only one"


# Where it is drawn


class Style(NamedTuple):
    """What surrounds the maps: lengths in dots, letters in points.

    label_gap: between a map and its labels; gap, row_gap: between panels side by side and one above the other; heading:
    above all panels; title: the line above a panel, if it has a title; bar: room for the colour bar to the right of the
    panels, bar_gap of it before the bar.
    """

    label_gap: int
    margin: int
    gap: int
    row_gap: int
    heading: int
    title: int
    title_size: float
    title_gap: int
    bar: int
    bar_gap: int
    bar_width: int
    bar_size: float
    shortest_bar: int  # It must hold its own label.


SCREEN = Style(
    label_gap=10,
    margin=24,
    gap=40,
    row_gap=40,
    heading=68,
    title=44,
    title_size=10,
    title_gap=14,
    bar=130,
    bar_gap=30,
    bar_width=18,
    bar_size=8,
    shortest_bar=170,
)


class Sheet(NamedTuple):
    """The layout: lengths in dots, the size of the labels in points.

    columns: panels side by side; cell: the side of a cell; query_labels, key_labels: the room that they take beside and
    above a map; title: that of a panel's title, 0 without one.
    """

    width: int
    height: int
    columns: int
    cell: int
    map_width: int
    map_height: int
    query_labels: int
    key_labels: int
    title: int
    size: float
    style: Style

    def corner(self, index: int) -> tuple[int, int]:
        """Left and top of a panel's map, from the left and the top of the picture."""
        row, column = divmod(index, self.columns)
        beside, above = self.query_labels + self.style.label_gap, self.title + self.key_labels + self.style.label_gap
        left = self.style.margin + column * (beside + self.map_width + self.style.gap) + beside
        top = self.style.margin + self.style.heading + row * (above + self.map_height + self.style.row_gap) + above
        return left, top

    def box(self, left: int, top: int, width: int, height: int) -> tuple[float, float, float, float]:
        """A rectangle as matplotlib wants it: fractions of the figure, from the bottom left."""
        return (
            left / self.width,
            (self.height - top - height) / self.height,
            width / self.width,
            height / self.height,
        )


def _screen_sheet(figure: Figure, view: View, labels: Labelled, count: int) -> Sheet:
    """Measure the labels and make room for them, however large the picture becomes."""
    longest = max(len(view.queries), len(view.keys))
    size = _font_size(longest)
    row_width, row_line = extent(figure, labels.rows, size)
    column_width, column_line = extent(figure, labels.columns, size)
    cell = math.ceil(max(1.1 * row_line, 1.1 * column_line, min(50, 460 / longest)))
    title = SCREEN.title if count > 1 else 0
    map_width, map_height = cell * len(view.keys), cell * len(view.queries)
    panel_width = row_width + SCREEN.label_gap + map_width + SCREEN.gap
    panel_height = title + column_width + SCREEN.label_gap + map_height + SCREEN.row_gap
    across = _columns(count, panel_width, panel_height)
    down = math.ceil(count / across)
    words = max(
        _text_extent(figure, view.title + ", head 99", 12.0, weight="bold")[0],
        _text_extent(figure, view.subtitle, 9.0)[0],
    )
    width = max(across * panel_width - SCREEN.gap + SCREEN.bar, words) + 2 * SCREEN.margin
    bar_below = max(0, SCREEN.shortest_bar - map_height)
    height = SCREEN.heading + down * panel_height - SCREEN.row_gap + bar_below + 2 * SCREEN.margin
    return Sheet(width, height, across, cell, map_width, map_height, row_width, column_width, title, size, style=SCREEN)


def _columns(count: int, width: int, height: int) -> int:
    """How many panels side by side bring a picture nearest to 3:2, with no empty place if that can be."""
    full = [across for across in range(1, count + 1) if count % across == 0]
    candidates = full if len(full) > 2 else range(1, count + 1)
    return min(
        candidates, key=lambda across: abs(math.log(across * width / (math.ceil(count / across) * height) / 1.5))
    )


def _font_size(tokens: int) -> float:
    """9 points for up to 12 tokens, falling to 6.5 points from 40 tokens on."""
    return float(np.interp(tokens, (12, 40), (9, 6.5)))


def extent(figure: Figure, labels: Labels, size: float) -> tuple[int, int]:
    """Width of the widest label, and the height of a line that holds every label, in dots."""
    extents = [_text_extent(figure, text, size, labels.families) for text in set(labels.texts)]
    widths, above, below = zip(*extents, strict=True)
    return max(widths), max(above) + max(below)


def _text_extent(
    figure: Figure, text: str, size: float, families: Sequence[str] = ("DejaVu Sans",), weight: str = "normal"
) -> tuple[int, int, int]:
    """Width, and what stands above and hangs below the line, in dots."""
    drawn = figure.text(0, 0, text, family=list(families), size=size, weight=weight, va="baseline", parse_math=False)
    box = drawn.get_window_extent()
    drawn.remove()
    return math.ceil(box.width), math.ceil(box.y1), math.ceil(-box.y0)


# Drawing it


class Labelled(NamedTuple):
    """The labels of a view's rows and columns."""

    rows: Labels
    columns: Labels

    @classmethod
    def of(cls, attention: Attention, view: View) -> Labelled:
        """Make them, and say which characters no font has."""
        tokens = (*attention.source_tokens, *attention.target_tokens, *attention.target_inputs)
        report_missing("".join(map(legible, tokens)))
        return cls(make_labels(view.queries), make_labels(view.keys))


def blank() -> Figure:
    """A picture to measure and draw on, apart from pyplot and its windows."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(dpi=DOTS_PER_INCH)
    figure.set_layout_engine("none")  # Whatever the user has set: the places are ours.
    FigureCanvasAgg(figure)
    return figure


def draw_maps(
    figure: Figure, sheet: Sheet, weights: Float[np.ndarray, "N Q K"], titles: Sequence[str], labels: Labelled
) -> None:
    """Give the picture its size, and draw a panel for each map, in rows, and the colour bar that they share."""
    figure.set_size_inches(sheet.width / DOTS_PER_INCH, sheet.height / DOTS_PER_INCH)
    above_map = sheet.style.label_gap + sheet.key_labels + sheet.style.title_gap
    for index, (one, title) in enumerate(zip(weights, titles, strict=True)):
        axes = figure.add_axes(sheet.box(*sheet.corner(index), sheet.map_width, sheet.map_height))
        _heat_map(axes, one, labels, sheet)
        axes.set_title(title, fontsize=sheet.style.title_size, y=1.0, pad=above_map * 72 / DOTS_PER_INCH)
    _colour_bar(figure, sheet)


def _heat_map(axes: Axes, weights: Float[np.ndarray, "Q K"], labels: Labelled, sheet: Sheet) -> None:
    """One map with the labels of its rows and columns."""
    axes.imshow(weights, cmap=_colours(), vmin=0, vmax=1, aspect="auto", interpolation="nearest", origin="upper")
    axes.spines[:].set(color="0.5", linewidth=0.6)
    # Texts in the place of ticks: a thousand ticks take two seconds longer.
    axes.xaxis.set_visible(False)
    axes.yaxis.set_visible(False)
    edge = -0.5 - sheet.style.label_gap / sheet.cell
    # On one line with each other and centred on their cells as capitals are: 0.36 of the size above the line.
    middle = 0.36 * sheet.size * DOTS_PER_INCH / 72 / sheet.cell
    fonts = labels.columns.families, labels.rows.families
    upright, level = ({"family": list(family), "size": sheet.size, "parse_math": False} for family in fonts)
    for index, label in enumerate(labels.columns.texts):
        axes.text(index + middle, edge, label, upright, rotation=90, rotation_mode="anchor", ha="left", va="baseline")
    for index, label in enumerate(labels.rows.texts):
        axes.text(edge, index + middle, label, level, ha="right", va="baseline")


@functools.cache
def _colours() -> Colormap:
    """Matplotlib's magma from light to dark, with zero washed out to white so that paper stays paper.

    Lightness falls all the way: grey print and colour-blind readers see the same order.
    """
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    weight = np.linspace(0, 1, 256)[:, None]
    magma = colormaps["magma_r"](weight[:, 0])[:, :3]
    return ListedColormap(magma + (1 - magma) * (1 - weight) ** 8, name="attention")


def _colour_bar(figure: Figure, sheet: Sheet) -> None:
    """The scale that all maps share, to the right of the first row."""
    style = sheet.style
    left, top = sheet.corner(sheet.columns - 1)
    height = max(min(sheet.map_height, 400), style.shortest_bar)
    axes = figure.add_axes(sheet.box(left + sheet.map_width + style.bar_gap, top, style.bar_width, height))
    bar = figure.colorbar(figure.axes[0].images[0], cax=axes)
    bar.set_ticks([0, 0.5, 1], labels=["0", "0.5", "1"])
    bar.ax.tick_params(labelsize=style.bar_size, length=2, width=0.6)
    bar.set_label("attention weight", fontsize=style.bar_size)
    bar.outline.set(edgecolor="0.5", linewidth=0.6)
