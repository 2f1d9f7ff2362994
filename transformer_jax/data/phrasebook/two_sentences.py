"""Lines of two sentences that belong together, such as a question and its answer.

Each line of ``two_sentences.tsv`` names two frames of ``frames.tsv`` by their English text. The second frame takes the
words of the first one from the slots of the same name. Two columns of ``slot=word`` entries, separated by semicolons,
change this:

- ``given``: words of the first frame that are not drawn (who=I).
- ``links``: a slot of the second frame and its word. It is a slot of the first frame (garment=womens), an English word
  (who=I, weak=sick), or nothing if the word must be drawn (clock=). ``my relative`` is the possessor of ``relative``.

A subject of the second frame that is taken from the first one becomes a pronoun: he, she or they. Things are repeated
by name, because the German translation of "it" depends on the sentence before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from transformer_jax.data.phrasebook import frames, lexicon
from transformer_jax.data.phrasebook.frames import Filling, Frame, FrameWord, Slot
from transformer_jax.data.phrasebook.generator import (
    SentencePairs,
    choose_split,
    combination_of,
    fill_frame,
    keep_known_words,
    words_fit,
)
from transformer_jax.data.phrasebook.lexicon import Noun
from transformer_jax.data.phrasebook.subjects import OBJECT_PRONOUNS, POSSESSIVES, SUBJECT_PRONOUNS, Pronoun, Subject

LINES_PER_ROW = 8
"""Maximum number of lines per row of the file."""
FIRST_DRAWS, SECOND_DRAWS = 3000, 100
"""Draws per row for the first sentence, and for a second one that follows it. About one in 60 is held out."""


@dataclass(frozen=True)
class TwoFrames:
    """A row of the file."""

    first: Frame
    second: Frame
    given: Mapping[str, str]
    links: Mapping[str, str]


def load_two_frames() -> list[TwoFrames]:
    """Read all rows of the file."""
    frame_by_english = {frame.english: frame for frame in frames.load_frames()}

    def entries(column: str) -> dict[str, str]:
        pairs = [entry.split("=") for entry in column.split(";") if entry.strip()]
        return {slot.strip(): word.strip() for slot, word in pairs}

    return [
        TwoFrames(
            frame_by_english[row["first"]],
            frame_by_english[row["second"]],
            entries(row["given"]),
            entries(row["links"]),
        )
        for row in lexicon.read_table("two_sentences.tsv")
    ]


def _find_word(name: str, english: str) -> FrameWord:
    """Return the word for a slot, or for the possessor of a slot ("my relative"), by its English form."""
    base = name.rstrip("0123456789")
    candidates: Iterable[FrameWord]
    if name.startswith("my "):
        candidates = POSSESSIVES
    elif base in frames.SUBJECT_SLOTS:
        candidates = SUBJECT_PRONOUNS
    else:
        candidates = OBJECT_PRONOUNS if base == "him" else lexicon.load_lexicon().phrases[base]
    return next(word for word in candidates if word.english == english)


def _pronoun_subject(word: FrameWord) -> Subject | None:
    """Return the pronoun for a person who has been named; None if the two languages differ or it is not a person."""
    if isinstance(word, Subject):
        english = word.english_pronoun
    elif isinstance(word, Noun) and "human" in word.classes:
        # German neuter nouns such as "das Kind" have no unambiguous pronoun in English.
        english = {"m": "he", "f": "she"}.get(word.gender, "")
    else:
        return None
    return next((subject for subject in SUBJECT_PRONOUNS if subject.english == english), None)


def _refer_to(slot: Slot, word: FrameWord) -> FrameWord | None:
    """Return the form in which a slot of the second frame takes a word of the first one; None if there is none."""
    if slot.base not in ("who", "one", "other", "him") or isinstance(word, Pronoun):
        return word
    subject = _pronoun_subject(word)
    return OBJECT_PRONOUNS[SUBJECT_PRONOUNS.index(subject)] if subject and slot.base == "him" else subject


def _shared_words(row: TwoFrames, first: Filling) -> Filling | None:
    """Return the words of the second frame that follow from the first one; None if one of them does not fit."""
    shared: Filling = {}
    for slot in row.second.slots:
        source = row.links.get(slot.name, slot.name)
        if source in first:
            word = _refer_to(slot, first[source])
            if word is None:
                return None
            shared[slot.name] = word
            if slot.adjective in ("adj", "wanted") and "adj of " + source in first:
                shared["adj of " + slot.name] = first["adj of " + source]
            if slot.determiner == "my" and "my " + source in first:
                shared["my " + slot.name] = first["my " + source]
        elif row.links.get(slot.name):
            shared[slot.name] = _find_word(slot.name, source)
        possessor = "my " + slot.name
        if possessor in row.links:
            shared[possessor] = _find_word(possessor, row.links[possessor])
    # Without a subject, the frame addresses "you": "Can you lend you a hammer?"
    is_about_you = any(isinstance(word, Pronoun) and word.english == "you" for word in shared.values())
    if (is_about_you and " you " in row.second.english) or not words_fit(row.second, shared):
        return None
    return shared


def _draw_second(row: TwoFrames, first: Filling, random: Random) -> Filling | None:
    """Return a held-out filling of the second frame that follows the first one; None if none was found."""
    shared = _shared_words(row, first)
    if shared is None:
        return None
    for _ in range(SECOND_DRAWS):
        second = fill_frame(row.second, random, shared)
        new_words = [word for name, word in second.items() if name not in shared]
        if choose_split(combination_of(second)) == "test" and all(_is_new(word, first) for word in new_words):
            return second
    return None


def _is_new(word: FrameWord, first: Filling) -> bool:
    """Return whether a word that only the second sentence has can follow the first sentence.

    It does not repeat a word, and it is not a pronoun that refers to someone of whom the first sentence says nothing.
    """
    if isinstance(word, Subject | Pronoun) and not word.key:
        return word.english in ("I", "we", "me", "us")
    return not word.key or word.key not in combination_of(first)


def draw_lines(row: TwoFrames, seed: int) -> Iterator[tuple[tuple[str, str], tuple[str, str]]]:
    """Yield lines of a row, each as the sentence pair of its first and of its second frame."""
    # The seed depends on the row, so that a change of one row leaves the lines of all others as they are.
    random = Random(f"{seed} {row.first.english} {row.second.english}")
    given = {name: _find_word(name, english) for name, english in row.given.items()}
    seen: set[tuple[str, str]] = set()
    for _ in range(FIRST_DRAWS):
        first = fill_frame(row.first, random, given)
        if choose_split(combination_of(first)) != "test":
            continue
        second = _draw_second(row, first, random)
        if second is None:
            continue
        line = frames.render_frame(row.first, first), frames.render_frame(row.second, second)
        # A row with few held-out combinations gives fewer lines instead of nearly equal ones.
        if seen.isdisjoint(line):
            seen.update(line)
            yield line
        if len(seen) == 2 * LINES_PER_ROW:
            return


def generate_two_sentences(splits: Mapping[str, Sequence[tuple[str, str]]], seed: int = 0) -> SentencePairs:
    """Return lines of two sentences as (English, German), shuffled.

    splits: the corpus of ``generator.generate``. The combination of words of each sentence belongs to its test set,
    and all words occur at least MIN_TRAINING_COUNT times in its training text. No sentence of either language is in
    its training or validation set.
    """
    lines = [line for row in load_two_frames() for line in draw_lines(row, seed)]
    known = set(keep_known_words([pair for line in lines for pair in line], splits["train"]))
    seen = {sentence for split in ("train", "valid") for pair in splits[split] for sentence in pair}
    kept = [
        (f"{first[0]} {second[0]}", f"{first[1]} {second[1]}")
        for first, second in lines
        if {first, second} <= known and seen.isdisjoint((*first, *second))
    ]
    Random(seed).shuffle(kept)
    return list(dict.fromkeys(kept))
