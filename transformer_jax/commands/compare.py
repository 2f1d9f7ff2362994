"""The ``compare`` command: settings, scores and translations of finished runs with the same test set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from transformer_jax.commands.cli import command_prefix, parse_arguments
from transformer_jax.downloads.runs import local_run
from transformer_jax.terminal import show


@dataclass(frozen=True)
class CompareCommand:
    """Compare finished runs with the same test set: their settings, scores, and translations.

    Each run is tested against the first one, by paired bootstrap resampling and paired approximate randomization.
    """

    runs: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Two or more run directories, or URLs of runs. The first one is the baseline."""
    format: Literal["text", "json", "markdown"] = "text"
    """Output format."""
    debug: bool = False
    """Show the traceback of an error."""


def compare(command: CompareCommand) -> None:
    """Print the comparison. Raises InputError if a run is damaged or not comparable with the first one."""
    from transformer_jax.comparison import report
    from transformer_jax.comparison.differences import compare_runs
    from transformer_jax.comparison.scored_runs import read_scored_run, require_distinct_runs, require_same_test_set

    require_distinct_runs(command.runs)
    runs = [read_scored_run(local_run(run)) for run in command.runs]
    require_same_test_set(runs)
    comparison = compare_runs(runs)
    formats = {"text": report.as_text, "json": report.as_json, "markdown": report.as_markdown}
    show(formats[command.format](comparison))


def main(arguments: list[str]) -> None:
    """Parse the arguments and call ``compare``."""
    compare(parse_arguments(CompareCommand(), arguments, command_prefix("compare")))
