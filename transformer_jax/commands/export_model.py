"""The ``export`` command: conversion of a trained model to the format of another system."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from transformer_jax.bridges.export_directory import Quantization, require_unused_path
from transformer_jax.commands.cli import command_prefix, parse_arguments
from transformer_jax.errors import InputError
from transformer_jax.terminal import show


@dataclass(frozen=True)
class ExportCommand:
    """Export a trained model, with its tokenizers, to a format that runs without this package."""

    run: tyro.conf.Positional[Path | None] = None
    """The run directory, or hf://OWNER/NAME, gs:// or s3://."""
    to: Literal["ctranslate2", "stablehlo"] | None = None
    """The format: a CTranslate2 model, or StableHLO programs that need only JAX."""
    output: Path | None = None
    """The directory to create."""
    quantization: Quantization | None = None
    """With --to ctranslate2: the data type of the stored weights. If omitted, float32."""
    debug: bool = False
    """Show the traceback of an error."""


def export(command: ExportCommand) -> None:
    """Export the run, and print which page of the docs explains how to use the result.

    Raises InputError for invalid options or input, before anything is written.
    """
    if command.run is None or command.to is None or command.output is None:
        raise InputError(
            "the run directory, --to or --output is missing. Run: python -m transformer_jax export RUN --to FORMAT "
            "--output DIR, where FORMAT is ctranslate2 or stablehlo."
        )
    if command.quantization and command.to != "ctranslate2":
        raise InputError(f"--quantization has no effect with --to {command.to}. Remove --quantization.")
    require_unused_path(command.output)
    from transformer_jax.decoding.translator import Translator

    translator = Translator.load(command.run)
    if command.to == "ctranslate2":
        from transformer_jax.bridges.ctranslate2 import export_ctranslate2

        quantization = command.quantization or "float32"
        export_ctranslate2(translator, command.output, quantization)
        description, page = f"a CTranslate2 model ({quantization})", "docs/serving.md"
    else:
        from transformer_jax.bridges.stablehlo import PLATFORMS, export_stablehlo

        export_stablehlo(translator, command.output)
        description, page = f"StableHLO programs for {', '.join(PLATFORMS)}", "docs/stablehlo.md"
    show(f"{command.output}: {description}. {page} shows how to run it.")


def main(arguments: list[str]) -> None:
    """Parse the arguments and call ``export``."""
    export(parse_arguments(ExportCommand(), arguments, command_prefix("export")))
