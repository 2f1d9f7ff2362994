"""One run in a folder; tests/faults shows it with processes."""

import logging

import pytest
from filelock import FileLock

from transformer_jax.errors import InputError
from transformer_jax.lock import only_run_in


def test_a_folder_is_made_and_kept_if_something_was_written(tmp_path):
    with only_run_in(tmp_path / "a" / "run"):
        (tmp_path / "a" / "run" / "file").touch()
    assert (tmp_path / "a" / "run" / "file").exists()


def test_a_folder_in_which_nothing_was_written_goes(tmp_path):
    with pytest.raises(ZeroDivisionError), only_run_in(tmp_path / "run"):
        raise ZeroDivisionError
    assert not (tmp_path / "run").exists()


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(InputError, match=r"file/run cannot be made or written: .*--workdir"),
        only_run_in(tmp_path / "file" / "run"),
    ):
        pass


def test_a_file_system_without_locks_is_said(tmp_path, monkeypatch, caplog):
    def fail(*_, **__):
        raise NotImplementedError

    monkeypatch.setattr(FileLock, "acquire", fail)
    with caplog.at_level(logging.WARNING), only_run_in(tmp_path / "run"):
        pass
    assert "without locks" in caplog.text
