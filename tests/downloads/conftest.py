"""A cache of its own and a faulty HTTP server for each test."""

import pytest
from faulty_server import faulty_server
from hub_server import hub_of_this_process

from transformer_jax.downloads import files, runs, streams, transfer


@pytest.fixture(autouse=True)
def downloads(tmp_path, monkeypatch):
    """Set an empty cache and short pauses, and return the directory of the cache."""
    monkeypatch.setenv("TRANSFORMER_JAX_DOWNLOADS", str(tmp_path / "downloads"))
    monkeypatch.setattr(transfer, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(streams, "SILENCE_SECONDS", 0.5)
    forget()
    return tmp_path / "downloads"


def forget():
    """Forget which versions this process uses, as a new process would."""
    files.download_file.cache_clear()
    runs.download_run.cache_clear()


@pytest.fixture
def new_process():
    """Return a function after which this process asks the servers again, as a new process would."""
    return forget


@pytest.fixture
def server():
    """Yield a running HTTP server that can fail."""
    with faulty_server() as server:
        yield server


@pytest.fixture
def hub(monkeypatch):
    """Yield a stand-in of the Hugging Face hub."""
    with hub_of_this_process(monkeypatch) as server:
        yield server
