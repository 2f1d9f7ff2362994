"""What libraries raise becomes one line where we know what it means, and stays what it is where we do not."""

import jax
import pytest

from transformer_jax.errors import RunError
from transformer_jax.runtime.failures import as_run_errors

GONE = [
    "UNKNOWN: Gloo AllGather failed: [external/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer [::1]:1",
    "UNAVAILABLE: Task 1 heartbeat timeout. This indicates that the remote task has failed",
    "DEADLINE_EXCEEDED: Barrier timed out. Id: orbax::0\nand more",
]
"""As jax 0.10.2 says it."""


@pytest.mark.parametrize("kind", [jax.errors.JaxRuntimeError, ValueError])
@pytest.mark.parametrize("message", GONE)
def test_what_a_lost_process_leaves_behind_is_one_line_that_says_how_to_go_on(kind, message, tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with (
        pytest.raises(RunError, match=r"another process of the run is gone .*Start all") as error,
        as_run_errors(tmp_path),
    ):
        raise kind(message)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("error", [jax.errors.JaxRuntimeError("INTERNAL: something else"), ValueError("another")])
def test_what_nobody_foresaw_is_not_blamed_on_another_process(error, processes, tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: processes)
    with pytest.raises(type(error)) as raised, as_run_errors(tmp_path):
        raise error
    assert raised.value is error


def test_alone_nobody_is_lost(tmp_path):
    with pytest.raises(ValueError, match="Gloo"), as_run_errors(tmp_path):
        raise ValueError(GONE[0])


def test_the_place_that_the_system_refused_is_named(tmp_path):
    with pytest.raises(RunError, match=r"missing/file: No such file.*goes on from its last"), as_run_errors(tmp_path):
        (tmp_path / "missing" / "file").write_text("")
