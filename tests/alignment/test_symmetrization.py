"""Two directions put together: cases drawn by hand, and what holds for any two alignments."""

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

links = st.frozensets(st.tuples(st.integers(0, 6), st.integers(0, 4)), max_size=13)


def drawn(*rows):
    """Links from a drawing, source words down, target words across: f forward, r reverse, b both."""
    points = {(i, j): mark for i, row in enumerate(rows) for j, mark in enumerate(row)}
    forward = frozenset(point for point, mark in points.items() if mark in "fb")
    return forward, frozenset(point for point, mark in points.items() if mark in "rb")


def test_intersection_and_union():
    both = drawn("b.f", "r..")
    assert intersection(*both) == {(0, 0)}
    assert union(*both) == {(0, 0), (0, 2), (1, 0)}


def test_growing_adds_neighbours_of_either_direction_also_at_corners_and_their_neighbours():
    both = drawn(
        "b....",
        ".f...",
        "..r..",
        "....f",
    )
    assert grow_diagonal(*both) == {(0, 0), (1, 1), (2, 2)}


def test_growing_adds_no_link_between_two_words_that_have_links():
    both = drawn(
        "bf",
        "rb",
    )
    assert grow_diagonal(*both) == {(0, 0), (1, 1)}


def test_growing_links_a_word_without_links_to_one_with():
    assert grow_diagonal(*drawn("bf.", "r..")) == {(0, 0), (0, 1), (1, 0)}


def test_growing_visits_links_by_target_word_as_moses_does():
    """(1, 0) and (1, 2) would each do for the source word 1; the link of the first target word is visited first."""
    both = drawn(
        "b..",
        "f.r",
        "..b",
    )
    assert grow_diagonal(*both) == {(0, 0), (1, 0), (2, 2)}


def test_the_last_step_adds_links_between_words_that_both_have_none():
    both = drawn(
        "b....",
        "...f.",
        "....r",
        "...r.",
        "f....",
    )
    # (1, 3) and (2, 4) join words without links; then the target word 3 has one, and 0 always had.
    assert grow_diagonal(*both) == {(0, 0)}
    assert grow_diagonal_final_and(*both) == {(0, 0), (1, 3), (2, 4)}


def test_in_the_last_step_the_forward_direction_comes_first():
    forward, reverse = drawn("f..", "...", "r..")
    assert grow_diagonal_final_and(forward, reverse) == {(0, 0)}
    assert grow_diagonal_final_and(reverse, forward) == {(2, 0)}


@pytest.mark.parametrize("name", LINK_SYMMETRIZATIONS)
@given(forward=links, reverse=links)
def test_the_result_lies_between_intersection_and_union(name, forward, reverse):
    found = LINK_SYMMETRIZATIONS[name](forward, reverse)
    assert forward & reverse <= found <= forward | reverse


@given(forward=links, reverse=links)
def test_each_step_only_adds(forward, reverse):
    assert grow_diagonal(forward, reverse) <= grow_diagonal_final_and(forward, reverse)


@given(links)
def test_two_directions_that_agree_are_left_as_they_are(both):
    assert {how(both, both) for how in LINK_SYMMETRIZATIONS.values()} == {both}


def test_in_agreement_a_model_that_is_sure_decides_where_the_other_is_not():
    # The first model is almost undecided about target word 1, the second about source word 0.
    forward, reverse = np.asarray([[0.8, 0.51], [0.2, 0.49]]), np.asarray([[0.51, 0.49], [0.1, 0.9]])
    assert agreement(forward, reverse) == {(0, 0), (1, 1)}
    assert symmetrize("agreement", forward, reverse) == {(0, 0), (1, 1)}
    assert symmetrize("union", forward, reverse) == {(0, 0), (0, 1), (1, 1)}


def test_in_agreement_a_word_that_many_read_takes_none_from_the_others():
    # Both models read source word 0 most for each target word, target word 1 only a little more than source word 1.
    both = np.asarray([[0.9, 0.55], [0.1, 0.45]])
    assert agreement(both, both) == {(0, 0), (1, 1)}


def test_agreement_of_models_that_read_different_words_is_of_those_that_both_read():
    assert agreement(np.eye(3), np.eye(3)[:2]) == {(0, 0), (1, 1)}
    assert agreement(np.eye(3), np.zeros((0, 0))) == frozenset()
