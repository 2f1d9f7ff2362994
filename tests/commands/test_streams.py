"""Lines of files, pipes, arguments and the terminal are decoded, whatever bytes they contain."""

import io
import pty
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transformer_jax.commands import streams
from transformer_jax.commands.streams import argument_bytes, decode_lines
from transformer_jax.commands.translate import prompt_for_texts
from transformer_jax.data import text_files
from transformer_jax.data.encodings import detect_wide_encoding
from transformer_jax.errors import InputError

WIDE = ["UTF-16", "UTF-16LE", "UTF-16BE", "UTF-32", "UTF-32LE", "UTF-32BE"]
TEXT = "Où est-ce ?\n\n日本🙂\nend"
LINES = ["Où est-ce ?", "", "日本🙂", "end"]


def decode(content, name="x.txt", origin="file"):
    return list(decode_lines(io.BytesIO(content), name, origin))


@pytest.mark.parametrize("encoding", WIDE)
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_utf16_and_utf32_are_converted_with_one_warning(encoding, line_end, caplog):
    content = TEXT.replace("\n", line_end).encode(encoding)
    assert decode(content) == LINES
    assert decode(content, "standard input", "pipe") == LINES
    iconv = f"iconv -f {encoding} -t UTF-8"
    assert caplog.messages == [
        f"{name} is {encoding}, not UTF-8, and is converted. To avoid this warning, convert it: {command}"
        for name, command in [("x.txt", f"{iconv} x.txt > NEW"), ("standard input", iconv)]
    ]


def test_big_endian_utf16_with_a_mark_is_converted():
    assert decode(b"\xfe\xff" + TEXT.encode("utf-16-be")) == LINES


def test_line_feed_bytes_within_characters_end_no_line():
    assert decode("a\nਊ\u0a0a\u010a\nb\n".encode("utf-16")) == ["a", "ਊ\u0a0a\u010a", "b"]


def test_damaged_utf16_keeps_its_lines_and_is_reported(caplog):
    content = "a\nb".encode("utf-16") + b"\x00\xd8" + "c\nd\n".encode("utf-16-le") + b"e"
    assert decode(content) == ["a", "b\ufffdc", "d", "\ufffd"]
    assert caplog.messages[1:] == [
        "x.txt:2 and 1 other line are not UTF-16: invalid bytes become U+FFFD. Correct the text."
    ]


def test_overlong_utf16_line_is_refused(monkeypatch):
    monkeypatch.setattr(text_files, "MAX_LINE_BYTES", 2**20)
    with pytest.raises(InputError, match=r"x\.txt:2 is longer than 1 MiB\. Split the line\."):
        decode("a\n".encode("utf-16") + "\u0a0a".encode("utf-16-le") * (2**20 + 1))


def test_latin1_is_named_in_one_warning_per_block(caplog, monkeypatch):
    monkeypatch.setattr(streams, "BLOCK_LINES", 5)
    assert decode(b"a\nsch\xf6n\nb\nf\xfcr\n\xfcber\n\xd6l") == [
        "a",
        "sch\ufffdn",
        "b",
        "f\ufffdr",
        "\ufffdber",
        "\ufffdl",
    ]
    remedy = "The text seems to be Windows-1252 or Latin-1. Convert it: iconv -f WINDOWS-1252 -t UTF-8 x.txt > NEW"
    assert caplog.messages == [
        f"x.txt:2 and 2 other lines are not UTF-8: invalid bytes become U+FFFD. {remedy}",
        f"x.txt:6 is not UTF-8: invalid bytes become U+FFFD. {remedy}",
    ]


def test_damaged_line_of_utf8_text_is_not_called_latin1(caplog):
    assert decode("für\n".encode() + b"sch\xf6n\ngut") == ["für", "sch\ufffdn", "gut"]
    assert caplog.messages == [
        "x.txt:2 is not UTF-8: invalid bytes become U+FFFD. Other lines are UTF-8. Correct the text, or remove the "
        "invalid bytes: iconv -c -f UTF-8 -t UTF-8 x.txt > NEW"
    ]


def test_unknown_encoding_of_a_pipe_is_left_to_the_user(caplog):
    assert decode("Дом\n".encode("koi8-r"), "standard input", "pipe") == ["\ufffd\ufffd\ufffd"]
    assert caplog.messages == [
        "standard input:1 is not UTF-8: invalid bytes become U+FFFD. Convert the text from its encoding: "
        "iconv -f ENCODING -t UTF-8"
    ]


@given(st.binary() | st.text().flatmap(lambda text: st.sampled_from(WIDE).map(text.encode)))
def test_any_bytes_become_lines_of_valid_characters(content):
    lines = decode(content)
    assert not any("\n" in line for line in lines)
    "".join(lines).encode()
    if detect_wide_encoding(content) is None:
        assert len(lines) == len(content.removesuffix(b"\n").split(b"\n")) if content else not lines


def test_detection_reads_at_most_one_block_ahead(monkeypatch):
    monkeypatch.setattr(streams, "BLOCK_LINES", 3)
    lines = iter([b"a\n", b"b\n", b"c\n", b"d\n"])
    assert next(decode_lines(lines, "x")) == "a"
    assert list(lines) == [b"d\n"]


def test_argument_has_its_original_bytes():
    assert argument_bytes("schön") == "schön".encode()
    assert argument_bytes("sch\udcf6n") == b"sch\xf6n"
    assert argument_bytes("a\ud800b") == b"a\xed\xa0\x80b", "no locale decodes bytes to this"


# The terminal.


@pytest.fixture
def type_bytes(monkeypatch):
    """Read texts from a terminal in which the bytes were typed."""

    def read(typed, count):
        keyboard, terminal = pty.openpty()
        with open(keyboard, "wb", buffering=0) as file, open(terminal, encoding="utf-8") as stdin:
            file.write(typed)
            monkeypatch.setattr(sys, "stdin", stdin)
            texts = prompt_for_texts()
            return [next(texts) for _ in range(count)]

    return read


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have other limits")
def test_typed_line_that_the_terminal_cut_is_noticed(type_bytes, caplog):
    assert type_bytes(b"a\n" + b"x" * 5000 + b"\nb\n", 3) == ["a", "x" * 4095, "b"]
    assert caplog.messages == [
        "the terminal:2 may be incomplete: terminals discard what is typed after 4095 bytes. For long text, use "
        "--input FILE."
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have other limits")
def test_character_that_the_terminal_cut_is_dropped(type_bytes, caplog):
    assert type_bytes("€".encode() * 1364 + "éß€\n".encode(), 1) == ["€" * 1364 + "é"]
    assert len(caplog.messages) == 1


def test_typed_invalid_bytes_are_reported_at_once(type_bytes, caplog):
    assert type_bytes(b"caf\xe9\n", 1) == ["caf\ufffd"]
    assert caplog.messages == [
        "the terminal:1 is not UTF-8: invalid bytes become U+FFFD. Set the encoding of the terminal or the script to "
        "UTF-8."
    ]
