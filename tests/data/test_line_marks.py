"""Line ends of any system and the marks of joined files neither change nor split a sentence."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from parallel_text import COMPRESS, refusal

from transformer_jax.data.line_marks import strip_marks
from transformer_jax.data.sources import open_pairs
from transformer_jax.data.text_files import split_lines

MARK = b"\xef\xbb\xbf"


def read(directory, english, german):
    (directory / "x.en").write_bytes(english)
    (directory / "x.de").write_bytes(german)
    return list(open_pairs(f"{directory}/x.{{lang}}", "en", "de", "train"))


@pytest.mark.parametrize(
    "english",
    [
        b"a\nb\nc\n",
        b"a\r\nb\r\nc",
        b"a\r\nb\nc\r\n",
        b"a\r\r\nb\r\nc\r",
        b"a\rb\rc\r",
        b"a\rb\rc",
        MARK + b"a\r" + MARK + b"b\rc",
        MARK + b"a\n" + MARK + MARK + b"b\r\nc",
        COMPRESS[".gz"](b"a\rb\rc"),
    ],
)
def test_line_ends_and_marks_at_line_starts_are_removed(tmp_path, caplog, english):
    assert read(tmp_path, english, b"d\ne\nf\n") == [("a", "d"), ("b", "e"), ("c", "f")]
    assert not caplog.messages


def test_marks_within_lines_are_text_and_named_once(tmp_path, caplog):
    pairs = read(tmp_path, b"a\rb\nc\rd\n", b"e" + MARK + b"f\ng\n")
    assert pairs == [("a\rb", "e\ufefff"), ("c\rd", "g")]
    start = "within the line, which is read as text. If lines end there, for example where files were joined"
    assert caplog.messages == [
        rf"{tmp_path}/x.en:1 contains a carriage return {start}, convert the text: "
        rf"perl -pe 's/\r\n?/\n/g' {tmp_path}/x.en > NEW",
        rf"{tmp_path}/x.de:1 contains a byte order mark {start}, convert the text: "
        rf"perl -pe 's/(?<=.)\xEF\xBB\xBF/\n/g' {tmp_path}/x.de > NEW",
    ]


def test_joined_columns_of_a_tsv_file_lose_their_marks(tmp_path):
    (tmp_path / "x.tsv").write_bytes(MARK + b"a\t" + MARK + b"b\r\n" + MARK + b"c\td\r\n")
    assert list(open_pairs(f"{tmp_path}/x.tsv", "en", "de", "train")) == [("a", "b"), ("c", "d")]


def test_carriage_returns_that_end_some_lines_explain_the_tabs(tmp_path, caplog):
    (tmp_path / "x.tsv").write_bytes(b"a\tb\rc\td\ne\tf\n")
    assert "x.tsv:1 has 2 tabs, not 1" in refusal(tmp_path / "x.tsv")
    assert "x.tsv:1 contains a carriage return" in caplog.text


def test_json_lines_ignore_line_ends_and_marks(tmp_path):
    (tmp_path / "x.jsonl").write_bytes(MARK + b'{"en": "a", "de": "b"}\r' + MARK + b'{"en": "c", "de": "d"}')
    assert list(open_pairs(f"{tmp_path}/x.jsonl", "en", "de", "train")) == [("a", "b"), ("c", "d")]


TEXTS = st.text("a\u2028\x85\x0b\f\x1c é", max_size=3)


@given(st.lists(st.tuples(TEXTS, st.sampled_from(["\n", "\r\n", "\r\r\n"])), min_size=1))
def test_any_mixture_of_line_ends_keeps_the_lines(lines):
    content = "".join(text + end for text, end in lines).encode()
    assert [strip_marks(line.decode()) for line in split_lines(io.BytesIO(content))] == [text for text, _ in lines]


@given(st.lists(TEXTS, min_size=1))
def test_carriage_returns_alone_keep_the_lines(texts):
    content = "".join(text + "\r" for text in texts).encode()
    assert [strip_marks(line.decode()) for line in split_lines(io.BytesIO(content))] == texts


@given(st.binary())
def test_split_lines_lose_no_byte(content):
    assert b"".join(split_lines(io.BytesIO(content))) == content
