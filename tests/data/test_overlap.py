"""Which test sentences are trained on is counted exactly, from a text that is read once."""

from transformer_jax.data.overlap import Overlap, count_overlap
from transformer_jax.data.sources import Pair

TEST = [Pair("Yes.", "Ja."), Pair("No.", "Nein."), Pair("Yes.", "Doch."), Pair("Perhaps.", "Vielleicht.")]


def test_sources_and_whole_pairs_are_counted_as_often_as_the_test_has_them():
    training = iter([Pair("Yes.", "Doch."), Pair("No.", "Ne."), Pair("Yes.", "Doch."), Pair("perhaps.", "Vielleicht.")])
    # Both "Yes." and "No." are known, one of them with its translation; "Perhaps." has another case.
    assert count_overlap(TEST, training) == Overlap(sentences=4, sources=3, pairs=1)


def test_a_target_of_another_source_is_no_pair():
    assert count_overlap(TEST, [Pair("Yes.", "Nein."), Pair("Of course.", "Ja.")]) == Overlap(4, 2, 0)


def test_nothing_in_common_is_zero():
    assert count_overlap(TEST, [Pair("Maybe.", "Vielleicht.")]) == Overlap(4, 0, 0)


def test_it_reads_as_a_warning():
    warning = "12 of 1,000 test sentences (1.2%) stand in the training data, 3 with the same translation: "
    assert str(Overlap(1000, 12, 3)).startswith(warning)
