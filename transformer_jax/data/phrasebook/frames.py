"""Sentence frames: the notation of ``frames.tsv``, and how a frame is filled and written out in both languages.

A frame is one line: topic, English, German. Braces are slots, angle brackets are verbs that agree with the subject:

    Where is {the adj place}?          Wo ist {der adj place}?
    {who} <need> {a wanted thing}.     {who} <brauchen> {einen wanted thing}.

The last word in a slot names what fills it; both sides name the same slot the same way. A digit sets a second one
apart ({room} and {room2}), ``.form`` picks a form.

- A noun class (place, garment, ...), or a noun itself, with _ for spaces (town_hall): ``{the adj place}``; with -s in
  the plural (``{adj garments}``). ``adj`` adds an adjective that fits the noun, ``wanted`` one that people ask
  for (cheap, not dirty), ``=next`` that very adjective. The determiner is the, a, no, this, your, our, ``my`` (any
  possessor) or ``his`` (the subject is the possessor). German writes determiner and case together, as a masculine noun
  would: der, den, dem, des; ein, einen, einem; mein, meinen; and nom, acc, dat without determiner. ``rel-der``,
  ``rel-den``, ``rel-dem`` give the relative pronoun alone.
- ``obj`` is a noun that suits the frame's verb; German writes it with the English determiner, and the verb gives
  preposition and case (``{the adj obj}``). ``{not the obj}`` adds nicht where it belongs.
- A kind of verb (act, busy for the acts that take a while, vi, ...). English forms: inf, ing, past, part; none for the
  present. German forms: none for the finite verb without its prefix, pre for the prefix, end for both as one word, inf,
  part, aux, zu, wir (with Sie).
- ``who``: any subject; ``someone``: one person, no pronoun; ``one``: one person, pronoun or not; ``other``: any but I
  and we. ``{who.he}``, German ``{who.er}``, is the pronoun that takes it up again; ``him`` a pronoun as object, German
  ``{him.acc}``, ``{him.dat}``; German ``{sich}``, ``{sich.dat}`` the subject's reflexive. ``{act2}`` and ``<be2>``
  agree with the second subject.
- ``adj`` alone fits the frame's first noun; form ``er`` is the comparative, and the noun it is compared with has the
  quality too.
- A class of ``phrases.tsv`` (city, day, ...) or of numbers (number, ordinal, clock, price, ...).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from transformer_jax.data.phrasebook import grammar, lexicon
from transformer_jax.data.phrasebook.lexicon import Adjective, Noun, Phrase, Verb
from transformer_jax.data.phrasebook.subjects import Possessive, Pronoun, Subject

Word = Noun | Verb | Adjective | Phrase | Subject | Pronoun | Possessive
Filling = dict[str, Word]
Piece = Callable[[Filling], str]

PERSONS = ("ich", "er", "wir")
SUBJECTS = ("who", "someone", "one", "other")
"""The slots for a subject."""
TOKEN = re.compile(r"\{([^}]*)\}|<([^>]*)>")
CASES = {"nom": grammar.NOMINATIVE, "acc": grammar.ACCUSATIVE, "dat": grammar.DATIVE, "gen": grammar.GENITIVE}
GERMAN_DETERMINERS = {
    **{form: ("der", case) for case, form in enumerate(("der", "den", "dem", "des"))},
    **{
        word + ending: (word, case)
        for word in ("ein", "kein", "mein", "sein", "unser", "Ihr")
        for case, ending in enumerate(("", "en", "em", "es"))
    },
    **{
        stem + ending: (stem + "er", case)
        for stem in ("dies", "welch")
        for case, ending in enumerate(("er", "en", "em", "es"))
    },
    **{name: ("", case) for name, case in CASES.items()},
}
ENGLISH_TO_GERMAN = {"the": "der", "a": "ein", "no": "kein", "this": "dieser", "my": "mein", "his": "sein", "": ""}


@dataclass(frozen=True)
class Slot:
    """One pair of braces, taken apart."""

    determiner: str
    adjective: str
    """"adj", "wanted", "=" and the English of one adjective, or empty."""
    negated: bool
    base: str
    """Noun class, verb kind, phrase class or special word."""
    digit: str
    form: str
    plural: bool
    name: str
    """The key of what fills it: base and digit."""


@dataclass(frozen=True)
class Frame:
    """One sentence pattern in both languages."""

    topic: str
    english: str
    german: str
    slots: tuple[Slot, ...]
    """Those of the English side, in order of appearance."""
    english_pieces: tuple[str | Piece, ...]
    german_pieces: tuple[str | Piece, ...]


def parse_slot(text: str) -> Slot:
    """Take the inside of a pair of braces apart. Raises KeyError if its last word names nothing."""
    *words, last = text.split()
    last, _, form = last.partition(".")
    digit = last[-1] if last[-1].isdigit() else ""
    base = last.removesuffix(digit)
    words_by_class = lexicon.load()
    known = {*SUBJECTS, "him", "sich", "adj", "obj", *words_by_class.verbs, *words_by_class.phrases}
    plural = base not in known and base not in words_by_class.nouns
    base = base.removesuffix("s") if plural else base
    if base not in known and base not in words_by_class.nouns:
        raise KeyError(f"{{{text}}}: no class of words is called {base}.")
    adjective = next((word for word in words if word in ("adj", "wanted") or word.startswith("=")), "")
    determiner = next((word for word in words if word not in ("not", adjective)), "")
    return Slot(determiner, adjective, "not" in words, base, digit, form, plural, base + digit)


def _agreement(filling: Filling, digit: str) -> str:
    for name in SUBJECTS:
        subject = filling.get(name + digit)
        if isinstance(subject, Subject):
            return subject.person
    raise KeyError("A verb that agrees needs a subject such as {who} with the same digit.")


def _subject(filling: Filling) -> Subject:
    subject = next(filling[name] for name in SUBJECTS if name in filling)
    assert isinstance(subject, Subject)
    return subject


@cache
def _adjective_called(english: str) -> Adjective:
    return next(adjective for adjective in lexicon.load().adjectives if adjective.english == english)


def _adjective(slot: Slot, filling: Filling) -> Adjective | None:
    if not slot.adjective:
        return None
    if slot.adjective.startswith("="):
        return _adjective_called(slot.adjective[1:])
    adjective = filling["adj of " + slot.name]
    assert isinstance(adjective, Adjective)
    return adjective


def _english_noun(slot: Slot, noun: Noun, filling: Filling) -> str:
    adjective = _adjective(slot, filling)
    phrase = noun.english_plural if slot.plural else noun.english
    if adjective:
        phrase = f"{adjective.english} {phrase}"
    determiner = slot.determiner
    if determiner == "a":
        determiner = grammar.article(phrase)
    elif determiner == "my":
        determiner = filling["my " + slot.name].english
    elif determiner == "his":
        determiner = _subject(filling).possessive.english
    elif determiner == "this" and slot.plural:
        determiner = "these"
    return f"{determiner} {phrase}" if determiner else phrase


@cache
def german_phrase(word: str, adjective: Adjective | None, noun: Noun, case: int, plural: bool) -> str:
    """Decline determiner, adjective and noun together; a definite article is marked with ~ for contraction."""
    gender = "p" if plural else noun.gender
    parts = [("~" if word == "der" else "") + grammar.determiner(word, gender, case)] if word else []
    if adjective:
        parts.append(adjective.stem + grammar.adjective_ending(word, gender, case))
    parts.append(noun.german_form(case, plural))
    return " ".join(parts)


def _german_noun(slot: Slot, noun: Noun, filling: Filling) -> str:
    if slot.determiner.startswith("rel-"):
        case = ("der", "den", "dem").index(slot.determiner[4:])
        return grammar.RELATIVE["p" if slot.plural else noun.gender][case]
    before = after = ""
    if slot.base == "obj":
        verb = _verb_of(slot, filling)
        determiner, case = ENGLISH_TO_GERMAN[slot.determiner], verb.case
        before = f"{verb.preposition} " if verb.preposition else ""
        if slot.negated and before:
            before = "nicht " + before
        elif slot.negated:
            after = " nicht"
    else:
        determiner, case = GERMAN_DETERMINERS[slot.determiner]
    if determiner == "mein":
        possessive = filling["my " + slot.name]
        assert isinstance(possessive, Possessive)
        determiner = possessive.german
    elif determiner == "sein":
        determiner = _subject(filling).possessive.german
    return before + german_phrase(determiner, _adjective(slot, filling), noun, case, slot.plural) + after


def _verb_of(slot: Slot, filling: Filling) -> Verb:
    for name, word in filling.items():
        if isinstance(word, Verb) and name.endswith(slot.digit) and name[-1].isdigit() == bool(slot.digit):
            return word
    raise KeyError(f"{{{slot.name}}} needs a verb slot with the same digit.")


def _english_verb(slot: Slot, verb: Verb, filling: Filling) -> str:
    if slot.form == "":
        return grammar.english_present(verb.english, _agreement(filling, slot.digit))
    if slot.form == "ing":
        return grammar.english_ing(verb.english)
    return {"inf": verb.english, "past": verb.past, "part": verb.participle}[slot.form]


def _german_verb(slot: Slot, verb: Verb, filling: Filling) -> str:
    if slot.form == "inf":
        return verb.prefix + verb.german
    if slot.form == "zu":
        return f"{verb.prefix}zu{verb.german}" if verb.prefix else f"zu {verb.german}"
    if slot.form == "part":
        return verb.german_participle
    if slot.form == "pre":
        return verb.prefix
    if slot.form == "wir":
        return verb.german
    person = _agreement(filling, slot.digit)
    if slot.form == "aux":
        return grammar.german_present(verb.auxiliary, person)
    # The er-form of a separable verb is listed with its prefix: "schläft ein".
    finite = grammar.german_present(verb.german, person, verb.er.partition(" ")[0])
    return verb.prefix + finite if slot.form == "end" else finite


def _english_slot(slot: Slot, filling: Filling) -> str:
    word = filling[slot.name]
    if isinstance(word, Noun):
        return _english_noun(slot, word, filling)
    if isinstance(word, Verb):
        return _english_verb(slot, word, filling)
    if isinstance(word, Adjective):
        return word.english_comparative if slot.form == "er" else word.english
    if isinstance(word, Subject) and slot.form == "he":
        return word.english_pronoun
    return word.english


def _german_slot(slot: Slot, filling: Filling) -> str:
    if slot.base == "sich":
        reflexive = _subject(filling).reflexive
        return "mir" if slot.form == "dat" and reflexive == "mich" else reflexive
    word = filling[slot.name]
    if isinstance(word, Noun):
        return _german_noun(slot, word, filling)
    if isinstance(word, Verb):
        return _german_verb(slot, word, filling)
    if isinstance(word, Adjective):
        return word.comparative if slot.form == "er" else word.german
    if isinstance(word, Subject) and slot.form == "er":
        return word.german_pronoun
    if isinstance(word, Pronoun):
        return word.dative if slot.form == "dat" else word.accusative
    return word.german


def _slot_piece(slot: Slot, language: str) -> Piece:
    write = _english_slot if language == "english" else _german_slot
    return lambda filling: write(slot, filling)


def _verb_piece(verb: str, language: str) -> Piece:
    digit = verb[-1] if verb[-1].isdigit() else ""
    infinitive = verb.removesuffix(digit)
    er = lexicon.load().er_forms.get(infinitive, "").partition(" ")[0]
    if language == "english":
        forms = {person: grammar.english_present(infinitive, person) for person in PERSONS}
    else:
        forms = {person: grammar.german_present(infinitive, person, er) for person in PERSONS}
    return lambda filling: forms[_agreement(filling, digit)]


def _compile(template: str, language: str) -> tuple[str | Piece, ...]:
    pieces: list[str | Piece] = []
    position = 0
    for match in TOKEN.finditer(template):
        pieces.append(template[position : match.start()])
        position = match.end()
        braces, verb = match.groups()
        pieces.append(_slot_piece(parse_slot(braces), language) if braces else _verb_piece(verb, language))
    pieces.append(template[position:])
    return tuple(piece for piece in pieces if piece != "")


def parse(topic: str, english: str, german: str) -> Frame:
    """Read one line of ``frames.tsv``."""
    slots = tuple(parse_slot(match.group(1)) for match in TOKEN.finditer(english) if match.group(1) is not None)
    return Frame(topic, english, german, slots, _compile(english, "english"), _compile(german, "german"))


@cache
def load() -> tuple[Frame, ...]:
    """Read all frames."""
    return tuple(parse(row["topic"], row["english"], row["german"]) for row in lexicon.rows("frames.tsv"))


def _written(pieces: tuple[str | Piece, ...], filling: Filling) -> str:
    return "".join([piece if isinstance(piece, str) else piece(filling) for piece in pieces])


CONTRACTED = re.compile("(?i:" + "|".join(rf"\b{pair.replace(' ', ' ~')}\b" for pair in grammar.CONTRACTIONS) + ")")


def _contraction(match: re.Match[str]) -> str:
    pair = match.group().replace("~", "")
    whole = grammar.CONTRACTIONS[pair[0].lower() + pair[1:]]
    return pair[0] + whole[1:]


def render(frame: Frame, filling: Filling) -> tuple[str, str]:
    """Write a filled frame out in English and in German."""
    english, german = _written(frame.english_pieces, filling), _written(frame.german_pieces, filling)
    if "~" in german:
        german = CONTRACTED.sub(_contraction, german).replace("~", "")
    # A verb without separable prefix leaves a gap.
    german = german.replace("  ", " ").replace(" .", ".").replace(" ?", "?").replace(" !", "!").replace(" ,", ",")
    return english[0].upper() + english[1:], german[0].upper() + german[1:]
