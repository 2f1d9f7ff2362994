"""Pharaoh format, gold alignments and alignment error rate."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transformer_jax.alignment.error_rate import GoldLinks, format_links, read_gold_links, score_alignments
from transformer_jax.errors import InputError

WORDS = [(3, 5), (2, 7)]

links = st.frozensets(st.tuples(st.integers(0, 5), st.integers(0, 7)), max_size=11)


def test_scores_match_counts_by_hand():
    gold = [
        GoldLinks(sure=frozenset({(0, 0), (1, 1)}), possible=frozenset({(0, 0), (1, 1), (1, 2)})),
        GoldLinks(sure=frozenset({(0, 3)}), possible=frozenset({(0, 3)})),
    ]
    predictions = [frozenset({(0, 0), (1, 2), (2, 2)}), frozenset({(1, 3)})]
    # One of the four predicted links is sure, and one more is possible. Three gold links are sure.
    assert score_alignments(predictions, gold) == (2 / 4, 1 / 3, 1 - (1 + 2) / (4 + 3))


def test_long_sentences_count_for_more_than_short_ones():
    long, short = frozenset((word, word) for word in range(9)), frozenset({(0, 0)})
    scores = score_alignments([long, frozenset({(1, 1)})], [GoldLinks(long, long), GoldLinks(short, short)])
    assert scores == (0.9, 0.9, pytest.approx(0.1))


@given(st.lists(st.tuples(links, links), min_size=1).filter(lambda pairs: any(sure for sure, _ in pairs)))
def test_gold_has_no_errors_and_an_empty_alignment_all(pairs):
    gold = [GoldLinks(sure, sure | possible) for sure, possible in pairs]
    assert score_alignments([links.sure for links in gold], gold) == (1, 1, 0)
    assert score_alignments([frozenset()] * len(gold), gold) == (0, 0, 1)
    # Possible links are not errors.
    assert score_alignments([links.possible for links in gold], gold) == (1, 1, 0)


@given(st.lists(st.tuples(links, links, links), min_size=1).filter(lambda triples: any(sure for _, sure, _ in triples)))
def test_scores_are_between_0_and_1(triples):
    gold = [GoldLinks(sure, sure | possible) for _, sure, possible in triples]
    assert all(0 <= score <= 1 for score in score_alignments([predicted for predicted, *_ in triples], gold))


@given(links)
def test_written_links_are_read_back(tmp_path_factory, written):
    path = tmp_path_factory.mktemp("gold") / "align"
    path.write_text(f"{format_links(written)}\n0-0\n")
    assert read_gold_links(path, [(6, 8), (1, 1)])[0] == GoldLinks(written, written)


def test_links_are_written_in_sorted_order():
    assert format_links({(10, 1), (2, 11), (2, 3)}) == "2-3 2-11 10-1"
    assert format_links([]) == ""


def gold_file(directory, text):
    path = directory / "dev.align"
    path.write_text(text)
    return path


def test_sure_links_are_possible_but_not_vice_versa(tmp_path):
    path = gold_file(tmp_path, "0-4 2p1\r\n\n")
    both = frozenset({(0, 4), (2, 1)})
    assert read_gold_links(path, WORDS) == [GoldLinks(frozenset({(0, 4)}), both), GoldLinks(frozenset(), frozenset())]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "0-0\n2-0\n",
            r"dev.align:2: 2-0 links to a word that does not exist\. .* 0 to 1, the target words .* 0 to 6\.",
        ),
        (
            "0p5\n0-0\n",
            r"dev.align:1: 0p5 links to a word that does not exist\. .* 0 to 2, the target words .* 0 to 4\.",
        ),
        ("0-0 1\n\n", r"dev.align:1: '1' is not a link. Write i-j"),
        ("0-0\n-1-0\n", r"dev.align:2: '-1-0' is not a link"),
        ("0-0\n0−0\n", r"dev.align:2: '0−0' is not a link"),
        ("0-٣\n\n", r"dev.align:1: '0-٣' is not a link"),
        ("0-0\n", r"lines in .*dev.align \(1\) differs from the number of sentence pairs \(2\)"),
        ("0-0\n\n\n", r"lines in .*dev.align \(3\) differs from the number of sentence pairs \(2\)"),
        ("", r"lines in .*dev.align \(0\) differs from the number of sentence pairs \(2\)"),
        ("0p0\n\n", r"dev.align has no sure link"),
    ],
)
def test_invalid_gold_is_refused_with_its_line(text, message, tmp_path):
    with pytest.raises(InputError, match=message) as refusal:
        read_gold_links(gold_file(tmp_path, text), WORDS)
    assert "\n" not in str(refusal.value)


def test_a_missing_gold_file_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"none\.align does not exist"):
        read_gold_links(tmp_path / "none.align", WORDS)


def test_gold_in_another_encoding_names_the_command_that_converts_it(tmp_path):
    path = tmp_path / "dev.align"
    path.write_bytes("0-0\n0-0\n".encode("utf-16"))
    with pytest.raises(InputError, match=r"dev\.align is UTF-16, not UTF-8\. Convert it: iconv -f UTF-16 .*dev\.align"):
        read_gold_links(path, WORDS)
    path.write_bytes("0-0 é\n0-0\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"dev\.align:1 is not UTF-8 .* \(iconv -f WINDOWS-1252 .*dev\.align"):
        read_gold_links(path, WORDS)
