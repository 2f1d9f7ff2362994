"""The input of the command ``translate``: arguments, files, pipes and the terminal."""

import bz2
import gzip
import io
import json
import lzma
import os
import threading

import pytest
from translate_cases import LONG, TEXTS, load

from transformer_jax import Translator
from transformer_jax.commands import translate as translate_command
from transformer_jax.data import text_files
from transformer_jax.data.compression import zstd


def test_each_argument_is_a_line(translate, expected):
    assert translate(*TEXTS).lines == expected(TEXTS)
    assert translate("", TEXTS[0]).lines == ["", *expected(TEXTS[:1])]
    assert translate("\n".join(TEXTS)).lines == expected(TEXTS)


def test_file_and_pipe_give_the_same_lines_as_arguments(translate, expected, file):
    content = "\n".join(TEXTS) + "\n"
    assert translate("--input", file(content)).lines == expected(TEXTS)
    assert translate(stdin=content.encode()).lines == expected(TEXTS)
    assert translate(stdin=content.encode().removesuffix(b"\n")).lines == expected(TEXTS)


@pytest.mark.parametrize(
    "content",
    [
        b"Where is the dog?\r\n\r\nIs it 3.5?\r\n",
        b"\xef\xbb\xbfWhere is the dog?\n\nIs it 3.5?",
    ],
    ids=["carriage returns", "byte-order mark"],
)
def test_carriage_returns_and_byte_order_marks_are_not_text(content, translate, expected, file):
    assert translate("--input", file(content)).lines == expected(["Where is the dog?", "", "Is it 3.5?"])


def test_only_a_line_feed_ends_a_line(translate, expected, file):
    texts = ["The dog\u2028is here.", "Is\x0c it\x85 3.5?", "a\rb"]
    assert translate("--input", file("\n".join(texts))).lines == expected(texts)


def test_invalid_utf8_is_replaced_and_its_line_named(translate, expected, file):
    path = file(b"Is it 3.5?\nThe d\xf6g.\n\xff\xfe\n")
    result = translate("--input", path)
    assert result.lines == expected(["Is it 3.5?", "The d\ufffdg.", "\ufffd\ufffd"])
    assert f"{path}:2 and 1 other line are not UTF-8: invalid bytes become U+FFFD." in result.err
    assert "standard input:1 is not UTF-8" in translate(stdin=b"\xe4\n").err


@pytest.mark.parametrize("encoding", ["UTF-16", "UTF-16LE", "UTF-32"])
def test_utf16_and_utf32_are_translated_with_a_warning(encoding, translate, expected, file):
    content = "Where is the dog?\r\n\r\nIs it 3.5?\r\n".encode(encoding)
    path = file(content)
    result = translate("--input", path, "--reference", path)
    assert result.lines == expected(["Where is the dog?", "", "Is it 3.5?"])
    assert f"{path} is {encoding}, not UTF-8, and is converted." in result.err
    result = translate(stdin=content)
    assert result.lines == expected(["Where is the dog?", "", "Is it 3.5?"])
    assert f"standard input is {encoding}, not UTF-8, and is converted." in result.err


def test_invalid_bytes_in_arguments_are_replaced(translate, expected):
    result = translate("Is it 3.5?", "The d\udcf6g.")  # Python's form of the byte 0xF6 in an argument.
    assert result.lines == expected(["Is it 3.5?", "The d\ufffdg."])
    assert "arguments:2 is not UTF-8: invalid bytes become U+FFFD." in result.err


def test_blank_lines_keep_their_place(translate, expected):
    result = translate(stdin=b"\nWhere is the dog?\n \t\n\n")
    assert result.lines == ["", *expected(TEXTS[:1]), "", ""]


class Terminal(io.TextIOWrapper):
    """Standard input that is a terminal."""

    def isatty(self):
        return True


def test_typed_lines_are_translated_one_at_a_time(tiny_run, translate, monkeypatch, expected):
    events = []

    class RecordingInput(io.BytesIO):
        def readline(self):
            events.append("read")
            return super().readline()

    class RecordingTranslator(Translator):
        def translate_n_best(self, texts, *arguments, **keywords):
            events.append(list(texts))
            return super().translate_n_best(texts, *arguments, **keywords)

    loaded = load(tiny_run)
    recording = RecordingTranslator(loaded.config, loaded.tokenizers, loaded.params)
    monkeypatch.setattr(Translator, "load", staticmethod(lambda _: recording))
    result = translate(stdin=Terminal(RecordingInput(b"Where is the dog?\nIs it 3.5?\n")))
    assert result.out.split("\n") == [*expected(["Where is the dog?", "Is it 3.5?"]), ""]
    assert result.err.count("> ") == 3
    assert events == ["read", ["Where is the dog?"], "read", ["Is it 3.5?"], "read"]


def test_typed_invalid_utf8_is_replaced(translate):
    result = translate(stdin=Terminal(io.BytesIO(b"Where is the caf\xe9?\nIs it 3.5?\n")))
    assert "the terminal:1 is not UTF-8" in result.err
    assert len(result.lines) == 2


@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf"], ids=["empty", "byte-order mark"])
def test_empty_input_is_refused_but_a_blank_line_is_not(content, translate, file):
    if content:
        assert translate(stdin=content).lines == [""]
    else:
        assert translate(stdin=content).is_refusal("no text given")
        assert translate("--input", file(content)).is_refusal("no text given")


def test_closed_standard_input_is_refused(translate):
    assert translate(stdin=None).is_refusal("no text given")


def test_lines_keep_order_and_numbers_across_blocks(translate, monkeypatch, file):
    monkeypatch.setattr(translate_command, "BLOCK_LINES", 2)
    texts = ["The dog.", "", "Is it?", "a", LONG, "Where is it?", "b"]
    path = file("\n".join(texts))
    in_blocks = [json.loads(line) for line in translate("--input", path, "--jsonl").lines]
    assert [record["line"] for record in in_blocks] == [1, 2, 3, 4, 5, 6, 7]
    monkeypatch.setattr(translate_command, "BLOCK_LINES", 100)
    in_one_block = [json.loads(line) for line in translate("--input", path, "--jsonl").lines]
    assert [record["tokens"] for record in in_blocks] == [record["tokens"] for record in in_one_block]


def test_long_text_gives_one_line_and_a_numbered_warning(translate, monkeypatch, expected):
    monkeypatch.setattr(translate_command, "BLOCK_LINES", 2)
    long = "the old dog and " * 9
    result = translate("a", "b", "c", long, "d")
    assert result.lines == expected(["a", "b", "c", long, "d"])
    assert (
        "line 4: text that is longer than the longest sentence in training is translated in 4 parts." in result.warnings
    )


def test_each_kind_of_warning_is_one_line_per_block(translate, monkeypatch):
    monkeypatch.setattr(translate_command, "BLOCK_LINES", 4)
    result = translate("a", "?", "", "!!", "&&", "b", "…", "...")
    warnings = [line for line in result.warnings if "copied" in line]
    message = "the text has no letters or digits and is copied unchanged."
    assert warnings == [f"line 2 and 1 other line: {message}", f"line 5 and 2 other lines: {message}"]
    records = [json.loads(line) for line in translate("a", "?", "--jsonl").lines]
    assert records[1]["warnings"] == [{"code": "copied", "message": message}]


UNUSUAL_LINES = [
    b"",
    b" \t ",
    b"\0",
    b"The\0dog.",
    b"Is it 3.5?\r",
    b"\xef\xbb\xbfThe dog.",
    b"\xff\xfe",
    b"The d\xf6g is h\xe9re.",
    *(
        text.encode()
        for text in (
            "שלום עולם",
            "\u202eمرحبا\u202c 7",
            "\u200b\u200d\u2060",
            "🙂",
            "👩‍👩‍👧🏽 🇩🇪",
            "a\u2028b\x0bc\x0cd\x85e\x1cf\rg",
            "🙂\u2029🙂\x1e\x85",
            "日本語の文" * 29,
            "x" * 301,
            "e" + "\u0301" * 97,
            "The dog. " * 1250,  # 5,000 tokens.
        )
    ),
]


def test_every_unusual_line_gives_exactly_one_line(translate, expected, file, monkeypatch):
    monkeypatch.setattr(translate_command, "BLOCK_LINES", 7)
    lines = [TEXTS[0].encode(), *UNUSUAL_LINES, TEXTS[1].encode()]
    result = translate("--input", file(b"\n".join(lines) + b"\n"))
    assert len(result.lines) == len(lines)
    assert len(result.out.splitlines()) == len(lines), "other characters that may end a line are replaced"
    assert [result.lines[0], result.lines[-1]] == expected(TEXTS[:2])
    records = translate("--input", file(b"\n".join(UNUSUAL_LINES[:-1])), "--jsonl").out.splitlines()
    assert [json.loads(record)["line"] for record in records] == list(range(1, len(UNUSUAL_LINES)))


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress, zstd.compress])
def test_compressed_text_is_read_whatever_its_name(compress, translate, tmp_path):
    plain = translate(*TEXTS)
    source, reference = tmp_path / "text.en", tmp_path / "reference.gz"
    source.write_bytes(compress("\n".join(TEXTS).encode()))
    reference.write_bytes(plain.out.encode())
    result = translate("--input", source, "--reference", reference)
    assert result.out == plain.out
    assert "chrF 100.00" in result.err
    assert translate(stdin=source.read_bytes()).out == plain.out
    assert translate(stdin=source.read_bytes()[:-9]).is_refusal("standard input is damaged after line ")
    source.write_bytes(compress("\n".join(TEXTS * 100).encode())[:-9])
    assert translate("--input", source, "--output", tmp_path / "out.txt").is_refusal(f"{source} is damaged after line ")
    assert not (tmp_path / "out.txt").exists()


def test_other_formats_are_refused_with_a_command(translate, file):
    path = file(b"\x04\x22\x4d\x18rest")
    assert translate("--input", path).is_refusal(f"{path} is LZ4 data, not text. Convert it (lz4 -dc {path} > NEW).")
    assert translate(stdin=path.read_bytes()).is_refusal("standard input is LZ4 data, not text. Convert it (lz4 -dc).")


@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16"])
def test_carriage_returns_alone_end_lines(encoding, translate, expected, file):
    path = file("Where is the dog?\r\rIs it 3.5?\r".encode(encoding))
    lines = expected(["Where is the dog?", "", "Is it 3.5?"])
    assert translate("--input", path, "--reference", path).lines == lines
    assert translate(stdin=path.read_bytes()).lines == lines


def test_marks_within_lines_keep_the_lines_and_are_named(translate, expected, file):
    texts = ["Is\rit 3.5?", "The\0dog.", "The\ufeffdog.", "\ufeffThe dog."]
    path = file("\n".join(texts))
    result = translate("--input", path)
    assert result.lines == expected([*texts[:3], "The dog."])
    for number, name in enumerate(["a carriage return", "a NUL character", "a byte order mark"], start=1):
        assert f"{path}:{number} contains {name} within the line, which is read as text. " in result.err
    assert result.err.count(f" {path} > NEW\n") == 3


def test_overlong_line_is_refused_and_not_truncated(translate, file, monkeypatch):
    monkeypatch.setattr(text_files, "MAX_LINE_BYTES", 2**20)
    path = file("x" * (2**20 + 1), "long.txt")
    assert translate("--input", path).is_refusal(f"{path}:1 is longer than 1 MiB. Split the line.")


def test_named_pipe_is_accepted_as_input(translate, tmp_path):
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    writer = threading.Thread(target=fifo.write_text, args=("\n".join(TEXTS),))
    writer.start()
    assert translate("--input", fifo).out == translate(*TEXTS).out
    writer.join()
