"""Caches have a documented directory, and those that are not writable are replaced."""

import errno
import os
from pathlib import Path

import pytest

from transformer_jax.storage.caches import cache_directory, is_hf_cache_failure, prepare_hf_caches

VARIABLES = ("VARIABLE", "XDG_CACHE_HOME", "HF_HOME", "HF_DATASETS_CACHE")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Set a home directory and no other variable."""
    for name in VARIABLES:
        monkeypatch.setenv(name, "")  # Set to nothing: as if not set.
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_variable_comes_before_xdg_and_home(home, monkeypatch):
    assert cache_directory("x/y", "VARIABLE") == home / ".cache" / "x" / "y"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_directory("x/y", "VARIABLE") == home / ".cache" / "x" / "y"
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_directory("x/y", "VARIABLE") == Path("/xdg/x/y")
    monkeypatch.setenv("VARIABLE", "~/own")
    assert cache_directory("x/y", "VARIABLE") == home / "own"


def test_unknown_home_has_no_cache(monkeypatch):
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    assert cache_directory("x", "VARIABLE") is None


def test_writable_hf_caches_stay(home, caplog):
    prepare_hf_caches()
    assert not os.environ["HF_HOME"]
    assert not os.environ["HF_DATASETS_CACHE"]
    assert not caplog.messages


def test_missing_hf_home_is_replaced_with_a_warning(home, monkeypatch, caplog):
    (home / ".cache").write_text("a file")
    prepare_hf_caches()
    assert Path(os.environ["HF_HOME"]).is_dir()
    assert caplog.messages == [
        f"{home}/.cache/huggingface is not writable. Data sets are kept in a temporary directory until this command "
        "ends. To keep them, set HF_HOME to a writable directory."
    ]


def test_shared_downloads_remain_readable(home, caplog):
    (home / ".cache" / "huggingface").mkdir(parents=True)
    (home / ".cache" / "huggingface" / "datasets").write_text("a file")
    prepare_hf_caches()
    assert not os.environ["HF_HOME"]
    assert Path(os.environ["HF_DATASETS_CACHE"]).is_dir()
    assert len(caplog.messages) == 1


def test_failures_of_hf_caches_are_told_from_others(home):
    failure = ValueError("a")
    failure.__cause__ = OSError(errno.EACCES, "Permission denied", f"{home}/.cache/huggingface/hub")
    assert is_hf_cache_failure(failure)
    assert not is_hf_cache_failure(OSError(errno.EACCES, "Permission denied", "/data/x"))
    assert not is_hf_cache_failure(ValueError("a"))
