"""The ``import`` command: conversion of a model of another toolkit to a run directory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from transformer_jax.commands.cli import command_prefix, parse_arguments
from transformer_jax.errors import InputError
from transformer_jax.storage.home import expand_home
from transformer_jax.terminal import quote_command, show


@dataclass(frozen=True)
class ImportCommand:
    """Create a run directory from a MarianMT model, such as an OPUS-MT model."""

    model: tyro.conf.Positional[str] = ""
    """The model: OWNER/NAME on the Hugging Face hub, or a directory.
    A directory needs config.json, source.spm, target.spm, vocab.json and model.safetensors or pytorch_model.bin."""
    workdir: Path | None = None
    """The run directory to create. If omitted, a directory in runs/ with the name of the model."""
    debug: bool = False
    """Show the traceback of an error."""


def main(arguments: list[str]) -> None:
    """Import a model. Print its decoding settings, what was left out, and a command that translates with it."""
    command = parse_arguments(ImportCommand(), arguments, command_prefix("import"))
    if not command.model:
        raise InputError(
            "no model given. Run: python -m transformer_jax import DIR, "
            "or python -m transformer_jax import Helsinki-NLP/opus-mt-en-de"
        )
    from transformer_jax.bridges.marian import import_marian

    model = expand_home(command.model)
    workdir = command.workdir or Path("runs") / Path(model).resolve().name
    show("\n".join(import_marian(model, workdir)))
    show(f'Saved in {workdir}. Try:\n{command_prefix("translate")} "..." {quote_command("--workdir", workdir)}')
