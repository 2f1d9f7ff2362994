"""Sentence frames: the notation of ``frames.tsv``, and the code that writes a filled frame in both languages.

Each line of the file is a frame: topic, English, German. Braces mark slots. Angle brackets mark verbs that agree with
the subject:

    Where is {the adj place}?          Wo ist {der adj place}?
    {who} <need> {a wanted thing}.     {who} <brauchen> {einen wanted thing}.

The last word in a slot is the class of words that can fill it. Both languages use the same name for the same slot. A
digit distinguishes a second slot of the same name ({room} and {room2}), and ``.form`` selects a form of the word.

- A noun class (place, garment, ...) or a single noun, with _ for spaces (town_hall): ``{the adj place}``. A final -s
  makes it plural (``{adj garments}``). ``adj`` adds an adjective that fits the noun. ``wanted`` adds one that people
  ask for (cheap, not dirty). ``=next`` adds the adjective "next" itself. The determiner is the, a, no, this, your, our,
  ``my`` (any possessor) or ``his`` (the subject is the possessor). A German determiner also gives the case, in its
  masculine form: der, den, dem, des; ein, einen, einem; mein, meinen. Without a determiner, nom, acc and dat give the
  case. ``rel-der``, ``rel-den`` and ``rel-dem`` produce only the relative pronoun.
- ``obj``: a noun that fits the verb of the frame. German uses the English determiner, and the verb determines the
  preposition and the case (``{the adj obj}``). ``{not the obj}`` adds nicht in the right place.
- A verb class (act; busy, for acts that take a while; vi; ...). English forms are inf, ing, past and part; without a
  form it is the present tense. German forms are inf, part, aux, zu, wir (with Sie), pre (the prefix) and end (prefix
  and finite verb in one word); without a form it is the finite verb without its prefix.
- A subject: ``who`` is any subject, ``someone`` one person but not a pronoun, ``one`` one person or a singular pronoun,
  ``other`` any subject except I and we. ``{who.he}``, in German ``{who.er}``, is the pronoun that refers back to it.
  ``him`` is an object pronoun, in German ``{him.acc}`` or ``{him.dat}``. German ``{sich}`` and ``{sich.dat}`` are the
  subject's reflexive pronoun. ``{act2}`` and ``<be2>`` agree with the second subject.
- ``adj`` alone: an adjective that fits the first noun of the frame. Its form ``er`` is the comparative, and the
  adjective then also fits the second noun.
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

FrameWord = Noun | Verb | Adjective | Phrase | Subject | Pronoun | Possessive
Filling = dict[str, FrameWord]
Piece = Callable[[Filling], str]

PERSONS = ("ich", "er", "wir")
SUBJECT_SLOTS = ("who", "someone", "one", "other")
"""Names of the slots for a subject."""
SLOT_OR_VERB = re.compile(r"\{([^}]*)\}|<([^>]*)>")
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
    """A parsed slot."""

    determiner: str
    adjective: str
    """"adj", "wanted", "=" followed by an English adjective, or empty."""
    negated: bool
    base: str
    """A noun class, verb class, phrase class or special name."""
    digit: str
    form: str
    plural: bool
    name: str
    """Base and digit: the key under which a filling stores the slot's word."""


@dataclass(frozen=True)
class Frame:
    """A sentence pattern in both languages."""

    topic: str
    english: str
    german: str
    slots: tuple[Slot, ...]
    """The slots of the English side, in order."""
    english_pieces: tuple[str | Piece, ...]
    german_pieces: tuple[str | Piece, ...]


def parse_slot(text: str) -> Slot:
    """Parse the text inside a pair of braces. Raises KeyError if its last word is not a known name."""
    *words, last = text.split()
    last, _, form = last.partition(".")
    digit = last[-1] if last[-1].isdigit() else ""
    base = last.removesuffix(digit)
    words_by_class = lexicon.load_lexicon()
    known = {*SUBJECT_SLOTS, "him", "sich", "adj", "obj", *words_by_class.verbs, *words_by_class.phrases}
    plural = base not in known and base not in words_by_class.nouns
    base = base.removesuffix("s") if plural else base
    if base not in known and base not in words_by_class.nouns:
        raise KeyError(f"{{{text}}}: {base} is not a known class of words.")
    adjective = next((word for word in words if word in ("adj", "wanted") or word.startswith("=")), "")
    determiner = next((word for word in words if word not in ("not", adjective)), "")
    return Slot(determiner, adjective, "not" in words, base, digit, form, plural, base + digit)


def _subject_person(filling: Filling, digit: str) -> str:
    for name in SUBJECT_SLOTS:
        subject = filling.get(name + digit)
        if isinstance(subject, Subject):
            return subject.person
    raise KeyError("a finite verb needs a subject such as {who} with the same digit")


def _subject(filling: Filling) -> Subject:
    subject = next(filling[name] for name in SUBJECT_SLOTS if name in filling)
    assert isinstance(subject, Subject)
    return subject


@cache
def _adjective_by_name(english: str) -> Adjective:
    return next(adjective for adjective in lexicon.load_lexicon().adjectives if adjective.english == english)


def _adjective(slot: Slot, filling: Filling) -> Adjective | None:
    if not slot.adjective:
        return None
    if slot.adjective.startswith("="):
        return _adjective_by_name(slot.adjective[1:])
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
    """Return the determiner, adjective and noun in agreement. A ~ marks a definite article that can contract."""
    gender = "p" if plural else noun.gender
    phrase = [("~" if word == "der" else "") + grammar.determiner(word, gender, case)] if word else []
    if adjective:
        phrase.append(adjective.stem + grammar.adjective_ending(word, gender, case))
    phrase.append(noun.german_form(case, plural))
    return " ".join(phrase)


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
    raise KeyError(f"{{{slot.name}}} needs a verb slot with the same digit")


def _english_verb(slot: Slot, verb: Verb, filling: Filling) -> str:
    if slot.form == "":
        return grammar.english_present(verb.english, _subject_person(filling, slot.digit))
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
    person = _subject_person(filling, slot.digit)
    if slot.form == "aux":
        return grammar.german_present(verb.auxiliary, person)
    # The lexicon lists the er-form of a separable verb with its prefix: "schläft ein".
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
    er = lexicon.load_lexicon().er_forms.get(infinitive, "").partition(" ")[0]
    if language == "english":
        forms = {person: grammar.english_present(infinitive, person) for person in PERSONS}
    else:
        forms = {person: grammar.german_present(infinitive, person, er) for person in PERSONS}
    return lambda filling: forms[_subject_person(filling, digit)]


def _compile_template(template: str, language: str) -> tuple[str | Piece, ...]:
    pieces: list[str | Piece] = []
    position = 0
    for match in SLOT_OR_VERB.finditer(template):
        pieces.append(template[position : match.start()])
        position = match.end()
        braces, verb = match.groups()
        pieces.append(_slot_piece(parse_slot(braces), language) if braces else _verb_piece(verb, language))
    pieces.append(template[position:])
    return tuple(piece for piece in pieces if piece != "")


def parse_frame(topic: str, english: str, german: str) -> Frame:
    """Parse the columns of one line of ``frames.tsv``."""
    slots = tuple(parse_slot(match.group(1)) for match in SLOT_OR_VERB.finditer(english) if match.group(1) is not None)
    return Frame(
        topic, english, german, slots, _compile_template(english, "english"), _compile_template(german, "german")
    )


@cache
def load_frames() -> tuple[Frame, ...]:
    """Read all frames. Later calls return the same tuple."""
    return tuple(parse_frame(row["topic"], row["english"], row["german"]) for row in lexicon.read_table("frames.tsv"))


def _write_pieces(pieces: tuple[str | Piece, ...], filling: Filling) -> str:
    return "".join([piece if isinstance(piece, str) else piece(filling) for piece in pieces])


CONTRACTION = re.compile("(?i:" + "|".join(rf"\b{pair.replace(' ', ' ~')}\b" for pair in grammar.CONTRACTIONS) + ")")


def _contract(match: re.Match[str]) -> str:
    pair = match.group().replace("~", "")
    contraction = grammar.CONTRACTIONS[pair[0].lower() + pair[1:]]
    return pair[0] + contraction[1:]


def render_frame(frame: Frame, filling: Filling) -> tuple[str, str]:
    """Return the English and the German sentence of a filled frame."""
    english, german = _write_pieces(frame.english_pieces, filling), _write_pieces(frame.german_pieces, filling)
    if "~" in german:
        german = CONTRACTION.sub(_contract, german).replace("~", "")
    # The prefix slot of a verb without a separable prefix leaves an extra space.
    german = german.replace("  ", " ").replace(" .", ".").replace(" ?", "?").replace(" !", "!").replace(" ,", ",")
    return english[0].upper() + english[1:], german[0].upper() + german[1:]
