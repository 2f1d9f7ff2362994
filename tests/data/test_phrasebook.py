"""The phrasebook corpus is large, has one translation per sentence, and tests unseen combinations of words."""

import json
import os
import subprocess
import sys
from collections import Counter

import pytest

from transformer_jax.data.phrasebook import frames, generate, generator, grammar, lexicon

# Run in subprocesses: the type checks of the tests would make generation ten times slower.
GENERATE = "print(json.dumps(generator.generate(0)))"
DRAW = "print(json.dumps([(s.english, s.german, s.combination, s.frame.english) for s in generator.draw_sentences(0)]))"


def output(program, hash_seed="0"):
    return subprocess.run(
        [sys.executable, "-c", f"import json; from transformer_jax.data.phrasebook import generator; {program}"],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        check=True,
        text=True,
    ).stdout


@pytest.fixture(scope="session")
def generated():
    return output(GENERATE)


@pytest.fixture(scope="session")
def corpus(generated):
    return {split: [tuple(pair) for pair in pairs] for split, pairs in json.loads(generated).items()}


@pytest.fixture(scope="session")
def drawn():
    return json.loads(output(DRAW))


@pytest.fixture(scope="session")
def pairs(corpus):
    return [pair for split in corpus.values() for pair in split]


@pytest.fixture(scope="session")
def train_counts(corpus):
    return [
        Counter(word for pair in corpus["train"] for word in generator.split_into_words(pair[side])) for side in (0, 1)
    ]


def test_lexicon_and_corpus_have_the_promised_size(corpus, pairs):
    words = lexicon.load_lexicon()
    nouns = {noun.english for group in words.nouns.values() for noun in group}
    verbs = {entry.english for group in words.verbs.values() for entry in group}
    adjectives = {adjective.english for adjective in words.adjectives}
    assert len(nouns) + len(verbs) + len(adjectives) >= 700
    assert len({frame.topic for frame in frames.load_frames()}) >= 12
    assert len(frames.load_frames()) >= 150
    assert len(set(pairs)) == len(pairs) >= 60_000
    assert 500 <= len(corpus["valid"]) <= 1000
    assert 500 <= len(corpus["test"]) <= 1000


def test_every_word_occurs_at_least_20_times_in_training(corpus):
    counts = Counter()
    for english, _ in corpus["train"]:
        words = generator.split_into_words(english.lower())
        counts.update(words)
        counts.update(" ".join(words[i : i + 2]) for i in range(len(words) - 1))
        counts.update(" ".join(words[i : i + 3]) for i in range(len(words) - 2))

    def times(*forms):
        return sum(counts[form] for form in {form.lower() for form in forms} - {""})

    words = lexicon.load_lexicon()
    for noun in {noun for group in words.nouns.values() for noun in group}:
        assert times(noun.english, noun.english_plural) >= 20, noun.english
    for adjective in words.adjectives:
        assert times(adjective.english, adjective.english_comparative) >= 20, adjective.english
    for entry in {entry for group in words.verbs.values() for entry in group}:
        ing, third = grammar.english_ing(entry.english), grammar.english_present(entry.english, "er")
        assert times(entry.english, entry.past, entry.participle, ing, third) >= 20, entry.english


def test_every_class_named_in_the_lexicon_exists():
    words = lexicon.load_lexicon()
    for adjective in words.adjectives:
        assert adjective.classes <= words.nouns.keys(), adjective.english
    for group in words.verbs.values():
        for entry in group:
            assert entry.objects <= words.nouns.keys(), entry.english


def test_no_english_word_has_two_translations_in_one_role():
    words = lexicon.load_lexicon()
    nouns = {noun for group in words.nouns.values() for noun in group}
    assert len({noun.english for noun in nouns}) == len(nouns)
    assert len({adjective.english for adjective in words.adjectives}) == len(words.adjectives)
    assert len({frame.english for frame in frames.load_frames()}) == len(frames.load_frames())


def test_each_english_sentence_has_one_translation(drawn):
    """This holds for all drawn sentences, before the corpus drops repeated ones."""
    assert len(drawn) > 80_000
    german_of = {}
    for english, german, _, _ in drawn:
        assert german_of.setdefault(english, german) == german, english


def test_splits_share_no_sentence(corpus):
    for side in (0, 1):
        train, valid, test = ({pair[side] for pair in corpus[split]} for split in ("train", "valid", "test"))
        assert not train & valid
        assert not train & test
        assert not valid & test


def test_held_out_combinations_are_unseen_in_training(corpus, drawn):
    """A combination consists of the words that fill a sentence, in any frame. Held-out frames do occur in training."""
    # The corpus keeps the first draw of a sentence.
    origin_of = {english: (tuple(words), frame) for english, _, words, frame in reversed(drawn)}
    trained = [origin_of[english] for english, _ in corpus["train"]]
    trained_combinations = {words for words, _ in trained}
    trained_frames = {frame for _, frame in trained}
    assert trained_frames == {frame.english for frame in frames.load_frames()}
    for english, _ in corpus["valid"] + corpus["test"]:
        words, frame = origin_of[english]
        assert len(words) >= 2
        assert words not in trained_combinations
        assert frame in trained_frames


@pytest.mark.parametrize("split", ["valid", "test"])
def test_held_out_words_are_known_from_training(corpus, train_counts, split):
    for pair in corpus[split]:
        for sentence, counts in zip(pair, train_counts, strict=True):
            for word in generator.split_into_words(sentence):
                assert counts[word] >= 10, (word, sentence)


def test_sentences_are_well_formed(pairs):
    for pair in pairs:
        for sentence in pair:
            assert "  " not in sentence
            assert sentence == sentence.strip()
            assert sentence[0].isupper(), sentence
            assert sentence[-1] in ".?!", sentence
            assert not any(f" {mark}" in sentence for mark in ".,?!"), sentence
            assert len(sentence.split()) <= 16, sentence


def test_corpus_does_not_depend_on_the_hash_seed(generated):
    assert output(GENERATE, hash_seed="11") == generated


def test_different_seeds_give_different_corpora(monkeypatch):
    monkeypatch.setattr(generator, "DRAWS_PER_SLOT", 1)
    assert generate(0)["train"] == generate(0)["train"] != generate(1)["train"]
