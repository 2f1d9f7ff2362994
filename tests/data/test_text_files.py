"""Readers of text files accept every supported format and refuse invalid lines with their location."""

import gzip
import json
import re
import shutil
import subprocess
import tracemalloc

import pytest
from parallel_text import COMPRESS, ENGLISH, GERMAN, PAIRS, refusal, rows, write, write_pair

from transformer_jax.data import text_files
from transformer_jax.data.sources import Pair, open_pairs
from transformer_jax.errors import InputError

# One file per language.


@pytest.mark.parametrize("suffix", COMPRESS)
def test_one_file_per_language(tmp_path, suffix):
    write(tmp_path / "train.en", ENGLISH, suffix)
    write(tmp_path / "train.de", GERMAN, suffix)
    locator = f"{tmp_path}/train.{{lang}}{suffix}"
    assert list(open_pairs(locator, "en", "de", "train")) == PAIRS
    assert next(iter(open_pairs(locator, "de", "en", "test"))) == Pair(GERMAN[0], ENGLISH[0])


def test_language_may_also_name_a_directory(tmp_path):
    for language, lines in (("en", ENGLISH), ("de", GERMAN)):
        (tmp_path / language).mkdir()
        write(tmp_path / language / f"x.{language}", lines)
    assert list(open_pairs(f"{tmp_path}/{{lang}}/x.{{lang}}", "en", "de", "train")) == PAIRS


def test_windows_line_ends_and_byte_order_mark_are_removed(tmp_path):
    (tmp_path / "train.en").write_bytes(b"\xef\xbb\xbfOne\r\nTwo\r\n")
    (tmp_path / "train.de").write_bytes(b"Eins\nZwei")
    assert list(open_pairs(f"{tmp_path}/train.{{lang}}", "en", "de", "train")) == [("One", "Eins"), ("Two", "Zwei")]


def test_unequal_line_counts_name_files_and_counts(tmp_path):
    message = refusal(write_pair(tmp_path, ["a", "b", "c"], ["d", "e"]))
    assert f"{tmp_path}/train.en and {tmp_path}/train.de have different numbers of lines (3 and 2)." in message


def test_blank_line_in_one_file_is_refused(tmp_path):
    message = refusal(write_pair(tmp_path, ["a", "b", "c"], ["d", " \t", "f"]))
    assert message == (
        f"{tmp_path}/train.de:2 is blank but {tmp_path}/train.en:2 is not. Delete line 2 from both files."
    )
    message = refusal(write_pair(tmp_path, ["a", "b", ""], ["d", "e", "f"]))
    assert message == (
        f"{tmp_path}/train.en:3 is blank but {tmp_path}/train.de:3 is not. Delete line 3 from both files."
    )


def test_blank_line_in_both_files_is_refused(tmp_path):
    message = refusal(write_pair(tmp_path, ["a", ""], ["d", ""]))
    assert message == f"{tmp_path}/train.en:2 and {tmp_path}/train.de:2 are blank. Delete line 2 from both files."


# Encodings.


def write_german(directory, content):
    """Write a parallel text whose English lines are "a"."""
    write(directory / "train.en", ["a"] * content.count(b"\n"))
    (directory / "train.de").write_bytes(content)
    return f"{directory}/train.{{lang}}"


def test_latin1_file_is_refused_with_a_conversion_command(tmp_path):
    assert refusal(write_german(tmp_path, "gut\nschön\n".encode("latin-1"))) == (
        f"{tmp_path}/train.de:2 is not UTF-8 (invalid start byte at byte 4 of the line). The file seems to be "
        f"Windows-1252 or Latin-1. Convert it (iconv -f WINDOWS-1252 -t UTF-8 {tmp_path}/train.de > NEW), or delete "
        "line 2 from both files."
    )


def test_damaged_line_of_a_utf8_file_is_not_called_latin1(tmp_path):
    content = "über\nsch".encode() + "ön\n".encode("latin-1")
    assert refusal(write_german(tmp_path, content)).endswith(
        "Other lines of the file are UTF-8. Correct the line, or delete line 2 from both files."
    )
    content = b"gut\n" * 2**15 + content  # More ASCII than the sample has.
    assert "line 32770 from both" in refusal(write_german(tmp_path, content))


def test_unknown_encoding_is_left_to_the_user(tmp_path):
    (tmp_path / "x.tsv").write_bytes("a\tДом\n".encode("koi8-r"))
    assert refusal(tmp_path / "x.tsv").endswith(
        f"Convert the file from its encoding (iconv -f ENCODING -t UTF-8 {tmp_path}/x.tsv > NEW), or delete the line."
    )


def test_changed_file_is_examined_again(tmp_path):
    assert "Windows-1252" in refusal(write_german(tmp_path, b"f\xfcr\n"))
    assert "Windows-1252" not in refusal(write_german(tmp_path, "für\n".encode() + b"f\xfcr\n"))


@pytest.mark.parametrize("suffix", ["", ".gz", ".xz"])
@pytest.mark.parametrize("encoding", ["UTF-16", "UTF-16LE", "UTF-16BE", "UTF-32"])
def test_utf16_and_utf32_are_refused_and_named(tmp_path, encoding, suffix):
    path = tmp_path / f"x.tsv{suffix}"
    path.write_bytes(COMPRESS[suffix]("a house\tein Haus\n".encode(encoding)))
    iconv = f"iconv -f {encoding} -t UTF-8"
    command = {
        "": f"{iconv} {path} > NEW",
        ".gz": f"gzip -dc {path} | {iconv} > NEW",
        ".xz": f"xz -dc {path} | {iconv} > NEW",
    }[suffix]
    assert refusal(path) == f"{path} is {encoding}, not UTF-8. Convert it: {command}"
    with pytest.raises(InputError, match="is UTF-"):
        open_pairs(str(path), "en", "de", "train", "skip")


@pytest.mark.skipif(not shutil.which("iconv"), reason="needs iconv")
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "windows-1252"])
def test_suggested_command_makes_the_file_readable(tmp_path, encoding):
    text = "He said “no”.\tEr sagte „für“.\n"
    (tmp_path / "my text.tsv").write_bytes(text.encode(encoding))
    command = re.search("iconv .* > NEW", refusal(tmp_path / "my text.tsv"))[0]
    subprocess.run(command.replace("NEW", "new.tsv"), shell=True, check=True, cwd=tmp_path)
    assert list(open_pairs(f"{tmp_path}/new.tsv", "en", "de", "train")) == [("He said “no”.", "Er sagte „für“.")]


def test_nul_character_is_refused_with_a_removal_command(tmp_path):
    (tmp_path / "x.tsv").write_bytes(b"a house\tein\0 Haus\n")
    assert refusal(tmp_path / "x.tsv") == (
        f"{tmp_path}/x.tsv:1, the target, contains a NUL character. Delete the pair, or remove the character from a "
        "text file with tr -d '\\000' < FILE > NEW."
    )


# Missing files.


def test_missing_file_suggests_a_similar_name(tmp_path):
    write(tmp_path / "train.en", ENGLISH)
    write(tmp_path / "train.de", GERMAN, ".gz")
    message = refusal(f"{tmp_path}/train.{{lang}}")
    assert message.startswith(f"{tmp_path}/train.de does not exist.")
    assert "Did you mean" in message
    assert "train.de.gz" in message


def test_missing_directory_and_directory_as_file_are_refused(tmp_path):
    assert "does not exist, and neither does its directory" in refusal(tmp_path / "no" / "x.tsv")
    (tmp_path / "x.tsv").mkdir()
    assert "is a directory" in refusal(tmp_path / "x.tsv")


# TSV and JSON lines.


@pytest.mark.parametrize("suffix", COMPRESS)
def test_tsv_is_read(tmp_path, suffix):
    write(tmp_path / "x.tsv", [f"{english}\t{german}" for english, german in PAIRS], suffix)
    assert list(open_pairs(f"{tmp_path}/x.tsv{suffix}", "en", "de", "valid")) == PAIRS


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("no tab", "x.tsv:2 has 0 tabs, not 1."),
        ("a\tb\tCC-BY 2.0", "x.tsv:2 has 2 tabs, not 1."),
        ("", "x.tsv:2, the source, is blank."),
        ("\tb", "x.tsv:2, the source, is blank."),
        ("a\t ", "x.tsv:2, the target, is blank."),
    ],
)
def test_invalid_tsv_line_is_refused(tmp_path, line, problem):
    write(tmp_path / "x.tsv", ["a\tb", line])
    assert problem in refusal(tmp_path / "x.tsv")


@pytest.mark.parametrize("suffix", COMPRESS)
@pytest.mark.parametrize("shape", ["flat", "translation"])
def test_jsonl_is_read(tmp_path, suffix, shape):
    write(tmp_path / "x.jsonl", [json.dumps(row, ensure_ascii=False) for row in rows(shape)], suffix)
    assert list(open_pairs(f"{tmp_path}/x.jsonl{suffix}", "en", "de", "train")) == PAIRS


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("", "x.jsonl:2 is not JSON"),
        ('{"en": "a", "de": "b"', "x.jsonl:2 is not JSON"),
        ("[" * 100_000, "x.jsonl:2 is not JSON"),
        ('["a", "b"]', "x.jsonl:2 is not a JSON object."),
        ('{"en": "a", "fr": "b"}', "x.jsonl:2 has no 'de' (available: 'en', 'fr')."),
        ('{"translation": {"en": "a"}}', "x.jsonl:2 has no 'de' (available: 'en')."),
        ("{}", "x.jsonl:2 has no 'en' (available: nothing)."),
        ('{"en": "a", "de": 7}', "x.jsonl:2, 'de', is 7, not text."),
        ('{"en": null, "de": "b"}', "x.jsonl:2, 'en', is null, not text."),
        ('{"en": "a", "de": " "}', "x.jsonl:2, 'de', is blank."),
        ('{"en": "a\\ud83d", "de": "b"}', "x.jsonl:2, 'en', contains an unpaired surrogate"),
    ],
)
def test_invalid_jsonl_line_is_refused(tmp_path, line, problem):
    write(tmp_path / "x.jsonl", ['{"en": "a", "de": "b"}', line])
    assert problem in refusal(tmp_path / "x.jsonl")


# Damage and memory.


def peak_memory_of_reading(locator, on_error):
    """Return the peak number of bytes that Python allocates while it reads the locator."""
    tracemalloc.start()
    try:
        for _ in open_pairs(locator, "en", "de", "train", on_error):
            pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak


def test_memory_does_not_grow_with_the_file(tmp_path):
    with gzip.open(tmp_path / "x.tsv.gz", "wb", 1) as file:  # 72 MB of text.
        file.write(f"{'a ' * 4500}\t{'b ' * 4500}\n".encode() * 4_000)
        file.write(b"sch\xf6n\tgut\n")
    assert peak_memory_of_reading(f"{tmp_path}/x.tsv.gz", "skip") < 2**23
    with pytest.raises(InputError, match=r"x\.tsv\.gz:4001 is not UTF-8"):
        peak_memory_of_reading(f"{tmp_path}/x.tsv.gz", "refuse")


def test_memory_is_bounded_for_a_line_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr(text_files, "MAX_LINE_BYTES", 2**16)
    with gzip.open(tmp_path / "x.tsv.gz", "wb") as file:  # 64 MiB that compress to almost nothing.
        file.write(b"a\td\n")
        for _ in range(64):
            file.write(b" " * 2**20)
        file.write(b"\nb\te\n")
    assert list(open_pairs(f"{tmp_path}/x.tsv.gz", "en", "de", "train", "skip")) == [("a", "d"), ("b", "e")]
    assert peak_memory_of_reading(f"{tmp_path}/x.tsv.gz", "skip") < 2**23
    assert "x.tsv.gz:2 is longer than 0 MiB." in refusal(tmp_path / "x.tsv.gz")
