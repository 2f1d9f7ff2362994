"""The words of the phrasebook, read from the TSV files in this directory."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from transformer_jax.data.phrasebook import grammar


@dataclass(frozen=True, eq=False)
class Noun:
    """A noun in both languages, with the semantic classes that determine which slots it can fill."""

    english: str
    english_plural: str
    """Empty for a mass noun, which has no plural."""
    german: str
    gender: str
    plural: str
    oblique: str
    """The accusative, dative and genitive singular of a weak noun (den Jungen); empty for other nouns."""
    classes: frozenset[str]

    @property
    def key(self) -> str:
        """The unique name of this word."""
        return self.english

    def german_form(self, case: int, plural: bool) -> str:
        """Return the noun in a case, without its article."""
        if plural:
            return grammar.dative_plural(self.plural) if case == grammar.DATIVE else self.plural
        if case != grammar.NOMINATIVE and self.oblique:
            return self.oblique
        if case == grammar.GENITIVE and self.gender != "f":
            return grammar.genitive(self.german, self.plural)
        return self.german


@dataclass(frozen=True, eq=False)
class Verb:
    """A verb in both languages, with the slots that it can fill."""

    english: str
    past: str
    participle: str
    german: str
    """The infinitive without the separable prefix."""
    prefix: str
    er: str
    """The er-form if it is irregular, otherwise empty."""
    auxiliary: str
    german_participle: str
    preposition: str
    case: int
    """The case of the object."""
    kinds: frozenset[str]
    """The slots that it can fill; "fixed" for verbs that frames name directly."""
    objects: frozenset[str]
    """The noun classes of its objects; empty for an intransitive verb."""

    @property
    def key(self) -> str:
        """The unique name of this word."""
        return self.english


@dataclass(frozen=True, eq=False)
class Adjective:
    """An adjective in both languages, with the noun classes that it can describe."""

    english: str
    english_comparative: str
    """Empty if the adjective is not gradable (red, broken)."""
    german: str
    stem: str
    """The form to which endings are added: hoh- for hoch."""
    comparative: str
    asked_for: bool
    """Whether people ask for things with this quality: cheap, but not dirty."""
    classes: frozenset[str]

    @property
    def key(self) -> str:
        """The unique name of this word."""
        return self.english


@dataclass(frozen=True, eq=False)
class Phrase:
    """An uninflected word or group of words, such as a name, adverb, date or number."""

    english: str
    german: str
    gender: str = ""
    """The gender of a person's name: m, f, or p for several people (my parents)."""

    @property
    def key(self) -> str:
        """The unique name of this word."""
        return self.english


@dataclass(frozen=True)
class Lexicon:
    """All words of the phrasebook, by class."""

    nouns: dict[str, list[Noun]]
    verbs: dict[str, list[Verb]]
    adjectives: list[Adjective]
    phrases: dict[str, list[Phrase]]
    fitting_adjectives: dict[Noun, list[Adjective]]
    """Noun -> the adjectives that can describe it."""
    er_forms: dict[str, str]
    """Infinitive without the prefix -> irregular er-form."""


def read_table(name: str) -> list[dict[str, str]]:
    """Read one of the TSV files, as one dict per line."""
    text = (files("transformer_jax.data.phrasebook") / name).read_text(encoding="utf-8")
    table = csv.DictReader(text.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE)
    return [{column: (value or "").strip() for column, value in row.items()} for row in table]


def _parse_noun(row: dict[str, str]) -> Noun:
    plural = row["english_plural"] or grammar.english_plural(row["english"])
    return Noun(
        english=row["english"],
        english_plural="" if plural == "-" else plural,
        german=row["german"],
        gender=row["gender"],
        plural=row["plural"],
        oblique=row["oblique"],
        classes=frozenset([*row["classes"].split(), row["english"].replace(" ", "_")]),
    )


def _parse_verb(row: dict[str, str]) -> Verb:
    prefix, _, infinitive = row["german"].rpartition("+")
    preposition, _, case = row["governs"].rpartition(" ")
    auxiliary, _, participle = row["perfect"].partition(" ")
    past = row["past"] or grammar.english_past(row["english"])
    return Verb(
        english=row["english"],
        past=past,
        participle=row["participle"] or past,
        german=infinitive,
        prefix=prefix,
        er=row["er"],
        auxiliary={"hat": "haben", "ist": "sein"}[auxiliary],
        german_participle=participle,
        preposition=preposition,
        case=grammar.DATIVE if case == "dat" else grammar.ACCUSATIVE,
        kinds=frozenset(row["kinds"].split()),
        objects=frozenset(row["objects"].split()),
    )


def _english_comparative(english: str) -> str:
    # "-er" for one syllable, otherwise "more"; the file lists the exceptions.
    if len(english) > 6:
        return f"more {english}"
    if english.endswith("y"):
        return english[:-1] + "ier"
    return english + ("r" if english.endswith("e") else "er")


def _parse_adjective(row: dict[str, str]) -> Adjective:
    stem = row["stem"] or row["german"].removesuffix("e")
    comparative = row["comparative"] or stem + "er"
    return Adjective(
        english=row["english"],
        english_comparative=(row["english_comparative"] or _english_comparative(row["english"])).strip("-"),
        german=row["german"],
        stem=stem,
        comparative=comparative,
        asked_for=row["asked_for"] != "no",
        classes=frozenset(row["classes"].split()),
    )


def _numeric_phrases() -> dict[str, list[Phrase]]:
    return {
        "number": [Phrase(*grammar.number(value)) for value in [*range(2, 13), 15, 20, 25, 30]],
        "few": [Phrase(*grammar.number(value)) for value in range(2, 7)],
        "young": [Phrase(*grammar.number(value)) for value in range(3, 20)],
        "adult": [Phrase(*grammar.number(value)) for value in range(20, 60)],
        "elderly": [Phrase(*grammar.number(value)) for value in range(60, 95)],
        "ordinal": [Phrase(*grammar.ordinal(value)) for value in range(1, 31)],
        "clock": [
            Phrase(*grammar.clock(hour, minute))
            for hour in range(1, 13)
            for minute in (0, 0, 5, 10, 15, 20, 30, 30, 40, 45, 50, 55)
        ],
        "morning": [Phrase(*grammar.clock(hour, minute)) for hour in range(6, 11) for minute in (0, 15, 30, 45)],
        "opening_time": [Phrase(*grammar.clock(hour, minute)) for hour in range(8, 11) for minute in (0, 15, 30, 45)],
        "late": [Phrase(*grammar.clock(hour, minute)) for hour in range(5, 8) for minute in (0, 15, 30, 45)],
        "price": [Phrase(*grammar.price(euros, cents)) for euros in range(10, 100) for cents in (0, 0, 0, 50)],
        "cupprice": [Phrase(*grammar.price(euros, cents)) for euros in range(2, 6) for cents in (0, 20, 50, 80)],
        "menuprice": [Phrase(*grammar.price(euros, cents)) for euros in range(2, 13) for cents in (0, 0, 20, 50, 80)],
    }


@cache
def load_lexicon() -> Lexicon:
    """Read the lexicon. Later calls return the same object."""
    nouns: dict[str, list[Noun]] = {}
    verbs: dict[str, list[Verb]] = {}
    phrases = _numeric_phrases()
    adjectives = [_parse_adjective(row) for row in read_table("adjectives.tsv")]
    all_nouns = [_parse_noun(row) for row in read_table("nouns.tsv")]
    all_verbs = [_parse_verb(row) for row in read_table("verbs.tsv")]
    for noun in all_nouns:
        for name in sorted(noun.classes):
            nouns.setdefault(name, []).append(noun)
    for verb in all_verbs:
        for kind in sorted(verb.kinds):
            verbs.setdefault(kind, []).append(verb)
    for row in read_table("phrases.tsv"):
        phrase = Phrase(row["english"], row["german"], row["gender"])
        for name in row["classes"].split():
            phrases.setdefault(name, []).append(phrase)
    return Lexicon(
        nouns=nouns,
        verbs=verbs,
        adjectives=adjectives,
        phrases=phrases,
        fitting_adjectives={noun: [word for word in adjectives if word.classes & noun.classes] for noun in all_nouns},
        er_forms={verb.german: verb.er for verb in all_verbs if verb.er},
    )
