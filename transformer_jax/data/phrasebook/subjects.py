"""Who acts and who is acted upon: pronouns, names, relatives and professions, with all that must agree with them."""

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
    word: str = ""
    """Always empty: it says nothing about the matter."""


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
    """"ich", "er" or "wir": the form of the verb, see ``grammar``."""
    reflexive: str
    possessive: Possessive
    english_pronoun: str
    """What takes it up again: "he" for "my brother"."""
    german_pronoun: str
    word: str
    """What sets it apart from other subjects; empty for a pronoun."""


@dataclass(frozen=True)
class Pronoun:
    """A personal pronoun as an object."""

    english: str
    accusative: str
    dative: str
    word: str = ""
    """Always empty, as for pronouns as subjects."""


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
UNLIKE = {"I": ("me", "us"), "we": ("me", "us"), "you": ("you",), "he": ("him",), "she": ("her",), "they": ("them",)}
"""The object pronouns that do not go with a subject, since they mean the same person."""


@cache
def named_subjects() -> tuple[Subject, ...]:
    """Return the names and groups, the relatives with each possessor, and the professions."""
    words = lexicon.load()
    subjects: list[Subject] = []

    def named(english: str, german: str, gender: str, word: str) -> Subject:
        own = {"m": HIS, "f": HER, "p": THEIR}[gender]
        pronoun, german_pronoun = {"m": ("he", "er"), "f": ("she", "sie"), "p": ("they", "sie")}[gender]
        person = "wir" if gender == "p" else "er"
        return Subject(english, german, person, "sich", own, pronoun, german_pronoun, word)

    for phrase in words.phrases["name"] + words.phrases["group"]:
        subjects.append(named(phrase.english, phrase.german, phrase.gender, phrase.english))
    for noun in words.nouns["relative"]:
        for possessor in (MY, YOUR, HIS, HER, OUR):
            german = possessor.german + ("e" if noun.gender == "f" else "")
            english = f"{possessor.english} {noun.english}"
            subjects.append(named(english, f"{german} {noun.german}", noun.gender, noun.english))
    for noun in words.nouns["job"]:
        subjects.append(named(f"the {noun.english}", f"der {noun.german}", noun.gender, noun.english))
    return tuple(subjects)


def draw_pronoun(random: Random, subject: str) -> Pronoun:
    """Draw a pronoun as object that is not the subject itself."""
    return random.choice([pronoun for pronoun in OBJECT_PRONOUNS if pronoun.english not in UNLIKE.get(subject, ())])
