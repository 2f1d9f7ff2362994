"""A MarianMT model, and the run imported from it."""

from pathlib import Path
from shutil import copytree

import pytest
from tiny_run import tiny_run  # noqa: F401

from transformer_jax.bridges.marian import import_marian


@pytest.fixture(scope="session")
def marian_model(tmp_path_factory):
    """A directory with the files of a model."""
    from marian_models import make_marian  # Only here: it skips tests where torch is not installed.

    directory = tmp_path_factory.mktemp("marian") / "opus-mt-en-de"
    make_marian(directory)
    return directory


@pytest.fixture(scope="session")
def marian_run(marian_model, tmp_path_factory):
    """The run directory imported from the model."""
    workdir = tmp_path_factory.mktemp("runs") / "opus-mt-en-de"
    import_marian(str(marian_model), workdir)
    return workdir


@pytest.fixture
def marian_copy(marian_model, tmp_path):
    """A copy of the model that a test may damage."""
    return Path(copytree(marian_model, tmp_path / "copy"))
