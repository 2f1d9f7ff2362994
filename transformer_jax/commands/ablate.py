"""The command `ablate`: how much each attention head matters."""

from __future__ import annotations

import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path

import tyro

from transformer_jax.attention.figures import save_figure
from transformer_jax.attention.head_importance import HEAD_IMPORTANCE_FILE, HeadImportance
from transformer_jax.attention.head_importance_map import draw_head_importance
from transformer_jax.commands.cli import command_prefix, parse_arguments
from transformer_jax.commands.newest_run import newest_run
from transformer_jax.data.sources import Pairs
from transformer_jax.data.text_files import open_aligned_files
from transformer_jax.errors import InputError
from transformer_jax.runtime.keyboard_interrupt import redeliver_interrupts


@dataclass(frozen=True)
class AblateCommand:
    """Mask one attention head at a time, and show what that does to the loss and to sacreBLEU.

    The text is translated once for each head of the model, and once with all of them.
    """

    input: Path = tyro.MISSING
    """The source sentences, one a line."""
    reference: Path = tyro.MISSING
    """Their translations, one a line."""
    workdir: Path | None = None
    """The run folder; the newest finished run under runs/ unless given."""
    beam: int = 1
    """Hypotheses kept a sentence. Greedy unless given, since the text is translated so often."""
    output: Path | None = None
    """A folder for ablation.json and ablation.png; the run folder unless given."""
    debug: bool = False
    """Show the traceback of an error."""


def ablate(command: AblateCommand) -> None:
    """Do what the command line says: a table on standard output, and the two files.

    Raises InputError for wrong use or bad input, before anything is translated.
    """
    from transformer_jax.commands.head_ablation import measure
    from transformer_jax.decoding.translator import Translator

    if command.beam < 1:
        raise InputError(f"--beam {command.beam} makes no sense. Give a number of at least 1.")
    files = open_aligned_files(command.input, command.reference)
    pairs = list(Pairs(f"{command.input} and {command.reference}", files, "refuse"))
    workdir = command.workdir or newest_run()
    folder = command.output or workdir
    translator = Translator.load(workdir)
    require_writable(folder)
    with redeliver_interrupts():
        ablation = measure(translator, pairs, command.beam)
    ablation.save(folder / HEAD_IMPORTANCE_FILE)
    picture = (folder / HEAD_IMPORTANCE_FILE).with_suffix(".png")
    save_figure(draw_head_importance(ablation), picture)
    print(table(ablation))
    logging.info(f"{folder / HEAD_IMPORTANCE_FILE} and {picture.name} beside it hold the same.")


def require_writable(folder: Path) -> None:
    """Raise InputError if no file can be made there: better now than after all the translations."""
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise InputError(f"{folder} cannot be written to: {error.strerror}. Name a folder for --output.") from error


def table(ablation: HeadImportance) -> str:
    """The whole model's scores, then a line for each head with what its absence changes, the most missed head first."""
    lines = [
        f"{ablation.sentences} sentences, beam {ablation.beam}: loss {ablation.loss:.4f} nats a target token, "
        f"sacreBLEU {ablation.bleu:.2f} ({ablation.signature})",
        "",
        "without          head    loss  sacreBLEU",
        *(
            f"{row.kind:<8} layer {row.layer:>2}  {row.head:>3} {row.loss:>+8.4f}  {row.bleu:>+9.2f}"
            for row in ablation.ranked_heads()
        ),
    ]
    return "\n".join(lines)


def main(arguments: list[str]) -> None:
    """Measure as the arguments say."""
    ablate(parse_arguments(AblateCommand(), arguments, command_prefix("ablate")))
