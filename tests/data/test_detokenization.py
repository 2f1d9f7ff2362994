"""Words and WordPiece pieces are joined to text."""

from transformer_jax.data.detokenization import join_wordpieces, join_words


def test_join_words_alternates_quotation_marks():
    assert join_words(['"', "a", '"', "b", '"', "c", '"']) == '"a" b "c"'
    assert join_words([]) == ""


def test_wordpiece_pieces_are_joined_at_their_prefix():
    assert join_wordpieces(["a", "##b", "##c", "d"]) == ["abc", "d"]
    assert join_wordpieces(["##b", "c"]) == ["b", "c"]
