"""One run in a folder, and nothing left of a start that was refused; tests/faults shows it with processes."""

import errno
import logging

import pytest
from filelock import FileLock

from transformer_jax.errors import InputError
from transformer_jax.runtime.workdir_lock import exclusive_workdir


def test_a_folder_is_made_and_kept_if_something_was_written(tmp_path):
    with exclusive_workdir(tmp_path / "a" / "run"):
        (tmp_path / "a" / "run" / "file").touch()
    assert (tmp_path / "a" / "run" / "file").exists()


def test_a_folder_in_which_nothing_was_written_goes(tmp_path):
    with pytest.raises(ZeroDivisionError), exclusive_workdir(tmp_path / "run"):
        raise ZeroDivisionError
    assert not (tmp_path / "run").exists()


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(InputError, match=r"file/run cannot be made or written: .*--workdir"),
        exclusive_workdir(tmp_path / "file" / "run"),
    ):
        pass


def test_what_a_start_wrote_before_there_was_a_run_goes_and_nothing_else(tmp_path):
    def start(*others):
        with exclusive_workdir(tmp_path / "run"):
            (tmp_path / "run" / "checkpoints").mkdir(exist_ok=True)
            for name in ("tokenizer.source.json", "tokenizer.target.json", *others):
                (tmp_path / "run" / name).touch()

    start()
    assert not (tmp_path / "run").exists()
    start("notes")
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [".lock", "notes"]
    start("config.json")
    assert (tmp_path / "run" / "tokenizer.source.json").exists()


def test_tokenizers_beside_checkpoints_stay_even_if_the_config_is_lost(tmp_path):
    (tmp_path / "checkpoints" / "3").mkdir(parents=True)
    (tmp_path / "tokenizer.json").touch()
    with exclusive_workdir(tmp_path):
        pass
    assert (tmp_path / "tokenizer.json").exists()


def test_a_folder_that_another_run_has_is_refused(tmp_path):
    with (
        exclusive_workdir(tmp_path),
        pytest.raises(InputError, match="is in use by another training"),
        exclusive_workdir(tmp_path),
    ):
        pass


def test_a_file_system_without_locks_is_no_reason_to_refuse(tmp_path, monkeypatch, caplog):
    def fail(*_, **__):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(FileLock, "acquire", fail)
    with caplog.at_level(logging.WARNING), exclusive_workdir(tmp_path / "run"):
        pass
    assert "without locks" in caplog.text
