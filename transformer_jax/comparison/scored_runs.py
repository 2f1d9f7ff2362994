"""Finished runs with the translations of their test sets, as files of the run directory."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from transformer_jax.config import Config, EvaluationConfig
from transformer_jax.config_checks import require_types
from transformer_jax.errors import InputError
from transformer_jax.evaluation import HYPOTHESES_FILE, REFERENCES_FILE, SOURCES_FILE
from transformer_jax.storage.untrusted import require_contained

REMEDY = "Run the train command of this run again, which scores it anew."
"""Remedy for damaged files. A run directory does not contain the options of its command."""


class ScoredRun(NamedTuple):
    """A run that has scored its test set.

    path: the run directory.
    results: the content of results.json. Fields that its config lacks have their default values.
    sources, hypotheses, references: one per line of the test set.
    """

    path: Path
    results: dict[str, Any]
    sources: Sequence[str]
    hypotheses: Sequence[str]
    references: Sequence[str]

    @property
    def language(self) -> str:
        """Name of the target language."""
        return self.results["config"]["data"]["target"]

    @property
    def tokenize(self) -> str:
        """The setting ``evaluation.tokenize``."""
        return self.results["config"]["evaluation"]["tokenize"]

    @property
    def test_set_checksum(self) -> str:
        """SHA-256 of the sources and the references."""
        lines = "".join(f"{line}\n" for line in (*self.sources, *self.references))
        return hashlib.sha256(lines.encode()).hexdigest()


def read_scored_run(path: Path) -> ScoredRun:
    """Read a run directory.

    Raises InputError if it is not a run directory, if the run is not finished, or if a file is missing or damaged.
    """
    results = read_results_file(path)
    files = [path / name for name in (SOURCES_FILE, HYPOTHESES_FILE, REFERENCES_FILE)]
    sources, hypotheses, references = (_read_lines(file) for file in files)
    counts = {file.name: len(lines) for file, lines in zip(files, (sources, hypotheses, references), strict=True)}
    if len(set(counts.values())) > 1 or not references:
        numbers = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise InputError(f"{path} is damaged: its files must have equal numbers of lines, but have {numbers}. {REMEDY}")
    return ScoredRun(path, results, sources, hypotheses, references)


def require_distinct_runs(paths: Sequence[Path]) -> None:
    """Raise InputError unless there are two runs or more, each of them once."""
    if len(paths) < 2:
        raise InputError(f"the number of runs is {len(paths)}. Name at least two run directories.")
    first_by_target: dict[str, Path] = {}
    for path in paths:
        first = first_by_target.setdefault(os.path.realpath(path), path)
        if first is not path:
            raise InputError(f"{first} and {path} are the same run directory. Name different runs.")


def require_same_test_set(runs: Sequence[ScoredRun]) -> None:
    """Raise InputError if the sources or the references of two runs differ. The locators do not matter."""
    first, *others = runs
    for run in others:
        for name, lines, other_lines in (
            (SOURCES_FILE, first.sources, run.sources),
            (REFERENCES_FILE, first.references, run.references),
        ):
            if lines != other_lines:
                raise InputError(
                    f"{first.path} and {run.path} have different test sets: {_describe_difference(lines, other_lines)} "
                    f"of {name}. Train one of them in a new --workdir with the --data.test of the other."
                )


def _describe_difference(lines: Sequence[str], other_lines: Sequence[str]) -> str:
    if len(lines) != len(other_lines):
        return f"{len(lines)} and {len(other_lines)} lines"
    numbers = [number for number, pair in enumerate(zip(lines, other_lines, strict=True), 1) if pair[0] != pair[1]]
    return f"line {numbers[0]}" + (f" and {len(numbers) - 1} others" if len(numbers) > 1 else "")


def read_results_file(path: Path) -> dict[str, Any]:
    """Return the content of results.json, with default values for the fields that its config lacks.

    path: the run directory.
    Raises InputError if it is not a run directory, if the run is not finished, or if the file is damaged.
    """
    if not path.is_dir():
        problem = "is not a directory" if path.exists() else "does not exist"
        raise InputError(f"{path} {problem}. Name the directory of a finished run.")
    file = path / "results.json"
    if not file.exists():
        if not (path / "config.json").exists():
            raise InputError(f"{path} is not a run directory: results.json is missing. Name a finished run.")
        raise InputError(
            f"{path} has no results.json, because its training has not ended. Run its train command again, which "
            "resumes it."
        )
    require_contained(path)
    try:
        results = json.loads(file.read_text(encoding="utf-8"))
        saved = results["config"]
        for section, fields in dataclasses.asdict(Config()).items():
            saved[section] = {**fields, **saved.get(section, {})}
        require_types(EvaluationConfig, saved["evaluation"])
        if not isinstance(saved["data"]["target"], str):
            raise TypeError("data.target is not text")
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{file} is damaged ({error!r}). Restore the file, or run the train command again.") from error
    return results


def _read_lines(file: Path) -> list[str]:
    """Return the lines of a text file. Only a line feed ends a line, as in the files of ``training.results``."""
    if not file.exists():
        raise InputError(f"{file} is missing. {REMEDY}")
    try:
        text = file.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file} is damaged ({error}). {REMEDY}") from error
    return text.removesuffix("\n").split("\n") if text else []
