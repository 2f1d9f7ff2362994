"""The identity of a text depends on its pairs, not on its file."""

import json

import pytest
from parallel_text import ENGLISH, GERMAN, PAIRS, write, write_pair

from transformer_jax.data import identity
from transformer_jax.data.identity import Identity, PairsChecksum
from transformer_jax.data.records import Pair
from transformer_jax.data.sources import open_pairs


def identity_of(pairs):
    checksum = PairsChecksum()
    for pair in pairs:
        checksum.add(pair)
    return checksum.identity()


def read_identity(locator, on_error="refuse"):
    pairs = open_pairs(str(locator), "en", "de", "train", on_error)
    assert pairs.identity is None
    list(pairs)
    return pairs.identity


def write_json_lines(path, pairs):
    path.write_text("".join(json.dumps({"en": source, "de": target}) + "\n" for source, target in pairs))
    return path


def write_parquet(path, pairs):
    import pyarrow
    import pyarrow.parquet

    columns = dict(zip(("en", "de"), map(list, zip(*pairs, strict=True)), strict=True))
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return path


def test_any_file_of_the_same_pairs_has_the_same_identity(tmp_path):
    lines = [f"{source}\t{target}" for source, target in PAIRS]
    for suffix in ("", ".gz", ".xz"):
        write(tmp_path / "x.tsv", lines, suffix)
        assert read_identity(tmp_path / f"x.tsv{suffix}") == identity_of(PAIRS)
    write(tmp_path / "ends.tsv", ["\ufeff" + lines[0], *lines[1:]], end="\r\n")
    assert read_identity(tmp_path / "ends.tsv") == identity_of(PAIRS)
    assert read_identity(write_pair(tmp_path, ENGLISH, GERMAN)) == identity_of(PAIRS)
    assert read_identity(write_json_lines(tmp_path / "x.jsonl", PAIRS)) == identity_of(PAIRS)
    assert read_identity(write_parquet(tmp_path / "x.parquet", PAIRS)) == identity_of(PAIRS)


@pytest.mark.parametrize(
    "other",
    [
        [Pair("a", "b"), Pair("c", "d")],
        [Pair("a", "b"), Pair("cd", "e")],
        [Pair("ab", "c"), Pair("d", "e")],
        [Pair("ad", "bce")],
        [Pair("d", "e"), Pair("a", "bc")],
        [Pair("bc", "a"), Pair("e", "d")],
        [Pair("a", "bc"), Pair("d", "E")],
    ],
)
def test_any_change_of_a_text_changes_the_identity(other):
    assert identity_of(other) != identity_of([Pair("a", "bc"), Pair("d", "e")])


def test_identity_does_not_depend_on_the_block_size(monkeypatch):
    pairs = [Pair(f"source {n}", f"target {n}") for n in range(7)]
    expected = identity_of(pairs)
    for size, length in ((1, 99), (3, 99), (7, 99), (7, 0)):
        monkeypatch.setattr(identity, "BLOCK_PAIRS", size)
        monkeypatch.setattr(identity, "LONG_TEXT", length)
        assert identity_of(pairs) == expected


def test_skipped_rows_are_not_part_of_the_identity(tmp_path):
    write(tmp_path / "x.tsv", ["a\tb", "no tab", "c\td"])
    assert read_identity(tmp_path / "x.tsv", "skip") == identity_of([Pair("a", "b"), Pair("c", "d")])


def test_an_incomplete_iteration_gives_no_identity(tmp_path):
    write(tmp_path / "x.tsv", ["a\tb", "c\td"])
    pairs = open_pairs(str(tmp_path / "x.tsv"), "en", "de", "train")
    next(iter(pairs))
    assert pairs.identity is None


def test_difference_names_the_numbers_of_pairs_or_the_side():
    text = Identity(1234, "s", "t")
    assert Identity(28_000, "s", "t").difference(text) == "has 28,000 instead of 1,234 pairs"
    assert text._replace(targets="u").difference(text) == "has 1,234 pairs as before, but other targets"
    assert text._replace(sources="u", targets="u").difference(text) == (
        "has 1,234 pairs as before, but other sources and targets or another order"
    )
