"""The overlap of test set and training text is counted exactly, in one pass over the training text."""

from transformer_jax.data.overlap import Overlap, count_overlap
from transformer_jax.data.sources import Pair

TEST = [Pair("Yes.", "Ja."), Pair("No.", "Nein."), Pair("Yes.", "Doch."), Pair("Perhaps.", "Vielleicht.")]


def test_repeated_test_sentences_are_counted_separately():
    training = iter([Pair("Yes.", "Doch."), Pair("No.", "Ne."), Pair("Yes.", "Doch."), Pair("perhaps.", "Vielleicht.")])
    # "Yes." occurs twice in the test set, once with the same translation. "Perhaps." differs in case.
    assert count_overlap(TEST, training) == Overlap(sentences=4, sources=3, pairs=1)


def test_a_target_of_another_source_does_not_count():
    assert count_overlap(TEST, [Pair("Yes.", "Nein."), Pair("Of course.", "Ja.")]) == Overlap(4, 2, 0)


def test_disjoint_texts_do_not_overlap():
    assert count_overlap(TEST, [Pair("Maybe.", "Vielleicht.")]) == Overlap(4, 0, 0)


def test_overlap_is_formatted_as_a_warning():
    warning = "the training text contains 12 of 1,000 test sentences (1.2%), 3 of them with the same translation"
    assert str(Overlap(1000, 12, 3)) == f"the test score is too high, because {warning}"
