"""A run directory has one run, and a failed start leaves no files. tests/faults uses real processes."""

import errno
import logging

import pytest
from filelock import FileLock

from transformer_jax.errors import InputError
from transformer_jax.runtime.workdir_lock import exclusive_workdir


def test_a_workdir_with_files_is_kept(tmp_path):
    with exclusive_workdir(tmp_path / "a" / "run"):
        (tmp_path / "a" / "run" / "file").touch()
    assert (tmp_path / "a" / "run" / "file").exists()


def test_an_empty_workdir_is_removed(tmp_path):
    with pytest.raises(ZeroDivisionError), exclusive_workdir(tmp_path / "run"):
        raise ZeroDivisionError
    assert not (tmp_path / "run").exists()


def test_an_unwritable_workdir_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(InputError, match=r"cannot write to .*file/run: .*--workdir"),
        exclusive_workdir(tmp_path / "file" / "run"),
    ):
        pass


def test_a_failed_start_removes_only_its_own_files(tmp_path):
    def start(*other_files):
        with exclusive_workdir(tmp_path / "run"):
            (tmp_path / "run" / "checkpoints").mkdir(exist_ok=True)
            for name in ("tokenizer.source.json", "tokenizer.target.json", "data.json", *other_files):
                (tmp_path / "run" / name).touch()

    start()
    assert not (tmp_path / "run").exists()
    start("notes")
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [".lock", "notes"]
    start("config.json")
    assert (tmp_path / "run" / "tokenizer.source.json").exists()


def test_tokenizers_next_to_checkpoints_are_never_removed(tmp_path):
    (tmp_path / "checkpoints" / "3").mkdir(parents=True)
    (tmp_path / "tokenizer.json").touch()
    with exclusive_workdir(tmp_path):
        pass
    assert (tmp_path / "tokenizer.json").exists()


def test_a_workdir_in_use_is_refused(tmp_path):
    with (
        exclusive_workdir(tmp_path),
        pytest.raises(InputError, match="is in use by another training"),
        exclusive_workdir(tmp_path),
    ):
        pass


def test_a_file_system_without_locks_is_accepted(tmp_path, monkeypatch, caplog):
    def fail(*_, **__):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(FileLock, "acquire", fail)
    with caplog.at_level(logging.WARNING), exclusive_workdir(tmp_path / "run"):
        pass
    assert "without locks" in caplog.text
