"""The command `export`: a trained model for other systems, see docs/serving.md."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from transformer_jax.bridges.exported import Quantization, require_new
from transformer_jax.commands.cli import call_of, parse
from transformer_jax.errors import InputError


@dataclass(frozen=True)
class ExportCommand:
    """Write a trained model, with its tokenizers, in a format that runs without this package."""

    run: tyro.conf.Positional[Path | None] = None
    """The run directory."""
    to: Literal["ctranslate2", "stablehlo"] | None = None
    """The format: a CTranslate2 model, or StableHLO programs that jax alone loads."""
    output: Path | None = None
    """The directory to create. It appears once it is complete."""
    quantization: Quantization | None = None
    """CTranslate2 only: the type of the stored weights; float32 by default."""
    debug: bool = False
    """Show the traceback of an error."""


def export(command: ExportCommand) -> None:
    """Write the model. Raises InputError for wrong use or bad input, before anything is written."""
    if command.run is None or command.to is None or command.output is None:
        raise InputError(
            "an export needs a run directory, a format and a destination. Give RUN --to FORMAT --output DIR."
        )
    if command.quantization and command.to != "ctranslate2":
        raise InputError(f"--quantization is only for --to ctranslate2, not for {command.to}. Remove --quantization.")
    require_new(command.output)
    from transformer_jax.decoding.translator import Translator

    translator = Translator.load(command.run)
    if command.to == "ctranslate2":
        from transformer_jax.bridges.ctranslate2 import export_ctranslate2

        quantization = command.quantization or "float32"
        export_ctranslate2(translator, command.output, quantization)
        written = f"a CTranslate2 model ({quantization})"
    else:
        from transformer_jax.bridges.stablehlo import PLATFORMS, export_stablehlo

        export_stablehlo(translator, command.output)
        written = f"StableHLO programs for {', '.join(PLATFORMS)}"
    print(f"{command.output}: {written}. docs/serving.md shows how to run it.")


def main(arguments: list[str]) -> None:
    """Export as the arguments say."""
    export(parse(ExportCommand(), arguments, call_of("export")))
