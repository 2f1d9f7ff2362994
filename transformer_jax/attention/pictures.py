"""Heat maps of attention: one picture a kind and layer, one map a head.

Axes: L layers, H heads, Q queries (rows, from the top), K keys (columns). Layers and heads have one number everywhere,
that of the array: `attention.cross[2, 1]`, the title "layer 2, head 1" and the file `1.cross.layer2.png` agree.
"""

from __future__ import annotations

import functools
import importlib.metadata
import logging
import math
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Float

from transformer_jax.attention.dump import Attention
from transformer_jax.errors import InputError, RunError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontEntry

Kind = Literal["encoder", "decoder", "cross"]

DOTS_PER_INCH = 150
PIXELS = 40_000_000
"""A larger picture is drawn with fewer dots per inch, since viewers refuse it."""
LABEL_COLUMNS = 20
"""A longer token ends with an ellipsis; a Chinese or Japanese character takes two columns."""
NO_GLYPH = "▯"
LABEL_GAP = 10
"""Pixels between a heat map and its labels."""
SHORTEST_BAR = 170
"""Pixels of the colour bar, which must hold its own label."""

log = logging.getLogger(__name__)


def draw(attention: Attention, kind: Kind, layer: int, heads: Sequence[int] | None = None) -> Figure:
    """One layer's attention, a heat map for each head: keys along the top, queries down the side.

    heads: which to draw, in this order; None for all.
    In "decoder" and "cross" a row has the name of the token that it predicts; in "decoder" a column has the name of the
    token that is read there. The two are one step apart: the diagonal is the token just before the predicted one.
    Raises InputError if the kind, the layer or a head does not exist.
    """
    return _compose(attention, kind, layer, heads)[0]


def _compose(attention: Attention, kind: Kind, layer: int, heads: Sequence[int] | None) -> tuple[Figure, _Sheet]:
    """The picture and its layout."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    view = _view(attention, kind, layer)
    _report_missing((*attention.source_tokens, *attention.target_tokens, *attention.target_inputs))
    chosen = range(len(view.weights)) if heads is None else _existing(view, heads)
    figure = Figure(dpi=DOTS_PER_INCH)
    FigureCanvasAgg(figure)
    rows, columns = _labels(view.queries), _labels(view.keys)
    size = _font_size(max(len(view.queries), len(view.keys)))
    sheet = _Sheet.of(figure, view, rows, columns, size, count=len(chosen))

    figure.set_size_inches(sheet.width / DOTS_PER_INCH, sheet.height / DOTS_PER_INCH)
    for index, head in enumerate(chosen):
        axes = figure.add_axes(sheet.box(*sheet.corner(index), sheet.map_width, sheet.map_height))
        _heat_map(axes, view.weights[head], rows, columns, size, sheet.cell)
        if len(chosen) > 1:
            axes.set_title(f"head {head}", fontsize=10, y=1.0, pad=_points(LABEL_GAP + sheet.key_labels + 14))
    title = view.title if len(chosen) > 1 else f"{view.title}, head {chosen[0]}"
    margin, top = sheet.margin / sheet.width, sheet.height - sheet.margin
    figure.text(margin, top / sheet.height, title, fontsize=12, fontweight="bold", va="top")
    figure.text(margin, (top - 32) / sheet.height, view.subtitle, fontsize=9, color="0.3", va="top")
    _colour_bar(figure, sheet)
    figure.set_dpi(min(DOTS_PER_INCH, DOTS_PER_INCH * math.sqrt(PIXELS / (sheet.width * sheet.height))))
    return figure, sheet


def save_pictures(attention: Attention, folder: Path, stem: str) -> list[Path]:
    """Write `STEM.KIND.layerN.png` for each kind and layer, all heads in one picture; return the paths.

    Raises RunError if a file cannot be written.
    """
    paths = []
    for kind in get_args(Kind):
        for layer in range(len(getattr(attention, kind))):
            path = folder / f"{stem}.{kind}.layer{layer}.png"
            try:
                folder.mkdir(parents=True, exist_ok=True)
                _write(*_compose(attention, kind, layer, None), path)
            except OSError as error:
                raise RunError(f"{path}: cannot be written: {error.strerror}. Name another folder.") from error
            paths.append(path)
    return paths


def _write(figure: Figure, sheet: _Sheet, path: Path) -> None:
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
    beside, above = LABEL_GAP + sheet.query_labels + 4, LABEL_GAP + sheet.key_labels + 4
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


class _View(NamedTuple):
    """One layer of one kind, in words."""

    weights: Float[np.ndarray, "H Q K"]
    queries: tuple[str, ...]
    keys: tuple[str, ...]
    title: str
    subtitle: str


def _view(attention: Attention, kind: Kind, layer: int) -> _View:
    """Pick the layer and name its rows and columns."""
    source, predicted, read = attention.source_tokens, attention.target_tokens, attention.target_inputs
    kinds = {
        "encoder": (
            "Encoder self-attention",
            source,
            source,
            "the source token that attends",
            "the source token attended to",
        ),
        "decoder": (
            "Decoder self-attention",
            predicted,
            read,
            "the token being predicted",
            "the earlier token attended to",
        ),
        "cross": ("Cross-attention", predicted, source, "the token being predicted", "the source token attended to"),
    }
    if kind not in kinds:
        raise InputError(f"There is no attention of the kind {kind!r}; choose one of {', '.join(kinds)}.")
    name, queries, keys, rows, columns = kinds[kind]
    layers = getattr(attention, kind)
    if not 0 <= layer < len(layers):
        raise InputError(f"{name} has no layer {layer}; choose {_range(len(layers))}.")
    return _View(layers[layer], queries, keys, f"{name}, layer {layer}", f"Row: {rows}.  Column: {columns}.")


def _existing(view: _View, heads: Sequence[int]) -> list[int]:
    """The heads as given, once it is known that each exists."""
    wrong = [head for head in heads if not 0 <= head < len(view.weights)]
    if wrong:
        raise InputError(f"{view.title} has no head {wrong[0]}; choose {_range(len(view.weights))}.")
    if not heads:
        raise InputError(f"{view.title}: no head to draw; choose {_range(len(view.weights))}.")
    return list(heads)


def _range(count: int) -> str:
    return f"from 0 to {count - 1}" if count > 1 else "0, the only one"


# Where it is drawn


class _Sheet(NamedTuple):
    """The layout, in pixels, so that every cell is a whole number of them and every square is sharp."""

    width: int
    height: int
    columns: int
    cell: int
    map_width: int
    map_height: int
    query_labels: int
    key_labels: int
    margin: int
    heading: int
    gap: int
    head_title: int

    @classmethod
    def of(cls, figure: Figure, view: _View, rows: _Labels, columns: _Labels, size: float, count: int) -> _Sheet:
        """Measure the labels and make room for them."""
        row_width, row_line = _extent(figure, rows, size)
        column_width, column_line = _extent(figure, columns, size)
        longest = max(len(view.queries), len(view.keys))
        cell = math.ceil(max(1.1 * row_line, 1.1 * column_line, min(50, 460 / longest)))
        margin, heading, gap, bar = 24, 68, 40, 130
        head_title = 44 if count > 1 else 0
        map_width, map_height = cell * len(view.keys), cell * len(view.queries)
        panel_width, panel_height = (
            row_width + LABEL_GAP + map_width,
            head_title + column_width + LABEL_GAP + map_height,
        )
        across = _columns(count, panel_width + gap, panel_height + gap)
        down = math.ceil(count / across)
        words = max(
            _text_extent(figure, view.title + ", head 99", 12.0, weight="bold")[0],
            _text_extent(figure, view.subtitle, 9.0)[0],
        )
        width = max(across * (panel_width + gap) - gap + bar, words) + 2 * margin
        bar_below = max(0, SHORTEST_BAR - map_height)
        height = heading + down * (panel_height + gap) - gap + bar_below + 2 * margin
        return cls(
            width,
            height,
            across,
            cell,
            map_width,
            map_height,
            row_width,
            column_width,
            margin,
            heading,
            gap,
            head_title,
        )

    def corner(self, index: int) -> tuple[int, int]:
        """Left and top of a head's map, from the left and the top of the picture."""
        row, column = divmod(index, self.columns)
        panel_width = self.query_labels + LABEL_GAP + self.map_width
        panel_height = self.head_title + self.key_labels + LABEL_GAP + self.map_height
        left = self.margin + column * (panel_width + self.gap) + self.query_labels + LABEL_GAP
        top = (
            self.margin + self.heading + row * (panel_height + self.gap) + self.head_title + self.key_labels + LABEL_GAP
        )
        return left, top

    def box(self, left: int, top: int, width: int, height: int) -> tuple[float, float, float, float]:
        """A rectangle as matplotlib wants it: fractions of the figure, from the bottom left."""
        return (
            left / self.width,
            (self.height - top - height) / self.height,
            width / self.width,
            height / self.height,
        )


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


def _points(pixels: int) -> float:
    return pixels * 72 / DOTS_PER_INCH


def _extent(figure: Figure, labels: _Labels, size: float) -> tuple[int, int]:
    """Width of the widest label, and the height of a line that holds every label, in pixels."""
    extents = [_text_extent(figure, text, size, labels.families) for text in set(labels.texts)]
    widths, above, below = zip(*extents, strict=True)
    return max(widths), max(above) + max(below)


def _text_extent(
    figure: Figure, text: str, size: float, families: Sequence[str] = ("DejaVu Sans",), weight: str = "normal"
) -> tuple[int, int, int]:
    """Width, and what stands above and hangs below the line, in pixels."""
    drawn = figure.text(0, 0, text, family=list(families), size=size, weight=weight, va="baseline", parse_math=False)
    box = drawn.get_window_extent()
    drawn.remove()
    return math.ceil(box.width), math.ceil(box.y1), math.ceil(-box.y0)


def _heat_map(
    axes: Axes, weights: Float[np.ndarray, "Q K"], rows: _Labels, columns: _Labels, size: float, cell: int
) -> None:
    """One head."""
    axes.imshow(weights, cmap=_colours(), vmin=0, vmax=1, aspect="auto", interpolation="nearest", origin="upper")
    axes.spines[:].set(color="0.5", linewidth=0.6)
    # Texts in the place of ticks: a thousand ticks take two seconds longer.
    axes.xaxis.set_visible(False)
    axes.yaxis.set_visible(False)
    edge = -0.5 - LABEL_GAP / cell
    # On one line with each other and centred on their cells as capitals are: 0.36 of the size above the line.
    middle = 0.36 * size * DOTS_PER_INCH / 72 / cell
    fonts = columns.families, rows.families
    upright, level = ({"family": list(family), "size": size, "parse_math": False} for family in fonts)
    for index, label in enumerate(columns.texts):
        axes.text(index + middle, edge, label, upright, rotation=90, rotation_mode="anchor", ha="left", va="baseline")
    for index, label in enumerate(rows.texts):
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


def _colour_bar(figure: Figure, sheet: _Sheet) -> None:
    """The scale that all heads share, to the right of the first row."""
    left, top = sheet.corner(sheet.columns - 1)
    height = max(min(sheet.map_height, 400), SHORTEST_BAR)
    axes = figure.add_axes(sheet.box(left + sheet.map_width + 30, top, 18, height))
    bar = figure.colorbar(figure.axes[0].images[0], cax=axes)
    bar.set_ticks([0, 0.5, 1], labels=["0", "0.5", "1"])
    bar.ax.tick_params(labelsize=8, length=2, width=0.6)
    bar.set_label("attention weight", fontsize=8)
    bar.outline.set(edgecolor="0.5", linewidth=0.6)


# How tokens are written


class _Labels(NamedTuple):
    """Tokens as drawn, and the font families that together have all their characters."""

    texts: list[str]
    families: tuple[str, ...]


def _labels(tokens: Sequence[str]) -> _Labels:
    """Legible labels; a character that no font has becomes a box."""
    texts = [_legible(token) for token in tokens]
    families, missing = _fonts(frozenset("".join(texts)))
    if missing:
        boxes = str.maketrans(dict.fromkeys(missing, NO_GLYPH))
        texts = [text.translate(boxes) for text in texts]
    return _Labels(texts, families)


def _legible(token: str) -> str:
    """The token on one line, with nothing invisible in it, shortened if it is long."""
    shown = "".join(_visible(character) for character in token)
    if not shown:
        return '""'
    widths = np.cumsum([_width(character) for character in shown])
    if widths[-1] <= LABEL_COLUMNS:
        return shown
    return shown[: int(np.searchsorted(widths, LABEL_COLUMNS - 1, side="right"))] + "…"


def _visible(character: str) -> str:
    """The character, or its escape where it would show nothing, break the line or turn the text around."""
    if character == " ":
        return "␣"
    # The variation selectors choose between drawings of one character; here there is only one.
    if "\ufe00" <= character <= "\ufe0f":
        return ""
    # The joiners shape Persian and Indic words; every other format character and space is invisible.
    if character in "\u200c\u200d" or unicodedata.category(character)[0] not in "CZ":
        return character
    return character.encode("unicode_escape").decode()


def _width(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


# Fonts

# DejaVu Sans comes with matplotlib: Latin, Greek, Cyrillic, Arabic, Hebrew, Armenian, Georgian, symbols.
FAMILY = "DejaVu Sans"
# Chinese, Japanese and Korean share code points that each draws in its own way: a text's own fonts come first.
JAPANESE = (
    *("Noto Sans CJK JP", "Noto Sans JP", "Source Han Sans", "Source Han Sans JP", "IPAexGothic", "IPAGothic"),
    *("Hiragino Sans", "Hiragino Kaku Gothic ProN", "Yu Gothic", "Meiryo", "MS Gothic", "TakaoGothic", "VL Gothic"),
)
KOREAN = (
    *("Noto Sans CJK KR", "Noto Sans KR", "Source Han Sans K", "Source Han Sans KR", "NanumGothic"),
    *("Apple SD Gothic Neo", "AppleGothic", "Malgun Gothic", "UnDotum"),
)
CHINESE = (
    *("Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "Source Han Sans CN", "PingFang SC"),
    *("Hiragino Sans GB", "Heiti SC", "Microsoft YaHei", "WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "SimHei"),
    *("Noto Sans CJK TC", "Noto Sans TC", "Source Han Sans TC", "PingFang TC", "Microsoft JhengHei"),
)
OTHER = ("Noto Sans", "Noto Emoji", "Symbola", "Segoe UI Symbol", "Segoe UI Emoji", "Apple Symbols", "Arial Unicode MS")


@functools.cache
def _fonts(characters: frozenset[str]) -> tuple[tuple[str, ...], frozenset[str]]:
    """The families that together have these characters, and the characters that none has.

    Families are tried until nothing is missing: DejaVu Sans, those of the text's language, all others that matplotlib
    knows, then fonts installed since matplotlib made its list, in the system or as Python packages.
    """
    families: list[str] = []
    missing = frozenset(character for character in characters if not unicodedata.category(character).startswith("C"))
    for entry in _candidates(_languages(characters)):
        found = _has(entry, missing)
        if found:
            families.append(entry.name)
            missing -= found
        if not missing:
            break
    return (FAMILY, *(family for family in families if family != FAMILY)), missing


def _languages(characters: frozenset[str]) -> tuple[str, ...]:
    """The preferred families: kana tells Japanese, hangul tells Korean, other ideographs are taken as Chinese."""
    scripts = {unicodedata.name(character, "").split(" ")[0] for character in characters}
    if scripts & {"HIRAGANA", "KATAKANA"}:
        return (*JAPANESE, *CHINESE, *KOREAN, *OTHER)
    if "HANGUL" in scripts:
        return (*KOREAN, *CHINESE, *JAPANESE, *OTHER)
    return (*CHINESE, *JAPANESE, *KOREAN, *OTHER)


def _candidates(preferred: tuple[str, ...]) -> Iterator[FontEntry]:
    """Upright regular fonts that can be drawn in one colour, best first."""
    from matplotlib.font_manager import fontManager

    order = {family: rank for rank, family in enumerate((FAMILY, *preferred))}
    tried: set[str] = set()
    # Reading the installed packages and the system's folders takes a moment: only if what is known does not suffice.
    for find_more in (lambda: None, _add_new_fonts):
        find_more()
        regular = [font for font in fontManager.ttflist if font.style == "normal" and font.name not in tried]
        # Nearest to regular weight first, as matplotlib itself chooses within a family.
        regular.sort(key=lambda font: (order.get(font.name, len(order)), font.name, abs(_weight(font) - 400)))
        for font in regular:
            # matplotlib draws outlines: a colour emoji font has none.
            if font.name not in tried and not any(
                word in font.name.lower() for word in ("color", "lastresort", "last resort", "blank")
            ):
                tried.add(font.name)
                yield font


def _weight(font: FontEntry) -> int:
    from matplotlib.font_manager import weight_dict

    return font.weight if isinstance(font.weight, int) else weight_dict.get(font.weight, 400)


@functools.cache
def _add_new_fonts() -> None:
    """Tell matplotlib of fonts that its list lacks: it makes the list once and keeps it in a file."""
    from matplotlib.font_manager import findSystemFonts, fontManager

    known = {font.fname for font in fontManager.ttflist}
    packages = (package for package in importlib.metadata.distributions() if _may_hold_fonts(package.name))
    packaged = [str(file.locate()) for package in packages for file in package.files or () if _is_font(file.name)]
    for path in (*packaged, *findSystemFonts()):
        if path in known:
            continue
        try:
            fontManager.addfont(path)
        # A damaged or exotic font is not worth a picture.
        except (OSError, RuntimeError, ValueError, KeyError, UnicodeError):
            log.debug("%s: not read as a font", path, exc_info=True)


def _may_hold_fonts(package: str) -> bool:
    return any(word in package.lower() for word in ("font", "noto", "koreanize", "japanize"))


def _is_font(name: str) -> bool:
    return name.lower().endswith((".ttf", ".otf", ".ttc"))


def _has(font: FontEntry, characters: frozenset[str]) -> frozenset[str]:
    """Those of the characters that the font can draw."""
    from matplotlib.ft2font import FT2Font

    try:
        face = FT2Font(font.fname, face_index=font.index)
    # The list of fonts outlives the files.
    except (OSError, RuntimeError):
        return frozenset()
    return frozenset(character for character in characters if face.get_char_index(ord(character)))


SCRIPTS = {
    "CJK": "Chinese characters",
    "HIRAGANA": "Japanese",
    "KATAKANA": "Japanese",
    "KATAKANA-HIRAGANA": "Japanese",
    "IDEOGRAPHIC": "Chinese characters",
    "FULLWIDTH": "Chinese characters",
    "HANGUL": "Korean",
}


def _script(character: str) -> str:
    """What to call the script in a message."""
    if unicodedata.category(character) in ("So", "Sk") and character >= "\u2600":
        return "emoji"
    name = unicodedata.name(character, "symbols").split(" ")[0]
    return SCRIPTS.get(name, name.capitalize())


_reported: set[str] = set()


def _report_missing(tokens: Sequence[str]) -> None:
    """Say, once for each script, which one no font has and what to install."""
    _, missing = _fonts(frozenset("".join(_legible(token) for token in tokens)))
    scripts = {_script(character) for character in missing} - _reported
    if not scripts:
        return
    _reported.update(scripts)
    east = scripts & set(SCRIPTS.values())
    remedies = ["pip install noto-cjk-sans-otc (or apt-get install fonts-noto-cjk)"] if east else []
    remedies += ["apt-get install fonts-symbola"] if "emoji" in scripts else []
    remedies += ["apt-get install fonts-noto-core"] if scripts - east - {"emoji"} else []
    log.warning(
        "Attention pictures: no installed font has %s, shown as %s. Remedy: %s.",
        ", ".join(sorted(scripts)),
        NO_GLYPH,
        "; ".join(remedies),
    )
