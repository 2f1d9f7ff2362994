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
def _graded(noun: Noun) -> list[Adjective]:
    return [adjective for adjective in lexicon.load().fitting[noun] if adjective.english_comparative]


@cache
def _candidates(classes: frozenset[str], counted: bool, described: bool, graded: bool) -> tuple[Noun, ...]:
    words = lexicon.load()
    nouns = dict.fromkeys(noun for name in sorted(classes) for noun in words.nouns[name])
    return tuple(
        noun
        for noun in nouns
        if (noun.english_plural or not counted)
        and (words.fitting[noun] or not described)
        and (_graded(noun) or not graded)
    )


@cache
def _is_graded(frame: Frame) -> bool:
    return any(slot.base == "adj" for slot in frame.slots)


def _draw_noun(slot: Slot, frame: Frame, filling: Filling, random: Random) -> Noun:
    classes = frozenset([slot.base])
    if slot.base == "obj":
        classes = next(word.objects for word in filling.values() if isinstance(word, Verb))
    counted = slot.plural or slot.determiner == "a"
    candidates = _candidates(classes, counted, slot.adjective == "adj", _is_graded(frame))
    drawn = [word.word for word in filling.values()]
    while True:
        noun = _choice(random, candidates)
        if noun.word not in drawn:
            return noun


def _draw_subject(slot: Slot, filling: Filling, random: Random) -> Subject:
    others = [word.english for word in filling.values()]
    while True:
        pronoun = slot.base != "someone" and random.random() < 0.6
        subject = _choice(random, SUBJECT_PRONOUNS if pronoun else named_subjects())
        speaker = slot.base == "other" and subject.english in ("I", "we")
        several = slot.base == "someone" and subject.person == "wir"
        if not (speaker or several or subject.english in others):
            return subject


def fill(frame: Frame, random: Random) -> Filling:
    """Draw a word for each slot of a frame, such that the words suit one another."""
    words = lexicon.load()
    filling: Filling = {}
    for slot in frame.slots:
        name, base = slot.name, slot.base
        if name in filling:
            continue
        if base in ("who", "someone", "other"):
            filling[name] = _draw_subject(slot, filling, random)
        elif base == "him":
            # In a frame without subject slot, whoever is spoken to is no object.
            who = filling.get("who")
            filling[name] = draw_pronoun(random, who.english if who else "you")
        elif base == "adj":
            filling[name] = _choice(random, next(_graded(word) for word in filling.values() if isinstance(word, Noun)))
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
            if slot.adjective == "adj":
                filling["adj of " + name] = _choice(random, words.fitting[noun])
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
