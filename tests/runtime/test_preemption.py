"""Signal handlers during a run and after it. tests/faults sends real signals."""

import os
import signal

import jax
import pytest

from transformer_jax.runtime import preemption
from transformer_jax.runtime.preemption import PreemptionHandler


@pytest.fixture(autouse=True)
def passed_on():
    """Signals that reach the previous handlers, such as JAX's handler of SIGTERM."""
    received = []
    original_handlers = {
        number: signal.signal(number, lambda number, _: received.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    yield received
    for number, handler in original_handlers.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_previous_handlers_are_restored(number, passed_on, capfd):
    with PreemptionHandler() as handler:
        assert not handler.should_stop()
        os.kill(os.getpid(), number)
        assert handler.should_stop()
        assert handler.should_abort()
        assert (handler.stop_signal, handler.signal_name) == (number, signal.Signals(number).name)
    assert passed_on == []
    assert "another signal exits immediately" in capfd.readouterr().err
    os.kill(os.getpid(), number)
    assert passed_on == [number]


def test_a_closed_standard_error_does_not_prevent_saving(monkeypatch):
    def fail(*_):
        raise BrokenPipeError

    monkeypatch.setattr(os, "write", fail)
    with PreemptionHandler() as handler:
        os.kill(os.getpid(), signal.SIGINT)
        assert handler.should_stop()


def test_jax_handles_sigterm_in_a_distributed_run(passed_on, monkeypatch):
    agreed_polls = []
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(preemption, "reached_preemption_sync_point", lambda poll: poll in agreed_polls)
    with PreemptionHandler() as handler:
        os.kill(os.getpid(), signal.SIGINT)  # Passed on as SIGTERM, so that JAX notifies the other processes.
        assert passed_on == [signal.SIGTERM]
        assert not handler.should_stop()
        assert not handler.should_abort()
        agreed_polls.append(1)
        assert handler.should_stop()
        assert handler.stop_signal == signal.SIGINT
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
