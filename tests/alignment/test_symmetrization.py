"""Symmetrization of two directions: cases by hand, and properties of all alignments."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transformer_jax.alignment.symmetrization import (
    LINK_SYMMETRIZATIONS,
    agreement,
    grow_diagonal,
    grow_diagonal_final_and,
    intersection,
    symmetrize,
    union,
)

some_links = st.frozensets(st.tuples(st.integers(0, 6), st.integers(0, 4)), max_size=13)


def drawn(*rows):
    """Return the links of a drawing with one row per source word: f for forward, r for reverse, b for both."""
    marks = {(source, target): mark for source, row in enumerate(rows) for target, mark in enumerate(row)}
    forward = frozenset(link for link, mark in marks.items() if mark in "fb")
    return forward, frozenset(link for link, mark in marks.items() if mark in "rb")


def test_intersection_and_union():
    links = drawn("b.f", "r..")
    assert intersection(*links) == {(0, 0)}
    assert union(*links) == {(0, 0), (0, 2), (1, 0)}


def test_growing_adds_straight_and_diagonal_neighbours():
    links = drawn(
        "b....",
        ".f...",
        "..r..",
        "....f",
    )
    assert grow_diagonal(*links) == {(0, 0), (1, 1), (2, 2)}


def test_growing_adds_no_link_between_two_linked_words():
    links = drawn(
        "bf",
        "rb",
    )
    assert grow_diagonal(*links) == {(0, 0), (1, 1)}


def test_growing_links_an_unlinked_word_to_a_linked_one():
    assert grow_diagonal(*drawn("bf.", "r..")) == {(0, 0), (0, 1), (1, 0)}


def test_growing_visits_links_by_target_word_like_moses():
    """Both (1, 0) and (1, 2) could link source word 1. The link of the lower target word is visited first."""
    links = drawn(
        "b..",
        "f.r",
        "..b",
    )
    assert grow_diagonal(*links) == {(0, 0), (1, 0), (2, 2)}


def test_the_final_step_links_pairs_of_unlinked_words():
    links = drawn(
        "b....",
        "...f.",
        "....r",
        "...r.",
        "f....",
    )
    # (1, 3) and (2, 4) connect unlinked words. After that target word 3 is linked, as is target word 0 from the start.
    assert grow_diagonal(*links) == {(0, 0)}
    assert grow_diagonal_final_and(*links) == {(0, 0), (1, 3), (2, 4)}


def test_the_final_step_starts_with_the_forward_direction():
    forward, reverse = drawn("f..", "...", "r..")
    assert grow_diagonal_final_and(forward, reverse) == {(0, 0)}
    assert grow_diagonal_final_and(reverse, forward) == {(2, 0)}


@pytest.mark.parametrize("name", LINK_SYMMETRIZATIONS)
@given(forward=some_links, reverse=some_links)
def test_results_are_between_intersection_and_union(name, forward, reverse):
    links = LINK_SYMMETRIZATIONS[name](forward, reverse)
    assert forward & reverse <= links <= forward | reverse


@given(forward=some_links, reverse=some_links)
def test_the_final_step_removes_no_link(forward, reverse):
    assert grow_diagonal(forward, reverse) <= grow_diagonal_final_and(forward, reverse)


@given(some_links)
def test_equal_directions_are_unchanged(same):
    assert {symmetrization(same, same) for symmetrization in LINK_SYMMETRIZATIONS.values()} == {same}


def test_agreement_follows_the_more_certain_model():
    # The first model is uncertain about target word 1, the second about source word 0.
    forward, reverse = np.asarray([[0.8, 0.51], [0.2, 0.49]]), np.asarray([[0.51, 0.49], [0.1, 0.9]])
    assert agreement(forward, reverse) == {(0, 0), (1, 1)}
    assert symmetrize("agreement", forward, reverse) == {(0, 0), (1, 1)}
    assert symmetrize("union", forward, reverse) == {(0, 0), (0, 1), (1, 1)}


def test_agreement_does_not_favour_words_with_large_weights():
    # Source word 0 has the largest weight for both target words, but only by a small margin for target word 1.
    weights = np.asarray([[0.9, 0.55], [0.1, 0.45]])
    assert agreement(weights, weights) == {(0, 0), (1, 1)}


def test_agreement_ignores_words_that_one_model_lacks():
    assert agreement(np.eye(3), np.eye(3)[:2]) == {(0, 0), (1, 1)}
    assert agreement(np.eye(3), np.zeros((0, 0))) == frozenset()
