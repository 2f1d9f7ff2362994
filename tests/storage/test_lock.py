"""A lock has one holder; on a file system without locks a warning is logged."""

import errno
import fcntl
import logging

import pytest
from filelock import Timeout

from transformer_jax.storage.lock import locked


def test_a_lock_excludes_others_until_it_is_released(tmp_path):
    for _ in range(2):
        with locked(tmp_path / "lock"), pytest.raises(Timeout), locked(tmp_path / "lock", blocking=False):
            pass


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
@pytest.mark.parametrize("blocking", [False, True])
def test_a_file_system_without_locks_is_a_warning(number, blocking, tmp_path, monkeypatch, caplog):
    def fail(*_):
        raise OSError(number, "no locks here")

    monkeypatch.setattr(fcntl, "flock", fail)
    with caplog.at_level(logging.WARNING), locked(tmp_path / "lock", blocking):
        pass
    assert f"{tmp_path} is on a file system without locks" in caplog.text


def test_an_unwritable_lock_file_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"Not a directory|File exists"), locked(tmp_path / "file" / "lock"):
        pass
