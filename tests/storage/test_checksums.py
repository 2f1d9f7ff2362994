"""Damage in a sealed directory is found and described."""

import json

import pytest

from transformer_jax.storage import checksums
from transformer_jax.storage.checksums import find_damage, seal


@pytest.fixture
def directory(tmp_path):
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "a").write_bytes(bytes(range(7)))
    (tmp_path / "b").write_text("b")
    seal(tmp_path)
    return tmp_path


def test_an_unchanged_directory_has_no_damage(directory):
    assert find_damage(directory) is None
    (directory / "later").write_text("a file added after sealing")
    assert find_damage(directory) is None


def test_changed_and_missing_files_are_named(directory):
    (directory / "inner" / "a").write_bytes(bytes(range(1, 8)))
    assert find_damage(directory) == "inner/a does not match its checksum"
    assert find_damage(directory, "b") is None
    (directory / "inner" / "a").unlink()
    assert find_damage(directory) == "inner/a is missing"


@pytest.mark.parametrize("content", ["", "{", "[1]", "[[1, 2]]", "7", "\x00"])
def test_an_unreadable_checksum_file_is_damage(content, directory):
    (directory / "checksums.json").write_text(content)
    assert find_damage(directory) == "checksums.json cannot be read"


def test_a_read_error_is_damage(directory, monkeypatch):
    def fail(path):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(checksums, "_checksum", fail)
    assert find_damage(directory) == "b cannot be read"


def test_a_directory_in_place_of_a_file_is_damage(directory):
    (directory / "b").unlink()
    (directory / "b").mkdir()
    assert find_damage(directory) == "b is missing"


def test_a_directory_without_checksums_is_damaged(tmp_path):
    assert find_damage(tmp_path) == "checksums.json is missing"


def test_files_outside_the_directory_are_not_read(directory):
    (directory / "checksums.json").write_text(json.dumps({"/etc/hostname": "0", "../b": "0"}))
    assert find_damage(directory) == "/etc/hostname is missing"
