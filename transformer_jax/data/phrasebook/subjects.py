"""Subjects and object pronouns, with the forms that must agree with them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from random import Random

from transformer_jax.data.phrasebook import lexicon


@dataclass(frozen=True)
class Possessive:
    """A possessive determiner: "my", "mein"."""

    english: str
    german: str
    key: str = ""
    """Always empty: possessives do not distinguish combinations of words."""


MY, YOUR, HIS, HER, OUR, THEIR = POSSESSIVES = (
    Possessive("my", "mein"),
    Possessive("your", "Ihr"),
    Possessive("his", "sein"),
    Possessive("her", "ihr"),
    Possessive("our", "unser"),
    Possessive("their", "ihr"),
)


@dataclass(frozen=True)
class Subject:
    """The subject of a sentence."""

    english: str
    german: str
    person: str
    """The form of the verb: "ich", "er" or "wir", see ``grammar``."""
    reflexive: str
    possessive: Possessive
    english_pronoun: str
    """The pronoun that refers back to it: "he" for "my brother"."""
    german_pronoun: str
    key: str
    """The unique name of this subject; empty for a pronoun."""


@dataclass(frozen=True)
class Pronoun:
    """A personal pronoun as the object of a sentence."""

    english: str
    accusative: str
    dative: str
    key: str = ""
    """Always empty, as for subject pronouns."""


SUBJECT_PRONOUNS = (
    Subject("I", "ich", "ich", "mich", MY, "I", "ich", ""),
    Subject("you", "Sie", "wir", "sich", YOUR, "you", "Sie", ""),
    Subject("he", "er", "er", "sich", HIS, "he", "er", ""),
    Subject("she", "sie", "er", "sich", HER, "she", "sie", ""),
    Subject("we", "wir", "wir", "uns", OUR, "we", "wir", ""),
    Subject("they", "sie", "wir", "sich", THEIR, "they", "sie", ""),
)
OBJECT_PRONOUNS = (
    Pronoun("me", "mich", "mir"),
    Pronoun("you", "Sie", "Ihnen"),
    Pronoun("him", "ihn", "ihm"),
    Pronoun("her", "sie", "ihr"),
    Pronoun("us", "uns", "uns"),
    Pronoun("them", "sie", "ihnen"),
)
SAME_PERSON = {
    "I": ("me", "us"),
    "we": ("me", "us"),
    "you": ("you",),
    "he": ("him",),
    "she": ("her",),
    "they": ("them",),
}
"""Subject -> object pronouns that would refer to the same person."""


@cache
def named_subjects() -> tuple[Subject, ...]:
    """Return all subjects that are not pronouns: names, groups, relatives with each possessor, and professions."""
    words = lexicon.load_lexicon()
    subjects: list[Subject] = []

    def named_subject(english: str, german: str, gender: str, key: str) -> Subject:
        own = {"m": HIS, "f": HER, "p": THEIR}[gender]
        pronoun, german_pronoun = {"m": ("he", "er"), "f": ("she", "sie"), "p": ("they", "sie")}[gender]
        person = "wir" if gender == "p" else "er"
        return Subject(english, german, person, "sich", own, pronoun, german_pronoun, key)

    for phrase in words.phrases["name"] + words.phrases["group"]:
        subjects.append(named_subject(phrase.english, phrase.german, phrase.gender, phrase.english))
    for noun in words.nouns["relative"]:
        for possessor in (MY, YOUR, HIS, HER, OUR):
            german = possessor.german + ("e" if noun.gender == "f" else "")
            english = f"{possessor.english} {noun.english}"
            subjects.append(named_subject(english, f"{german} {noun.german}", noun.gender, noun.english))
    for noun in words.nouns["job"]:
        subjects.append(named_subject(f"the {noun.english}", f"der {noun.german}", noun.gender, noun.english))
    return tuple(subjects)


def draw_pronoun(random: Random, subject: str) -> Pronoun:
    """Draw an object pronoun that does not refer to the subject."""
    return random.choice(
        [pronoun for pronoun in OBJECT_PRONOUNS if pronoun.english not in SAME_PERSON.get(subject, ())]
    )
