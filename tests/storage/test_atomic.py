"""A file is written whole or stays as it was."""

import os

import pytest

from transformer_jax.storage import atomic


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


def test_what_is_written_at_the_same_time_under_two_names_is_whole_whoever_ends_last(tmp_path):
    path = tmp_path / "file"
    with atomic.new_file(path, tmp_path / "one") as one, atomic.new_file(path, tmp_path / "two") as two:
        one.write("first")
        two.write("second")
        assert not path.exists()
    assert path.read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_every_file_of_a_folder_is_brought_to_the_disk(tmp_path, monkeypatch):
    (tmp_path / "inner").mkdir()
    for name in ("a", "inner/b"):
        (tmp_path / name).write_text(name)
    synced = []
    monkeypatch.setattr(os, "fsync", lambda number: synced.append(os.fstat(number).st_ino))
    atomic.sync(tmp_path)
    assert sorted(synced) == sorted((tmp_path / name).stat().st_ino for name in ("a", "inner/b"))
