"""The progress of a run is one line per report, unless standard error is a terminal."""

import io
import os
import sys

import pytest

from transformer_jax.training import progress_display
from transformer_jax.training.progress_display import ProgressDisplay, format_duration

VALUES = {"loss": 2.5, "perplexity": 12.182, "learning_rate": 0.00123, "tokens_per_second": 4321.6, "skipped": 0.0}


class Stream(io.StringIO):
    def __init__(self, is_terminal):
        super().__init__()
        self.isatty = lambda: is_terminal


@pytest.fixture
def clock(monkeypatch):
    """The time, as a list of one number."""
    seconds = [100.0]
    monkeypatch.setattr(progress_display.time, "monotonic", lambda: seconds[0])
    return seconds


def run_two_updates(clock):
    display = ProgressDisplay(steps=20, step=10, batches_per_epoch=8)
    display.announce_compilation(3)
    for seconds in (40, 5):
        clock[0] += seconds
        display.advance()
    return display


def test_each_report_is_one_line_outside_a_terminal(monkeypatch, clock):
    monkeypatch.setattr(sys, "stderr", Stream(is_terminal=False))
    display = run_two_updates(clock)
    display.report(VALUES)
    display.report({"tokens_per_second": 0.0, "skipped": 2.0, "learning_rate": 0.00123})
    display.close()
    assert sys.stderr.getvalue().splitlines() == [
        "compiling the training step (3 batch shapes) ...",
        "compiled in 40 s",
        "step 12 of 20, epoch 1.50, loss 2.500, perplexity 12.18, learning rate 0.00123, 4322 tokens/s, 40 s left",
        "step 12 of 20, epoch 1.50, loss nan, perplexity nan, learning rate 0.00123, 0 tokens/s, 2 updates skipped, "
        "40 s left",
    ]


def test_a_terminal_has_a_bar(monkeypatch, clock):
    monkeypatch.setattr(sys, "stderr", Stream(is_terminal=True))
    display = run_two_updates(clock)
    display.report(VALUES)
    display.close()
    last = sys.stderr.getvalue().split("\r")[-1]
    assert "12/20" in last
    assert "loss 2.500, 4322 tokens/s" in last
    assert "epoch" not in sys.stderr.getvalue()


def test_a_run_is_never_silent_for_long(monkeypatch, clock):
    monkeypatch.setattr(sys, "stderr", Stream(is_terminal=False))
    display = run_two_updates(clock)
    for _ in range(3):
        clock[0] += 40
        display.advance()
    assert sys.stderr.getvalue().splitlines()[2:] == ["step 14 of 20, epoch 1.75, 3 min left"]


def test_only_process_0_shows_progress(monkeypatch, clock):
    monkeypatch.setattr(sys, "stderr", Stream(is_terminal=True))
    monkeypatch.setattr(progress_display.jax, "process_index", lambda: 1)
    run_two_updates(clock).report(VALUES)
    assert not sys.stderr.getvalue()


def test_a_closed_standard_error_is_no_error(monkeypatch, clock):
    monkeypatch.setattr(sys, "stderr", None)
    run_two_updates(clock).report(VALUES)
    read_end, write_end = os.pipe()
    os.close(read_end)
    closed_pipe = io.FileIO(write_end, "w")
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(closed_pipe, write_through=True))
    run_two_updates(clock).report(VALUES)
    closed_pipe.close()


def test_notebooks_show_progress_on_standard_output(monkeypatch, clock, capsys):
    stream = type("OutStream", (Stream,), {"__module__": "ipykernel.iostream"})
    monkeypatch.setattr(sys, "stderr", stream(is_terminal=False))
    run_two_updates(clock)
    assert "compiled in 40 s\n" in capsys.readouterr().out
    assert not sys.stderr.getvalue()


def test_durations_have_one_to_three_digits():
    assert [format_duration(seconds) for seconds in (8.0, 119.0, 7199.0, 36000.0)] == [
        "8 s",
        "119 s",
        "120 min",
        "10 h",
    ]
