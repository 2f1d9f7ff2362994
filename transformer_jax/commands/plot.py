"""The ``plot`` command: a figure of the attention heads of one layer, for a paper."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from transformer_jax.attention.figures import FIGURE_METADATA, draw_figure, save_figure
from transformer_jax.attention.weights import Attention, AttentionKind
from transformer_jax.commands.cli import command_prefix, parse_arguments
from transformer_jax.commands.streams import check_output_path
from transformer_jax.errors import InputError


@dataclass(frozen=True)
class PlotCommand:
    """Draw the attention heads of one layer as a figure for a paper."""

    file: tyro.conf.Positional[Path] = tyro.MISSING
    """An attention file N.npz that translate.py --attention has written."""
    output: Path = tyro.MISSING
    """The figure to write: a .pdf, .png or .svg file."""
    kind: AttentionKind = "cross"
    """Self-attention of the encoder or of the decoder, or cross-attention (target to source)."""
    layer: int | None = None
    """The layer, counted from 0. If omitted, the last layer."""
    heads: str = "all"
    """The heads to draw: all, mean (one map, the mean of all heads), or zero-based indices such as 0,2,5."""
    width: float | None = None
    """The width in inches. If omitted, one column (3.3), one page (6.9) or more, depending on the number of tokens."""
    debug: bool = False
    """Show the traceback of an error."""


def plot(command: PlotCommand) -> None:
    """Draw the figure and save it. Raises InputError for invalid options or input, before anything is written."""
    check_figure_path(command.output)
    attention = Attention.load(command.file)
    layer = len(getattr(attention, command.kind)) - 1 if command.layer is None else command.layer
    save_figure(draw_figure(attention, command.kind, layer, command.heads, command.width), command.output)


def check_figure_path(path: Path) -> None:
    """Raise InputError if ``path`` has an unknown suffix or cannot be written."""
    if path.suffix.lower() not in FIGURE_METADATA:
        *others, last = FIGURE_METADATA
        raise InputError(f"{path} has an unknown suffix. Set --output to a {', '.join(others)} or {last} file.")
    check_output_path(path)


def main(arguments: list[str]) -> None:
    """Parse the arguments and call ``plot``."""
    plot(parse_arguments(PlotCommand(), arguments, command_prefix("plot")))
