"""Printed commands can be pasted whatever they contain, and text cannot control a terminal."""

import gzip
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pseudo_terminal import pseudo_terminal

from transformer_jax.commands.cli import command_prefix, parse_arguments, run_command
from transformer_jax.commands.translate import TranslateCommand
from transformer_jax.data.encodings import conversion_command
from transformer_jax.errors import InputError
from transformer_jax.terminal import command_with_text, one_line, quote, quote_command, show

HOSTILE_TEXTS = (
    *("$(touch x)", "`touch x`", "it's fun!", 'a "b"', "a; touch x", "a\nb", "\x1b[2Jx", "\u202eabc", "", "*", "~"),
    *("\\", "é", "\udcff9", "!!", "a'!b\n!", "%s", "$HOME", "# a", "a\tb"),
)
ESCAPE = "\x1b]0;title\x07a\rb\u202ec\x9b2J"
ESCAPED = "\\u001b]0;title\\u0007a\\u000db\\u202ec\\u009b2J"


def shell_words(command):
    """Return the arguments that an interactive bash passes to a program, as bytes."""
    program = f"{sys.executable} -c 'import os, sys; os.write(1, os.fsencode(\"\\0\".join(sys.argv[1:])))'"
    shell = ["bash", "--norc", "-i"]
    script = os.fsencode(f"{program} {command}\n")
    return subprocess.run(shell, input=script, capture_output=True, check=True).stdout.split(b"\0")


def test_hostile_words_reach_a_program_unchanged(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert shell_words(quote_command(*HOSTILE_TEXTS)) == [os.fsencode(text) for text in HOSTILE_TEXTS]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", HOSTILE_TEXTS)
def test_quoted_word_is_one_line_without_control_characters(text):
    assert quote(text).replace("'", "") != "" or text == ""
    assert one_line(quote(text)) == quote(text)


def test_path_that_starts_with_a_hyphen_is_not_an_option():
    assert quote_command("--workdir", Path("-x")) == "--workdir ./-x"
    assert quote_command("--workdir", Path("a b")) == "--workdir 'a b'"


@pytest.mark.parametrize("text", ["Where is the dog?", "-x", "--input", "--"])
def test_printed_text_is_read_as_text(text):
    command = command_with_text("", text, "--workdir", Path("run"))
    words = [os.fsdecode(word) for word in shell_words(command)]
    assert parse_arguments(TranslateCommand(), words, "translate").text == (text,)


@pytest.mark.parametrize(
    ("path", "command"),
    [
        ("a b.txt", "iconv -f UTF-16 -t UTF-8 'a b.txt' > NEW"),
        ("-x.tsv", "iconv -f UTF-16 -t UTF-8 ./-x.tsv > NEW"),
        ("$(x).tsv", "iconv -f UTF-16 -t UTF-8 '$(x).tsv' > NEW"),
        ("a\x1b", "iconv -f UTF-16 -t UTF-8 $'a\\033' > NEW"),
    ],
)
def test_conversion_command_quotes_the_path(path, command):
    assert conversion_command("UTF-16", path) == command


def test_conversion_command_decompresses_the_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "-x y").write_bytes(gzip.compress(b"a"))
    assert conversion_command("UTF-16", "-x y") == "gzip -dc './-x y' | iconv -f UTF-16 -t UTF-8 > NEW"


def test_command_prefix_quotes_the_directory(tmp_path, monkeypatch):
    (tmp_path / "a b").mkdir()
    (tmp_path / "a b" / "translate.py").touch()
    monkeypatch.setattr("sys.argv", [str(tmp_path / "a b" / "train.py")])
    assert command_prefix("translate") == f"python '{tmp_path}/a b/translate.py'"


def test_control_characters_are_escaped_in_a_terminal(monkeypatch):
    with pseudo_terminal() as (stream, received), monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        show(f"a\tb {ESCAPE}")
        assert received() == f"a\tb {ESCAPED}\n"


def test_files_and_pipes_get_the_text_unchanged(tmp_path, monkeypatch):
    with (tmp_path / "file").open("w", newline="") as stream, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        show(ESCAPE)
    assert (tmp_path / "file").read_bytes().decode() == f"{ESCAPE}\n"


def test_nothing_is_printed_to_a_closed_stream(capsys):
    show("a", None)
    assert capsys.readouterr() == ("", "")


def test_errors_and_logs_are_escaped_in_a_terminal(monkeypatch):
    def main(arguments):
        logging.warning(f"{ESCAPE}\nforged")
        raise InputError(f"{ESCAPE}\nforged")

    with pseudo_terminal() as (stream, received), monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        assert run_command(main, []) == 2
        logging.root.handlers.clear()
        assert received() == f"{ESCAPED}\\nforged\nerror: {ESCAPED}\\nforged\n"
