"""A file is written whole or stays as it was."""

import os

import pytest

from transformer_jax import atomic


def test_a_file_is_replaced(tmp_path):
    for text in ("first", "Größe"):
        atomic.write_text(tmp_path / "file", text)
        assert (tmp_path / "file").read_text(encoding="utf-8") == text
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_cannot_be_finished_leaves_the_earlier_file_and_nothing_else(tmp_path, monkeypatch):
    atomic.write_text(tmp_path / "file", "first")

    def fail(*paths):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space"):
        atomic.write_text(tmp_path / "file", "second")
    assert (tmp_path / "file").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
