"""The corpus: every frame filled many times at random; the test gets combinations of words not seen in training."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import TypeVar

from transformer_jax.data.phrasebook import frames, lexicon
from transformer_jax.data.phrasebook.frames import Filling, Frame, Slot
from transformer_jax.data.phrasebook.lexicon import Adjective, Noun, Verb
from transformer_jax.data.phrasebook.subjects import (
    POSSESSIVES,
    SUBJECT_PRONOUNS,
    Subject,
    draw_pronoun,
    named_subjects,
)

Pairs = list[tuple[str, str]]
Item = TypeVar("Item")

DRAWS = 92
"""Sentences drawn from a frame for each of its slots."""
HELD_OUT = 60
"""One combination of words in this many goes to validation, another to the test."""
LEAST_COUNT = 10
"""Every token of a validation or test sentence occurs at least this often in training."""
LARGEST = 1000
"""Sentences in validation and in the test, at most."""


@dataclass(frozen=True)
class Sentence:
    """One pair, and what it was made of."""

    frame: Frame
    combination: tuple[str, ...]
    """The words that fill the frame, in alphabetical order; pronouns and possessives do not count."""
    english: str
    german: str


def _choice(random: Random, items: Sequence[Item]) -> Item:
    # Several times as fast as Random.choice, and as even for lists as short as these.
    return items[int(random.random() * len(items))]


@cache
def _describing(noun: Noun, kind: str) -> list[Adjective]:
    """Return what an adjective slot, "adj" or "wanted", may hold before a noun."""
    return [word for word in lexicon.load().fitting[noun] if word.asked_for or kind == "adj"]


@cache
def _graded(noun: Noun, rivals: str) -> list[Adjective]:
    """Return the adjectives with degrees that fit a noun and, if ``rivals`` names a class, another noun of it."""
    fitting = lexicon.load().fitting
    others = [other for other in lexicon.load().nouns.get(rivals, []) if other is not noun]
    return [
        adjective
        for adjective in fitting[noun]
        if adjective.english_comparative and (not rivals or any(adjective in fitting[other] for other in others))
    ]


@cache
def _rivals(frame: Frame) -> str:
    """Return the class of the noun that a frame compares another with by {adj.er}, or nothing."""
    compares = any(slot.base == "adj" and slot.form == "er" for slot in frame.slots)
    return next(slot.base for slot in frame.slots if slot.digit) if compares else ""


@cache
def _own_words(frame: Frame) -> frozenset[str]:
    """Return the words that a frame says itself; what fills it does not say them again."""
    text = " ".join(piece for piece in frame.english_pieces if isinstance(piece, str))
    return frozenset(tokens(text.lower()))


@cache
def _candidates(classes: frozenset[str], counted: bool, described: str, frame: Frame) -> tuple[Noun, ...]:
    words = lexicon.load()
    nouns = dict.fromkeys(noun for name in sorted(classes) for noun in words.nouns[name])
    return tuple(
        noun
        for noun in nouns
        if (noun.english_plural or not counted)
        and (not described or _describing(noun, described))
        and (not _is_graded(frame) or _graded(noun, _rivals(frame)))
        and noun.word not in _own_words(frame)
    )


@cache
def _is_graded(frame: Frame) -> bool:
    return any(slot.base == "adj" for slot in frame.slots)


def _draw_noun(slot: Slot, frame: Frame, filling: Filling, random: Random) -> Noun:
    classes = frozenset([slot.base])
    if slot.base == "obj":
        classes = next(word.objects for word in filling.values() if isinstance(word, Verb))
    counted = slot.plural or slot.determiner == "a"
    described = slot.adjective if slot.adjective in ("adj", "wanted") else ""
    candidates = _candidates(classes, counted, described, frame)
    drawn = [word.word for word in filling.values()]
    # Both nouns of a comparison have the quality in which they are compared.
    quality = filling.get("adj")
    while True:
        noun = _choice(random, candidates)
        if noun.word not in drawn and (quality is None or quality in lexicon.load().fitting[noun]):
            return noun


def _draw_subject(slot: Slot, frame: Frame, filling: Filling, random: Random) -> Subject:
    others = [word.english for word in filling.values()]
    said = _own_words(frame) | {word.word for word in filling.values() if isinstance(word, Noun)}
    while True:
        pronoun = slot.base != "someone" and random.random() < 0.6
        subject = _choice(random, SUBJECT_PRONOUNS if pronoun else named_subjects())
        speaker = slot.base == "other" and subject.english in ("I", "we")
        several = slot.base in ("someone", "one") and subject.english_pronoun in ("we", "they")
        if not (speaker or several or subject.english in others or subject.word in said):
            return subject


def fill(frame: Frame, random: Random) -> Filling:
    """Draw a word for each slot of a frame, such that the words suit one another."""
    words = lexicon.load()
    filling: Filling = {}
    for slot in frame.slots:
        name, base = slot.name, slot.base
        if name in filling:
            continue
        if base in frames.SUBJECTS:
            filling[name] = _draw_subject(slot, frame, filling, random)
        elif base == "him":
            # In a frame without subject slot, whoever is spoken to is no object.
            who = filling.get("who")
            filling[name] = draw_pronoun(random, who.english if who else "you")
        elif base == "adj":
            noun = next(word for word in filling.values() if isinstance(word, Noun))
            filling[name] = _choice(random, _graded(noun, _rivals(frame)))
        elif base in words.phrases:
            phrase = _choice(random, words.phrases[base])
            while phrase in filling.values():
                phrase = _choice(random, words.phrases[base])
            filling[name] = phrase
        elif base in words.verbs:
            filling[name] = _choice(random, words.verbs[base])
        else:
            noun = _draw_noun(slot, frame, filling, random)
            filling[name] = noun
            if slot.adjective in ("adj", "wanted"):
                filling["adj of " + name] = _choice(random, _describing(noun, slot.adjective))
            if slot.determiner == "my":
                filling["my " + name] = _choice(random, POSSESSIVES[:4] if "body" in noun.classes else POSSESSIVES)
    return filling


def draw(seed: int) -> Iterator[Sentence]:
    """Yield the sentences of every frame, drawn at random, with repetitions."""
    random = Random(seed)
    for frame in frames.load():
        for _ in range(DRAWS * len({slot.name for slot in frame.slots}) or 1):
            filling = fill(frame, random)
            combination = tuple(sorted([word.word for word in filling.values() if word.word]))
            yield Sentence(frame, combination, *frames.render(frame, filling))


def split_of(combination: tuple[str, ...]) -> str:
    """Return the split of a combination of words: almost always train, and always for a single word."""
    if len(combination) < 2:
        return "train"
    # Mixed by a multiplication, as the remainder of a plain CRC depends on few of its bits.
    mixed = zlib.crc32("|".join(combination).encode()) * 2654435761 % 2**32
    return {0: "valid", 1: "test"}.get((mixed >> 10) % HELD_OUT, "train")


def tokens(sentence: str) -> list[str]:
    """Split a sentence into words, without punctuation, for counting."""
    return sentence.replace(",", "").rstrip(".?!").split()


def _known(pairs: Pairs, train: Pairs) -> Pairs:
    """Return the pairs whose every token is frequent in training, on its own side."""
    english, german = (Counter(token for pair in train for token in tokens(pair[side])) for side in (0, 1))
    return [
        pair
        for pair in pairs
        if all(english[token] >= LEAST_COUNT for token in tokens(pair[0]))
        and all(german[token] >= LEAST_COUNT for token in tokens(pair[1]))
    ]


def generate(seed: int = 0) -> dict[str, Pairs]:
    """Return the corpus: {"train": [(English, German), ...], "valid": [...], "test": [...]}, each shuffled.

    The same seed gives the same corpus. No sentence of either language is in two splits, and no combination of words of
    a validation or test sentence is in training, in whatever frame.
    """
    splits: dict[str, Pairs] = {"train": [], "valid": [], "test": []}
    seen: set[str] = set()
    split_of_german: dict[str, str] = {}
    for sentence in draw(seed):
        split = split_of(sentence.combination)
        if sentence.english in seen or split_of_german.setdefault(sentence.german, split) != split:
            continue
        seen.add(sentence.english)
        splits[split].append((sentence.english, sentence.german))
    random = Random(seed)
    for pairs in splits.values():
        random.shuffle(pairs)
    held_out = {split: _known(splits[split], splits["train"])[:LARGEST] for split in ("valid", "test")}
    return {"train": splits["train"], **held_out}
