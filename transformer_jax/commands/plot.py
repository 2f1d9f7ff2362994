"""The command `plot`: the heads of one layer as a figure for print."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from transformer_jax.attention.figures import FIGURE_METADATA, draw_figure, save_figure
from transformer_jax.attention.weights import Attention, AttentionKind
from transformer_jax.commands.cli import call_of, parse
from transformer_jax.errors import InputError


@dataclass(frozen=True)
class PlotCommand:
    """Draw one layer's heads from a file of translate.py --attention, as a figure for print."""

    file: tyro.conf.Positional[Path] = tyro.MISSING
    """N.npz, as translate.py --attention writes it."""
    output: Path = tyro.MISSING
    """The figure; its ending says what it is: .pdf, .png or .svg."""
    kind: AttentionKind = "cross"
    """Self-attention of the encoder or the decoder, or cross-attention from the target to the source."""
    layer: int | None = None
    """From 0; the last unless given."""
    heads: str = "all"
    """all, numbers from 0 such as 0,2,5, or mean for the mean of all."""
    width: float | None = None
    """Inches. Unless given, a column (3.3) if one map fits there, else a page (6.9), else what the tokens need."""
    debug: bool = False
    """Show the traceback of an error."""


def plot(command: PlotCommand) -> None:
    """Do what the command line says. Raises InputError for wrong use or bad input, before anything is written."""
    require_figure(command.output)
    attention = Attention.load(command.file)
    layer = len(getattr(attention, command.kind)) - 1 if command.layer is None else command.layer
    save_figure(draw_figure(attention, command.kind, layer, command.heads, command.width), command.output)


def require_figure(path: Path) -> None:
    """Raise InputError if the ending is not known or the folder is not there."""
    if path.suffix.lower() not in FIGURE_METADATA:
        raise InputError(f"{path}: a figure of that kind is not known. Use one of {', '.join(FIGURE_METADATA)}.")
    if not path.absolute().parent.is_dir():
        raise InputError(f"{path.parent} is not a folder. Make it, or name another --output.")
    if path.is_dir():
        raise InputError(f"{path} is a folder. Name a file for --output.")


def main(arguments: list[str]) -> None:
    """Draw as the arguments say."""
    plot(parse(PlotCommand(), arguments, call_of("plot")))
