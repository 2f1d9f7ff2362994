"""``~`` at the start of a path is expanded as in a shell, also where no shell does it."""

import os
from pathlib import Path

import pytest

from transformer_jax.errors import InputError
from transformer_jax.storage.home import expand_home


def test_home_is_expanded_at_the_start_of_paths_and_strings(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert expand_home(Path("~/x")) == Path("/home/me/x")
    assert expand_home("~/x.{lang}") == "/home/me/x.{lang}"
    assert expand_home("~") == "/home/me"
    assert expand_home("~root/x") == os.path.expanduser("~root") + "/x"


@pytest.mark.parametrize("path", ["", "a/~/b", "./~", "~no-such-user/x", "hf://~/x"])
def test_other_paths_do_not_change(path):
    assert expand_home(path) == path


def test_empty_home_is_as_if_not_set(monkeypatch):
    monkeypatch.delenv("HOME", raising=False)
    without = expand_home("~/x")
    monkeypatch.setenv("HOME", "")
    assert expand_home("~/x") == without != "/x"


def test_unknown_home_is_refused_with_the_variable(monkeypatch):
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # As for a user ID without an entry, and no HOME.
    with pytest.raises(
        InputError, match=r"^~/x: the home directory is not known\. Set HOME, or write the complete path\.$"
    ):
        expand_home(Path("~/x"))
