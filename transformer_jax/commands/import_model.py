"""The command `import`: a model of another toolkit as a run directory."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

import tyro

from transformer_jax.commands.cli import call_of, parse
from transformer_jax.errors import InputError


@dataclass(frozen=True)
class ImportCommand:
    """Make a run folder of a MarianMT model, such as those of OPUS-MT."""

    model: tyro.conf.Positional[str] = ""
    """A folder with config.json, source.spm, target.spm, vocab.json and model.safetensors or pytorch_model.bin, or
    OWNER/NAME on the Hugging Face hub.
    """
    workdir: Path | None = None
    """The run folder to make; runs/NAME unless given."""
    debug: bool = False
    """Show the traceback of an error."""


def main(arguments: list[str]) -> None:
    """Import one model, and print a command to try it with."""
    command = parse(ImportCommand(), arguments, call_of("import"))
    if not command.model:
        raise InputError("no model is named. Give a folder, or a hub id such as Helsinki-NLP/opus-mt-en-de.")
    from transformer_jax.bridges.marian import import_marian

    workdir = command.workdir or Path("runs") / Path(command.model).resolve().name
    import_marian(command.model, workdir)
    print(f'Saved in {workdir}. Try:\n{call_of("translate")} "..." --workdir {shlex.quote(str(workdir))}')
