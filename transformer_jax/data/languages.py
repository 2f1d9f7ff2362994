"""Names of languages: the codes and English names that users write, and what follows from them.

A language is named by an ISO 639-1, 639-2 or 639-3 code, a BCP 47 tag, a FLORES code or its English name, in any case:
``ja``, ``jpn``, ``ja-JP``, ``jpn_Jpan`` and ``Japanese`` are one language. If a name is also a code, it is the code.
The libraries langcodes and language_data contain the registries and the names.
"""

from __future__ import annotations

import functools
import logging
import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import langcodes

TOKENIZER_BY_SCRIPT = {
    **dict.fromkeys(("Bopo", "Hani", "Hans", "Hant"), "zh"),
    **dict.fromkeys(("Hira", "Hrkt", "Jpan", "Kana"), "char"),
    **dict.fromkeys(("Hang", "Jamo", "Kore"), "char"),
    **dict.fromkeys(("Khmr", "Laoo", "Mymr", "Thai"), "char"),
}
"""ISO 15924 code of a script -> sacreBLEU tokenizer, for scripts that do not separate words. All others use 13a."""
NAME_WITH_SCRIPT = re.compile(r"(?P<language>.+?) \((?P<script>.+?)( script)?\)")
"""A name such as "Serbian (Latin)" or, in the list of FLORES, "Acehnese (Arabic script)"."""


class Language(NamedTuple):
    """A language and its script.

    tag: BCP 47 tag, such as ``ja`` or ``zh-Hant``; the name itself if it is unknown.
    code: the part of the tag that names the language, without script and region. Codes of a standard language, such
        as ``cmn`` and ``arb``, are replaced with the usual code (``zh``, ``ar``).
    script: ISO 15924 code of the script, such as ``Jpan``. Default: the usual script of the language.
    """

    tag: str
    code: str
    script: str


@functools.cache
def find_language(name: str) -> Language:
    """Return the language with this code or English name.

    An unknown name counts as a language in Latin script. Its first look-up in a process logs a warning.
    """
    tag = _parse_code(name) or _parse_name(name)
    if tag is not None:
        return Language(tag.to_tag(), tag.prefer_macrolanguage().language or "und", _script(tag))
    suggestion = _language_of_region(name)
    logging.warning(
        f"the language {name!r} is unknown, so its text is split and scored like English."
        f"{f' Did you mean {suggestion}?' if suggestion else ''} Name languages by ISO 639 codes, such as ja or jpn."
    )
    return Language(name, name.lower(), "Latn")


def bleu_tokenizer(name: str) -> str:
    """Return sacreBLEU's tokenizer for text in a language: zh, char, or 13a for scripts that separate words.

    Japanese and Korean are split into characters, because the tokenizers for their words need packages that not every
    machine has, and the best checkpoint must not depend on the machine.
    """
    return TOKENIZER_BY_SCRIPT.get(find_language(name).script, "13a")


def _parse_code(name: str) -> langcodes.Language | None:
    """Return the language of a code in any of the notations; None if the code is not registered."""
    import langcodes  # Takes 0.1 s.

    try:
        tag = langcodes.Language.get(name)
    except ValueError:
        return None
    # The region may be unregistered: mBART writes ja_XX.
    is_registered = langcodes.Language.make(tag.language, script=tag.script).is_valid()
    return tag if is_registered else None


def _parse_name(name: str) -> langcodes.Language | None:
    """Return the language with an English name, optionally followed by a script; None if there is none."""
    import langcodes

    if code := _code_of_name("language", name):
        return langcodes.Language.get(code)
    match = NAME_WITH_SCRIPT.fullmatch(name)
    code, script = (_code_of_name(kind, match[kind]) for kind in ("language", "script")) if match else (None, None)
    return langcodes.Language.get(code).update_dict({"script": script}) if code and script else None


def _code_of_name(category: str, name: str) -> str | None:
    """Return the code of the language or script with exactly this English name; None if there is none."""
    from language_data import names

    if not name.isprintable():  # The library fails on some control characters.
        return None
    code = names.name_to_code(category, name, "en")
    # The library also finds names that begin with the name of a language.
    is_exact = names.normalize_name(name) in names.TRIES[f"en/name_to_{category}"]
    return code if is_exact else None


def _script(tag: langcodes.Language) -> str:
    """Return the script of a tag. A language of unknown script is written like its macrolanguage, or else in Latin."""
    from langcodes import Language
    from langcodes.data_dicts import LIKELY_SUBTAGS, MACROLANGUAGES

    if tag.script is None and tag.language is not None and tag.language not in LIKELY_SUBTAGS:
        macrolanguage = MACROLANGUAGES.get(tag.language)
        tag = Language.get(macrolanguage) if macrolanguage in LIKELY_SUBTAGS else Language.get("und-Latn")
    return tag.maximize().script or "Latn"


def _language_of_region(name: str) -> str | None:
    """Return the main language of a region, such as ``ja`` for ``jp``; None if the name is not that of a region."""
    import langcodes
    from langcodes.data_dicts import LIKELY_SUBTAGS

    if not re.fullmatch("[A-Za-z]{2}", name):
        return None
    region = langcodes.Language.make(territory=name.upper())
    return region.maximize().language if f"und-{region.territory}" in LIKELY_SUBTAGS else None
