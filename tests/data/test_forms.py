"""Files in another form than their locator promises are refused with the command that converts them."""

import re
import subprocess

import pytest
from parallel_text import refusal, write

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
