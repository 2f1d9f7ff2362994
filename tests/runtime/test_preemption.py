"""Which signals are taken, and who has them afterwards; tests/faults shows real ones."""

import os
import signal

import jax
import pytest

from transformer_jax.runtime import preemption
from transformer_jax.runtime.preemption import PreemptionHandler


@pytest.fixture(autouse=True)
def own_handler():
    """One that tells which signals reach others; for SIGTERM, as JAX sets it behind Python's back."""
    came = []
    before = {
        number: signal.signal(number, lambda number, _: came.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    yield came
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_noted_and_afterwards_goes_where_it_went_before(number, own_handler, capfd):
    with PreemptionHandler() as interruption:
        assert not interruption.requested()
        os.kill(os.getpid(), number)
        assert interruption.requested()
        assert interruption.at_once()
        assert (interruption.signal, interruption.name) == (number, signal.Signals(number).name)
    assert own_handler == []
    assert "another signal ends at once" in capfd.readouterr().err
    os.kill(os.getpid(), number)
    assert own_handler == [number]


def test_a_reader_of_messages_that_is_gone_does_not_keep_the_run_from_saving(monkeypatch):
    def fail(*_):
        raise BrokenPipeError

    monkeypatch.setattr(os, "write", fail)
    with PreemptionHandler() as interruption:
        os.kill(os.getpid(), signal.SIGINT)
        assert interruption.requested()


def test_with_several_processes_jax_has_sigterm_until_the_end_and_nobody_swallows_it_then(own_handler, monkeypatch):
    agreed = []
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(preemption, "reached_preemption_sync_point", lambda asked: asked in agreed)
    with PreemptionHandler() as several:
        os.kill(os.getpid(), signal.SIGINT)  # Passed on as SIGTERM, for JAX to tell the others.
        assert own_handler == [signal.SIGTERM]
        assert not several.requested()
        assert not several.at_once()
        agreed.append(1)
        assert several.requested()
        assert several.signal == signal.SIGINT
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
