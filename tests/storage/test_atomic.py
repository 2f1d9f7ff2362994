"""A file is written completely or keeps its earlier content."""

import os
from pathlib import Path

import pytest

from transformer_jax.errors import RunError
from transformer_jax.storage import atomic


def test_write_text_replaces_a_file(tmp_path):
    for text in ("first", "Größe"):
        atomic.write_text(tmp_path / "file", text)
        assert (tmp_path / "file").read_text(encoding="utf-8") == text
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_failed_write_keeps_only_the_earlier_file(tmp_path, monkeypatch):
    atomic.write_text(tmp_path / "file", "first")

    def fail(*paths):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space"):
        atomic.write_text(tmp_path / "file", "second")
    assert (tmp_path / "file").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_last_of_two_concurrent_writers_replaces_the_file(tmp_path):
    path = tmp_path / "file"
    with atomic.new_file(path, tmp_path / "a") as last, atomic.new_file(path, tmp_path / "b") as first:
        last.write("last")
        first.write("first")
        assert not path.exists()
    assert path.read_text() == "last"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_sync_flushes_every_file_of_a_directory(tmp_path, monkeypatch):
    (tmp_path / "inner").mkdir()
    for name in ("a", "inner/b"):
        (tmp_path / name).write_text(name)
    synced = []
    monkeypatch.setattr(os, "fsync", lambda number: synced.append(os.fstat(number).st_ino))
    atomic.sync(tmp_path)
    assert sorted(synced) == sorted((tmp_path / name).stat().st_ino for name in ("a", "inner/b"))


@pytest.mark.parametrize(
    ("error", "reason"), [(OSError(28, "No space left on device"), "No space left on device"), (OSError("odd"), "odd")]
)
def test_a_write_error_names_path_reason_and_remedy(error, reason):
    message = f"cannot write out/file: {reason}. Name another --output."
    with pytest.raises(RunError) as caught, atomic.writing(Path("out/file"), "Name another --output."):
        raise error
    assert str(caught.value) == message
    assert str(atomic.write_error("out/file", error, "Name another --output.")) == message
