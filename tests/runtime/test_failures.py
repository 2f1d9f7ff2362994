"""Known errors of libraries become a RunError of one line; unknown ones are raised unchanged."""

import jax
import pytest

from transformer_jax.errors import RunError
from transformer_jax.runtime.failures import as_run_errors

LOST_PROCESS_ERRORS = [
    "UNKNOWN: Gloo AllGather failed: [external/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer [::1]:1",
    "UNAVAILABLE: Task 1 heartbeat timeout. This indicates that the remote task has failed",
    "DEADLINE_EXCEEDED: Barrier timed out. Id: orbax::0\nand more",
]
"""Messages of jax 0.10.2."""


@pytest.mark.parametrize("kind", [jax.errors.JaxRuntimeError, ValueError])
@pytest.mark.parametrize("message", LOST_PROCESS_ERRORS)
def test_a_lost_process_is_one_line_with_the_remedy(kind, message, tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with (
        pytest.raises(RunError, match=r"lost another process of the run .*Start all") as error,
        as_run_errors(tmp_path),
    ):
        raise kind(message)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize(
    "error", [jax.errors.JaxRuntimeError("INTERNAL: something else"), ValueError("another"), BrokenPipeError()]
)
def test_other_errors_are_raised_unchanged(error, processes, tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: processes)
    with pytest.raises(type(error)) as raised, as_run_errors(tmp_path):
        raise error
    assert raised.value is error


def test_a_single_process_cannot_lose_another(tmp_path):
    with pytest.raises(ValueError, match="Gloo"), as_run_errors(tmp_path):
        raise ValueError(LOST_PROCESS_ERRORS[0])


def test_a_failed_file_operation_names_the_path(tmp_path):
    with pytest.raises(RunError, match=r"missing/file: No such file.*resumes from its last"), as_run_errors(tmp_path):
        (tmp_path / "missing" / "file").write_text("")
