"""Normalization of source texts, so that the model reads the typography on which it was trained.

The same sentence is typed with straight or curly quotes, with an ellipsis or three full stops, with no-break spaces or
soft hyphens, depending on the keyboard. ``Normalization`` gives all of them one form. Which quotes, dashes and ellipses
that form has is learned from the training text.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tokenizers import Regex, normalizers

from transformer_jax.errors import InputError
from transformer_jax.storage import atomic

FILE_NAME = "normalization.json"
RARE = 0.01
"""A form is rare if it occurs less often than this, relative to the most frequent form of the same mark."""

SINGLE_QUOTES = "'’‘‚‛‹›ʼ′＇`´"
DOUBLE_QUOTES = '"“”„‟«»″＂〝〞〟'
HYPHENS = "-‐‑−﹣－–‒"
"""Hyphens and minus signs. The en dash and the figure dash are hyphens next to a character, as in "10–20"."""
LONG_DASHES = "—―"
ELLIPSES = ("...", "…")
SPACED_GUILLEMET = "« "
"""The form of guillemets with spaces on their inner sides, as in French."""

INVISIBLE = (
    r"[\x{00}-\x{08}\x{0E}-\x{1B}\x{7F}\x{AD}\x{61C}\x{200B}\x{200E}\x{200F}\x{202A}-\x{202E}\x{2060}-\x{2064}"
    r"\x{2066}-\x{206F}\x{FEFF}]"
)
"""ASCII control characters, soft hyphens, zero-width spaces, byte-order marks and marks of the writing direction. The
zero-width joiner and non-joiner are not included, because Persian and Indian scripts need them.
"""
SPACES = r"[\s\x{1C}-\x{1F}]+"
"""White space of Unicode, with line breaks and ASCII separators."""

# Conditions on the position of a mark, as regular expressions of both Python and the library tokenizers. They depend
# only on classes of the neighboring characters, which the replacement of other marks preserves. The order of the
# replacements is therefore irrelevant, and normalizing twice gives the same text as normalizing once.
_QUOTES, _DASHES = re.escape(SINGLE_QUOTES + DOUBLE_QUOTES), re.escape(HYPHENS + LONG_DASHES)
_BEFORE, _WORD = r" (\[{/", r"[^\W_ʼ]"
_AFTER = rf"(?:\Z|[ ,;:!?)\]}}]|[.…]+(?![.…]|{_WORD}))"
_NOT_AFTER_WORD = f"(?<![^{_BEFORE}{_QUOTES}{_DASHES}])"
BETWEEN_SPACES = "(?<![^ ])(?=.(?![^ ]))"
BETWEEN_WORDS = rf"(?:(?<={_WORD})|(?<=[.…,;:!?)\]}}]))(?=.{_WORD})"
OPENING = f"{_NOT_AFTER_WORD}(?=.(?!{_AFTER}))"
"""Before a word, where a quote opens a quotation."""
INSIDE = f"(?<={_WORD})(?=.{_WORD})"
"""Inside a word, where a quote is an apostrophe."""
ALONE = f"(?<![^{_BEFORE}])(?=.{_AFTER})"
"""Next to no word, so that a quote has no direction."""

SPACE_AFTER_OPENING = rf"(?:(?<=[{_BEFORE}{_QUOTES}{_DASHES}][«‹])|(?<=\A[«‹])) (?![{_DASHES}])"
SPACE_BEFORE_CLOSING = f"(?<![{_DASHES}]) (?=[»›]{_AFTER})"
"""The space on the inner side of a guillemet."""
ATTACHED_OPENING = f"(?=%s){_NOT_AFTER_WORD}.(?=[^ {_DASHES}])"
ATTACHED_CLOSING = f"(?=%s)(?<=[^ {_QUOTES}{_DASHES}]).(?={_AFTER})"
"""Guillemets without a space on the inner side."""


class Mark(NamedTuple):
    """A mark that can be written in several forms.

    forms: the characters that are forms of the mark.
    position: the condition under which such a character is this mark.
    """

    forms: str
    position: str


MARKS = {
    "opening_single_quote": Mark(SINGLE_QUOTES, OPENING),
    "apostrophe": Mark(SINGLE_QUOTES, INSIDE),
    "closing_single_quote": Mark(SINGLE_QUOTES, f"(?!{OPENING}|{INSIDE}|{ALONE})"),
    "opening_double_quote": Mark(DOUBLE_QUOTES, OPENING),
    "closing_double_quote": Mark(DOUBLE_QUOTES, f"(?!{OPENING}|{ALONE})"),
    "hyphen": Mark(HYPHENS, f"(?!{BETWEEN_SPACES})"),
    "long_dash": Mark(LONG_DASHES, f"(?!{BETWEEN_SPACES})"),
    "dash_between_spaces": Mark(HYPHENS + LONG_DASHES, BETWEEN_SPACES),
    "question_mark": Mark("?？؟", ""),
    "exclamation_mark": Mark("!！", ""),
}
QUOTATIONS = {
    SINGLE_QUOTES: ("opening_single_quote", "closing_single_quote"),
    DOUBLE_QUOTES: ("opening_double_quote", "closing_double_quote"),
}
TABLE_FORMS: dict[str, str | tuple[str, ...]] = {
    **{name: mark.forms for name, mark in MARKS.items()},
    "long_dash": HYPHENS + LONG_DASHES,
    "ellipsis": ELLIPSES,
    "guillemet": (SPACED_GUILLEMET,),
}
"""Name of a mark -> the forms that a table may contain."""


class Normalization:
    """The normalization of source texts: no invisible characters, Unicode form C, plain spaces, learned typography.

    table: name of a mark -> its frequent forms, most frequent first. Other forms are replaced by the first one. A mark
        that is missing is not changed.
    """

    def __init__(self, table: Mapping[str, Sequence[str]]) -> None:
        self.table = {name: tuple(forms) for name, forms in table.items() if forms}

    @classmethod
    def learn(cls, texts: Iterable[str]) -> Normalization:
        """Return the normalization that replaces the forms of marks that are rare or absent in the texts."""
        clean, attach = (normalizers.Sequence(steps).normalize_str for steps in (_cleaning(), _attaching()))
        patterns = {name: re.compile(f"{mark.position}[{re.escape(mark.forms)}]") for name, mark in MARKS.items()}
        spaced_guillemet = re.compile(SPACE_AFTER_OPENING)
        any_mark = re.compile(f"[{_QUOTES}{_DASHES}.…?？؟!！]")
        counts: dict[str, Counter[str]] = {name: Counter() for name in TABLE_FORMS}
        for text in texts:
            if any_mark.search(text):
                cleaned = clean(text)
                attached = attach(cleaned)
                for name, pattern in patterns.items():
                    counts[name].update(pattern.findall(attached))
                counts["ellipsis"].update({form: cleaned.count(form) for form in (*ELLIPSES, ".")})
                counts["guillemet"][SPACED_GUILLEMET] += len(spaced_guillemet.findall(cleaned))
        return cls(_frequent_forms(counts))

    def library_normalizer(self) -> Any:
        """Return the normalizer for the library ``tokenizers``. Its time is linear in the length of a text."""
        best = {name: forms[0] for name, forms in self.table.items()}
        # In "»So«", as some German texts write, the space next to a guillemet is outside the quotation.
        is_reversed = any(
            best.get(opening, " ") in "»›" or best.get(closing, " ") in "«‹" for opening, closing in QUOTATIONS.values()
        )
        steps = _cleaning() if is_reversed else [*_cleaning(), *_attaching()]
        if "dash_between_spaces" in best and not {*LONG_DASHES} & {*self.table.get("long_dash", ())}:
            # "a—b" becomes "a - b". In "a-b", the hyphen would make one word of two.
            steps += [_replace(f"(?={dash}){BETWEEN_WORDS}.", f" {dash} ") for dash in LONG_DASHES]
        for name, mark in MARKS.items():
            steps += _replace_rare(mark.position, mark.forms, self.table.get(name, ()))
        for quotes, (opening, closing) in QUOTATIONS.items():
            # Where a quote has no direction, its replacement must have none either.
            if best.get(opening) == best.get(closing) and best.get(opening, "«") not in "«»‹›":
                steps += _replace_rare(ALONE, quotes, self.table[opening])
        if len(self.table.get("ellipsis", ())) == 1:
            steps += [normalizers.Replace(form, best["ellipsis"]) for form in ELLIPSES]
        if "guillemet" in best and not is_reversed:
            steps += [_replace(ATTACHED_OPENING % form, f"{form} ") for form in "«‹"]
            steps += [_replace(ATTACHED_CLOSING % form, f" {form}") for form in "»›"]
        return normalizers.Sequence(steps)

    def save(self, directory: Path) -> None:
        """Write the table to a run directory."""
        table = json.dumps(self.table, indent=2, ensure_ascii=False)
        atomic.write_text(directory / FILE_NAME, table + "\n")

    @classmethod
    def load(cls, directory: Path) -> Normalization:
        """Read the table of a run directory. Raises InputError if the file is missing or damaged."""
        path = directory / FILE_NAME
        try:
            table = json.loads(path.read_text(encoding="utf-8"))
            for name, forms in table.items():
                if not isinstance(forms, list) or not {*forms} <= {*TABLE_FORMS.get(name, ())}:
                    raise ValueError(f"{name!r} has an invalid value")
        except FileNotFoundError:
            raise InputError(
                f"{path} is missing, but tokenizer.normalization in config.json is text. "
                "Copy the complete run directory again."
            ) from None
        except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
            raise InputError(f"{path} is damaged ({error}). Copy the complete run directory again.") from error
        return cls(table)


def _cleaning() -> list[Any]:
    """Return the steps that remove invisible characters, compose characters, and make white space single spaces."""
    # NFC comes second: an invisible character can separate a letter from its accent.
    return [_replace(INVISIBLE, ""), normalizers.NFC(), _replace(SPACES, " "), normalizers.Strip()]


def _attaching() -> list[Any]:
    """Return the steps that remove spaces on the inner sides of guillemets."""
    return [_replace(SPACE_AFTER_OPENING, ""), _replace(SPACE_BEFORE_CLOSING, "")]


def _replace(pattern: str, replacement: str) -> Any:
    return normalizers.Replace(Regex(pattern), replacement)


def _replace_rare(position: str, forms: str, frequent: Sequence[str]) -> list[Any]:
    """Return the step that replaces the other forms by the most frequent one, or no step if no form is frequent."""
    rare = re.escape("".join(form for form in forms if form not in frequent))
    # The characters are tested first, because the condition takes longer.
    return [_replace(f"(?=[{rare}]){position}.", frequent[0])] if frequent and rare else []


def _frequent_forms(counts: Mapping[str, Counter[str]]) -> dict[str, list[str]]:
    """Return the frequent forms of each mark, most frequent first.

    counts: name of a mark -> form -> count; for the ellipsis also of full stops, for guillemets only of spaced ones.
    """

    def frequent(name: str, *others: str) -> list[str]:
        """Return the frequent forms of a mark. ``others`` are marks with the same function."""
        most = max((count for mark in (name, *others) for count in counts[mark].values()), default=0)
        return [form for form, count in counts[name].most_common() if count >= RARE * most and count > 0]

    table = {name: frequent(name) for name in MARKS}
    for opening, closing in QUOTATIONS.values():
        # A text without quotations shows how it writes the apostrophe, and a text with opening quotes has closing ones.
        marks = [opening, closing, *(["apostrophe"] if opening == "opening_single_quote" else [])]
        total = sum((counts[name] for name in marks), Counter[str]())
        for name in marks:
            table[name] = table[name] or [form for form, _ in total.most_common(1)]
    spaced, attached = frequent("dash_between_spaces", "long_dash"), frequent("long_dash", "dash_between_spaces")
    table["dash_between_spaces"] = spaced or attached[:1] or table["hyphen"][:1]
    table["long_dash"] = attached or table["hyphen"][:1]
    most = max(counts["ellipsis"][form] for form in ELLIPSES)
    table["ellipsis"] = [form for form in ELLIPSES if counts["ellipsis"][form] >= max(RARE * most, 1)]
    if not table["ellipsis"] and counts["ellipsis"]["."]:
        table["ellipsis"] = ["..."]  # Its parts are known.
    guillemets = sum(counts[opening][form] for opening, _ in QUOTATIONS.values() for form in "«‹")
    table["guillemet"] = [SPACED_GUILLEMET] if 2 * counts["guillemet"][SPACED_GUILLEMET] > guillemets else []
    return table
