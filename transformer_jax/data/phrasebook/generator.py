"""Generation of the phrasebook: every frame is filled at random. Validation and test sets have unseen word
combinations."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import TypeVar

from transformer_jax.data.phrasebook import frames, lexicon
from transformer_jax.data.phrasebook.frames import Filling, Frame, FrameWord, Slot
from transformer_jax.data.phrasebook.lexicon import Adjective, Noun, Phrase, Verb
from transformer_jax.data.phrasebook.subjects import (
    POSSESSIVES,
    SUBJECT_PRONOUNS,
    Subject,
    draw_pronoun,
    named_subjects,
)

SentencePairs = list[tuple[str, str]]
Item = TypeVar("Item")

DRAWS_PER_SLOT = 92
"""Number of sentences drawn per slot of a frame."""
HELD_OUT_INTERVAL = 60
"""One in this many combinations of words goes to validation, and one to the test set."""
MIN_TRAINING_COUNT = 10
"""Minimum number of training occurrences of every word in a validation or test sentence."""
MAX_HELD_OUT_PAIRS = 1000
"""Maximum number of sentence pairs in validation and in the test set."""


@dataclass(frozen=True)
class Sentence:
    """A sentence pair with its frame and the words that fill it."""

    frame: Frame
    combination: tuple[str, ...]
    """See ``combination_of``."""
    english: str
    german: str


def _choice(random: Random, items: Sequence[Item]) -> Item:
    # Several times faster than Random.choice, and as uniform for such short lists.
    return items[int(random.random() * len(items))]


@cache
def _describing_adjectives(noun: Noun, kind: str) -> list[Adjective]:
    """Return the adjectives that can precede a noun in an adjective slot ("adj" or "wanted")."""
    return [word for word in lexicon.load_lexicon().fitting_adjectives[noun] if word.asked_for or kind == "adj"]


@cache
def _gradable_adjectives(noun: Noun, compared_class: str) -> list[Adjective]:
    """Return the gradable adjectives that fit a noun.

    compared_class: if not empty, the adjectives must also fit another noun of this class.
    """
    fitting_adjectives = lexicon.load_lexicon().fitting_adjectives
    others = [other for other in lexicon.load_lexicon().nouns.get(compared_class, []) if other is not noun]
    return [
        adjective
        for adjective in fitting_adjectives[noun]
        if adjective.english_comparative
        and (not compared_class or any(adjective in fitting_adjectives[other] for other in others))
    ]


@cache
def _compared_class(frame: Frame) -> str:
    """Return the class of the second noun of a comparison with {adj.er}, or "" if the frame does not compare."""
    compares = any(slot.base == "adj" and slot.form == "er" for slot in frame.slots)
    return next(slot.base for slot in frame.slots if slot.digit) if compares else ""


@cache
def _frame_words(frame: Frame) -> frozenset[str]:
    """Return the fixed words of a frame. Its slots must not repeat them."""
    text = " ".join(piece for piece in frame.english_pieces if isinstance(piece, str))
    return frozenset(split_into_words(text.lower()))


@cache
def _noun_candidates(classes: frozenset[str], counted: bool, described: str, frame: Frame) -> tuple[Noun, ...]:
    words = lexicon.load_lexicon()
    nouns = dict.fromkeys(noun for name in sorted(classes) for noun in words.nouns[name])
    return tuple(
        noun
        for noun in nouns
        if (noun.english_plural or not counted)
        and (not described or _describing_adjectives(noun, described))
        and (not _has_lone_adjective(frame) or _gradable_adjectives(noun, _compared_class(frame)))
        and noun.key not in _frame_words(frame)
    )


@cache
def _has_lone_adjective(frame: Frame) -> bool:
    return any(slot.base == "adj" for slot in frame.slots)


def _candidates_of(slot: Slot, frame: Frame, filling: Filling) -> tuple[Noun, ...]:
    classes = frozenset([slot.base])
    if slot.base == "obj":
        classes = next(word.objects for word in filling.values() if isinstance(word, Verb))
    counted = slot.plural or slot.determiner == "a"
    described = slot.adjective if slot.adjective in ("adj", "wanted") else ""
    return _noun_candidates(classes, counted, described, frame)


def _draw_noun(slot: Slot, frame: Frame, filling: Filling, random: Random) -> Noun:
    candidates = _candidates_of(slot, frame, filling)
    drawn = [word.key for word in filling.values()]
    # The adjective of a comparison must fit both nouns.
    quality = filling.get("adj")
    while True:
        noun = _choice(random, candidates)
        if noun.key not in drawn and (quality is None or quality in lexicon.load_lexicon().fitting_adjectives[noun]):
            return noun


def _draw_subject(slot: Slot, frame: Frame, filling: Filling, random: Random) -> Subject:
    others = [word.english for word in filling.values()]
    used = _frame_words(frame) | {word.key for word in filling.values() if isinstance(word, Noun)}
    while True:
        pronoun = slot.base != "someone" and random.random() < 0.6
        subject = _choice(random, SUBJECT_PRONOUNS if pronoun else named_subjects())
        is_speaker = slot.base == "other" and subject.english in ("I", "we")
        is_plural = slot.base in ("someone", "one") and subject.english_pronoun in ("we", "they")
        if not (is_speaker or is_plural or subject.english in others or subject.key in used):
            return subject


def _draw_word(slot: Slot, frame: Frame, filling: Filling, random: Random) -> FrameWord:
    words = lexicon.load_lexicon()
    base = slot.base
    if base in frames.SUBJECT_SLOTS:
        return _draw_subject(slot, frame, filling, random)
    if base == "him":
        # A frame without a subject slot addresses "you", which therefore does not occur as an object.
        subject = filling.get("who")
        return draw_pronoun(random, subject.english if subject else "you")
    if base == "adj":
        noun = next(word for word in filling.values() if isinstance(word, Noun))
        return _choice(random, _gradable_adjectives(noun, _compared_class(frame)))
    if base in words.phrases:
        phrase = _choice(random, words.phrases[base])
        while phrase in filling.values():
            phrase = _choice(random, words.phrases[base])
        return phrase
    if base in words.verbs:
        return _choice(random, words.verbs[base])
    return _draw_noun(slot, frame, filling, random)


def fill_frame(frame: Frame, random: Random, given: Filling | None = None) -> Filling:
    """Draw a word for each slot of a frame so that the words fit together.

    given: words that are not drawn. They must fit, see ``words_fit``.
    """
    filling: Filling = dict(given or {})
    for slot in frame.slots:
        if slot.name not in filling:
            filling[slot.name] = _draw_word(slot, frame, filling, random)
        noun, adjective, possessor = filling[slot.name], "adj of " + slot.name, "my " + slot.name
        if not isinstance(noun, Noun):
            continue
        if slot.adjective in ("adj", "wanted") and adjective not in filling:
            filling[adjective] = _choice(random, _describing_adjectives(noun, slot.adjective))
        if slot.determiner == "my" and possessor not in filling:
            filling[possessor] = _choice(random, POSSESSIVES[:4] if "body" in noun.classes else POSSESSIVES)
    return filling


def words_fit(frame: Frame, given: Filling) -> bool:
    """Return whether ``fill_frame`` could have drawn these nouns, adjectives, verbs and phrases itself."""
    words = lexicon.load_lexicon()
    for slot in frame.slots:
        word = given.get(slot.name)
        if isinstance(word, Noun):
            adjective = given.get("adj of " + slot.name)
            fits = word in _candidates_of(slot, frame, given) and (
                not isinstance(adjective, Adjective) or adjective in _describing_adjectives(word, slot.adjective)
            )
        elif isinstance(word, Adjective):
            noun = next(other for other in given.values() if isinstance(other, Noun))
            fits = word in _gradable_adjectives(noun, _compared_class(frame))
        elif isinstance(word, Verb):
            fits = slot.base in word.kinds
        elif isinstance(word, Phrase):
            fits = word in words.phrases[slot.base]
        else:
            fits = True
        if not fits:
            return False
    return True


def draw_sentences(seed: int) -> Iterator[Sentence]:
    """Yield random sentences of every frame, with repetitions."""
    random = Random(seed)
    for frame in frames.load_frames():
        for _ in range(DRAWS_PER_SLOT * len({slot.name for slot in frame.slots}) or 1):
            filling = fill_frame(frame, random)
            yield Sentence(frame, combination_of(filling), *frames.render_frame(frame, filling))


def combination_of(filling: Filling) -> tuple[str, ...]:
    """Return the words that fill a frame, sorted, without pronouns and possessives."""
    return tuple(sorted([word.key for word in filling.values() if word.key]))


def choose_split(combination: tuple[str, ...]) -> str:
    """Return the split of a combination of words. A single word always belongs to train."""
    if len(combination) < 2:
        return "train"
    # The multiplication mixes the bits: the remainder of a plain CRC depends on few of them.
    mixed = zlib.crc32("|".join(combination).encode()) * 2654435761 % 2**32
    return {0: "valid", 1: "test"}.get((mixed >> 10) % HELD_OUT_INTERVAL, "train")


def split_into_words(sentence: str) -> list[str]:
    """Return the words of a sentence, without punctuation."""
    return sentence.replace(",", "").rstrip(".?!").split()


def keep_known_words(pairs: SentencePairs, train: Sequence[tuple[str, str]]) -> SentencePairs:
    """Return the pairs whose words all occur at least MIN_TRAINING_COUNT times in the training text."""
    english, german = (Counter(word for pair in train for word in split_into_words(pair[side])) for side in (0, 1))
    return [
        pair
        for pair in pairs
        if all(english[word] >= MIN_TRAINING_COUNT for word in split_into_words(pair[0]))
        and all(german[word] >= MIN_TRAINING_COUNT for word in split_into_words(pair[1]))
    ]


def generate(seed: int = 0) -> dict[str, SentencePairs]:
    """Return the corpus: {"train": [(English, German), ...], "valid": [...], "test": [...]}, each shuffled.

    The same seed gives the same corpus. No sentence of either language is in two splits. No combination of words in a
    validation or test sentence occurs in training, in any frame.
    """
    splits: dict[str, SentencePairs] = {"train": [], "valid": [], "test": []}
    seen: set[str] = set()
    split_of_german: dict[str, str] = {}
    for sentence in draw_sentences(seed):
        split = choose_split(sentence.combination)
        if sentence.english in seen or split_of_german.setdefault(sentence.german, split) != split:
            continue
        seen.add(sentence.english)
        splits[split].append((sentence.english, sentence.german))
    random = Random(seed)
    for pairs in splits.values():
        random.shuffle(pairs)
    held_out = {
        split: keep_known_words(splits[split], splits["train"])[:MAX_HELD_OUT_PAIRS] for split in ("valid", "test")
    }
    return {"train": splits["train"], **held_out}
