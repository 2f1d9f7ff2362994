"""Lines of two phrasebook sentences belong together, and their words are combined as in the test set."""

import json
import os
import subprocess
import sys
from collections import Counter
from random import Random

import pytest

from transformer_jax.data.phrasebook import frames, generator, two_sentences

# In a subprocess: the type checks of the tests would make generation ten times slower.
PROGRAM = """
import json
from transformer_jax.data.phrasebook import generate, generate_two_sentences, two_sentences

splits = generate()
rows = [
    [row.first.english, row.second.english, list(two_sentences.draw_lines(row, 0))]
    for row in two_sentences.load_two_frames()
]
print(json.dumps([splits, rows, generate_two_sentences(splits)]))
"""


def run_program(hash_seed):
    return subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        check=True,
        text=True,
    ).stdout


@pytest.fixture(scope="module")
def output():
    return run_program("0")


@pytest.fixture(scope="module")
def generated(output):
    return json.loads(output)


@pytest.fixture(scope="module")
def lines(generated):
    return [tuple(line) for line in generated[2]]


@pytest.fixture(scope="module")
def single_sentences(generated):
    """The sentence pairs of which the lines consist."""
    _, rows, lines = generated
    halves = {
        (f"{first[0]} {second[0]}", f"{first[1]} {second[1]}"): (first, second)
        for _, _, drawn in rows
        for first, second in drawn
    }
    return [pair for line in lines for pair in halves[tuple(line)]]


def lines_of(generated, first, second):
    [drawn] = [drawn for *english, drawn in generated[1] if english == [first, second]]
    return [(f"{one[0]} {two[0]}", f"{one[1]} {two[1]}") for one, two in drawn]


def test_there_are_some_hundred_different_lines(lines):
    assert 300 <= len(lines) <= 500
    assert len(set(lines)) == len(lines)


def test_every_row_of_the_file_gives_lines(generated):
    assert [english for *english, drawn in generated[1] if not drawn] == []


def test_no_sentence_is_in_training_or_validation(generated, single_sentences):
    for side in (0, 1):
        known = {pair[side] for split in ("train", "valid") for pair in generated[0][split]}
        assert not known & {pair[side] for pair in single_sentences}


def test_all_words_are_known_from_training(generated, single_sentences):
    for side in (0, 1):
        counts = Counter(word for pair in generated[0]["train"] for word in generator.split_into_words(pair[side]))
        words = {word for pair in single_sentences for word in generator.split_into_words(pair[side])}
        assert min(counts[word] for word in words) >= 10


def test_both_sentences_are_about_the_same_thing(generated):
    line = (
        "Where is the old museum? The old museum is opposite the cathedral.",
        "Wo ist das alte Museum? Das alte Museum ist gegenüber dem Dom.",
    )
    assert line in lines_of(generated, "Where is {the adj place}?", "{the adj place} is opposite {the place2}.")


def test_a_person_becomes_a_pronoun_in_both_languages(generated):
    line = (
        "Did your daughter fill out the new form? She filled out the new form three days ago.",
        "Hat Ihre Tochter das neue Formular ausgefüllt? Sie hat vor drei Tagen das neue Formular ausgefüllt.",
    )
    first, second = "Did {someone} {act.inf} {the adj obj}?", "{who} {act.past} {the adj obj} {past}."
    assert line in lines_of(generated, first, second)


def test_new_subjects_are_named_or_the_speaker():
    """ "He" or "you" would refer to someone of whom the first sentence says nothing."""
    row = two_sentences.TwoFrames(
        *(
            frames.parse_frame("test", english, "")
            for english in ("{the place} is {adj}.", "{who} <know> {the place}.")
        ),
        given={},
        links={},
    )
    seconds = [
        two_sentences._draw_second(row, generator.fill_frame(row.first, Random(n)), Random(n)) for n in range(300)
    ]
    subjects = {second["who"].english for second in seconds if second}
    assert subjects
    assert not subjects & {"you", "he", "she", "they"}


def test_lines_do_not_depend_on_the_hash_seed(output):
    assert run_program("11") == output


def test_lines_are_well_formed(lines):
    for line in lines:
        for text in line:
            assert "  " not in text
            assert not set("{}<>~_") & set(text)
            assert len([word for word in text.split() if word[-1] in ".?!" and word not in ("Mr.", "Mrs.")]) == 2, text
