"""A download shows a bar in a terminal, and lines elsewhere."""

import io
import sys

import pytest

from transformer_jax.downloads import display
from transformer_jax.downloads.display import DownloadDisplay, format_size


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_terminal_shows_a_bar_from_the_resumed_position(monkeypatch, caplog):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    download = DownloadDisplay("https://host/train.tsv", 1000, 250)
    download.advance(750)
    download.close()
    first, *_, last = terminal.getvalue().split("\r")[1:]
    assert "train.tsv:  25%" in first
    assert "train.tsv: 100%" in last
    assert not caplog.messages


def test_other_outputs_show_lines(monkeypatch, caplog):
    caplog.set_level("INFO")
    monkeypatch.setattr(display, "MAX_SILENCE", -1.0)
    download = DownloadDisplay("https://host/train.tsv", 2_000_000, 500_000)
    download.advance(1_000_000)
    assert caplog.messages == [
        "downloading https://host/train.tsv (500.0 kB of 2.0 MB)",
        "still downloading https://host/train.tsv (1.5 MB of 2.0 MB)",
    ]


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 bytes"), (999, "999 bytes"), (1_050_000, "1.1 MB"), (10**10, "10.0 GB")]
)
def test_sizes_have_a_unit(size, text):
    assert format_size(size) == text
