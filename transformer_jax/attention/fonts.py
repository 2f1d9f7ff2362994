"""Which installed fonts have the characters of a text. matplotlib brings DejaVu Sans; it lacks Chinese, Japanese,
Korean.
"""

from __future__ import annotations

import functools
import importlib.metadata
import logging
import unicodedata
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.font_manager import FontEntry

log = logging.getLogger(__name__)

NO_GLYPH = "▯"
"""Stands for a character that no font has."""

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
def find_fonts(characters: frozenset[str]) -> tuple[tuple[str, ...], frozenset[str]]:
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


def is_cubic(path: str) -> bool:
    """Whether the font, or the first of a collection, has the outlines of PostScript instead of TrueType's."""
    with open(path, "rb") as file:
        if (tag := file.read(4)) == b"ttcf":
            file.seek(12)
            file.seek(int.from_bytes(file.read(4), "big"))
            tag = file.read(4)
        return tag == b"OTTO"


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


def report_missing(characters: Iterable[str]) -> None:
    """Say, once for each script, which one no font has and what to install."""
    _, missing = find_fonts(frozenset(characters))
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
