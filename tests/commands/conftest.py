"""Fixtures for the tests of commands."""

import logging
import sys

import pytest
from tiny_run import tiny_run  # noqa: F401
from translate_cases import Result, load, main

from transformer_jax import Translator
from transformer_jax.commands.cli import run_command
from transformer_jax.storage.lines import replace_line_breaks

# ruff: noqa: F811


@pytest.fixture
def translate(tiny_run, tmp_path_factory, capfd, monkeypatch):
    """Call translate.py in this process. The model is loaded once for all tests."""
    monkeypatch.setattr(Translator, "load", staticmethod(load))
    piped_text = tmp_path_factory.mktemp("standard-input") / "text"

    def call(*arguments, stdin=b"", workdir=tiny_run):
        options = [] if workdir is None else ["--workdir", str(workdir)]
        piped_text.write_bytes(stdin if isinstance(stdin, bytes) else b"")
        with piped_text.open(encoding="utf-8") as stream:
            monkeypatch.setattr(sys, "stdin", stream if isinstance(stdin, bytes) else stdin)
            return Result.of(run_command(main, [*map(str, arguments), *options]), *capfd.readouterr())

    yield call
    for handler in list(logging.root.handlers):
        if type(handler) is logging.StreamHandler:  # The command's own, which writes to a stream that is now closed.
            logging.root.removeHandler(handler)
    logging.root.setLevel(logging.WARNING)


@pytest.fixture
def expected(tiny_run):
    """Return the run's translation of each text, on one line."""
    return lambda texts: [replace_line_breaks(translation.text) for translation in load(tiny_run).translate(texts)]


@pytest.fixture
def file(tmp_path):
    """Write a file and return its path."""

    def write(content, name="input.txt"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write
