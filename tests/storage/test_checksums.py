"""A sealed folder is as it was written, or says what is not."""

import json

import pytest

from transformer_jax.storage import checksums
from transformer_jax.storage.checksums import find_damage, seal


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "a").write_bytes(bytes(range(7)))
    (tmp_path / "b").write_text("b")
    seal(tmp_path)
    return tmp_path


def test_a_folder_as_it_was_written_is_whole(folder):
    assert find_damage(folder) is None
    (folder / "later").write_text("a file that was not there")
    assert find_damage(folder) is None


def test_damage_is_named(folder):
    (folder / "inner" / "a").write_bytes(bytes(range(1, 8)))
    assert find_damage(folder) == "inner/a is not as it was written"
    assert find_damage(folder, "b") is None
    (folder / "inner" / "a").unlink()
    assert find_damage(folder) == "inner/a is missing"


@pytest.mark.parametrize("content", ["", "{", "[1]", "[[1, 2]]", "7", "\x00"])
def test_checksums_that_cannot_be_read_are_damage(content, folder):
    (folder / "checksums.json").write_text(content)
    assert find_damage(folder) == "checksums.json cannot be read"


def test_a_disk_that_fails_is_damage(folder, monkeypatch):
    def fail(path):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(checksums, "_checksum", fail)
    assert find_damage(folder) == "b cannot be read"


def test_a_folder_in_the_place_of_a_file_is_damage(folder):
    (folder / "b").unlink()
    (folder / "b").mkdir()
    assert find_damage(folder) == "b is missing"


def test_a_folder_that_was_never_sealed_is_damaged(tmp_path):
    assert find_damage(tmp_path) == "checksums.json is missing"


def test_no_file_outside_the_folder_is_looked_at(folder):
    (folder / "checksums.json").write_text(json.dumps({"/etc/hostname": "0", "../b": "0"}))
    assert find_damage(folder) == "/etc/hostname is missing"
