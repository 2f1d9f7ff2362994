"""Selection of installed fonts that cover the characters of a text.

matplotlib ships DejaVu Sans, which lacks Chinese, Japanese and Korean.
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

MISSING_GLYPH = "▯"
"""Drawn in place of a character that no installed font covers."""

# DejaVu Sans covers Latin, Greek, Cyrillic, Arabic, Hebrew, Armenian, Georgian and symbols.
DEFAULT_FAMILY = "DejaVu Sans"
# Chinese, Japanese and Korean draw the same code points differently: families for the text's language come first.
JAPANESE_FAMILIES = (
    *("Noto Sans CJK JP", "Noto Sans JP", "Source Han Sans", "Source Han Sans JP", "IPAexGothic", "IPAGothic"),
    *("Hiragino Sans", "Hiragino Kaku Gothic ProN", "Yu Gothic", "Meiryo", "MS Gothic", "TakaoGothic", "VL Gothic"),
)
KOREAN_FAMILIES = (
    *("Noto Sans CJK KR", "Noto Sans KR", "Source Han Sans K", "Source Han Sans KR", "NanumGothic"),
    *("Apple SD Gothic Neo", "AppleGothic", "Malgun Gothic", "UnDotum"),
)
CHINESE_FAMILIES = (
    *("Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "Source Han Sans CN", "PingFang SC"),
    *("Hiragino Sans GB", "Heiti SC", "Microsoft YaHei", "WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "SimHei"),
    *("Noto Sans CJK TC", "Noto Sans TC", "Source Han Sans TC", "PingFang TC", "Microsoft JhengHei"),
)
OTHER_FAMILIES = (
    *("Noto Sans", "Noto Emoji", "Symbola", "Segoe UI Symbol", "Segoe UI Emoji", "Apple Symbols"),
    "Arial Unicode MS",
)


@functools.cache
def find_fonts(characters: frozenset[str]) -> tuple[tuple[str, ...], frozenset[str]]:
    """Return font families that together cover the characters, and the characters that no font covers.

    Families are tried in this order until no character is missing: DejaVu Sans, families for the language of the text,
    all other families that matplotlib knows, then fonts that were installed after matplotlib built its font list.
    """
    families: list[str] = []
    missing = frozenset(character for character in characters if not unicodedata.category(character).startswith("C"))
    for font in _candidate_fonts(_preferred_families(characters)):
        covered = _covered_characters(font, missing)
        if covered:
            families.append(font.name)
            missing -= covered
        if not missing:
            break
    return (DEFAULT_FAMILY, *(family for family in families if family != DEFAULT_FAMILY)), missing


def _preferred_families(characters: frozenset[str]) -> tuple[str, ...]:
    """Return families in order of preference for Japanese (kana), Korean (hangul) or else Chinese."""
    scripts = {unicodedata.name(character, "").split(" ")[0] for character in characters}
    if scripts & {"HIRAGANA", "KATAKANA"}:
        return (*JAPANESE_FAMILIES, *CHINESE_FAMILIES, *KOREAN_FAMILIES, *OTHER_FAMILIES)
    if "HANGUL" in scripts:
        return (*KOREAN_FAMILIES, *CHINESE_FAMILIES, *JAPANESE_FAMILIES, *OTHER_FAMILIES)
    return (*CHINESE_FAMILIES, *JAPANESE_FAMILIES, *KOREAN_FAMILIES, *OTHER_FAMILIES)


def _candidate_fonts(preferred: tuple[str, ...]) -> Iterator[FontEntry]:
    """Yield upright fonts that can be drawn in one colour, best first."""
    from matplotlib.font_manager import fontManager

    order = {family: rank for rank, family in enumerate((DEFAULT_FAMILY, *preferred))}
    tried: set[str] = set()
    # Scanning packages and system directories is slow, so do it only if the known fonts do not suffice.
    for add_fonts in (lambda: None, _add_new_fonts):
        add_fonts()
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
    """Register fonts that were installed after matplotlib cached its font list."""
    from matplotlib.font_manager import findSystemFonts, fontManager

    known = {font.fname for font in fontManager.ttflist}
    packages = (package for package in importlib.metadata.distributions() if _is_font_package(package.name))
    packaged_fonts = [
        str(file.locate()) for package in packages for file in package.files or () if _is_font_file(file.name)
    ]
    for path in (*packaged_fonts, *findSystemFonts()):
        if path in known:
            continue
        try:
            fontManager.addfont(path)
        # A damaged or unsupported font must not stop the drawing.
        except (OSError, RuntimeError, ValueError, KeyError, UnicodeError):
            log.debug("%s cannot be read as a font", path, exc_info=True)


def _is_font_package(package: str) -> bool:
    return any(word in package.lower() for word in ("font", "noto", "koreanize", "japanize"))


def _is_font_file(name: str) -> bool:
    return name.lower().endswith((".ttf", ".otf", ".ttc"))


def _covered_characters(font: FontEntry, characters: frozenset[str]) -> frozenset[str]:
    """Return the characters that the font covers."""
    from matplotlib.ft2font import FT2Font

    try:
        face = FT2Font(font.fname, face_index=font.index)
    # matplotlib's font list may name files that no longer exist.
    except (OSError, RuntimeError):
        return frozenset()
    return frozenset(character for character in characters if face.get_char_index(ord(character)))


def has_postscript_outlines(path: str) -> bool:
    """Return whether the font, or the first font of a collection, has PostScript instead of TrueType outlines."""
    with open(path, "rb") as file:
        if (tag := file.read(4)) == b"ttcf":
            file.seek(12)
            file.seek(int.from_bytes(file.read(4), "big"))
            tag = file.read(4)
        return tag == b"OTTO"


SCRIPT_NAMES = {
    "CJK": "Chinese characters",
    "HIRAGANA": "Japanese",
    "KATAKANA": "Japanese",
    "KATAKANA-HIRAGANA": "Japanese",
    "IDEOGRAPHIC": "Chinese characters",
    "FULLWIDTH": "Chinese characters",
    "HANGUL": "Korean",
}


def _script_name(character: str) -> str:
    """Return the name of a character's script for a message."""
    if unicodedata.category(character) in ("So", "Sk") and character >= "\u2600":
        return "emoji"
    name = unicodedata.name(character, "symbols").split(" ")[0]
    return SCRIPT_NAMES.get(name, name.capitalize())


_reported_scripts: set[str] = set()


def warn_missing_glyphs(characters: Iterable[str]) -> None:
    """Warn once per script that no installed font covers, with the command that installs a font."""
    _, missing = find_fonts(frozenset(characters))
    scripts = {_script_name(character) for character in missing} - _reported_scripts
    if not scripts:
        return
    _reported_scripts.update(scripts)
    east_asian = scripts & set(SCRIPT_NAMES.values())
    remedies = ["pip install noto-cjk-sans-otc (or apt-get install fonts-noto-cjk)"] if east_asian else []
    remedies += ["apt-get install fonts-symbola"] if "emoji" in scripts else []
    remedies += ["apt-get install fonts-noto-core"] if scripts - east_asian - {"emoji"} else []
    log.warning(
        "no installed font covers %s. Heat maps show these characters as %s. Run: %s",
        ", ".join(sorted(scripts)),
        MISSING_GLYPH,
        "; ".join(remedies),
    )
