"""Selection of the run that a command reads."""

from __future__ import annotations

import json
import logging
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from transformer_jax.commands.cli import command_prefix
from transformer_jax.downloads.runs import local_run
from transformer_jax.errors import InputError
from transformer_jax.storage.untrusted import MAX_JSON_BYTES
from transformer_jax.terminal import one_line, quote_command

LOW_BLEU = 5.0
"""Translations with a lower score have little to do with the source."""


class FinishedRun(NamedTuple):
    """A run with results.json.

    workdir: the run directory.
    bleu: sacreBLEU on the test set; None if the run was not scored.
    test: locator of the test set, shortened, without control characters.
    """

    workdir: Path
    bleu: float | None
    test: str


def find_run(run: Path | None, activity: str = "translating") -> Path:
    """Return the directory of the run that the user chose, downloaded if it is a URL, or of the newest finished run.

    activity: see ``newest_run``.
    """
    return newest_run(activity=activity) if run is None else local_run(run)


def newest_run(runs: Path = Path("runs"), activity: str = "translating") -> Path:
    """Return the directory of the run that finished most recently, and log its name, score and test set.

    Newer runs that are not finished or damaged are named in a warning, and so is a low score.

    runs: the directory that contains the run directories.
    activity: the verb that starts the log line, such as "translating".
    Raises InputError if no run has finished.
    """
    ignored: list[tuple[Path, str]] = []
    for workdir in sorted(_run_directories(runs), key=_last_change, reverse=True):
        try:
            run = read_results(workdir)
        except FileNotFoundError:
            ignored.append((workdir, "has no results.json: its training has not finished, or it was imported"))
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            ignored.append((workdir, f"has a damaged results.json ({reason})"))
        else:
            if ignored:
                logging.warning(f"{_describe(ignored)} To use it, add {_workdir_option(ignored)}")
            score = "" if run.bleu is None else f" (sacreBLEU {run.bleu:.2f} on {run.test})"
            logging.info(f"{activity} with {one_line(str(workdir))}{score}")
            if run.bleu is not None and run.bleu < LOW_BLEU:
                logging.warning(
                    f"a score below {LOW_BLEU:g} means that most translations are wrong. Train this run longer with "
                    "--training.steps, or choose another run with --workdir."
                )
            return workdir
    if ignored:
        remedy = f"To use its best checkpoint, set {_workdir_option(ignored)}"
        raise InputError(f"no finished run in {runs}/. {_describe(ignored)} {remedy}")
    raise InputError(
        f"no finished run in {runs}/. Run: {command_prefix('train')}, or set --workdir to a run directory."
    )


def read_results(workdir: Path) -> FinishedRun:
    """Read the score of a run, which may come from an untrusted source.

    Raises ValueError if results.json is damaged, and OSError if it is missing or not readable.
    """
    path = workdir / "results.json"
    if path.stat().st_size > MAX_JSON_BYTES or not path.is_file():
        raise ValueError("it is too large, or not a file")
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError("it is not JSON") from error
    match results:
        case {"scores": {"BLEU": {"value": float() | int() as bleu}}, "test": str(test)} if 0 <= bleu <= 100:
            return FinishedRun(workdir, float(bleu), one_line(test, 100))
        case {"scores": dict(scores)} if not scores:
            return FinishedRun(workdir, None, "")
    raise ValueError("it has no valid score or test set")


def _run_directories(runs: Path) -> list[Path]:
    with suppress(OSError):
        return [path for path in runs.iterdir() if (path / "config.json").exists()]
    return []


def _last_change(workdir: Path) -> float:
    """Return the time when a run finished or, if it has not, when its last checkpoint was saved."""
    for name in ("results.json", "checkpoints", "config.json"):
        with suppress(OSError):
            return (workdir / name).stat().st_mtime
    return 0.0


def _describe(ignored: list[tuple[Path, str]]) -> str:
    workdir, problem = ignored[0]
    others = f" {len(ignored) - 1} other run(s) have none or a damaged one." if ignored[1:] else ""
    return f"{one_line(str(workdir))} {problem}.{others}"


def _workdir_option(ignored: list[tuple[Path, str]]) -> str:
    return quote_command("--workdir", ignored[0][0])
