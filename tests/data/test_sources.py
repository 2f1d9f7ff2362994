"""Locators select a reader, and invalid records are refused or skipped whatever the format."""

import gzip
import json

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st
from parallel_text import COMPRESS, ENGLISH, GERMAN, PAIRS, refusal, write, write_pair

from transformer_jax.data.sources import open_pairs
from transformer_jax.errors import InputError


def test_pairs_support_repeated_and_parallel_iteration(tmp_path):
    pairs = open_pairs(write_pair(tmp_path, ENGLISH, GERMAN), "en", "de", "train")
    assert list(zip(pairs, pairs, strict=True)) == [(pair, pair) for pair in PAIRS]


def test_empty_files_are_refused(tmp_path):
    locator = write_pair(tmp_path, [], [])
    assert f"{locator} contains no sentence pairs: it is empty." in refusal(locator)


@pytest.mark.parametrize("locator", ["", "phrasebok", "x.csv", "s3://x/y", "x.tsv?split=train", "hf://"])
def test_unknown_locator_lists_the_known_ones(locator):
    message = refusal(locator)
    assert message.startswith(f"{locator!r} is not a known locator")
    for known in ("{lang}", ".tsv", ".jsonl", ".parquet", "hf://", "tfds://", "phrasebook"):
        assert known in message


def test_phrasebook_has_every_split_in_both_directions():
    from transformer_jax.data.phrasebook import generate

    corpus = generate()
    for split in ("train", "valid", "test"):
        assert list(open_pairs("phrasebook", "en", "de", split)) == list(map(tuple, corpus[split]))
        assert next(iter(open_pairs("phrasebook", "de", "en", split))) == tuple(corpus[split][0])[::-1]


def test_phrasebook_two_has_the_same_lines_for_every_role():
    lines = list(open_pairs("phrasebook:two", "en", "de", "test"))
    assert len(lines) >= 300
    for split in ("train", "valid"):
        assert list(open_pairs("phrasebook:two", "en", "de", split)) == lines
    assert list(open_pairs("phrasebook:two", "de", "en", "test")) == [(target, source) for source, target in lines]


@pytest.mark.parametrize("locator", ["phrasebook:", "phrasebook:three", "phrasebook://two"])
def test_unknown_part_of_the_phrasebook_names_the_known(locator):
    assert refusal(locator) == f"{locator!r} is not a part of the phrasebook. Use phrasebook or phrasebook:two."


def test_phrasebook_refuses_other_languages():
    assert "the phrasebook contains only en and de, but the run translates en to fr." in refusal(
        "phrasebook", "en", "fr"
    )
    assert "translates en to en" in refusal("phrasebook", "en", "en")
    assert "translates en to fr" in refusal("phrasebook:two", "en", "fr")


# An invalid row between valid ones.


def write_invalid_rows(directory, kind):
    """Write invalid rows between the pairs a-d, b-e and c-f; return the locator and the number of invalid rows."""
    if kind == "text":
        (directory / "train.en").write_bytes(b"a\n\xff\nx\n\nb\nx\0\nc\n")
        (directory / "train.de").write_bytes(b"d\nx\n \nx\ne\nx\nf\n")
        return f"{directory}/train.{{lang}}", 4
    if kind == "tsv":
        (directory / "x.tsv").write_bytes(b"a\td\nno tab\n\xff\tx\nb\te\nx\ty\tz\n\tx\nx\0\tx\nc\tf\n")
        return directory / "x.tsv", 5
    if kind == "jsonl":
        lines = ['{"en": "a", "de": "d"}', "", '{"en": "x"}', '{"en": "b", "de": "e"}', "[]", '{"en": "x", "de": null}']
        write(directory / "x.jsonl", [*lines, '{"en": "x\\u0000", "de": "x"}', '{"en": "c", "de": "f"}'])
        return directory / "x.jsonl", 5
    binary = pyarrow.array([b"a", b"\xff", b"b", b"x", b"c"], pyarrow.binary())
    english = pyarrow.StringArray.from_buffers(5, *binary.buffers()[1:])  # Parquet does not enforce UTF-8.
    table = pyarrow.table({"en": english, "de": ["d", "x", "e", None, "f"]})
    pyarrow.parquet.write_table(table, directory / "x.parquet")
    return directory / "x.parquet", 2


@pytest.mark.parametrize("kind", ["text", "tsv", "jsonl", "parquet"])
def test_invalid_rows_are_skipped_and_counted(tmp_path, kind, caplog):
    locator, invalid = write_invalid_rows(tmp_path, kind)
    refused = refusal(locator)
    pairs = open_pairs(str(locator), "en", "de", "train", "skip")
    assert list(pairs) == [("a", "d"), ("b", "e"), ("c", "f")]
    assert pairs.skipped == invalid
    assert list(pairs) == [("a", "d"), ("b", "e"), ("c", "f")]
    assert [record.message for record in caplog.records] == [
        f"{locator}: skipped {invalid} of {invalid + 3} rows; the first: {refused}"
    ]


def test_file_of_invalid_rows_alone_reports_the_first(tmp_path):
    write(tmp_path / "x.tsv", ["a", "b"])
    with pytest.raises(
        InputError,
        match=r"no sentence pairs: all rows are invalid \(2 in total\)\. First error: .*:1 has 0 tabs, not 1\.",
    ):
        list(open_pairs(f"{tmp_path}/x.tsv", "en", "de", "train", "skip"))


def test_file_level_errors_are_never_skipped(tmp_path):
    locator = write_pair(tmp_path, ["a", "b", "c"], ["d", "e"])
    with pytest.raises(InputError, match=r"different numbers of lines \(3 and 2\)"):
        list(open_pairs(locator, "en", "de", "train", "skip"))
    (tmp_path / "x.tsv.gz").write_bytes(gzip.compress(b"a\tb\n" * 1000)[:-9])
    with pytest.raises(InputError, match="is damaged after line "):
        list(open_pairs(f"{tmp_path}/x.tsv.gz", "en", "de", "train", "skip"))


# Any text.


def is_one_line(text):
    """Return whether text files can represent the text: not blank, and no byte order mark or line end at its ends."""
    return bool(text.strip()) and not text.startswith("\ufeff") and not text.endswith("\r")


LINES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\t\0"), max_size=13).filter(is_one_line)
INVALID = st.sampled_from([b"no tab", b"\t\t", b"\xff\tx", b"x\t \x85", b"\0\tx", b""])


@given(st.lists(st.tuples(LINES, LINES), min_size=1, max_size=7), st.sampled_from(list(COMPRESS)))
def test_every_format_reads_back_what_was_written(tmp_path_factory, pairs, suffix):
    directory = tmp_path_factory.mktemp("any")
    for number, language in enumerate(("en", "de")):
        write(directory / f"x.{language}", [pair[number] for pair in pairs], suffix)
    write(directory / "x.tsv", map("\t".join, pairs), suffix)
    columns = [dict(zip(("en", "de"), pair, strict=True)) for pair in pairs]
    write(directory / "x.jsonl", map(json.dumps, columns), suffix)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(columns), directory / "x.parquet")
    for locator in (f"x.{{lang}}{suffix}", f"x.tsv{suffix}", f"x.jsonl{suffix}", "x.parquet"):
        assert list(open_pairs(f"{directory}/{locator}", "en", "de", "train")) == pairs


@given(st.lists(st.tuples(LINES, LINES).map("\t".join).map(str.encode) | INVALID, min_size=1, max_size=13))
def test_skipping_keeps_the_order_of_valid_rows(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("any") / "x.tsv"
    path.write_bytes(b"".join(row + b"\n" for row in [b"a\tb", *rows]))
    valid = [row for row in rows if row not in (b"no tab", b"\t\t", b"\xff\tx", b"x\t \x85", b"\0\tx", b"")]
    pairs = open_pairs(str(path), "en", "de", "train", "skip")
    assert list(pairs) == [("a", "b"), *(tuple(row.decode().split("\t")) for row in valid)]
    assert pairs.skipped == len(rows) - len(valid)
