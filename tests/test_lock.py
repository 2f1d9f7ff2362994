"""A lock is held by one; where there are none, that is said."""

import errno
import logging

import pytest
from filelock import FileLock, Timeout

from transformer_jax.lock import locked


def test_a_lock_is_held_by_one_and_free_again(tmp_path):
    for _ in range(2):
        with locked(tmp_path / "lock"), pytest.raises(Timeout), locked(tmp_path / "lock", blocking=False):
            pass


@pytest.mark.parametrize("error", [NotImplementedError(), OSError(errno.ENOLCK, ""), OSError(errno.EOPNOTSUPP, "")])
def test_a_file_system_without_locks_is_said(error, tmp_path, monkeypatch, caplog):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(FileLock, "acquire", fail)
    with caplog.at_level(logging.WARNING), locked(tmp_path / "lock"):
        pass
    assert f"{tmp_path} lies on a file system without locks" in caplog.text


def test_a_lock_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"Not a directory|File exists"), locked(tmp_path / "file" / "lock"):
        pass
