"""The ``ablate`` command: the importance of each attention head."""

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
from transformer_jax.commands.newest_run import find_run
from transformer_jax.data.sources import Pairs
from transformer_jax.data.text_files import open_aligned_files
from transformer_jax.downloads.runs import run_url
from transformer_jax.errors import InputError
from transformer_jax.runtime.keyboard_interrupt import redeliver_interrupts


@dataclass(frozen=True)
class AblateCommand:
    """Mask one attention head at a time, and compute the change of the loss and of sacreBLEU.

    The text is translated once with all heads, and once with each head masked.
    """

    input: Path = tyro.MISSING
    """The source sentences, one per line."""
    reference: Path = tyro.MISSING
    """The reference translations, one per line."""
    workdir: Path | None = None
    """The run directory, or hf://OWNER/NAME, gs:// or s3://. If omitted, the newest finished run in runs/ is used."""
    beam: int = 1
    """Beam size. The default is greedy search, because the text is translated many times."""
    output: Path | None = None
    """The directory for ablation.json and ablation.png. If omitted, the run directory, which must not be a URL."""
    debug: bool = False
    """Show the traceback of an error."""


def ablate(command: AblateCommand) -> None:
    """Measure how much each head contributes. Print a table, and write ablation.json and ablation.png.

    Raises InputError for invalid options or input, before anything is translated.
    """
    from transformer_jax.commands.head_ablation import measure_head_importance
    from transformer_jax.decoding.translator import Translator

    if command.beam < 1:
        raise InputError(f"--beam {command.beam} is invalid. Set --beam to at least 1.")
    if command.workdir and run_url(command.workdir) and command.output is None:
        raise InputError(f"{run_url(command.workdir)} cannot hold the results. Set --output to a directory.")
    files = open_aligned_files(command.input, command.reference)
    pairs = list(Pairs(f"{command.input} and {command.reference}", files, "refuse"))
    workdir = find_run(command.workdir)
    directory = command.output or workdir
    translator = Translator.load(workdir)
    check_writable_directory(directory)
    with redeliver_interrupts():
        importance = measure_head_importance(translator, pairs, command.beam)
    path = directory / HEAD_IMPORTANCE_FILE
    importance.save(path)
    save_figure(draw_head_importance(importance), path.with_suffix(".png"))
    print(format_table(importance))
    logging.info(f"Saved in {path} and {path.with_suffix('.png').name}.")


def check_writable_directory(directory: Path) -> None:
    """Raise InputError if no file can be created in the directory. Call this before a long computation."""
    try:
        tempfile.TemporaryFile(dir=directory).close()
    except OSError as error:
        raise InputError(f"cannot write to {directory}: {error.strerror}. Choose another --output.") from error


def format_table(importance: HeadImportance) -> str:
    """Return a table with the scores of the complete model and the score changes when each head is masked.

    Heads are sorted by the change of the loss, largest increase first.
    """
    lines = [
        f"{importance.sentences} sentences, beam {importance.beam}: loss {importance.loss:.4f} nats per target token, "
        f"sacreBLEU {importance.bleu:.2f} ({importance.signature})",
        "",
        "without          head    loss  sacreBLEU",
        *(
            f"{head.kind:<8} layer {head.layer:>2}  {head.head:>3} {head.loss:>+8.4f}  {head.bleu:>+9.2f}"
            for head in importance.ranked_heads()
        ),
    ]
    return "\n".join(lines)


def main(arguments: list[str]) -> None:
    """Parse the arguments and call ``ablate``."""
    ablate(parse_arguments(AblateCommand(), arguments, command_prefix("ablate")))
