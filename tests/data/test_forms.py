"""Files in another form than their locator promises are refused with the command that converts them."""

import io
import re
import subprocess
import zipfile

import pytest
from parallel_text import COMPRESS, refusal, write

from transformer_jax.data.sources import open_pairs


@pytest.mark.parametrize(
    ("suffix", "remedy"),
    [
        (".tsv", "is tab-separated values, but {plain} Join them (paste {en} {de} > NEW.tsv), and use NEW.tsv."),
        (".tsv.gz", "is tab-separated values, but {plain} Join them (paste {en} {de} > NEW.tsv), and use NEW.tsv."),
        (".jsonl", "is JSON lines, but {plain} Extract a key such as text (jq -r .text {en} > NEW.en)"),
        (".json", "is JSON, but {plain} Extract the sentences (jq -r '.[]' {en} > NEW.en)"),
        (".parquet", "is Parquet, but {plain} Write one file with the columns en and de, and use its path."),
        (".csv", "is comma-separated values, but {plain} Save each as plain text"),
        (".DOCX", "is a document, but {plain} Save each as plain text"),
        (".sgm", "is markup, but {plain} Save each as plain text"),
    ],
)
def test_one_file_per_language_must_be_plain_text(tmp_path, suffix, remedy):
    write(tmp_path / f"x.en{suffix}", ["a"])
    write(tmp_path / f"x.de{suffix}", ["b"])
    plain = "files with one language each must be plain text."
    paths = {language: f"{tmp_path}/x.{language}{suffix}" for language in ("en", "de")}
    message = refusal(f"{tmp_path}/x.{{lang}}{suffix}")
    assert message.startswith(f"{tmp_path}/x.{{lang}}{suffix} {remedy.format(plain=plain, **paths)}")


def test_suggested_paste_makes_the_files_readable(tmp_path):
    write(tmp_path / "my x.en.tsv", ["a", "b"])
    write(tmp_path / "my x.de.tsv", ["c", "d"])
    command = re.search(r"paste .* > NEW.tsv", refusal(f"{tmp_path}/my x.{{lang}}.tsv"))[0]
    subprocess.run(command, shell=True, check=True, cwd=tmp_path)
    assert list(open_pairs(f"{tmp_path}/NEW.tsv", "en", "de", "train")) == [("a", "c"), ("b", "d")]


def run_command(pattern, message, directory):
    """Run the command that a message suggests."""
    subprocess.run(re.search(pattern, message)[0], shell=True, check=True, cwd=directory, executable="/bin/bash")


def test_suggested_paste_decompresses_files(tmp_path):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("x", "a\nb\n")
    (tmp_path / "my x.en.tsv.gz").write_bytes(archive.getvalue())
    (tmp_path / "my x.de.tsv.gz").write_bytes(b"c\nd\n")
    (tmp_path / "my x.fr.tsv.gz").write_bytes(COMPRESS[".gz"](b"e\nf\n"))
    locator = f"{tmp_path}/my x.{{lang}}.tsv.gz"
    for target, words in (("de", "cd"), ("fr", "ef")):
        run_command("paste .* > NEW.tsv", refusal(locator, "en", target), tmp_path)
        assert list(open_pairs(f"{tmp_path}/NEW.tsv", "en", target, "train")) == list(zip("ab", words, strict=True))


def test_suggested_extraction_decompresses_files(tmp_path):
    (tmp_path / "x.en.jsonl.gz").write_bytes(COMPRESS[".gz"](b'{"text": "a"}\n'))
    message = refusal(f"{tmp_path}/x.{{lang}}.jsonl.gz")
    assert f"(gzip -dc {tmp_path}/x.en.jsonl.gz | jq -r .text > NEW.en), and use NEW.{{lang}}." in message
    (tmp_path / "x.en.json.xz").write_bytes(COMPRESS[".xz"](b'["a"]\n'))
    message = refusal(f"{tmp_path}/x.{{lang}}.json.xz")
    assert f"(xz -dc {tmp_path}/x.en.json.xz | jq -r '.[]' > NEW.en), and use NEW.{{lang}}." in message


def test_compressed_pairs_are_converted_by_the_suggested_command(tmp_path):
    path = tmp_path / "x.json.gz"
    path.write_bytes(COMPRESS[".gz"](b"[]\n"))
    assert f"Convert it to JSON lines (gzip -dc {path} | jq -c '.[]' > NEW.jsonl). " in refusal(path)
    (tmp_path / "x.csv.bz2").write_bytes(COMPRESS[".bz2"](b'"a, b",c,more\n'))
    run_command(r"bzip2 -dc .* \| python -c .* > NEW.tsv", refusal(tmp_path / "x.csv.bz2"), tmp_path)
    assert list(open_pairs(f"{tmp_path}/NEW.tsv", "en", "de", "train")) == [("a, b", "c")]


def test_other_suffixes_are_plain_text(tmp_path):
    for language in ("en", "de"):
        write(tmp_path / f"{language}.txt", [language])
    assert list(open_pairs(f"{tmp_path}/{{lang}}.txt", "en", "de", "train")) == [("en", "de")]


def test_csv_is_converted_by_the_suggested_command(tmp_path):
    write(tmp_path / "x.csv", ['"a, ""b""",c,more', "d,e,more"])
    command = re.search(r"python -c .* > NEW.tsv", refusal(tmp_path / "x.csv"))[0]
    subprocess.run(command, shell=True, check=True, cwd=tmp_path)
    assert list(open_pairs(f"{tmp_path}/NEW.tsv", "en", "de", "train")) == [('a, "b"', "c"), ("d", "e")]


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("x.json", "Convert it to JSON lines (jq -c '.[]' x.json > NEW.jsonl). "),
        ("x.ndjson", "Rename it (mv x.ndjson NEW.jsonl). "),
        ("x.tmx", "Save the text of markup as tab-separated values. "),
    ],
)
def test_other_forms_of_pairs_name_the_conversion(name, remedy):
    assert refusal(name).startswith(f"{name!r} is not a known locator. {remedy}Use path/train.{{lang}}, ")


def test_directory_names_the_locators_that_read_it(tmp_path):
    assert refusal(tmp_path).endswith(
        f"use {tmp_path}/NAME.{{lang}}. For a data set as on the Hugging Face hub, use hf://{tmp_path}."
    )
